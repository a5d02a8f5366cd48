"""Task cards: one YAML file per task."""
