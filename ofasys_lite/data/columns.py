"""Which columns of the data a line asks for, and where in the line it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.groups import walked
from ofasys_lite.instruction.nodes import Span
from ofasys_lite.plan.types import Plan, Segment, SlotSegment, WordsSegment

__all__ = ["Use", "data_columns", "label", "uses"]


@dataclass(frozen=True, slots=True)
class Use:
    """One column that the rows must have.

    Attributes:
        column: Its name; dots open records.
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
                found.update(dict.fromkeys(_of(segment)))
    return tuple(found)


def _of(segment: Segment) -> Iterator[Use]:
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


def data_columns(card: TaskCard, plan: Plan) -> frozenset[str]:
    """Columns of the data that the task looks at in any way: those of the line, of the mapping, id and group."""
    names = {"id", card.group, *card.columns, *card.columns.values(), *(use.column for use in uses(plan))}
    heads = {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}
    return frozenset(heads)
