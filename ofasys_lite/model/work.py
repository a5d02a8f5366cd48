"""What a model costs: its parameters and its floating point operations, counted without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.encoder_decoder import EncoderDecoder


@dataclass(frozen=True, slots=True)
class Work:
    """What training on rows costs a part of a model.

    Attributes:
        flops: Floating point operations, forward and backward.
        kept: Numbers that the forward pass keeps for the backward pass.
        wide: How many of them stay in fp32 where products are in bf16.
    """

    flops: float = 0.0
    kept: float = 0.0
    wide: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.kept + other.kept, self.wide + other.wide)

    def __mul__(self, times: float) -> Work:
        return Work(times * self.flops, times * self.kept, times * self.wide)

    def bytes(self, bf16: bool) -> float:
        """Bytes that are kept, with products in bf16 or in fp32."""
        return 2 * (self.kept + self.wide) if bf16 else 4 * self.kept


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
        rows = source + target if config.source == "prefix" else target
        layer = 2 * rows * own + 2 * rows * rows * width
        if cross:
            layer += 4 * target * width * width + 4 * source * width * keys + 4 * source * target * width
        total += config.decoder_layers * layer + 2 * target * width * vocabulary
    return total


def body_work(
    config: ModelConfig, sources: Sequence[int], targets: Sequence[int], cross: Sequence[tuple[int, int]]
) -> Work:
    """What training on a pack costs the encoder-decoder.

    Operations are three times those of `flops`. Kept is what autograd saves in each block (as arXiv 2205.05198, section
    4.1, counts it, here in numbers and without masks of dropout): inputs and outputs of norms, inputs of linear layers,
    queries, keys, values, attention weights. With gradient checkpointing the inputs of all blocks and one block's rest.

    Args:
        sources: Rows of each source sequence.
        targets: Rows of each target sequence.
        cross: (target rows, source rows) per encoding.
    """
    if config.source == "prefix":
        sources, targets = (), _joint(targets, cross)
    read, written, pairs = sum(sources), sum(targets), sum(t * s for t, s in cross)
    forward = flops(config, sources, [0] * len(sources), 0) + flops(config, [0] * len(targets), targets, 0)
    if config.encoder_layers:
        forward += 4 * config.decoder_layers * pairs * config.width
    width, keys = config.width, config.kv_groups * config.head_width
    # a norm keeps its input and is read (RMSNorm on a CPU once more, normed); values keep the product that they are a
    # part of; swiglu keeps four widths
    wide = (1 if config.norm == "layernorm" else 2) * width
    norm = wide + width
    mlp = norm + (4 if config.mlp == "swiglu" else 2) * config.inner
    own = norm + (width + 2 * keys) + (1 + config.qk_norm) * (width + keys) + width + mlp
    encoder = read * own + config.heads * sum(s * s for s in sources)
    decoder = written * own + config.heads * sum(t * t for t in targets)
    if config.encoder_layers:
        crossing = written * (norm + 2 * width) + read * 3 * keys
        crossing += config.qk_norm * (2 * written * width + read * keys)
        decoder += crossing + config.heads * pairs
    if config.gradient_checkpointing:
        stream = config.encoder_layers * read * width + config.decoder_layers * written * width
        return Work(3.0 * forward, float(stream + max(encoder, decoder) + norm * (read + written)), float(stream))
    kept = config.encoder_layers * encoder + config.decoder_layers * decoder + norm * (read + written)
    stream = (2 * config.encoder_layers + 1) * read + (3 * config.decoder_layers + 1) * written
    return Work(3.0 * forward, float(kept), float(wide * stream))


def _joint(targets: Sequence[int], cross: Sequence[tuple[int, int]]) -> list[int]:
    """Rows of each target and the source before it."""
    found, rest = list[int](), list(targets)
    for written, source in cross:
        while written > 0 and rest:
            found.append(source + rest[0])
            written -= rest.pop(0)
    return found


def parameters(config: ModelConfig) -> int:
    """Number of trained numbers of the encoder-decoder alone, without embeddings, adapters and heads."""
    with torch.device("meta"):
        model = EncoderDecoder(config)
    return sum(p.numel() for p in model.parameters())
