"""Rows (readers, index), check (plan against rows), mixture (which sample when), batch (flat collation)."""
