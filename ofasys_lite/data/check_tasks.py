"""Task cards against their data, before any model is built: every mistake of every task at once, and no torch.

Syntax, types and sense of the lines come first (`ofasys_lite.plan`), then the columns of each source, then the values
of rows spread over it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.attributes import wrong_attributes
from ofasys_lite.data.codec_facts import named_codec
from ofasys_lite.data.columns import asked_columns, data_columns, has_use, separated, uses
from ofasys_lite.data.contents import NOT_COMPARED, shared_rows
from ofasys_lite.data.fields import column_help
from ofasys_lite.data.findings import Finding, Tally
from ofasys_lite.data.labels import label_notes, names_in
from ofasys_lite.data.open_settings import open_settings
from ofasys_lite.data.passing_rows import FirstRows
from ofasys_lite.data.quarantine import TOO_MANY
from ofasys_lite.data.row_values import Looker
from ofasys_lite.data.rows import open_training
from ofasys_lite.data.source import RowSource, has_column
from ofasys_lite.data.splits import SplitView, by_rule, data_of, refuse_stream, set_aside
from ofasys_lite.errors import CardError, DataError, OfasysError, Place, did_you_mean, few, raise_all
from ofasys_lite.instruction.places import place_of
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan import Plan, build_plan
from ofasys_lite.plan.codecs import codec_slots
from ofasys_lite.plan.explanation import codec_notes
from ofasys_lite.recipes.recipe import SPLITS

#: A source of at most this many times the rows asked for is looked at whole.
_ALL = 4
#: Fewer rows to train on are worth a note.
_LITTLE = 20
#: Rows looked at where some cannot be read and some may.
_MORE = 2000


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        errors: Mistakes, in the order of the tasks.
        notes: What the user should know and may leave as it is.
        rows: Number of rows looked at, by task.
        whole: Number of them whose media were decoded, by task.
    """

    errors: tuple[OfasysError, ...]
    notes: tuple[str, ...]
    rows: Mapping[str, int]
    whole: Mapping[str, int] = field(default_factory=dict)

    def raise_errors(self) -> None:
        """Raises the only mistake as itself, several as an ErrorGroup, none not at all."""
        raise_all(self.errors)


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much is looked at, and what is tolerated: the arguments of `check_tasks`."""

    rows: int
    scan: int
    tolerate: float
    work: int


def check_tasks(
    cards: Sequence[TaskCard],
    modalities: Mapping[str, ModalityCard],
    rows: int = 200,
    *,
    scan: int = 20_000,
    tolerate: float = 0.01,
    work: int = 50_000_000,
) -> Report:
    """What is wrong with some tasks and their data.

    Args:
        cards: The tasks; one without data is checked as far as its line goes.
        rows: Rows looked at in each source, spread evenly over it; small sources are looked at whole, and more rows
            where some of them cannot be read.
        scan: Longest training source of which the closed set is read whole, so that labels of valid and test can be
            held against it.
        tolerate: The share of unreadable rows that training puts into quarantine (`data/quarantine.py`): up to it,
            mistakes of values are notes; 0 tolerates none.
        work: Pixels and samples decoded of each source; of pictures and sounds beyond it only headers are read.
    """
    checks = [_TaskCheck(card, _Limits(rows, scan, tolerate, work)) for card in cards]
    for check in checks:
        check.run(modalities)
    # three splits of data that is not prepared are one mistake
    errors = {error.render(): error for check in checks for error in check.errors}
    return Report(
        tuple(errors.values()),
        tuple(dict.fromkeys(note for check in checks for note in check.notes)),
        {check.card.name: check.rows for check in checks},
        {check.card.name: check.whole for check in checks},
    )


class _TaskCheck:
    """One task, its line and its data, and what was found of them so far."""

    plan: Plan
    looker: Looker

    def __init__(self, card: TaskCard, limits: _Limits) -> None:
        self.card, self.limits = card, limits
        self.errors: list[OfasysError] = []
        self.notes: list[str] = []
        self.rows = self.whole = 0

    def note(self, *notes: str) -> None:
        """Takes notes, the task's name before each."""
        self.notes.extend(f"task {self.card.name}: {note}" for note in notes)

    def error(self, error: OfasysError) -> None:
        """Takes a mistake, or each of several."""
        self.errors.extend(error.errors)

    def data_error(self, message: str, code: str, help: str, place: Place | None = None) -> None:
        """Takes a mistake in the data, the task's name before it."""
        self.error(DataError(f"task {self.card.name}: {message}", code=code, place=place, help=help))

    def run(self, modalities: Mapping[str, ModalityCard]) -> None:
        """Looks at the line, then at the data."""
        try:
            self.plan = build_plan(self.card, modalities)
        except OfasysError as error:
            self.error(error)
            return
        self.note(*self.plan.notes, *codec_notes(self.plan))
        self._check_line()
        try:
            settings = {name: modality.settings for name, modality in modalities.items()}
            wrong = wrong_attributes(self.card, self.plan, settings)
            self.errors.extend(wrong)
            if not wrong:
                self.looker = Looker(self.card, self.plan, modalities)
                self._check_data()
        except CardError as error:
            self.error(error)

    def _check_line(self) -> None:
        """What can be said without data: codec folders that the line names, what it cannot learn, metrics."""
        card, plan = self.card, self.plan
        for slot in codec_slots(plan):
            try:
                named_codec(card, slot)
            except CardError as error:
                self.error(error)
        place = place_of(card.instruction, Span(0, len(card.instruction)), card.origin)
        for reason in plan.cannot_train:
            message = f"task {card.name} cannot be trained yet: {reason}"
            help = "explain shows its plan; training refuses it"
            self.error(CardError(message, code="E312", place=place, help=help))
        written = plan.judged()
        if not written and not plan.cannot_train and not any(slot.losses for slot in plan.slots()):
            help = "put a slot that is written right of the arrow"
            self.error(CardError(f"task {card.name} has no learned target to judge", code="E310", help=help))
        asked = asked_columns(plan)
        asked |= {column.partition(".")[0] for column in asked}
        for name in card.columns:
            if name not in asked | {"id", card.group, card.crossed}:
                what = f"`columns` names `{name}`, which the line does not ask for"
                if self.limits.tolerate:  # nothing is lost by it: a run of before goes on, a card takes another line
                    self.note(what)
                    continue
                help = (
                    f"{did_you_mean(name, sorted(asked), 'it asks for')}; form: column of the line: column of the data"
                )
                self.error(CardError(f"task {card.name}: {what}", code="E301", help=help))
        for metric in card.metrics:
            if metric.column and metric.column not in written:
                judges = f"metric {metric.name} judges column `{metric.column}`, which the line does not write"
                help = did_you_mean(metric.column, written, "written")
                self.error(CardError(f"task {card.name}: {judges}", code="E310", help=help))

    def _check_data(self) -> None:
        looker = self.looker
        sources = dict(self._sources())
        train = sources.get("train")
        looker.settings.update(self._settings(train))
        splits = self._splits(sources)
        names = {split: names_in(source, looker.sides, looker.settings) for split, source in splits.items()}
        if names:
            parts = [split for split in splits if isinstance(splits[split], SplitView)] or ["train"]
            looker.close({key: sum((names[p][key] for p in parts), Counter()) for key in names["train"]})
        view = splits.get("train")
        own = frozenset(map(view.original, range(len(view)))) if isinstance(view, SplitView) else None
        strange: set[str] = set()
        for source in dict.fromkeys(sources.values()):
            tally = self._look(source, own if source is train else None)
            if "E306" in tally.codes:
                strange.update(split for split, each in sources.items() if each is source)
            whose = "Training" if source is train else "Evaluation"
            rows = len(source) if own is None or source is not train else len(own)
            self._tell(tally, rows, whose)
            self.note(*source.notes)
            self.notes.extend(looker.told(source.name))
        if names:
            held = {split: each for split, each in names.items() if split not in strange or split == "train"}
            sizes = {split: len(source) for split, source in splits.items()}
            self.note(*label_notes(self.plan.all_slots(), held, sizes))
        if train is not None:
            used = data_columns(self.card, self.plan)
            placed = {name for place, name in enumerate(train.columns) if str(place) in used}  # slots without a name
            unused = [name for name in train.columns if name not in used | placed]
            if unused:
                self.note(f"columns of {train.name} that are not used: {', '.join(unused[:20])}")

    def _settings(self, train: RowSource | None) -> dict[str, dict[str, Any]]:
        """Settings of modalities with those that their cards leave open, as some training rows have them."""
        found = open_settings([self.plan], [train], self.looker.settings, self.limits.rows)
        return {name: {**self.looker.settings[name], **values} for name, values in found.items()}

    def _look(self, source: RowSource, own: frozenset[int] | None) -> Tally:
        """What is wrong with rows of one source; `own` are those that count, None for all of them."""
        looker, limits = self.looker, self.limits
        tally = Tally(self.card)
        gone = self._missing_columns(source)
        looked = _spread(len(source), len(source) if len(source) <= _ALL * limits.rows else limits.rows)

        def look(rows: Iterable[int]) -> None:
            for index in rows:
                looker.look(tally, source, index, gone, own is None or index in own)

        look(looked)
        # every so many rows are decoded that it takes no longer than the limit says
        whole = looked[:: -(-looker.remarks.work // limits.work)] if looker.remarks.work else []
        for index in whole:
            looker.read_whole(tally, source, index, own is None or index in own)
        if tally.bad and limits.tolerate:
            # whether they are too many is known before the first step wherever it can be
            look(sorted(set(_spread(len(source), max(_MORE, limits.rows))) - set(looked)))
        self.rows += tally.rows
        self.whole += len(whole)
        return tally

    def _tell(self, tally: Tally, rows: int, whose: str) -> None:
        """Takes what was found in one source as errors, or as notes where training goes on without such rows."""
        tolerate = self.limits.tolerate
        fine = tally.tolerated(rows, tolerate)
        for error in tally.errors():
            if fine:
                self.notes.append(f"{error.message} {whose} leaves such rows out.")
                continue
            help = "; ".join(filter(None, (error.help, TOO_MANY.format(tolerate) if tolerate else "")))
            self.error(DataError(error.message, code=error.code, place=error.place, help=help))

    def _sources(self) -> Iterator[tuple[str, RowSource]]:
        """(split, source) of what opens; what does not is noted."""
        opened: dict[str, RowSource] = {}
        for split, spec in ((split, spec) for split, spec in data_of(self.card).items() if spec is not None):
            key = repr(spec)
            try:
                if split != "train":
                    refuse_stream(split, spec)
                if key not in opened:
                    opened[key] = self._open(spec)
                yield split, opened[key]
            except DataError as error:
                self.data_error(error.message, error.code or "E311", error.help, error.place)

    def _open(self, spec: Any) -> RowSource:
        base = Path(self.card.path).parent if self.card.path else None
        columns = self.card.columns or None
        source = open_training(spec, base=base, columns=columns)
        if isinstance(source, FirstRows):
            self.note(source.order_note(self.card.epochs))
        return source

    def _splits(self, sources: Mapping[str, RowSource]) -> Mapping[str, RowSource]:
        """The rows of each split, where training has few enough; says which are set aside and which are empty."""
        train, card = sources.get("train"), self.card
        if train is None:
            return {}
        for key, column in (("group", card.group), ("crossed", card.crossed)):
            if column and not has_column(train.columns, column):
                message = f"`{key}` names column `{column}`; {train.name} has {few(train.columns)}"
                self.data_error(message, "E301", column_help(column, train.columns))
                return {}
        missing = [split for split in SPLITS if card.data.get(split) is None]
        if len(train) > self.limits.scan:
            self.note(*([by_rule(missing, train, card.group or None)] if missing else []))
            self.note(NOT_COMPARED)
            return {}
        try:
            splits, notes = set_aside(sources, card.group or None)
        except DataError as error:
            self.data_error(error.message, "E311", error.help)
            return {}
        rows = len(splits["train"])
        little = [f"only {rows} row{'' if rows == 1 else 's'} to train on"] if rows < _LITTLE else []
        self.note(*notes, *shared_rows(self.plan, splits), *little)
        return splits

    def _missing_columns(self, source: RowSource) -> set[str]:
        """The columns that the line asks for and no row of the source has; each is a mistake with its place."""
        gone: set[str] = set()
        tally = Tally(self.card)
        for use in uses(self.plan):
            if has_use(source, use):
                if use.column.isdigit() and use.column not in source.columns and source.doubt:
                    message = f"{use.label} is filled by its place in the rows of {source.name}, and {source.doubt}"
                    self.error(tally.error(Finding("E301", message, use.span, "", [])))
                continue
            if use.optional:
                self.note(f"optional column `{use.column}` is in no row of {source.name}")
            elif use.column not in gone:
                has = few(source.columns) if source.columns else "no columns"
                message = f"{use.label} asks for column `{use.column}`; {source.name} has {has}"
                about = (separated(source) or column_help(use.column, source.columns), source.doubt)
                self.error(tally.error(Finding("E301", message, use.span, "; ".join(filter(None, about)), ["row 1"])))
            gone.add(use.column)
        return gone


def _spread(count: int, rows: int) -> list[int]:
    """At most `rows` row numbers, spread evenly from the first to the last."""
    if count <= rows:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, rows)})
