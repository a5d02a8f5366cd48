"""All predictions of an evaluation, one file of JSON lines a task: a report makes its scores anew from them.

The first line says which metrics judge what, and which baselines answered; every further line is one row. Tasks whose
predictions are media keep those of their samples only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ofasys_lite.errors import CheckpointError, OfasysError
from ofasys_lite.preprocess import kinds
from ofasys_lite.report.results import Answers, RunResults, Said, TaskResult, Told
from ofasys_lite.report.saved import loaded, stored
from ofasys_lite.report.scoring import scored
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
    """What `save_predictions` wrote of one task.

    Raises:
        CheckpointError: The file is damaged, or of another version.
    """
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
