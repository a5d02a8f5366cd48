"""Root of the Hydra configuration: one YAML file per command, and groups of presets."""
