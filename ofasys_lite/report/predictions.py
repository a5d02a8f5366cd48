"""All predictions of an evaluation, one file of JSON lines a task: a report makes its scores anew from them.

The first line says which metrics judge what, and which baselines answered; every further line is one row. Tasks whose
predictions are media keep those of their samples only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ofasys_lite.errors import CheckpointError, OfasysError
from ofasys_lite.metrics import Margin, Score, TrainRows, evaluate_metric, item_scores, margin
from ofasys_lite.preprocess import kinds
from ofasys_lite.report.results import Answers, Baseline, RunResults, Said, TaskResult, Told
from ofasys_lite.report.saved import loaded, stored
from ofasys_lite.writing import write_atomic

_FORMAT = 1


def save_predictions(run: RunResults, folder: Path) -> list[Path]:
    """The paths of the written files, `TASK.jsonl` each, of tasks that write no media."""
    written = []
    for task in run.tasks:
        if task.said is None or any(told.kind in kinds.MEDIA for told in task.said.told):
            continue
        head = {
            "format": _FORMAT,
            "task": task.task,
            "metrics": [
                {
                    "name": told.name,
                    "column": told.column,
                    "kind": told.kind,
                    "higher": told.higher,
                    "closed": list(told.closed),
                    "baselines": [{"name": b.name, "kind": b.kind, "note": b.note} for b in told.against],
                }
                for told in task.said.told
            ],
        }
        lines = [head, *(_row(task.said, place) for place in range(len(task.said.ids)))]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{task.task}.jsonl"
        write_atomic(path, "".join(f"{json.dumps(stored(line), ensure_ascii=False)}\n" for line in lines))
        written.append(path)
    return written


def _row(said: Said, place: int) -> dict[str, Any]:
    group = said.groups[place]
    return {
        "id": said.ids[place],
        "group": list(group) if isinstance(group, tuple) else group,
        "predictions": [told.predictions[place] for told in said.told],
        "references": [told.references[place] for told in said.told],
        "baselines": [[answers.values[place] for answers in told.against] for told in said.told],
        "row": said.rows[place],
    }


def load_predictions(path: Path) -> Said:
    """What `save_predictions` wrote of one task; CheckpointError: the file is damaged, or of another version."""
    try:
        head, *rows = (loaded(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
        if head["format"] != _FORMAT:
            raise CheckpointError(f"{path} has format {head['format']!r}", help="evaluate the run again")
        told = tuple(_told(metric, place, rows) for place, metric in enumerate(head["metrics"]))
        groups = [tuple(row["group"]) if isinstance(row["group"], list) else row["group"] for row in rows]
        return Said([row["id"] for row in rows], groups, [row["row"] for row in rows], told)
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}", help="evaluate the run again") from None


def _told(metric: Mapping[str, Any], place: int, rows: list[dict[str, Any]]) -> Told:
    against = tuple(
        Answers(each["name"], each["kind"], [row["baselines"][place][number] for row in rows], each["note"])
        for number, each in enumerate(metric["baselines"])
    )
    sides = ([row["predictions"][place] for row in rows], [row["references"][place] for row in rows])
    return Told(
        metric["name"], metric["column"], metric["kind"], metric["higher"], tuple(metric["closed"]), *sides, against
    )


def rescored(run: RunResults, folder: Path, seed: int = 0, parts: int = 1000) -> RunResults:
    """The results with scores, intervals and margins made anew from the predictions in a folder, where there are any.

    A task whose metric looks at training rows, or is not there any more, keeps its scores; facts name it.
    """
    tasks, kept = list[TaskResult](), list[str]()
    for task in run.tasks:
        path = folder / f"{task.task}.jsonl"
        if not path.is_file():
            tasks.append(task)
            continue
        said = load_predictions(path)
        try:
            found = scored(said, seed, parts)
        except OfasysError:
            kept.append(task.task)
            tasks.append(replace(task, said=said))
            continue
        tasks.append(replace(task, metric=found.metric, baselines=found.baselines, margin=found.margin, said=said))
    facts = {**run.facts, "scores as they were": ", ".join(kept)} if kept else run.facts
    return replace(run, tasks=tuple(tasks), facts=facts)


@dataclass(frozen=True, slots=True)
class Scored:
    """The headline, its baselines, the margin over the strongest trivial one; other metrics are among its details."""

    metric: Score
    baselines: tuple[Baseline, ...]
    margin: Margin | None


def scored(said: Said, seed: int, parts: int, training: Sequence[TrainRows] = ()) -> Scored:
    """The scores of one task.

    Args:
        parts: Most parts that groups are dealt to.
        training: Training rows for metrics that look at them, one per metric; none where they are not at hand.

    Raises:
        OfasysError: A metric that is not known any more, or looks at training rows that are not at hand.
    """
    scores = list[Score]()
    baselines = list[list[Baseline]]()
    for place, told in enumerate(said.told):
        common = _common(said, told, seed, parts, training[place] if training else None)
        scores.append(evaluate_metric(told.name, told.predictions, told.references, **common))
        baselines.append([])
        for answers in told.against:
            score = evaluate_metric(told.name, answers.values, told.references, **common)
            baselines[-1].append(Baseline(answers.name, answers.kind, score, answers.note))
    headline = replace(scores[0], details={**scores[0].details, **_further(said.told, scores, baselines)})
    trivial = [place for place, each in enumerate(baselines[0]) if each.kind == "trivial"]
    over = None
    if trivial:
        first = said.told[0]
        best = first.against[max(trivial, key=lambda place: baselines[0][place].score.rank)]
        common = _common(said, first, seed, parts, training[0] if training else None)
        over = margin(first.name, first.predictions, best.values, first.references, **common)
    return Scored(headline, tuple(baselines[0]), over)


def items_of(said: Said, training: Sequence[TrainRows] = ()) -> list[float] | None:
    """The headline's score of each row alone, 0 to 1; None for a metric that is one number for all of them."""
    told = said.told[0]
    train = training[0] if training else None
    return item_scores(told.name, told.predictions, told.references, said.rows, train, told.higher)


def _common(said: Said, told: Told, seed: int, parts: int, train: TrainRows | None) -> dict[str, Any]:
    given = {"groups": said.groups, "rows": said.rows, "seed": seed, "samples": parts}
    return {**given, "train": train, "higher": told.higher}


def _further(told: Sequence[Told], scores: Sequence[Score], baselines: Sequence[Sequence[Baseline]]) -> dict[str, Any]:
    """The metrics behind the headline, each with its interval and its baselines; named by column if there are several.

    The headline's column is named, too, so that nobody takes it for another target's.
    """
    several = len({each.column for each in told}) > 1
    found: dict[str, Any] = {"judged": told[0].column} if several else {}
    for each, score, beside in list(zip(told, scores, baselines, strict=True))[1:]:
        name = f"{score.name} of {each.column}" if several else score.name
        found[name] = score.value
        found[f"{name} 95 %"] = [score.low, score.high]
        for baseline in beside:
            found[f"{name}, {baseline.name}"] = baseline.score.value
    return found
