"""Instruction lines grouped by kind, one a line; a comment is a line whose first character is `#`."""
