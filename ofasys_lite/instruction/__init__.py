"""Text -> syntax tree with spans -> canonical text. No torch, no yaml, nothing is imported, evaluated or opened."""
