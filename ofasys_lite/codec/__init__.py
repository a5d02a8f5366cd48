"""What makes codes of a modality and trains it: quantizers, networks, losses, folders, turns between processes."""
