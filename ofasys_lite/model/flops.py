"""What a model costs: its parameters and its floating point operations, counted without running it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.encoder_decoder import EncoderDecoder


def flops(
    config: ModelConfig, source_lengths: Sequence[int], target_lengths: Sequence[int], vocabulary: int = 0
) -> int:
    """Floating point operations of one forward pass over samples of these lengths; training is three times that.

    A multiplication with an addition counts as two; the causal half of target self-attention is counted as half;
    norms, activations and embeddings are not counted.

    Args:
        source_lengths: Source positions of each sample.
        target_lengths: Target positions with loss of each sample.
        vocabulary: Rows V of the output head; 0 leaves it out.

    Raises:
        ShapeError: The two lists have different lengths.
    """
    if len(source_lengths) != len(target_lengths):
        raise ShapeError(f"flops: {len(source_lengths)} sources and {len(target_lengths)} targets")
    width = config.width
    keys = config.kv_groups * config.head_width
    mlp = (3 if config.mlp == "swiglu" else 2) * width * config.inner
    own = 2 * width * width + 2 * width * keys + mlp
    cross = config.encoder_layers > 0
    total = 0
    for source, target in zip(source_lengths, target_lengths, strict=True):
        total += config.encoder_layers * (2 * source * own + 4 * source * source * width)
        layer = 2 * target * own + 2 * target * target * width
        if cross:
            layer += 4 * target * width * width + 4 * source * width * keys + 4 * source * target * width
        total += config.decoder_layers * layer + 2 * target * width * vocabulary
    return total


def parameters(config: ModelConfig) -> int:
    """Number of trained numbers of the encoder-decoder alone, without embeddings, adapters and heads."""
    with torch.device("meta"):
        model = EncoderDecoder(config)
    return sum(p.numel() for p in model.parameters())
