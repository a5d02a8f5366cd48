"""What a sample costs with a model of a given size: the arithmetic of `ofasys_lite.model.work` without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The sizes that a model's cost depends on.

    Attributes:
        kv_heads: Key and value heads; 0 for as many as heads.
        ffn: Width f inside the feed-forward layer; 0 for 4 times the width.
        gated: Three products in the feed-forward layer instead of two (SwiGLU).
        prefix: The decoder reads the source in front of the target.
    """

    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    kv_heads: int = 0
    ffn: int = 0
    gated: bool = True
    prefix: bool = False


def flops(size: ModelSize, source: int, target: int, vocabulary: int) -> int:
    """Floating point operations of one forward pass over one sample; training is three times that.

    forward = L[2S(4dd + 2df) + 4SSd] + L[2T(6dd + 2df) + 4Sdd + 2TTd + 4STd] + 2TdV, with 3df where the feed-forward
    layer is gated, and fewer keys where heads share them; a prefix counts as target, but for the head. A multiplication
    with an addition counts as two.

    Args:
        source: Source rows S.
        target: Target rows T.
        vocabulary: Rows V of the output head.
    """
    width = size.width
    keys = (size.kv_heads or size.heads) * (width // size.heads)
    own = 2 * width * width + 2 * width * keys + (3 if size.gated else 2) * width * (size.ffn or 4 * width)
    total = size.encoder_layers * (2 * source * own + 4 * source * source * width)
    rows = source + target if size.prefix else target
    layer = 2 * rows * own + 2 * rows * rows * width
    if size.encoder_layers:
        layer += 4 * target * width * width + 4 * source * width * keys + 4 * source * target * width
    return total + size.decoder_layers * layer + 2 * target * width * vocabulary
