"""Softmax over a few of many names: which names of a closed set stand beside the right one, and how often they would.

What a drawn name counts for is divided by how often it is expected to be drawn (the log-Q correction: Bengio and
Senecal, 2008; of a step's own targets: Yi et al., RecSys 2019), so that the sum over the drawn names is in expectation
the sum over all others. Shapes: R rows that are learned, I names of the set, K drawn for a row, C different names of
a pack.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.layout.learned import Arrays, Ints, LearnedPiece, LossRows, Objective
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import TOKEN_ADAPTER, Piece

Floats = npt.NDArray[np.float32]
#: What an option is where the line does not give it.
DEFAULTS = {"negatives": 256, "power": 0.0, "in_step": False, "log_q": True}

_FLAGS = {"true": True, "false": False}


class SampledSoftmax(Objective):
    """Cross entropy of one name against names that are drawn for it; without a generator against all of its set.

    Names are drawn by the sample's own generator, so that they follow from seed, sample and epoch alone.

    Args:
        options: `negatives`, names drawn for each row (as many as there are others: all of them, and nothing is
            drawn); `power`, a name is drawn in proportion to its training rows to this power: 0 draws each alike
            and none twice; `in_step`, the other targets of the step stand beside them; `log_q`, the correction.
        among: Ids of the set, ascending, and training rows of each; None before the slot's set is known.
    """

    head: ClassVar[str | None] = TOKEN_ADAPTER
    over_set: ClassVar[bool] = True
    of_training: ClassVar[bool] = True
    on_host: ClassVar[bool] = True

    def __init__(
        self, name: str, options: Options = (), together: bool = False, among: tuple[Ints, Ints] | None = None
    ) -> None:
        super().__init__(name, options, together)
        given = {**DEFAULTS, **{key: _FLAGS.get(str(value), value) for key, value in options if key in DEFAULTS}}
        self.negatives = _number(name, "negatives", given["negatives"], whole=True)
        self.power = _number(name, "power", given["power"])
        for key in ("in_step", "log_q"):
            if not isinstance(given[key], bool):
                raise CardError(
                    f"loss: `{key}` of {name} is true or false, not {given[key]!r}", help=f"write {name}({key}=true)"
                )
        self.log_q = bool(given["log_q"])
        self.whole_step = bool(given["in_step"])  # type: ignore[misc]
        if not self.negatives and not self.whole_step:
            help = f"write {name}(negatives={DEFAULTS['negatives']}), or in_step=true beside it"
            raise CardError(f"loss: {name} compares a name with none", help=help)
        self._among = among
        # a name without a training row is drawn, too: without it the sum over all would lack it
        self._sums_I = None if among is None else np.cumsum((among[1] + 1.0) ** self.power)

    def __getstate__(self) -> dict[str, Any]:
        # it travels with packs, which hold what they need of the set
        return {**self.__dict__, "_among": None, "_sums_I": None}

    def among(self, ids_I: Ints, counts_I: Ints) -> Objective:
        """This objective over a set; sets are told apart by its options."""
        if len(ids_I) < 2:
            raise CardError(f"loss: {self.name} needs a closed set of two names or more", help="leave `loss` out")
        order = np.argsort(ids_I)
        options = (*self.options, ("among", f"{len(ids_I)}:{zlib.crc32(ids_I.tobytes()):x}"))
        return type(self)(self.name, options, self.together, (ids_I[order], counts_I[order]))

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece; `place` (1,) of its name in the set, and `drawn` (1, K): places of the names beside it."""
        ids_I, _ = self._set()
        id = int(piece.arrays["ids"][0])
        place = int(np.searchsorted(ids_I, id))
        if piece.count != 1 or place == len(ids_I) or ids_I[place] != id:
            raise DataError(f"`loss={self.name}` learns one row of the vocabulary, a name of the closed set")
        found = {"place": np.array([place])}
        if rng is not None and not self.exact:
            found["drawn"] = self._draw(place, rng)[None]
        return piece, found

    @property
    def exact(self) -> bool:
        """Whether nothing is drawn because all names of the set are asked for."""
        return bool(self.negatives >= len(self._set()[0]) - 1)

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """`labels` (R,): places in `names` (C,), ids of the vocabulary.

        Where names were drawn, `drawn` (R, K): their places in `names`, and `expected` (R, K): how often each of
        them was to be drawn, infinite where it is the right one. Over the whole step also `shares` (R, K), and on the
        host `ids`, `share` and `expected` of each right name: of all training targets, and drawn for another row.
        """
        found = super().rows(pieces)
        ids_I, _ = self._set()
        places_R = found.arrays["place"]
        drawn_RK = found.arrays.get("drawn")
        if drawn_RK is None:
            return replace(found, arrays={"labels": places_R, "names": ids_I}, host=self._host(places_R))
        names_C, inverse = np.unique(np.concatenate([places_R, drawn_RK.ravel()]), return_inverse=True)
        arrays: dict[str, npt.NDArray[Any]] = {
            "labels": inverse[: len(places_R)],
            "names": ids_I[names_C],
            "drawn": inverse[len(places_R) :].reshape(drawn_RK.shape),
            "expected": np.where(drawn_RK == places_R[:, None], np.inf, self._expected(drawn_RK)).astype(np.float32),
        }
        if self.whole_step:
            arrays["shares"] = self._shares(drawn_RK)
        return replace(found, arrays=arrays, host=self._host(places_R))

    def _host(self, places_R: Ints) -> Arrays:
        if not self.whole_step:
            return {}
        ids_I, _ = self._set()
        return {
            "ids": ids_I[places_R],
            "share": self._shares(places_R),
            "expected": self._expected(places_R).astype(np.float32),
        }

    def _set(self) -> tuple[Ints, Ints]:
        if self._among is None:
            raise CardError(f"loss: {self.name} needs a closed set", help="write closed_set beside it")
        return self._among

    def _draw(self, place: int, rng: np.random.Generator) -> Ints:
        """(K,) places of names beside the right one; by frequency with repetitions, and the right one among them."""
        ids_I, _ = self._set()
        if self.power and self._sums_I is not None:
            sums_I = self._sums_I
            drawn = np.searchsorted(sums_I, rng.random(self.negatives) * sums_I[-1], side="right")
            found: Ints = np.minimum(drawn, len(ids_I) - 1).astype(np.int64)
            return found
        others: Ints = rng.choice(len(ids_I) - 1, self.negatives, replace=False, shuffle=False)
        return others + (others >= place)

    def _expected(self, places: Ints) -> npt.NDArray[np.float64]:
        """How often names at places of the set are drawn for a row whose right name they are not."""
        ids_I, counts_I = self._set()
        if not self.power or self._sums_I is None:
            return np.full(places.shape, self.negatives / (len(ids_I) - 1))
        found: npt.NDArray[np.float64] = self.negatives * (counts_I[places] + 1.0) ** self.power / self._sums_I[-1]
        return found

    def _shares(self, places: Ints) -> Floats:
        """Share of the training targets that names at places of the set are; alike where nobody counted them."""
        counts_I = self._set()[1]
        total = int(counts_I.sum())
        shares = np.maximum(counts_I[places], 1) / total if total else np.full(places.shape, 1 / len(counts_I))
        return shares.astype(np.float32)


def _number(objective: str, key: str, value: object, whole: bool = False) -> Any:
    """An option that is a number from 0 (a power to 1); CardError if it is none."""
    kind = int if whole else (int, float)
    most = float("inf") if whole else 1.0
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value <= most:
        allowed = "a whole number from 0" if whole else "a number from 0 (each alike) to 1 (by frequency)"
        help = f"write {objective}({key}={DEFAULTS[key]})"
        raise CardError(f"loss: `{key}` of {objective} is {allowed}, not {value!r}", help=help)
    return value
