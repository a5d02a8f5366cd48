"""YAML (node tree, so places are kept) -> ModalityCard, TaskCard; found by name; users' folders. No torch."""
