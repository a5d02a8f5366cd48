"""Looking into media: what their headers say, which of them are decoded, and remarks that are told once a kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ofasys_lite.data.columns import label
from ofasys_lite.plan.segments import SlotSegment
from ofasys_lite.preprocess.base import Look

#: Places with all numbers up to this are shares of their picture, not pixels of it.
_SHARES = 1.5


class Remarks:
    """What values of the slots of one task have in common, counted over the rows of one source.

    Attributes:
        work: Pixels and samples that would be decoded to read all values whole.
    """

    def __init__(self) -> None:
        self.work = 0
        self._values: Counter[str] = Counter()
        self._found: dict[tuple[str, str], list[Any]] = {}
        self._largest: dict[str, float] = {}

    def see(self, slot: SlotSegment, look: Look) -> None:
        """Notes what was learned of one value of `slot`."""
        self.work += look.work
        who = label(slot)
        self._values[who] += 1
        for kind, example in look.remarks:
            found = self._found.setdefault((who, kind), [0, example])
            found[0] += 1
        if look.largest is not None:
            self._largest[who] = max(self._largest.get(who, 0.0), look.largest)

    def lines(self, name: str) -> Iterator[str]:
        """One line a kind, of the values seen in the source `name`; forgets them."""
        for (who, kind), (count, example) in self._found.items():
            share = f"{100 * count / self._values[who]:.1f} % of the values in {name}"
            yield f"{who}: {kind} {share}" + (f", such as {example}" if example else "")
        for who, largest in self._largest.items():
            if 0 < largest <= _SHARES:
                hint = f"{who[len('slot ') : -1]},size=1]"
                yield f"{who}: no number is above {largest:g}, read as pixels; shares of the picture are written {hint}"
        self.__init__()  # type: ignore[misc]
