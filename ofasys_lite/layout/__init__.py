"""A row becomes an example, examples become packs: rows, positions, loss terms, costs, the deal; and back to values."""
