"""What of the inputs a prediction does not read: texts and sounds longer than their slot's `max_length`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from warnings import warn

from ofasys_lite.data.attributes import preprocess_class
from ofasys_lite.data.columns import label
from ofasys_lite.data.groups import raw_values
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import SlotSegment, option
from ofasys_lite.preprocess.text import normal_text

if TYPE_CHECKING:
    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.generalist.prediction import Request


class CutInputs:
    """Counts, over requests, the values of source slots that are longer than what is read of them."""

    def __init__(self, model: Generalist) -> None:
        self.model = model
        self._cut: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()

    def see(self, requests: Iterable[Request]) -> CutInputs:
        """Looks at requests; what cannot be read is told where it is read. Gives itself."""
        for request in requests:
            template = self.model.entry(request.task).plan.templates[0]
            try:
                found = list(raw_values(template.source, request.row))
            except DataError:
                continue
            for slot, value in found:
                try:
                    kinds = self._kinds(slot, value, request.folder)
                except DataError:
                    continue
                self._seen[label(slot)] += 1
                self._cut.update(f"{label(slot)}: {kind}" for kind in kinds)
        return self

    def _kinds(self, slot: SlotSegment, value: Any, folder: str | None) -> list[str]:
        """What is cut of a value: `max_length=512 cuts`; DataError where it cannot be read."""
        tool = preprocess_class(slot.preprocess)
        settings = {**self.model.modalities[slot.modality].settings, "folder": folder}
        own = option(slot.options, "max_length")
        limit = own or settings.get("max_length")
        kinds = list[str]()
        # media are opened only where something may be cut of them, and never fetched a second time
        if own is not None and not (folder is not None and "://" in folder):
            remarks = tool.look(value, slot.options, settings).remarks
            kinds += [kind for kind, _ in remarks if kind.endswith(" cuts")]
        said = dict(slot.options)
        if isinstance(limit, int) and any(self._long(text, said, limit) for text in tool.texts(value)):
            kinds.append(f"max_length={limit} cuts")
        return kinds

    def _long(self, text: str, said: Mapping[str, object], limit: int) -> bool:
        """Whether a text has more pieces than that; the shortest ones are not counted: a character is four at most."""
        if len(text) * 4 <= limit:
            return False
        text = normal_text(text, said)
        parts = text if said.get("spelled") else (text,)
        return sum(len(self.model.vocabulary.encode(part)) for part in parts) > limit

    def lines(self) -> Iterator[str]:
        """`slot [TEXT:q]: max_length=512 cuts 3 of 60 values: what stands behind is not read`."""
        for what, count in self._cut.items():
            total = self._seen[what.partition(": ")[0]]
            yield f"{what} {count} of {total} value{'' if total == 1 else 's'}: what stands behind is not read"


def warn_cut(model: Generalist, requests: Iterable[Request]) -> None:
    """Warns of what is cut, one warning a slot, at the call of the model's user."""
    for line in CutInputs(model).see(requests).lines():
        warn(line, stacklevel=4)
