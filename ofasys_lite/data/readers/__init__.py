"""One file per family of formats: bytes -> rows by number."""
