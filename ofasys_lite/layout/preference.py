"""Preference pairs: what a sample's two answers are learned by, their half that runs where rows are read.

Shapes: R rows that are learned, J pieces, U pairs, A answers of a sample (2, or 3 with one of another row).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import CardError
from ofasys_lite.layout.learned import Arrays, Learned, LearnedPiece, LossRows, Objective
from ofasys_lite.layout.pack import Target
from ofasys_lite.plan.language import MISMATCHED
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import Piece

#: What an option is where the line does not give it: beta of the paper; how much the first answer's own cross entropy
#: counts beside.
DEFAULTS = {"beta": 0.1, "sft": 0.0}


class Preference(Objective):
    """Two answers to one source, the first preferred: `dpo`, `ipo` or `kto` (`adapters/pair_losses.py`).

    Each piece is learned by the objective that gives its likelihood, row by row; those of a sample stand together, the
    preferred one first; behind the other one stands that of another row, where there is one (`OtherAnswer`). A loss
    value is a sample's.

    Args:
        base: Gives the likelihood.
    """

    def __init__(self, name: str, options: Options, base: Objective) -> None:
        super().__init__(name, options)
        for key, value in {**DEFAULTS, **dict(options)}.items():
            least = 0.0 if key == "sft" else 1e-6
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e6:
                help = f"write {name}({key}={DEFAULTS[key]:g})"
                raise CardError(f"loss: `{key}` of {name} is a number of at least {least:g}, not {value!r}", help=help)
        self.base = self.answered = base
        self.likelihood = base.name
        # the head that learns it, and whether it looks on in the decoder, are the base's
        self.head = base.head  # type: ignore[misc]
        self.tapped = base.tapped  # type: ignore[misc]
        # what it subtracts is a mean over the step
        self.whole_step = self.mismatched = name in MISMATCHED  # type: ignore[misc]

    def number(self, key: str) -> float:
        """`beta` or `sft`."""
        return float(self.option(key, DEFAULTS[key]))

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """What the base makes of it."""
        return self.answered.prepare(piece, read, rng)

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """The rows of all pieces as the base has them; values, terms and `content` (on the host) are of samples.

        `content` (U, A) is what an answer and its source hold: equal ones have the same likelihood under frozen
        weights.
        """
        answers = len(pieces) // len({p.sample for p in pieces})
        content = np.array([int(p.arrays["content"]) for p in pieces], dtype=np.int64).reshape(-1, answers)
        bare = [replace(p, arrays={k: v for k, v in p.arrays.items() if k != "content"}) for p in pieces]
        found = self.answered.rows(bare)
        first = pieces[::answers]
        return replace(
            found,
            objective=self,
            terms_U=np.array([p.terms[0] for p in first], dtype=np.int64),
            samples_U=np.array([p.sample for p in first], dtype=np.int64),
            units_U=np.ones(len(first), dtype=np.int64),
            host={"content": content},
        )


@dataclass(frozen=True, slots=True)
class OtherAnswer:
    """An answer that was given to another source: the row it is of, and which of the row's two it is."""

    row: Mapping[str, Any]
    id: str
    rejected: bool


def other_answer(source: RowSource, index: int, rng: np.random.Generator) -> OtherAnswer:
    """Of a row other than row `index`, where there is another; each row, and each of its answers, alike likely."""
    other = (index + 1 + int(rng.integers(max(1, len(source) - 1)))) % len(source)
    row = source.row(other)
    return OtherAnswer(row, source.ids(other, row), bool(rng.integers(2)))


def with_contents(source: Sequence[Piece], targets: Iterable[Target]) -> list[Target]:
    """Targets whose pieces that are learned as an answer of a pair know their content, and their source's."""
    found = []
    for target in targets:
        content = np.array(_content([*source, *target.pieces]))
        learned = tuple(_knowing(item, content) for item in target.learned)
        found.append(replace(target, learned=learned))
    return found


def _knowing(item: Learned, content: Any) -> Learned:
    pair = isinstance(item.objective, Preference)
    return replace(item, arrays={**item.arrays, "content": content}) if pair else item


def _content(pieces: Iterable[Piece]) -> int:
    """A number of what pieces hold, arrays and positions."""
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        digest.update(piece.adapter.encode())
        for name, array in sorted({**piece.arrays, "positions": piece.positions_P3}.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(digest.digest(), "big", signed=True)
