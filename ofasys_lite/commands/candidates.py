"""`predict --candidates ROWS`: what is nearest among rows to a side of a line with `<->`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ofasys_lite.commands.answers import shown_columns
from ofasys_lite.data.source import RowSource, has_column
from ofasys_lite.errors import DataError, few
from ofasys_lite.generalist.calls import ReadColumn, side_columns, slot_columns
from ofasys_lite.plan import Plan

if TYPE_CHECKING:
    from ofasys_lite.generalist.embedding import Index, Match
    from ofasys_lite.generalist.generalist import Generalist


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that are looked through.

    Attributes:
        side: The side that asks; they hold the other one.
        asking: Columns of the side that asks.
        found: Columns of the side that is found.
        columns: Slot column -> data column, as the task's card has it.
    """

    source: RowSource
    side: int
    top: int
    asking: tuple[ReadColumn, ...]
    found: tuple[ReadColumn, ...]
    columns: Mapping[str, str]

    def index(self, model: Generalist, task: str) -> Index:
        """The candidates by their vectors."""
        from ofasys_lite.generalist.embedding import Index
        from ofasys_lite.generalist.prediction import Request

        rows = ((i, slot_columns(self.columns, self.source.row(i))) for i in range(len(self.source)))
        base = self.source.base or None
        return Index(model, [Request(task, row, self.source.ids(i, row), folder=base) for i, row in rows], self.side)

    def as_json(self, matches: Sequence[Match]) -> list[dict[str, Any]]:
        """What was found as plain data: id, cosine, and the columns that text can hold."""
        names = [column.name for column in self.found]
        return [{"id": m.id, "score": round(m.score, 4), **shown_columns(m.row, names)} for m in matches]

    def as_lines(self, matches: Sequence[Match]) -> list[str]:
        """What was found, a line each: cosine, columns that text can hold, else the id."""
        found = []
        for each in self.as_json(matches):
            said = [str(value) for key, value in each.items() if key not in ("id", "score")]
            found.append(f"{each['score']:.3f}  {'  '.join(said) or each['id']}")
        return found


def candidates_of(
    plan: Plan,
    source: RowSource,
    top: int,
    columns: Mapping[str, str],
    values: Mapping[str, Any],
    rows: RowSource | None,
) -> Candidates:
    """The candidates that a source holds for what is asked.

    Args:
        values: Values by column of what asks.
        rows: Rows that ask, if they come from a source.

    Raises:
        DataError: A line without `<->` or with a closed set, rows that hold no side, or nothing that asks.
    """
    if plan.alignment is None:
        raise DataError(f"the line has no sides: {plan.line}", help="--candidates are for lines with `<->`")
    if plan.named_slot() is not None:
        help = "leave --candidates out; for others write closed_set=(a,b) in the line"
        raise DataError("the candidates of this line are the values of its closed set", help=help)
    if not len(source):
        raise DataError(f"{source.name} has no rows", help="give rows with the columns of one side")
    sides = [tuple(side_columns(plan, side).values()) for side in (0, 1)]

    def held(side: Sequence[ReadColumn], of: RowSource | None) -> bool:
        names = set() if of is None else set(of.columns)
        return of is not None and all(
            c.optional or c.name in names or has_column(of.columns, columns.get(c.name, c.name)) for c in side
        )

    def asked(side: Sequence[ReadColumn]) -> bool:
        return any(column.name in values for column in side) or held(side, rows)

    fits = [number for number in (0, 1) if held(sides[1 - number], source) and asked(sides[number])]
    if len(fits) == 2:  # rows that hold both sides: what was typed decides
        fits = [number for number in fits if any(column.name in values for column in sides[number])] or [0]
    if not fits:
        needs = " or ".join(", ".join(f"`{column.name}`" for column in side) for side in sides)
        raise DataError(
            f"{source.name} has {few(source.columns)}; one side asks and the other is looked for: {needs}",
            help=f"give values of one side, and candidates with the columns of the other: {plan.line}",
        )
    return Candidates(source, fits[0], top, sides[fits[0]], sides[1 - fits[0]], columns)
