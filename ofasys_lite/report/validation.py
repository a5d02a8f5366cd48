"""Validation during training: every task's headline metric and loss on a few rows of its valid split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from ofasys_lite.errors import DataError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.metrics import Score, evaluate_metric, normalised
from ofasys_lite.plan.codecs import codec_slots
from ofasys_lite.preprocess import kinds
from ofasys_lite.report.chance import laid_out
from ofasys_lite.report.evaluate_model import NoRows, open_split, predicted
from ofasys_lite.report.split import Predicted, Split
from ofasys_lite.report.task_rows import TaskRows, without_seen
from ofasys_lite.run.run_folder import RunFolder

#: Rows of a pack.
_PACK = 64
#: Most pictures that are drawn of a task.
_DRAWN = 16


class Validator:
    """Called at validations with (generalist, step, seconds); writes a row per task, returns the mean score.

    Rows of metrics.jsonl: kind `valid`, step, time, task, metric, value (normalised score), loss (per slot); of tasks
    that write nothing the losses alone.

    Args:
        samples: Rows per task, evenly spread over its valid split.
    """

    def __init__(self, folder: RunFolder, samples: int = 64) -> None:
        self.folder = folder
        self.samples = samples
        self._opened: dict[str, Split | None] = {}

    def __call__(self, model: Generalist, step: int, seconds: float) -> float | None:
        """The mean normalised score of the tasks; None if none of them has rows to validate on."""
        scores = []
        for task, entry in model.tasks.items():
            opened = self._split(model, task) if entry.card.data else None
            if opened is None:
                continue
            told = {"kind": "valid", "step": step, "time": seconds, "task": task}
            if not opened.judges:
                self.folder.log(told | {"loss": losses(model, opened.rows, opened.numbers)})
                continue
            made = predicted(model, opened)
            if not made.numbers:
                continue
            name, score = _score(opened, made)
            scores.append(normalised(score))
            self.folder.log(
                told
                | {"metric": name, "value": scores[-1], "score": score.value, "items": score.items}
                | {"loss": losses(model, opened.rows, made.numbers)}
            )
        return sum(scores) / len(scores) if scores else None

    def _split(self, model: Generalist, task: str) -> Split | None:
        """The task's valid rows, opened once; None where its data leaves none."""
        if task not in self._opened:
            try:
                # a picture is many codes, and says more than a label
                drawn = any(codec_slots(model.entry(task).plan))
                found = open_split(model, task, "valid", min(self.samples, _DRAWN) if drawn else self.samples)
                rows, contents = found.rows, model.contents.get(task)
                # the note of them is the training's, which began with it
                numbers, _ = without_seen(rows.plan, rows.source, found.numbers, contents, "valid", "drop")
                self._opened[task] = replace(found, numbers=numbers)
            except NoRows:
                self._opened[task] = None
            except OfasysError as error:
                # the training goes on; the evaluation at its end refuses
                told = "; ".join(e.message for e in error.errors)
                print(f"note: task {task} is not validated: {told}", file=sys.stderr)
                self._opened[task] = None
        return self._opened[task]


def _score(opened: Split, made: Predicted) -> tuple[str, Score]:
    """(name, score) of the headline metric; of pictures `pixel_mse` where the metric lacks what it needs.

    A package that only a metric needs, such as a reader of text in pictures, is no reason to stop a training.
    """
    name, train = opened.judges[0].metric.name, opened.training[0]
    sides = (made.predictions[0], made.references[0])
    try:
        higher = opened.judges[0].higher
        return name, evaluate_metric(name, *sides, rows=made.rows, samples=1, train=train, higher=higher)
    except DataError:
        if opened.judges[0].kind != kinds.PICTURE:
            raise
        return "pixel_mse", evaluate_metric("pixel_mse", *sides, rows=made.rows, samples=1)


def losses(model: Generalist, rows: TaskRows, numbers: Sequence[int]) -> dict[str, float]:
    """Slot or objective -> mean loss per unit (nats for most) on some rows; those that cannot be read are left out."""
    import torch

    examples = laid_out(rows, numbers)
    sums: dict[str, float] = {}
    units: dict[str, int] = {}
    for start in range(0, len(examples), _PACK):
        batch = collate(examples[start : start + _PACK])
        with torch.inference_mode():
            values_U = model.network(to_device(batch, model.device)).values_U.float().cpu().numpy()
        terms_U, units_U = batch.terms_U, batch.units_U
        for index, term in enumerate(batch.terms):
            chosen = terms_U == index
            sums[term.slot] = sums.get(term.slot, 0.0) + float(values_U[chosen].sum())
            units[term.slot] = units.get(term.slot, 0) + int(units_U[chosen].sum())
    return {slot: sums[slot] / count for slot, count in units.items() if count}
