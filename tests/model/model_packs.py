"""Small ragged packs of vectors, shared by the tests of the model room."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ofasys_lite.model import EncoderDecoder, ModelConfig

SMALL = {"width": 48, "encoder_layers": 2, "decoder_layers": 2, "heads": 4, "ffn": 64}


@dataclass(frozen=True)
class Pack:
    """Samples end to end; sample i owns one source and the target sequences `targets[i]`, the first `causal` of the
    samples have causal targets."""

    sources: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    causal: int
    x_SD: Tensor
    positions_S3: Tensor
    y_TD: Tensor
    positions_T3: Tensor

    @property
    def lengths(self) -> list[int]:
        return [n for sample in self.targets for n in sample]

    @property
    def causal_rows(self) -> int:
        return sum(sum(sample) for sample in self.targets[: self.causal])

    def run(self, model: EncoderDecoder, taps: object = None) -> Tensor:
        """Target states of the whole pack in one pass."""
        states_SD = model.encode(self.x_SD, self.positions_S3, self.sources)
        cross = [(sum(t), s) for t, s in zip(self.targets, self.sources, strict=True)]
        return model.decode(
            self.y_TD,
            self.positions_T3,
            states_SD,
            self.positions_S3,
            lengths=self.lengths,
            cross_lengths=cross,
            causal_rows=self.causal_rows,
            taps=taps,  # type: ignore[arg-type]
        )

    def samples(self) -> list[Pack]:
        """The same samples as packs of one."""
        rows_S = list(zip(self.x_SD.split(self.sources), self.positions_S3.split(self.sources), strict=True))
        sizes = [sum(t) for t in self.targets]
        rows_T = list(zip(self.y_TD.split(sizes), self.positions_T3.split(sizes), strict=True))
        return [
            Pack((self.sources[i],), (self.targets[i],), int(i < self.causal), *rows_S[i], *rows_T[i])
            for i in range(len(self.sources))
        ]


def make_pack(
    sources: tuple[int, ...], targets: tuple[tuple[int, ...], ...], causal: int | None = None, width: int = 48
) -> Pack:
    """A pack of random rows with random source positions."""
    generator = torch.Generator().manual_seed(1)
    rows_S, lengths = sum(sources), [n for sample in targets for n in sample]
    counted = torch.cat([torch.arange(n) for n in lengths]) if lengths else torch.zeros(0, dtype=torch.long)
    return Pack(
        sources,
        targets,
        len(targets) if causal is None else causal,
        torch.randn(rows_S, width, generator=generator),
        torch.randint(0, 9, (rows_S, 3), generator=generator),
        torch.randn(sum(lengths), width, generator=generator),
        counted.unsqueeze(1).expand(-1, 3).contiguous(),
    )


RAGGED = make_pack((5, 0, 7, 3), ((4,), (3,), (2, 5), (6,)), causal=3)


def build(seed: int = 0, backend: str | None = None, **changes: object) -> EncoderDecoder:
    """A small model with fixed random weights."""
    torch.manual_seed(seed)
    return EncoderDecoder(ModelConfig(**{**SMALL, **changes}), backend)  # type: ignore[arg-type]


def grads(model: EncoderDecoder) -> dict[str, Tensor]:
    """Gradients by parameter name; every parameter has one."""
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
