"""Adapters + encoder-decoder, driven by plans; from_pretrained, save_pretrained."""
