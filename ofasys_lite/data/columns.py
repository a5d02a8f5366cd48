"""Which columns of the data a line asks for, and where in the line it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.fields import column_help
from ofasys_lite.data.groups import walked
from ofasys_lite.data.source import RowSource, has_column
from ofasys_lite.errors import DataError, few, nearest
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.segments import Plan, Segment, SlotSegment, WordsSegment, walk


@dataclass(frozen=True, slots=True)
class Use:
    """One column that the rows must have.

    Attributes:
        exact: The name is never a path.
        span: Where the line asks for it.
        label: Who asks: `slot [TEXT:answer]`.
        optional: A row may lack it.
    """

    column: str
    exact: bool
    span: Span
    label: str
    optional: bool = False


def label(slot: SlotSegment) -> str:
    """`slot [TEXT:answer]`."""
    return f"slot [{slot.modality}:{slot.column}]"


def uses(plan: Plan) -> tuple[Use, ...]:
    """Every column that the rows of the data must have, once per place in the line."""
    found: dict[Use, None] = {}
    for template in plan.templates:
        for side in (template.source, *template.targets):
            for segment in side:
                found.update(dict.fromkeys(segment_uses(segment)))
                found.update(dict.fromkeys(named_uses(segment)))
    return tuple(found)


def segment_uses(segment: Segment) -> Iterator[Use]:
    """The columns of one segment: a slot's, those that a group walks."""
    if isinstance(segment, WordsSegment):
        return
    if isinstance(segment, SlotSegment):
        yield from slot_uses(segment)
        return
    if segment.over is not None:
        yield Use(segment.over, False, segment.over_span, "the group")
        return
    for column, slot in walked(segment).items():
        if slot is None:
            yield Use(column, False, segment.span, "the group")
        else:
            yield from slot_uses(slot)


def slot_uses(slot: SlotSegment) -> Iterator[Use]:
    """The columns of one slot: its own, the rejected one, labels of ctc, candidates."""
    yield Use(slot.column, slot.exact, slot.column_span, label(slot), slot.optional)
    if slot.rejected is not None:
        yield Use(slot.rejected, False, slot.column_span, label(slot))
    for loss in slot.losses:
        column = dict(loss.options).get("column") if loss.name == "ctc" else None
        if isinstance(column, str):
            yield Use(column, False, slot.span, f"loss=ctc of {label(slot)}", slot.optional)
    if slot.closed is not None and slot.closed.kind == "candidates":
        yield Use(slot.closed.name, False, slot.span, f"closed_set of {label(slot)}", slot.optional)


def named_uses(segment: Segment) -> Iterator[Use]:
    """The columns of the whole row that attributes of slots name, of those within a group too."""
    for slot in walk((segment,)):
        for column, said in slot.named:
            yield Use(column, False, slot.span, f"`{said}` of {label(slot)}", slot.optional)


def data_columns(card: TaskCard, plan: Plan) -> frozenset[str]:
    """Columns of the data that the task looks at in any way: those of the line, of the mapping, id and group."""
    names = {"id", card.group, card.crossed, *card.columns, *card.columns.values(), *asked_columns(plan)}
    heads = {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}
    return frozenset(heads)


def asked_columns(plan: Plan) -> set[str]:
    """Columns of a row that the line asks for, whether every row must have them or not."""
    names = {use.column for use in uses(plan)}
    # within a group candidates are the records' own, or the row's
    return names | {s.closed.name for s in plan.all_slots() if s.closed is not None and s.closed.kind == "candidates"}


def has_use(source: RowSource, use: Use) -> bool:
    """True if rows of the source can hold what the line asks for."""
    if use.column in source.columns:
        return True
    if use.exact:
        return False
    if use.column.isdigit():
        return int(use.column) < len(source.columns)
    return has_column(source.columns, use.column)


def lacking(plan: Plan, source: RowSource) -> list[DataError]:
    """What is wrong with a source that lacks columns of a line, each with the near name; those of optional slots may.

    Without such a column no row can be read.
    """
    has = few(source.columns) if source.columns else "no columns"
    gone = {use.column: use for use in reversed(uses(plan)) if not use.optional and not has_use(source, use)}
    return [
        DataError(
            f"task {plan.task}: {use.label} asks for column `{use.column}`; {source.name} has {has}",
            help=separated(source) or _instead(use.column, plan, source),
        )
        for use in gone.values()
    ]


def _instead(column: str, plan: Plan, source: RowSource) -> str:
    near = near_column(column, plan, source)
    if near is None:
        return column_help(column, source.columns)
    return f"did you mean `{near}`? rename it, or say it in the card: columns: {{{column}: {near}}}"


def near_column(column: str, plan: Plan, source: RowSource) -> str | None:
    """The column that may have taken the place of one that is gone, among those that the line does not read."""
    read = {use.column for use in uses(plan)}
    left = [name for name in source.columns if name not in read]
    alike = [name for name in left if name.startswith(column) or column.startswith(name)] or left
    return nearest(column, left) or (alike[0] if len(alike) == 1 else None)


def separated(source: RowSource) -> str:
    """What to do where the only column's name holds the marks between several; empty where it does not."""
    columns = source.columns
    mark = next((mark for mark in (";", "\t", "|", ",") if len(columns) == 1 and mark in columns[0]), None)
    if mark is None:
        return ""
    shown = "\\t" if mark == "\t" else mark
    return f'if its fields are separated by `{shown}`, name the file so: {{path: {source.name}, separator: "{shown}"}}'
