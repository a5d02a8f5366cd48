"""What a run must know of its training rows before the first: closed values, rows to declare, the tokenizer's pieces.

All rows are read for it. What was found is kept in the cache by content, so that of several ranks, and of several runs
on the same data, one reads and trains, and the others take what it found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.attributes import overrides, preprocess_class
from ofasys_lite.data.groups import group_columns, raw_values
from ofasys_lite.data.readers.memory import is_stored
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError
from ofasys_lite.plan import Plan, SlotSegment, WordsSegment
from ofasys_lite.plan.segments import GroupSegment, Segment, walk
from ofasys_lite.preprocess.base import Preprocess
from ofasys_lite.preprocess.text import read_text
from ofasys_lite.preprocess.vocabulary import train_pieces

Progress = Callable[[str, int, int], None]

#: Rows per task that the tokenizer is trained on (drawn evenly over the split).
_TOKENIZER_ROWS = 20_000


class Scan:
    """One pass over the light columns of a training split.

    Args:
        want_texts: A tokenizer is to be trained: texts are kept on the way.
        progress: Called with (what, done, all) while rows are read.

    Attributes:
        closed: Values of each closed set that the training column gives, sorted.
        counts: By slot, training rows of each value of the closed set that it takes its target from.
        declared: Rows of the vocabulary that the values declare.
        key: Hash of all that they depend on; empty where that is not known.
    """

    def __init__(
        self,
        plan: Plan,
        source: RowSource,
        settings: Mapping[str, Mapping[str, Any]],
        want_texts: bool,
        progress: Progress | None,
    ) -> None:
        self._plan, self._source, self._settings, self._progress = plan, source, settings, progress
        self._tools = {s.preprocess: preprocess_class(s.preprocess) for s in plan.all_slots()}
        self._sides = [_light(side, self._tools) for side in _distinct_sides(plan)]
        self._columns = tuple(dict.fromkeys(column for side in self._sides for column in _columns(side)))
        self._texts: dict[str, None] | None = None
        self.key = self._key()
        if self.key:

            def build() -> dict[str, Any]:
                return {"json": np.frombuffer(json.dumps(self._found(want_texts)).encode(), np.uint8)}

            counts, declared = json.loads(cached_arrays("scan-2", self.key, build)["json"].tobytes())
        else:
            counts, declared = self._found(want_texts)
        own = {slot.key for side in self._sides for slot in walk(side) if _is_closed(slot)}
        self.counts: dict[str, dict[str, int]] = counts
        self.closed = {slot: tuple(sorted(counted)) for slot, counted in counts.items() if slot in own}
        self.declared: list[str] = declared

    def texts(self) -> Iterable[str]:
        """Texts of rows drawn evenly over the split."""
        if self._texts is None:
            self._texts = {}
            self._read(range(0, len(self._source), self._stride()), self._take_texts)
        return self._texts

    def _key(self) -> str:
        # what a class of the user's makes of a value may change from run to run
        own = all(tool.__module__.startswith("ofasys_lite.") for tool in self._tools.values())
        if not own or not is_stored(self._source):
            return ""
        settings = sorted((name, sorted(values.items())) for name, values in self._settings.items())
        return combined(self._source.fingerprint, repr(self._sides), repr(settings), _TOKENIZER_ROWS)

    def _found(self, want_texts: bool) -> tuple[dict[str, dict[str, int]], list[str]]:
        """(counts, declared) after reading all rows."""
        counts: dict[str, dict[str, int]] = {}
        declared: dict[str, None] = {}
        stride = self._stride()
        if want_texts:
            self._texts = {}

        def take(number: int, slot: SlotSegment, value: Any) -> None:
            if slot.closed is not None and slot.closed.kind != "candidates":
                own, text = counts.setdefault(slot.key, {}), read_text(value)
                own[text] = own.get(text, 0) + 1
                if slot.learned and _is_closed(slot):
                    return
            tool, settings = self._tools[slot.preprocess], self._settings[slot.modality]
            declared.update(dict.fromkeys(tool.declare(value, slot.options, settings)))
            if want_texts and number % stride == 0:
                self._take_texts(number, slot, value)

        self._read(range(len(self._source)), take)
        return counts, list(declared)

    def _take_texts(self, number: int, slot: SlotSegment, value: Any) -> None:
        if self._texts is not None and not (_is_closed(slot) and slot.learned):
            self._texts.update(dict.fromkeys(self._tools[slot.preprocess].texts_of(value, slot.options)))

    def _stride(self) -> int:
        return max(1, len(self._source) // _TOKENIZER_ROWS)

    def _read(self, numbers: range, take: Callable[[int, SlotSegment, Any], None]) -> None:
        """Gives `take` the values of some rows."""
        for number, values in zip(numbers, self._source.values(numbers, self._columns), strict=True):
            if self._progress is not None and number % 5000 == 0:
                self._progress(f"reading {self._plan.task}", number, len(self._source))
            if isinstance(values, DataError):
                # a row that cannot be read is quarantined when it is drawn; here it only declares nothing
                continue
            row = dict(zip(self._columns, values, strict=True))
            with suppress(DataError):
                for side in self._sides:
                    for slot, value in raw_values(side, row):
                        take(number, slot, value)


def pieces(scans: Sequence[Scan], plans: Sequence[Plan], size: int, progress: Progress | None) -> bytes:
    """A tokenizer of about `size` pieces, trained on the texts of all tasks and the words of their lines."""
    words = [text for plan in plans for text in _words(plan)]

    def build() -> dict[str, Any]:
        if progress is not None:
            progress("training the tokenizer", 0, 0)
        texts = [text for scan in scans for text in scan.texts()]
        return {"model": np.frombuffer(train_pieces(texts, size, words), np.uint8)}

    if not all(scan.key for scan in scans):
        return bytes(build()["model"])
    key = combined(version("sentencepiece"), size, len(scans), *(scan.key for scan in scans), *words)
    return bytes(cached_arrays("pieces-1", key, build)["model"])


def _is_closed(slot: SlotSegment) -> bool:
    """True for slots that take the values of their training column."""
    return slot.closed is not None and slot.closed.kind == "column"


def _distinct_sides(plan: Plan) -> list[tuple[Segment, ...]]:
    """Sources and targets of all templates, without those whose slots read as an earlier one's: most paraphrases."""
    found: dict[tuple[object, ...], tuple[Segment, ...]] = {}
    for template in plan.templates:
        for side in (template.source, *template.targets):
            found.setdefault(tuple((s.key, s.preprocess, s.options, s.closed) for s in walk(side)), side)
    return list(found.values())


def _light(side: tuple[Segment, ...], tools: Mapping[str, type[Preprocess]]) -> tuple[Segment, ...]:
    """`side` without the slots of which a scan learns nothing: media, which are not opened for it, and boxes."""

    def kept(segment: Segment) -> bool:
        if not isinstance(segment, SlotSegment):
            return True
        tool = tools[segment.preprocess]
        return segment.closed is not None or tool.text or any(overrides(tool, n) for n in ("texts", "declare"))

    def opened(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        return tuple(
            replace(s, alternatives=tuple(map(opened, s.alternatives))) if isinstance(s, GroupSegment) else s
            for s in segments
            if kept(s)
        )

    return opened(side)


def _columns(side: tuple[Segment, ...]) -> Iterator[str]:
    """Top-level columns that `side` reads."""
    for segment in side:
        if isinstance(segment, SlotSegment):
            yield segment.column
        elif isinstance(segment, GroupSegment):
            yield from group_columns(segment)


def _words(plan: Plan) -> Iterator[str]:
    def visit(segments: tuple[Segment, ...]) -> Iterator[str]:
        for segment in segments:
            if isinstance(segment, WordsSegment):
                yield segment.text
            elif isinstance(segment, GroupSegment):
                for alternative in segment.alternatives:
                    yield from visit(alternative)

    for template in plan.templates:
        for side in (template.source, *template.targets):
            yield from visit(side)
