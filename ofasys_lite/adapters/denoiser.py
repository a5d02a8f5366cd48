"""Values in continuous rows on the model side: read as they are, learned and written by taking noise away.

A modality's adapter is a `DenoisingAdapter` (sound and clips that are written, motion).
Shapes: P rows of a part, R rows learned, C numbers of a row, N samples of one length L, D width, B most rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import Adapter, Begin, Encoded, Reading, Section, Shared
from ofasys_lite.adapters.passes import Sources, ToWrite, Written
from ofasys_lite.adapters.row_after_row import follow
from ofasys_lite.decoding.denoising import denoise, noise
from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.noise import Process
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import make_linear
from ofasys_lite.plan.constraints import Whole

#: Sines and cosines that tell the level.
_WAVES = 32
#: What telling how many rows there will be weighs beside a row, where both are learned at each row.
LENGTH_SHARE = 0.1


class Denoiser(nn.Module):
    """Rows of numbers with their level of noise in, what the process asks for out; and how many rows there are.

    Args:
        name: Of the modality, for messages.
        channels: Numbers of a row.
        most: The most rows that a value may have.
    """

    def __init__(self, name: str, channels: int, width: int, most: int) -> None:
        super().__init__()
        self.name, self.channels = name, channels
        # beside the numbers: whether the row is known
        self.inner = nn.Sequential(make_linear(channels + 1, width), nn.GELU(), make_linear(width, width))
        self.level = nn.Sequential(make_linear(2 * _WAVES, width), nn.GELU(), make_linear(width, width))
        self.question = nn.Parameter(torch.randn(width))
        self.out = nn.Linear(width, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.length = nn.Linear(width, most)

    def embed(self, part: Part) -> Tensor:
        """(P, D) of the arrays that `preprocess.continuous.value_piece` makes.

        Raises:
            ShapeError: Rows of another number of numbers.
        """
        values_PC = part.arrays["values"]
        if values_PC.shape[1] != self.channels:
            raise ShapeError(
                f"{self.name}: rows have {values_PC.shape[1]} numbers, the adapter was made for {self.channels}"
            )
        rows_PD = self.rows(values_PC, part.arrays["level"], part.arrays["known"])
        x_PD: Tensor = torch.where(part.arrays["asked"][:, None], self.question.to(rows_PD.dtype), rows_PD)
        # of a value that is written row after row the last row is fed to nobody
        counts, sizes = part.counts, part.sizes["values"]
        if counts == sizes:
            return x_PD
        return torch.cat([x[:fed] for x, fed in zip(x_PD.split_with_sizes(list(sizes)), counts, strict=True)])

    def rows(self, values_PC: Tensor, level_P: Tensor, known_P: Tensor) -> Tensor:
        """(..., P, D) of numbers, their level of noise, and 1 where they are known."""
        fed = torch.cat([values_PC, known_P[..., None]], -1)
        rates = torch.exp(torch.linspace(0, math.log(1000), _WAVES, device=level_P.device))
        angles = level_P[..., None] * rates
        waves = torch.cat([angles.sin(), angles.cos()], -1)
        x_PD: Tensor = self.inner(fed) + self.level(waves)
        return x_PD

    def objectives(self) -> Mapping[str, Begin]:
        """`flow` and `diffusion`, one mean squared error a row, `length`, and `frames`, which is both of each row."""
        return {"flow": self._goal, "diffusion": self._goal, "length": self._length, "frames": self._next}

    def _goal(self, rows: LossRows, encoded: Encoded) -> Reading:
        def loss(states_TD: Tensor) -> Tensor:
            given_RC: Tensor = self.out(states_TD.index_select(0, rows.rows_R)).float()
            loss_R: Tensor = (given_RC - rows.arrays["goal"]).square().mean(-1)
            return loss_R

        return Reading(loss)

    def _length(self, rows: LossRows, encoded: Encoded) -> Reading:
        def loss(states_TD: Tensor) -> Tensor:
            logits_UB = self.length(states_TD.index_select(0, rows.rows_R)).float()
            return F.cross_entropy(logits_UB, rows.arrays["labels"] - 1, reduction="none")

        return Reading(loss)

    def _next(self, rows: LossRows, encoded: Encoded) -> Reading:
        def loss(states_TD: Tensor) -> Tensor:
            states_RD = states_TD.index_select(0, rows.rows_R)
            wrong_R: Tensor = (self.out(states_RD).float() - rows.arrays["goal"]).square().mean(-1)
            logits_RB = self.length(states_RD).float()
            return wrong_R + LENGTH_SHARE * F.cross_entropy(logits_RB, rows.arrays["labels"] - 1, reduction="none")

        return Reading(loss)

    def sections(self) -> tuple[Section, ...]:
        """Its heads: values that are read, or of a fixed number of rows, do not move them."""
        return (
            Section(
                tuple(self.out.parameters()),
                lambda a: a.learned("flow") + a.learned("diffusion") + a.learned("frames"),
            ),
            Section(tuple(self.length.parameters()), lambda a: a.learned("length") + a.learned("frames")),
            Section((self.question,), lambda a: a.learned("length")),
        )

    def write(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
        """Values (L, C), each of as many rows as the source is read to ask for (or as all have)."""
        learned = asked[0].what.learned if isinstance(asked[0].what, Whole) else ()
        if learned and learned[0][0] == "frames":
            return follow(sources, asked, self._fed, self.out, self.length)
        found: dict[int, Written] = {}
        lengths = self._lengths(sources, asked)
        for length in dict.fromkeys(lengths):
            members = [i for i, own in enumerate(lengths) if own == length]
            found.update(zip(members, self._written(sources, [_cut(asked[i], length) for i in members]), strict=True))
        return [found[i] for i in range(len(asked))]

    def _lengths(self, sources: Sources, asked: Sequence[ToWrite]) -> list[int]:
        """Rows of each: the median of what the model believes, within what is allowed; `unit` of them at a time."""
        what = asked[0].what
        about = dict(what.about) if isinstance(what, Whole) else {}
        if not about.get("asked"):
            return [len(what.positions)] * len(asked)
        unit, least = (int(str(about.get(key, 1))) for key in ("unit", "least"))
        most = len(what.positions) // unit
        states_N1D = sources.passes([_cut(each, 1) for each in asked])(self.question.expand(len(asked), 1, -1))
        below_NB = self.length(states_N1D[:, 0]).float().softmax(-1).cumsum(-1) < 0.5
        return [unit * min(max(1 + n, least), most) for n in below_NB.sum(-1).tolist()]

    def _fed(self, rows_BC: Tensor) -> Tensor:
        """(B, D) of rows that were written."""
        return self.rows(rows_BC, rows_BC.new_zeros(len(rows_BC)), rows_BC.new_ones(len(rows_BC)))

    def _written(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
        """Values of one length."""
        first, what = asked[0], asked[0].what
        if not isinstance(what, Whole):
            raise ShapeError(f"{self.name}: an adapter of continuous rows is asked for codes")
        process = Process.of(what.learned[0][0], dict(what.learned[0][1]))
        options, cfg = first.settings, first.options.cfg
        # with guidance 1 the emptied source is not asked
        passes = [(sources.passes(asked), cfg)]
        if first.options.guided:
            passes.append((sources.passes(asked, emptied=True), 1 - cfg))
        rngs = [each.rng() for each in asked]
        noise_NLC = noise(rngs, len(what.positions), self.channels, sources.states_SD.device)
        given_NLC, known_NL = _given(asked, noise_NLC)

        def model(x_NLC: Tensor, level: float) -> Tensor:
            fed_NLC = torch.where(known_NL[..., None], given_NLC, x_NLC)
            level_NL = torch.where(known_NL, 0.0, level)
            x_NLD = self.rows(fed_NLC, level_NL, known_NL.float())
            return torch.stack([share * self.out(decoder(x_NLD)).float() for decoder, share in passes]).sum(0)

        made_NLC = denoise(model, noise_NLC, process, options["steps"], options["eta"], rngs)
        made_NLC = torch.where(known_NL[..., None], given_NLC, made_NLC)
        return [Written(x_LC.cpu().numpy()) for x_LC in made_NLC]


class DenoisingAdapter(Adapter):
    """Base of adapters of values in continuous rows: a Denoiser of the sizes that their settings say."""

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        channels, most = self.sizes(settings)
        self.denoiser = Denoiser(type(self).__name__, channels, shared.width, most)

    @classmethod
    def sizes(cls, settings: Mapping[str, Any]) -> tuple[int, int]:
        """(numbers of a row, most rows of a value)."""
        raise TypeError(f"{cls.__name__} does not say how large its rows are")

    def embed(self, part: Part) -> Tensor:
        """(P, D) of rows, with noise or as they are."""
        return self.denoiser.embed(part)

    def objectives(self) -> Mapping[str, Begin]:
        """Those of its Denoiser."""
        return self.denoiser.objectives()

    def sections(self) -> tuple[Section, ...]:
        """Those of its Denoiser."""
        return self.denoiser.sections()

    def write(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
        """Rows (P, C), normalised."""
        return self.denoiser.write(sources, asked)


def _cut(asked: ToWrite, length: int) -> ToWrite:
    """The same, of the first rows alone."""
    what = asked.what
    return replace(asked, what=replace(what, positions=what.positions[:length]))


def _given(asked: Sequence[ToWrite], like_NLC: Tensor) -> tuple[Tensor, Tensor]:
    """((N, L, C) rows that are known, (N, L) which these are)."""
    given_NLC = torch.zeros_like(like_NLC)
    for given_LC, each in zip(given_NLC, asked, strict=True):
        if isinstance(each.what, Whole) and each.what.given is not None:
            given_LC.copy_(torch.from_numpy(each.what.given[: len(given_LC)]))
        else:
            given_LC.fill_(torch.nan)
    known_NL = ~given_NLC.isnan().any(-1)
    return given_NLC.nan_to_num(), known_NL
