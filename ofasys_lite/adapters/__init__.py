"""One file per modality: arrays -> embeddings; states -> loss; states -> arrays."""
