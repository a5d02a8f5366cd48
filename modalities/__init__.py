"""Modality cards: one YAML file per modality."""
