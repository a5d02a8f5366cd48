"""Task cards against their data, before any model is built: every mistake of every task at once, and no torch.

Syntax, types and sense of the lines come first (`ofasys_lite.plan`), then the columns of each source, then the values
of rows spread over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.codecs import codec_slots, named_codec
from ofasys_lite.data.columns import data_columns, has_use, separated, uses
from ofasys_lite.data.fields import column_help
from ofasys_lite.data.findings import Finding, Tally
from ofasys_lite.data.overlap import shared_rows
from ofasys_lite.data.quarantine import TOO_MANY
from ofasys_lite.data.readers.memory import ListSource
from ofasys_lite.data.rows import is_stream, open_source, open_stream
from ofasys_lite.data.source import RowSource, has_column
from ofasys_lite.data.splits import SplitView, by_rule, set_aside
from ofasys_lite.data.values import Looker
from ofasys_lite.errors import CardError, DataError, ErrorGroup, OfasysError, did_you_mean, raise_all
from ofasys_lite.instruction.nodes import Span
from ofasys_lite.instruction.places import place_of
from ofasys_lite.plan import Plan, build_plan
from ofasys_lite.plan.explain import codec_notes

__all__ = ["Report", "check_tasks"]

#: A source of at most this many times the rows asked for is looked at whole.
_ALL = 4
#: Rows looked at where some cannot be read and some may.
_MORE = 2000


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        errors: Mistakes, in the order of the tasks.
        notes: What the user should know and may leave as it is.
        rows: Number of rows looked at, by task.
    """

    errors: tuple[OfasysError, ...]
    notes: tuple[str, ...]
    rows: Mapping[str, int]

    def raise_errors(self) -> None:
        """Raises the only mistake as itself, several as an ErrorGroup, none not at all."""
        raise_all(self.errors)


@dataclass(slots=True)
class _Found:
    """What was found so far."""

    errors: list[OfasysError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def error(self, error: OfasysError) -> None:
        known = {e.render() for e in self.errors}
        for each in error.errors if isinstance(error, ErrorGroup) else [error]:
            # three splits of data that is not prepared are one mistake
            if each.render() not in known:
                self.errors.append(each)


def check_tasks(
    cards: Sequence[TaskCard],
    modalities: Mapping[str, ModalityCard],
    rows: int = 200,
    *,
    scan: int = 20_000,
    tolerate: float = 0.01,
) -> Report:
    """What is wrong with some tasks and their data.

    Args:
        cards: The tasks; one without data is checked as far as its line goes.
        modalities: Modality cards by name and alias.
        rows: Rows looked at in each source, spread evenly over it; small sources are looked at whole, and more rows
            where some of them cannot be read.
        scan: Longest training source of which the closed set is read whole, so that labels of valid and test can be
            held against it.
        tolerate: The share of unreadable rows that training puts into quarantine (`data/quarantine.py`): up to it,
            mistakes of values are notes; 0 tolerates none.
    """
    found = _Found()
    for card in cards:
        try:
            plan = build_plan(card, modalities)
        except OfasysError as error:
            found.error(error)
            continue
        found.notes.extend(f"task {card.name}: {note}" for note in (*plan.notes, *codec_notes(plan)))
        _check_codecs(found, card, plan)
        for reason in plan.cannot_train:
            found.error(_not_yet(card, reason))
        _check_metrics(found, card, plan)
        try:
            _check_data(found, card, plan, Looker(card, plan, modalities), (rows, scan, tolerate))
        except CardError as error:
            found.error(error)
    return Report(tuple(found.errors), tuple(dict.fromkeys(found.notes)), found.rows)


def _not_yet(card: TaskCard, reason: str) -> CardError:
    place = place_of(card.instruction, Span(0, len(card.instruction)), card.origin)
    message = f"task {card.name} cannot be trained yet: {reason}"
    return CardError(message, code="E312", place=place, help="explain shows its plan; training refuses it")


def _check_codecs(found: _Found, card: TaskCard, plan: Plan) -> None:
    """Opens the codec folders that the line names."""
    for slot in codec_slots(plan):
        try:
            named_codec(card, slot)
        except CardError as error:
            found.error(error)


def _check_metrics(found: _Found, card: TaskCard, plan: Plan) -> None:
    written = [slot.column for slot in plan.target_slots() if slot.learned]
    for metric in card.metrics:
        if metric.column and metric.column not in written:
            message = (
                f"task {card.name}: metric {metric.name} judges column `{metric.column}`, which the line does not write"
            )
            found.error(CardError(message, code="E310", help=did_you_mean(metric.column, written, "written")))


def _check_data(found: _Found, card: TaskCard, plan: Plan, looker: Looker, limits: tuple[int, int, float]) -> None:
    rows, scan, tolerate = limits
    sources = dict(_sources(found, card, rows))
    train = sources.get("train")
    trained = _label_splits(found, card, plan, sources, scan)
    if train is not None and not is_stream(card.data["train"]):
        looker.collect_closed(train, scan if len(sources) > 1 else 0)
    for source in dict.fromkeys(sources.values()):
        tally = Tally(card)
        gone = _missing_columns(found, card, plan, source)
        own = trained if source is train else None
        looked = _spread(len(source), len(source) if len(source) <= _ALL * rows else rows)
        for index in looked:
            looker.look(tally, source, index, gone, own is None or index in own)
        if tally.bad and tolerate:
            # whether they are too many is known before the first step wherever it can be
            for index in sorted(set(_spread(len(source), max(_MORE, rows))) - set(looked)):
                looker.look(tally, source, index, gone, own is None or index in own)
        found.rows[card.name] = found.rows.get(card.name, 0) + tally.rows
        found.notes.extend(f"task {card.name}: {note}" for note in source.notes)
        fine = tally.tolerated(len(source) if own is None else len(own), tolerate)
        for error in tally.errors():
            if not fine:
                help = "; ".join(filter(None, (error.help, TOO_MANY.format(tolerate) if tolerate else "")))
                found.error(DataError(error.message, code=error.code, place=error.place, help=help))
            else:
                who = "Training" if source is train else "Evaluation"
                found.notes.append(f"{error.message} {who} leaves such rows out.")
        found.notes.extend(looker.told(source.name))
    if train is not None:
        unused = [c for c in train.columns if c not in data_columns(card, plan)]
        if unused:
            found.notes.append(f"task {card.name}: columns of {train.name} that are not used: {', '.join(unused[:20])}")


def _sources(found: _Found, card: TaskCard, rows: int) -> Iterator[tuple[str, RowSource]]:
    """(split, source) of what opens; what does not is noted."""
    base = Path(card.path).parent if card.path else None
    opened: dict[str, RowSource] = {}
    for split, spec in ((split, spec) for split, spec in card.data.items() if spec is not None):
        key = repr(spec)
        try:
            if key not in opened:
                opened[key] = _open(card, spec, base, rows, found)
            yield split, opened[key]
        except DataError as error:
            message = f"task {card.name}: {error.message}"
            found.error(DataError(message, code=error.code or "E311", place=error.place, help=error.help))


def _open(card: TaskCard, spec: Any, base: Path | None, rows: int, found: _Found) -> RowSource:
    if not is_stream(spec):
        return open_source(spec, base=base, columns=card.columns or None)
    stream = open_stream(spec, base=base, columns=card.columns or None)
    found.notes.append(f"task {card.name}: {stream.name} is read as a stream: order not reproducible")
    return ListSource(stream.first(rows), stream.name)


def _label_splits(
    found: _Found, card: TaskCard, plan: Plan, sources: Mapping[str, RowSource], scan: int
) -> frozenset[int] | None:
    """Says which splits come from the training rows, and which have none.

    The numbers of the rows that are left to train on, where others are set aside of a source of at most `scan` rows.
    """
    train = sources.get("train")
    if train is None:
        return None
    for key, column in (("group", card.group), ("crossed", card.crossed)):
        if column and not has_column(train.columns, column):
            message = f"task {card.name}: `{key}` names column `{column}`; {train.name} has {', '.join(train.columns)}"
            found.error(DataError(message, code="E301", help=column_help(column, train.columns)))
            return None
    missing = [split for split in ("valid", "test") if card.data.get(split) is None]
    if len(train) > scan or is_stream(card.data["train"]):
        if missing:
            found.notes.append(f"task {card.name}: {by_rule(missing, train, card.group or None)}")
        return None
    try:
        splits, notes = set_aside(sources, card.group or None)
    except DataError as error:
        found.error(DataError(f"task {card.name}: {error.message}", code="E311", help=error.help))
        return None
    found.notes.extend(f"task {card.name}: {note}" for note in (*notes, *shared_rows(plan, splits)))
    view = splits["train"]
    return frozenset(map(view.original, range(len(view)))) if isinstance(view, SplitView) else None


def _spread(count: int, rows: int) -> list[int]:
    """At most `rows` row numbers, spread evenly from the first to the last."""
    if count <= rows:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, rows)})


def _missing_columns(found: _Found, card: TaskCard, plan: Plan, source: RowSource) -> set[str]:
    """The columns that the line asks for and no row of the source has; each is a mistake with its place."""
    gone: set[str] = set()
    tally = Tally(card)
    for use in uses(plan):
        if has_use(source, use):
            if use.column.isdigit() and use.column not in source.columns and source.doubt:
                message = f"{use.label} is filled by its place in the rows of {source.name}, and {source.doubt}"
                found.error(tally.error(Finding("E301", message, use.span, "", "")))
            continue
        if use.optional:
            found.notes.append(f"task {card.name}: optional column `{use.column}` is in no row of {source.name}")
        elif use.column not in gone:
            has = ", ".join(source.columns) or "no columns"
            message = f"{use.label} asks for column `{use.column}`; {source.name} has {has}"
            help = "; ".join(filter(None, (separated(source) or column_help(use.column, source.columns), source.doubt)))
            found.error(tally.error(Finding("E301", message, use.span, help, "row 1")))
        gone.add(use.column)
    return gone
