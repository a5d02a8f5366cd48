"""`evaluate`: every task of a model on its own rows, beside its baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.api.model import GeneralistModel
from ofasys_lite.api.task import Task

if TYPE_CHECKING:
    from ofasys_lite.report.results import RunResults


def evaluate(
    model: GeneralistModel | str | Path,
    tasks: Sequence[Task | str] | Task | str | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    baselines: bool = True,
    samples: int = 12,
    seed: int = 0,
    seen: str = "refuse",
    decoding: Mapping[str, Any] | None = None,
    device: str | None = None,
    precision: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> RunResults:
    """Every task's metric with its 95 % interval, its baselines, and the margin over the strongest trivial one.

    Args:
        model: A trained model, or the folder of one (`runs/x`).
        tasks: Names of tasks it learned, or Tasks (their rows are taken, the learned line stays); None takes all.
        split: `train`, `valid` or `test`.
        limit: Most rows per task, evenly spread over the split; None takes all.
        baselines: Score the cards' trivial baselines and classical references too.
        samples: Outputs per task kept to be looked at.
        seed: Of baselines that draw, and of the intervals.
        seen: What is done with rows that were trained on, where the data are not what they were: `refuse` them, `drop`
            them or `keep` them.
        decoding: How answers are decoded, in place of what lines and cards say, for all of the tasks: `{"beam": 4}`
            (docs/decoding.md); None: as they say.
        device: Where it computes (`auto`, `cpu`, `cuda` ...); None: where a model is, `auto` for a folder.
        precision: Of matrix products (`fp32`, `bf16`, `int8`, `auto`); None: the model's, `fp32` for a folder.
        progress: Called with (task, rows done, rows in all).

    Raises:
        CheckpointError: The model is not trained, or has not learned a task.
        DataError: Rows are not there: a model that was trained on rows in memory and then loaded has none; a column
            is missing; rows were trained on.
        CardError: Decoding that a task has no use for.
    """
    from ofasys_lite.report.evaluate_model import evaluate as judge

    if isinstance(model, (str, Path)):
        model = GeneralistModel.from_pretrained(str(model), device=device or "auto")
    elif device is not None:
        model.to(device)
    asked = [tasks] if isinstance(tasks, (Task, str)) else tasks
    names = None if asked is None else [one.name if isinstance(one, Task) else one for one in asked]
    data: dict[str, Mapping[str, Any]] = {one.name: one.card.data for one in asked or () if isinstance(one, Task)}
    return judge(
        model.generalist,
        names,
        split,
        limit,
        baselines=baselines,
        samples=samples,
        progress=progress,
        data=data,
        precision=precision,
        seed=seed,
        seen=seen,
        decoding=decoding,
    )
