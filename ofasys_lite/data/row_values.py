"""The values of one row against a line: what its modalities can read, lists and single values, labels, groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.attributes import preprocess_class
from ofasys_lite.data.columns import label, named_uses, slot_uses
from ofasys_lite.data.fields import MISSING, as_list, column_help, field, is_empty, opened_text
from ofasys_lite.data.findings import Remarks, Tally
from ofasys_lite.data.groups import candidates, empty_target, raw_values, records, walked
from ofasys_lite.data.labels import Names, of_column
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import DataError, did_you_mean, few
from ofasys_lite.instruction.slots import column_problem
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.segments import GroupSegment, Plan, Segment, SlotSegment, WordsSegment, option, walk
from ofasys_lite.preprocess.base import Preprocess, RowContext
from ofasys_lite.preprocess.media import naming
from ofasys_lite.preprocess.text import read_text

#: Most characters of a piece, as SentencePiece makes them.
_PIECE = 16
#: Keys of a record that are tried.
_KEYS = 40
#: Elements of a group that are looked at.
_ELEMENTS = 20


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the row that is looked at: it, columns missing everywhere, folder of paths, frame."""

    row: Any
    gone: set[str]
    folder: str | None
    frame: tuple[int, int] | None


class Looker:
    """Holds rows of one task against its plan; CardError: a preprocess that a modality card names is not there."""

    def __init__(self, card: TaskCard, plan: Plan, modalities: Mapping[str, ModalityCard]) -> None:
        self.card = card
        self.sides = tuple(_sides(plan))
        self.settings = {name: dict(modality.settings) for name, modality in modalities.items()}
        slots = plan.all_slots()
        self.tools = {s.preprocess: preprocess_class(s.preprocess) for s in slots if s.preprocess}
        self.closed: dict[str, frozenset[str]] = {}
        self.remarks = Remarks()
        self._framed = any(self._is_frame(s) for t in plan.templates for side in t.read for s in side)
        self._boxes = self._framed and any(tool.framed for tool in self.tools.values())
        read = (s for side in plan.templates[0].read for s in side)
        self._frames = tuple(s for s in read if isinstance(s, SlotSegment) and self._is_frame(s))
        self._long: dict[str, list[int]] = {}
        self._aligned = plan.alignment is not None

    def _is_frame(self, segment: Segment) -> bool:
        if not isinstance(segment, SlotSegment) or segment.preprocess not in self.tools:
            return False
        return self.tools[segment.preprocess].frame is not Preprocess.frame

    def close(self, names: Names) -> None:
        """Takes the closed sets of training columns, with which labels are compared from now on."""
        keys = {slot.key for side, _ in self.sides for slot in walk((side,)) if of_column(slot)}
        self.closed = {key: frozenset(values) for key, values in names.items() if key in keys}

    def look(self, tally: Tally, source: RowSource, index: int, gone: set[str], counts: bool = True) -> None:
        """Notes what is wrong with row `index`; columns in `gone` are known to be missing everywhere."""
        tally.next_row(source.place(index), counts)
        try:
            row = source.row(index)
        except DataError as error:
            tally.add("E304", None, error.message, error.help)
            return
        try:
            known = _Known(row, gone, source.base or ".", self._frame(row, source.base or "."))
            for segment, target in self.sides:
                for use in named_uses(segment):
                    if field(row, use.column) is MISSING and use.column not in gone and not use.optional:
                        _missing(tally, use.label, use.column, use.span, row)
                self._segment(tally, segment, row, target, known)
        except DataError as error:  # a key of a record that stands twice
            tally.add("E304", None, f"{source.place(index)}: {error.message}", error.help, error.message)

    def _frame(self, row: Any, folder: str | None) -> tuple[int, int] | None:
        """(width, height) of the picture that boxes of a row refer to; None where there is none or it is unknown."""
        for slot in self._frames if self._boxes else ():
            value = field(row, slot.column, slot.exact)
            if is_empty(value):
                continue
            try:
                return self.tools[slot.preprocess].look(value, slot.options, self._settings(slot, folder)).frame
            except DataError:
                return None
        return None

    def _settings(self, slot: SlotSegment, folder: str | None) -> dict[str, Any]:
        return {**self.settings[slot.modality], "folder": folder}

    def read_whole(self, tally: Tally, source: RowSource, index: int, counts: bool = True) -> None:
        """Decodes the media of a row that was looked at before, and notes what cannot be."""
        tally.next_row(source.place(index), counts, again=True)
        try:
            row = source.row(index)
            found = [one for side, _ in self.sides for one in raw_values((side,), row)]
        except DataError:
            return
        for slot, value in found:
            if slot.preprocess not in self.tools:
                continue
            settings = self._settings(slot, source.base or ".")
            try:
                self.tools[slot.preprocess].check(value, slot.options, settings)
            except DataError:
                continue  # told already
            try:
                self.tools[slot.preprocess].look(value, slot.options, settings, whole=True)
            except DataError as error:
                tally.add(
                    "E304",
                    slot.column_span,
                    f"column `{slot.column}`: {naming(error, value)}",
                    error.help,
                    _kind(error.message),
                )

    def _segment(self, tally: Tally, segment: Segment, row: Any, target: bool, known: _Known) -> None:
        if isinstance(segment, SlotSegment):
            self._slot(tally, segment, row, target, known)
        elif isinstance(segment, GroupSegment):
            self._group(tally, segment, row, target, known)

    def _slot(self, tally: Tally, slot: SlotSegment, row: Any, target: bool, known: _Known) -> None:
        gone = known.gone
        for use in slot_uses(slot):
            value = field(row, use.column, use.exact)
            # candidates of all elements of a group stand in the row
            offered = slot.closed is not None and use.column == slot.closed.name
            if offered and field(known.row, use.column) is not MISSING:
                continue
            if value is MISSING and use.column not in gone and not use.optional:
                _missing(tally, use.label, use.column, use.span, row)
        value = field(row, slot.column, slot.exact)
        if value is MISSING or (slot.optional and is_empty(value)):
            return
        span = slot.column_span
        if is_empty(value) and ((target and slot.learned) or self._aligned):
            empty = empty_target(slot)
            tally.add("E305", span, empty.message, empty.help)
            return
        if value is None or (isinstance(value, float) and value != value):
            help = f"fill it in, or write [{slot.modality}:{slot.column}?] if it may be absent"
            tally.add("E304", span, f"column `{slot.column}` is empty", help)
            return
        self._value(tally, slot, value, known, target and slot.learned)
        if slot.closed is not None:
            self._label(tally, slot, value, row, known.row)

    def _value(self, tally: Tally, slot: SlotSegment, value: Any, known: _Known, written: bool) -> None:
        tool = self.tools.get(slot.preprocess)
        if tool is None:
            return
        settings = self._settings(slot, known.folder)
        found = {column: field(known.row, column) for column, _ in slot.named}
        named = {column: value for column, value in found.items() if value is not MISSING}
        context = RowContext("target" if written else "source", frame=known.frame, row=known.row, named=named)
        if tool.framed and option(slot.options, "size") is None and not self._framed:
            says = f"[{slot.modality}:...,size=1]"
            help = f"put the IMAGE slot left of the arrow, or say {says} for boxes in fractions of the image"
            tally.add("E309", slot.span, f"{label(slot)} needs the size of its image, and the line has none", help)
        try:
            tool.check(value, slot.options, settings, context)
            self.remarks.see(slot, tool.look(value, slot.options, settings, context))
        except DataError as error:
            listed, help = _inside(slot, value, lambda part: tool.check(part, slot.options, settings))
            code = "E302" if listed else "E304"
            message = f"column `{slot.column}`: {naming(error, value)}"
            tally.add(code, slot.column_span, message, help or error.help, _kind(error.message))
            return
        limit = option(slot.options, "max_length") or settings.get("max_length")
        if isinstance(limit, int) and (texts := tuple(tool.texts(value))):
            does = "cuts" if tool.cut_targets or not written else "refuses, and training leaves out,"
            counts = self._long.setdefault(f"{label(slot)}: max_length={limit} {does}", [0, 0])
            counts[0] += sum(-(-len(word) // _PIECE) for text in texts for word in text.split()) > limit
            counts[1] += 1

    def _label(self, tally: Tally, slot: SlotSegment, value: Any, record: Any, row: Any) -> None:
        if slot.closed is None:
            return
        values: tuple[str, ...] | frozenset[str] = slot.closed.values
        if slot.closed.kind == "column":
            values = self.closed.get(slot.key, frozenset())
            if not values:
                return
        elif slot.closed.kind == "candidates":
            if field(record, slot.closed.name) is MISSING and field(row, slot.closed.name) is MISSING:
                return
            try:
                values = candidates(record, slot.closed.name, row)
            except DataError as error:
                tally.add("E303", slot.span, error.message, error.help)
                return
        try:
            text = read_text(value)
        except DataError:
            return
        if text not in values:
            help = did_you_mean(text, sorted(values), "the set")
            tally.add("E306", slot.column_span, f"column `{slot.column}`: `{text}` is not in the closed set", help)

    def _group(self, tally: Tally, group: GroupSegment, row: Any, target: bool, known: _Known) -> None:
        lists = self._lists(tally, group, row, known.gone)
        if lists is None:
            return
        try:
            elements = records(group, row)
        except DataError as error:
            equal = group.over is None and len({len(each) for each in lists}) > 1
            tally.add("E303" if equal else "E308", group.span, error.message, error.help)
            return
        if len(elements) < group.least or (group.most is not None and len(elements) > group.most):
            most = "any number" if group.most is None else str(group.most)
            one = "element" if len(elements) == 1 else "elements"
            message = f"the group has {len(elements)} {one}; promised {group.least} to {most}"
            tally.add("E307", group.span, message, "max=N cuts longer lists; {m,n} is a promise")
        for alternative, record in elements[:_ELEMENTS]:
            for segment in group.alternatives[alternative]:
                self._segment(tally, segment, record, target, replace(known, gone=set()))

    def _lists(self, tally: Tally, group: GroupSegment, row: Any, gone: set[str]) -> list[Any] | None:
        """The lists that a group walks; None if one is missing or is no list."""
        columns = {group.over: None} if group.over is not None else walked(group)
        found: list[Any] = []
        for column, slot in columns.items():
            span = group.over_span if slot is None else slot.column_span
            value = field(row, column, slot is not None and slot.exact)
            if value is MISSING or value is None:
                if slot is not None and slot.optional:
                    continue
                if value is None:
                    help = "write [] where it has no elements, or leave the row out"
                    tally.add("E304", span, f"column `{column}` is empty, where a group reads a list", help)
                elif column not in gone:
                    _missing(tally, "the group" if slot is None else label(slot), column, span, row)
                return None
            try:
                found.append(as_list(value, column))
            except DataError as error:
                help = 'in a text file write a list as JSON, such as ["a", "b"]'
                tally.add("E303", span, error.message, error.help or help)
                return None
        return found

    def told(self, name: str) -> Iterator[str]:
        """Notes about lengths and media found in the rows of one source; forgets them."""
        for what, (long, count) in self._long.items():
            if long:
                share = f"{100 * long / count:.1f} % of the values"
                yield f"task {self.card.name}: {what} at least {share} in {name} (by words; pieces are more)"
        self._long.clear()
        yield from (f"task {self.card.name}: {line}" for line in self.remarks.lines(name))


def _kind(message: str) -> str:
    """A message without what is of this row only: its numbers, names and quoted values."""
    return " ".join(word for word in message.split() if word.isalpha())


def _missing(tally: Tally, who: str, column: str, span: Span, row: Any) -> None:
    if not isinstance(row, Mapping):
        said = "empty" if row is None else "text" if isinstance(row, str) else type(row).__name__
        help = "leave the element out" if row is None else "elements that are values have no name: ([TEXT])*<over=...>"
        message = f"{who} asks for `{column}`; this element is {said}, not a record"
        tally.add("E301", span, message, help, kind=column)
        return
    prefix, names = _reached(row, column)
    where = f"`{prefix}`" if prefix else "the row"
    message = f"{who} asks for column `{column}`; {where} has {few(names) if names else 'no columns'}"
    full = [f"{prefix}.{name}" if prefix else name for name in names]
    tally.add("E301", span, message, column_help(column, full), kind=column)


def _reached(row: Mapping[str, Any], column: str) -> tuple[str, list[str]]:
    """The longest beginning of a dotted name that leads to a record, and that record's names."""
    parts = column.split(".")
    for count in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:count])
        inner = field(row, head)
        if isinstance(inner, Mapping):
            return head, [str(name) for name in inner]
    return "", [str(name) for name in row]


def _sides(plan: Plan) -> Iterator[tuple[SlotSegment | GroupSegment, bool]]:
    """(slot or group, whether it is written), each once over all paraphrases."""
    seen: set[tuple[object, ...]] = set()
    for template in plan.templates:
        for side, target in (*((s, False) for s in template.read), *((t, True) for t in template.written)):
            for segment in side:
                if isinstance(segment, WordsSegment):
                    continue
                key = (target, *_identity(segment))
                if key not in seen:
                    seen.add(key)
                    yield segment, target


def _identity(segment: SlotSegment | GroupSegment) -> tuple[object, ...]:
    if isinstance(segment, SlotSegment):
        return (segment.key, segment.preprocess, segment.options)
    inner = (_identity(s) for a in segment.alternatives for s in a if not isinstance(s, WordsSegment))
    return (segment.over, segment.by, segment.most, *inner)


def _inside(slot: SlotSegment, value: Any, check: Callable[[Any], None]) -> tuple[bool, str]:
    """(whether the value is a list of what is meant, what to write instead); (False, "") where nothing in it is.

    Args:
        value: What stands in the row, maybe as the text of JSON.
        check: Raises DataError for what the slot cannot read.
    """
    held = opened_text(value)
    if isinstance(held, np.ndarray):
        held = list(held)
    kind, column = slot.modality, slot.column
    if isinstance(held, Mapping):
        key = None if slot.exact else _readable_key(held, check)
        return False, "" if key is None else f"name what is meant of the record, such as [{kind}:{column}.{key}]"
    if not isinstance(held, (list, tuple)) or not held:
        return False, ""
    first, over = held[0], f'"{column}"' if slot.exact else column
    if _reads(first, check):
        inner, path = f"[{kind}]", f"{column}.0"
    else:
        key = _readable_key(first, check) if isinstance(first, Mapping) else None
        if key is None:
            return False, ""
        inner, path = f"[{kind}:{key}]", f"{column}.0.{key}"
    # a name in quotes opens nothing
    one = "" if slot.exact else f"for the first of them write [{kind}:{path}], "
    return True, f"{one}for all of them ({inner})*<over={over}>"


def _readable_key(record: Mapping[Any, Any], check: Callable[[Any], None]) -> str | None:
    """The first key whose value can be read, dots for records within; of those that a line can name without quotes."""
    for key in list(record)[:_KEYS]:
        if column_problem(str(key)):
            continue
        if _reads(record[key], check):
            return str(key)
        deeper = _readable_key(record[key], check) if isinstance(record[key], Mapping) else None
        if deeper is not None:
            return f"{key}.{deeper}"
    return None


def _reads(value: Any, check: Callable[[Any], None]) -> bool:
    if value is None or (isinstance(value, (bool, str)) and not value):
        return False
    try:
        check(value)
    except DataError:
        return False
    return True
