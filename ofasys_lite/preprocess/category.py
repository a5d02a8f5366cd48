"""CATEGORY: one of a set of names <-> one vocabulary row a name (labels, items, actions)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.plan.constraints import Constraint, OneOf
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import READ, Piece, Preprocess, RowContext
from ofasys_lite.preprocess.closed import closed_ids, closed_sequences, closed_value
from ofasys_lite.preprocess.text import read_text
from ofasys_lite.preprocess.vocabulary import WORDS


class CategoryPreprocess(Preprocess):
    """A name <-> the row `=name`, declared over the training data; never spelt out on the source side."""

    kind: ClassVar[str] = kinds.CATEGORY
    fixed_rows: ClassVar[int | None] = 1
    most_rows: ClassVar[int | None] = None

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """One id (on the target side under a set without rows: pieces and `<close>`)."""
        text = _name(value)
        values = known.closed
        if values is not None and known.side == "target":
            return Piece.of_ids(closed_ids(self.vocabulary, text, values))
        row = self.vocabulary.find(f"={text}")
        if row is None:
            names = [n[1:] for n in self.vocabulary.declared if n.startswith("=")]
            raise DataError(f"category `{text}` is not in the training data", help=did_you_mean(text, names, "known"))
        return Piece.of_ids([row])

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """One of the closed values."""
        values = known.closed
        if values is None:
            raise DataError("a CATEGORY target needs a closed set", help="write [CATEGORY:x,closed_set]")
        return OneOf(closed_sequences(self.vocabulary, values))

    def decode(self, ids: npt.NDArray[np.int64], options: Options, known: RowContext) -> str:
        """The name."""
        values = known.closed
        if values is None:
            return self.vocabulary.name(int(ids[0]))[1:]
        return closed_value(self.vocabulary, ids, values)

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` is not a name."""
        _name(value)

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> str:
        """The name as text."""
        return read_text(value, "CATEGORY")

    @classmethod
    def declare(cls, value: Any, options: Options, settings: Mapping[str, Any]) -> Iterable[str]:
        """The row of the name."""
        return (f"={_name(value)}",)

    @classmethod
    def texts_of(cls, value: Any, options: Options) -> Iterable[str]:
        """The name, where its words are looked at."""
        return (_name(value),) if option(options, "features") else ()

    @classmethod
    def rows_of_slot(cls, options: Options) -> tuple[str, ...]:
        """What says that vectors of names know their words."""
        return (WORDS,) if option(options, "features") else ()


def _name(value: Any) -> str:
    """`value` as a name; DataError if it is none."""
    text = read_text(value, "CATEGORY")
    if not text.strip():
        raise DataError("CATEGORY reads a name; found an empty text", help="leave the row out, or give it a name")
    return text
