"""PHONE: phones separated by white space (ARPAbet and the like) <-> one vocabulary row a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.plan.constraints import Constraint, Free
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import READ, Piece, Preprocess, RowContext

_PREFIX = "phone:"


def _phones(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, (list, tuple, np.ndarray)) and all(isinstance(v, str) for v in value):
        return list(value)
    what = f"PHONE reads phones separated by spaces, or a list of them; found {type(value).__name__}"
    raise DataError(what, help='such as "HH AH L OW", or ["HH", "AH", "L", "OW"]')


class PhonePreprocess(Preprocess):
    """Phones <-> rows named `phone:X`, collected over the training data."""

    kind: ClassVar[str] = kinds.PHONE
    in_rounds: ClassVar[bool] = True

    @cached_property
    def _rows(self) -> dict[str, int]:
        vocabulary = self.vocabulary
        low = vocabulary.declared_low
        return {n[len(_PREFIX) :]: low + i for i, n in enumerate(vocabulary.declared) if n.startswith(_PREFIX)}

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """One id per phone; on the target side followed by `<close>`."""
        rows = self._rows
        ids: list[int] = []
        for phone in _phones(value)[: self._limit(options)]:
            if phone not in rows:
                raise DataError(f"phone `{phone}` is not in the training data", help=did_you_mean(phone, rows, "known"))
            ids.append(rows[phone])
        if known.side == "target":
            if not ids:
                raise DataError("PHONE writes phones; found none", help="leave the row out")
            ids.append(self.vocabulary.control("close"))
        return Piece.of_ids(ids)

    def _limit(self, options: Options) -> int:
        return int(str(option(options, "max_length") or self.settings.get("max_length", 256)))

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """Any phones, then `<close>`."""
        least = int(str(option(options, "min_length") or 0))
        ids = tuple(sorted(self._rows.values()))
        return Free(0, 0, least, self._limit(options), self.vocabulary.control("close"), ids)

    def decode(self, ids: npt.NDArray[np.int64], options: Options, known: RowContext) -> str:
        """Phones separated by spaces."""
        close = self.vocabulary.control("close")
        return " ".join(self.vocabulary.name(int(i))[len(_PREFIX) :] for i in ids if i != close)

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` is not a sequence of phones."""
        if not _phones(value) and known.side == "target":
            raise DataError("PHONE writes phones; found none", help="leave the row out")

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> str:
        """Phones separated by spaces, also where the data lists them."""
        return value if isinstance(value, str) else " ".join(map(str, value))

    @classmethod
    def declare(cls, value: Any, options: Options, settings: Mapping[str, Any]) -> Iterable[str]:
        """A row per phone."""
        return (_PREFIX + phone for phone in _phones(value))
