"""One generalist, judged on every task: metric with interval, baselines, margin, samples to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from ofasys_lite.data.columns import lacking
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.source import RowSource, spread
from ofasys_lite.errors import CardError, DataError, OfasysError, did_you_mean, raise_all
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.model import give_way
from ofasys_lite.plan.segments import SlotSegment
from ofasys_lite.preprocess import kinds
from ofasys_lite.recipes.recipe import SPLITS
from ofasys_lite.report.against import TrainSplit, answers
from ofasys_lite.report.chance import chance_levels
from ofasys_lite.report.facts import decoding_of, facts_of
from ofasys_lite.report.foretold import told
from ofasys_lite.report.judge import RankJudge, judges
from ofasys_lite.report.predictions import items_of, scored
from ofasys_lite.report.results import Answers, RefusedRow, RunResults, Said, Sample, SampleInput, TaskResult, Told
from ofasys_lite.report.retrieval import candidate_looks, ranked_answers, retrieved
from ofasys_lite.report.split import Predicted, Split
from ofasys_lite.report.task_rows import SEEN, TaskRows, open_task, without_seen

Progress = Callable[[str, int, int], None]
#: Rows that are read and predicted at once.
_BLOCK = 1024
#: Rows of which one at least must be readable before anything is predicted.
_TRIED = 50


class NoRows(DataError):
    """A split is empty: nothing is wrong with it, and there is nothing to say of it."""


def evaluate(
    model: Generalist,
    tasks: Sequence[str] | None = None,
    split: str = "test",
    limit: int | None = None,
    baselines: bool = True,
    samples: int = 12,
    progress: Progress | None = None,
    data: Mapping[str, Mapping[str, Any]] | None = None,
    precision: str | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
    seen: str = "refuse",
    decoding: Mapping[str, Any] | None = None,
) -> RunResults:
    """Every task's metric with its interval, its baselines and the margin over the strongest trivial one.

    Arguments are those of `ofasys_lite.evaluate` (api/evaluation.py), and:

    Args:
        data: Task -> split -> source, in place of the cards'.
        precision: Of matrix products, in place of the model's: `fp32`, `bf16`, `int8`, `auto`.
        bootstrap: Most parts that groups are dealt to for the intervals; how often they are drawn again for metrics
            that are one number for all items.

    Raises:
        NoRows: The split of every task is empty; where some have rows, the others are named in the facts.
        OfasysError: Unknown task, split, metric or baseline; sources that cannot be opened, lack a column or hold
            rows that were trained on; decoding that a task has no use for: all at once, before anything is predicted.
    """
    start = time.monotonic()
    with model.in_precision(precision), give_way(model.device):
        splits, told = _open_all(model, tasks, split, limit, data or {}, seen, decoding)
        raise_all([error for opened in splits if (error := _tried(model, opened)) is not None])
        for opened in splits:
            _try_metrics(opened)
        # a baseline that does not fit a task is told before the model's predictions take their time
        against = [_against(opened, seed) if baselines else [] for opened in splits]
        results, refused = [], list[RefusedRow]()
        for opened, held in zip(splits, against, strict=True):
            made = predicted(model, opened, progress)
            if not made.numbers:
                raise _unreadable(opened, made.refused[0].reason)
            refused.extend(made.refused)
            results.append(_result(model, opened, made, held, (samples, seed, bootstrap)))
        facts = facts_of(model, limit, time.monotonic() - start)
    facts |= decoding_of(model, [opened.task for opened in splits], decoding) | told
    return RunResults("evaluation", facts, tuple(results), quarantine=refused, split=split)


def _open_all(
    model: Generalist,
    tasks: Sequence[str] | None,
    split: str,
    limit: int | None,
    data: Mapping[str, Mapping[str, Any]],
    seen: str,
    decoding: Mapping[str, Any] | None,
) -> tuple[list[Split], dict[str, str]]:
    """The splits, and what should be said: tasks that have no rows in theirs, rows that were trained on."""
    for said, value, words in (("split", split, SPLITS), ("value of seen", seen, SEEN)):
        if value not in words:
            raise DataError(f"unknown {said} `{value}`", help=did_you_mean(value, words))
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Integral) or limit < 1):
        raise DataError(f"limit is {limit!r}", help="a whole number from 1, or none for all rows")
    for name in data:
        model.entry(name)
    # lines that the model was only asked once have no data
    known = [name for name, entry in model.tasks.items() if entry.card.data or name in data]
    opened, notes, errors = list[Split](), list[str](), list[OfasysError]()
    empty: dict[str, NoRows] = {}
    silent = list[str]()
    for name in known if tasks is None else tasks:
        try:
            found = open_split(model, name, split, limit, data.get(name), decoding)
            if not found.judges:
                silent.append(name)
                continue
            rows, contents = found.rows, model.contents.get(name)
            numbers, note = without_seen(rows.plan, rows.source, found.numbers, contents, split, seen)
        except NoRows as error:
            empty[name] = error
            continue
        except OfasysError as error:
            errors += error.errors
            continue
        opened.append(replace(found, numbers=numbers))
        notes += [note] if note else []
    raise_all(errors)
    if not opened and silent:
        raise NoRows(
            f"nothing is written that could be judged: {', '.join(silent)}",
            help="losses of the encoder's objectives are in metrics.jsonl; what they are good for a probe tells "
            "(docs/objectives.md)",
        )
    if not opened and empty:
        raise NoRows("; ".join(error.message for error in empty.values()), help=next(iter(empty.values())).help)
    if not opened:
        raise DataError(
            "there is no task to evaluate",
            help="the model was saved without data; give Tasks with rows: evaluate(model, [task])",
        )
    absent = [f"{', '.join(empty)} (no rows in {split})"] if empty else []
    absent += [f"{', '.join(silent)} (nothing is written)"] if silent else []
    told = {"not evaluated": "; ".join(absent)} if absent else {}
    return opened, told | ({"rows trained on": "\n".join(notes)} if notes else {})


def open_split(
    model: Generalist,
    task: str,
    split: str,
    limit: int | None = None,
    data: Mapping[str, Any] | None = None,
    decoding: Mapping[str, Any] | None = None,
) -> Split:
    """One split of a task the model learned, with the task's metrics; raises OfasysError as `evaluate` does."""
    entry = model.entry(task)
    found = judges(entry.plan, entry.card, model.modalities)
    try:
        options = entry.options(**decoding) if decoding else None
    except CardError as error:
        raise CardError(f"task {task}: {error.message}", help=error.help) from error
    sources = open_task(entry.card, data)
    source = sources[split]
    if not len(source):
        raise NoRows(f"task {task}: its {split} split has no rows", help="name some in its `data`")
    raise_all(lacking(entry.plan, source) or lacking(entry.plan, sources["train"]))

    def rows(of: RowSource) -> TaskRows:
        card = entry.card
        return TaskRows(entry.plan, model.maker(task, of.base or None), of, card.group, card.crossed)

    train = rows(sources["train"])
    shared = {judge.column: TrainSplit(judge, train) for judge in found}
    training = tuple(shared[judge.column] for judge in found)
    return Split(found, rows(source), train, spread(len(source), limit), training, options)


def predicted(model: Generalist, opened: Split, progress: Progress | None = None) -> Predicted:
    """The model's answers to the rows of a split, beside the references."""
    if opened.ranks:
        return _ranked(model, opened, progress)
    source, task = opened.rows.source, opened.task
    kept, refused, rows = list[int](), list[RefusedRow](), list[dict[str, Any]]()
    sides: tuple[list[list[Any]], list[list[Any]]] = ([[] for _ in opened.judges], [[] for _ in opened.judges])
    total = len(opened.numbers)
    for start in range(0, total, _BLOCK):
        block = list[tuple[int, Request, list[Any]]]()
        for i in opened.numbers[start : start + _BLOCK]:
            try:
                row = source.row(i)
                references = [judge.reference(row, source.base or None) for judge in opened.judges]
            except DataError as error:
                refused.append(RefusedRow(task, source.ids(i), error.message, source.place(i)))
                continue
            block.append((i, Request(task, row, source.ids(i, row), opened.options, source.base or None), references))

        def tell(done: int, before: int = start) -> None:
            if progress is not None:
                progress(task, min(total, before + done), total)

        reasons: dict[int, str] = {}
        found = told(model, opened.judges, [request for _, request, _ in block], tell, reasons)
        for number, ((i, request, references), prediction) in enumerate(zip(block, found, strict=True)):
            if prediction is None:
                reason = reasons.get(number, "cannot be read").removeprefix(f"task {task}, id {request.id}: ")
                refused.append(RefusedRow(task, request.id, reason, source.place(i)))
                continue
            kept.append(i)
            rows.append(opened.rows.light(request.row))
            for place, reference in enumerate(references):
                sides[0][place].append(prediction[place])
                sides[1][place].append(reference)
    if progress is not None:
        progress(task, total, total)
    return Predicted(tuple(kept), tuple(sides[0]), tuple(sides[1]), rows, tuple(refused))


def _ranked(model: Generalist, opened: Split, progress: Progress | None) -> Predicted:
    """What the sides of the rows find of each other."""
    found = retrieved(model, opened.rows, opened.numbers, progress)
    sides = [judge.side for judge in opened.judges if isinstance(judge, RankJudge)]
    rankings, right = (tuple(list[Any](held[side]) for side in sides) for held in (found.rankings, found.right))
    return Predicted(found.numbers, rankings, right, found.rows, found.refused)


def _tried(model: Generalist, opened: Split) -> DataError | None:
    """What is wrong with the first rows, where none of them can be read; None where one can."""
    reason = ""
    for i in opened.numbers[:_TRIED]:
        try:
            row, base = opened.rows.source.row(i), opened.rows.source.base or None
            for judge in opened.judges:
                judge.reference(row, base)
            model.maker(opened.task, base).source(row, opened.rows.source.ids(i), sample_rng(0, opened.task, "0", 0))
            return None
        except DataError as error:
            reason = reason or error.message
    return _unreadable(opened, reason)


def _unreadable(opened: Split, reason: str) -> DataError:
    count = len(opened.numbers)
    rows = f"none of {count} rows" if count <= _TRIED else f"none of the first {_TRIED} of {count} rows"
    return DataError(
        f"task {opened.task}: {rows} of {opened.rows.source.name} can be read; the first: {reason}",
        help="give the data it was trained with, or name the other tasks: tasks=[...]",
    )


def _try_metrics(opened: Split) -> None:
    """Judges one reference by itself: that a metric lacks a column or a package is told before predictions."""
    source = opened.rows.source
    for judge, train in zip(opened.judges, opened.training, strict=True):
        if judge.kind not in kinds.MEDIA:
            continue
        for i in opened.numbers:
            try:
                row = source.row(i)
                reference = judge.reference(row, source.base or None)
            except DataError:
                continue  # left out and listed later
            try:
                light = [opened.rows.light(row)]
                evaluate_metric(
                    judge.metric.name,
                    [reference],
                    [reference],
                    None,
                    light,
                    samples=1,
                    train=train,
                    higher=judge.higher,
                )
            except OfasysError as error:
                raise type(error)(f"task {opened.task}: {error.message}", place=error.place, help=error.help) from error
            break


def _against(opened: Split, seed: int) -> list[list[Answers]]:
    """Per judge the answers of its baselines; of judges of one ranking they are made once, whatever the metric is."""
    ranked: dict[tuple[object, ...], list[Answers]] = {}
    found = list[list[Answers]]()
    try:
        for judge in opened.judges:
            if judge.kind != kinds.RANKING:
                found.append(answers(judge, opened.train, opened.rows, opened.numbers, seed))
                continue
            key = (judge.column, judge.metric.baselines, judge.metric.references)
            if key not in ranked:
                make = ranked_answers if isinstance(judge, RankJudge) else answers
                ranked[key] = make(judge, opened.train, opened.rows, opened.numbers, seed)  # type: ignore[arg-type]
            found.append(ranked[key])
        return found
    except OfasysError as error:
        raise type(error)(f"task {opened.task}: {error.message}", place=error.place, help=error.help) from error


def _result(
    model: Generalist, opened: Split, made: Predicted, held: Sequence[Sequence[Answers]], counts: tuple[int, int, int]
) -> TaskResult:
    """The scores of a task, and samples; `counts`: samples to look at, seed, parts of the intervals."""
    samples, seed, parts = counts
    said = _said(opened, made, held)
    found = scored(said, seed, parts, opened.training)
    items = items_of(said, opened.training)
    places = spread(len(made.numbers), samples)
    shown = tuple(_sample(opened, made, place, items) for place in places)
    worst = tuple(_sample(opened, made, place, items) for place in _worst(items, samples // 2))
    chance = chance_levels(opened.train, network=model.network)
    line = opened.rows.plan.line
    return TaskResult(opened.task, line, found.metric, found.baselines, found.margin, shown, chance, worst, said)


def _said(opened: Split, made: Predicted, held: Sequence[Sequence[Answers]]) -> Said:
    place_of = {i: place for place, i in enumerate(opened.numbers)}
    kept = [place_of[i] for i in made.numbers]
    told = []
    for place, judge in enumerate(opened.judges):
        answered = held[place] if held else ()
        against = tuple(replace(one, values=[one.values[number] for number in kept]) for one in answered)
        closed = judge.segment.closed if isinstance(judge.segment, SlotSegment) else None
        sides = (made.predictions[place], made.references[place])
        told.append(
            Told(
                judge.metric.name,
                judge.column,
                judge.kind,
                judge.higher,
                tuple(closed.values if closed is not None else ()),
                *sides,
                against,
            )
        )
    ids = [opened.rows.source.ids(i) for i in made.numbers]
    return Said(ids, opened.rows.groups(made.numbers), made.rows, tuple(told))


def _worst(items: Sequence[float] | None, count: int) -> list[int]:
    """At most `count` places of the lowest scores, evenly spread over equal ones; none that is right."""
    if items is None:
        return []
    wrong = sorted((score, place) for place, score in enumerate(items) if score < 1)
    if not wrong or not count:
        return []
    last = wrong[min(count, len(wrong)) - 1][0]
    below = [place for score, place in wrong if score < last]
    equal = [place for score, place in wrong if score == last]
    return [*below, *(equal[i] for i in spread(len(equal), count - len(below)))]


def _sample(opened: Split, made: Predicted, place: int, items: Sequence[float] | None) -> Sample:
    i, value, reference = made.numbers[place], made.predictions[0][place], made.references[0][place]
    rows = opened.rows
    inputs = []
    for read in rows.inputs():
        given = rows.input(i, read)
        inputs.append(SampleInput(read.column, read.modality, given, rows.shown(read, given)))
    # what is partly right (an overlap, a text that is near) is neither right nor wrong
    right = None if items is None or items[place] not in (0.0, 1.0) else items[place] == 1.0
    judge = opened.judges[0]
    if isinstance(judge, RankJudge):
        found = candidate_looks(rows, opened.numbers, (value, reference), judge.side)
        return Sample(inputs, value[:1], reference[:1], right, rows.source.ids(i), found)
    segment = judge.segment
    tool = rows.maker.preprocess[segment.tool_key] if isinstance(segment, SlotSegment) else None
    looks = [None if tool is None or each is None else tool.show(each) for each in (value, reference)]
    return Sample(inputs, value, reference, right, rows.source.ids(i), (looks[0], looks[1]))
