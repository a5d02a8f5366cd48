"""Images as codes with depth: the codec that makes them, the heads that learn and write them.

Shapes: N images of a pack, L positions of an image, P rows fed, R positions learned, B live rows in decoding, K depth,
V codes, D width, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.codes import CodesAdapter
from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import exact_types, moved


class ImageCodesAdapter(CodesAdapter):
    """A frozen ImageCodec under depth heads; an export holds the codec's weights too."""

    trained: ClassVar[bool] = True

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        config = CodecConfig.from_dict(codec_sizes(settings["codec"]))
        super().__init__(settings, shared, config.codes, config.depth, config.lines**2)
        self.codec = ImageCodec(config).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> ImageCodesAdapter:
        """Training mode for the heads; the codec stays as it was trained."""
        super().train(mode)
        self.codec.eval()
        return self

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the weights of a trained codec."""
        self.codec.load_state_dict(tensors)
        self.forget()

    def latents(self, part: Part, chosen: list[int] | None = None) -> Tensor:
        """(N, L, C) of the pictures, or of the `chosen` ones, before quantization, in fp32."""
        pixels = part.arrays["pixels"]
        pixels = pixels if chosen is None else pixels[moved(torch.tensor(chosen), pixels.device)]
        with torch.no_grad(), exact_types(pixels.device):
            latents: Tensor = self.codec.latents(pixels).flatten(1, 2)
        return latents

    def quantize(self, latents_NLC: Tensor) -> Tensor:
        """(N, L, K) codes of latents."""
        with torch.no_grad(), exact_types(latents_NLC.device):
            codes: Tensor = self.codec.quantizer(latents_NLC).codes
        return codes

    def _corrupted(self, part: Part) -> tuple[Tensor, Tensor]:
        rest_XC = self.latents(part).flatten(0, 1)
        learned, fed = [], []
        quantizer = self.codec.quantizer
        for k in range(quantizer.depth):
            book = quantizer.book(k)
            true_X = book.nearest(rest_XC)
            wrong_X = torch.rand(len(true_X), device=true_X.device) < (self.correct if k < quantizer.depth - 1 else 0.0)
            drawn_X = torch.randint(len(book.weight_VC), true_X.shape, device=true_X.device)
            fed_X = torch.where(wrong_X, drawn_X, true_X)
            learned.append(true_X)
            fed.append(fed_X)
            rest_XC = rest_XC - book.vectors(fed_X)
        shape = (-1, self.positions, quantizer.depth)
        return torch.stack(learned, -1).view(shape), torch.stack(fed, -1).view(shape)

    def render(self, codes_NLK: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 pictures of codes."""
        with exact_types(codes_NLK.device):
            return self.codec.decode(codes_NLK)


def codec_sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that CodecConfig knows, out of a plan's codec facts."""
    from dataclasses import fields

    known = {f.name for f in fields(CodecConfig)}
    return {key: value for key, value in settings.items() if key in known}
