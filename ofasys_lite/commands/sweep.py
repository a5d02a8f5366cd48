"""The end of `train -m` and `evaluate -m`: one table of what every job came to, seeds of a setting taken together."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from ofasys_lite.commands.compose import run_hydra
from ofasys_lite.commands.escapes import unescaped
from ofasys_lite.errors import ErrorGroup, OfasysError
from ofasys_lite.run.find_run import find_run
from ofasys_lite.signals import Interrupted
from ofasys_lite.writing import other_rank, write_atomic

if TYPE_CHECKING:
    from ofasys_lite.metrics import Score
    from ofasys_lite.report import RunResults
    from ofasys_lite.report.sweeps import Job


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a run lies, why it has no scores (empty where it has), and an evaluation's results (None: metrics.json)."""

    folder: Path
    lack: str = ""
    results: RunResults | None = None


def run_jobs(verb: str, arguments: Sequence[str], one: Callable[[dict[str, Any], str | None], Outcome]) -> None:
    """Runs `one(configuration, job)` as the command line asks, and tells what became of the jobs of a sweep."""
    jobs: list[Job] = []

    def job(content: dict[str, Any], folder: str | None) -> None:
        if folder is None:
            one(content, None)
        else:
            noted(jobs, content, folder, lambda: one(content, folder))

    try:
        run_hydra(verb, list(arguments), job)
    finally:
        tell_sweep(jobs)


def noted(jobs: list[Job], content: Mapping[str, Any], folder: str, run: Callable[[], Outcome]) -> None:
    """Runs one job inside Hydra and adds to `jobs` what became of it, also where it raises.

    Args:
        folder: Its folder below runs/, where the run has no name.
    """
    from ofasys_lite.report.sweeps import Job

    own = HydraConfig.get()
    values = _values(own.overrides.task, content)
    name = content.get("name")
    place = Path("runs") / (folder if name is None else f"{name}/{own.job.num}")
    job = Job(int(own.job.num), place, values, home=place.parent)
    try:
        outcome = run()
        job = replace(job, run=outcome.folder, lack=outcome.lack)
        if outcome.results is not None:
            job = _evaluated(job, outcome.results)
        elif not outcome.lack:
            job = read_scores(job)
    except BaseException as error:
        job = replace(job, lack=_reason(error))
        raise
    finally:
        jobs.append(job)


def _values(overrides: Sequence[str], content: Mapping[str, Any]) -> dict[str, str]:
    """Key -> value as it was typed; of a group (`model=tiny`) the option's name."""
    found: dict[str, str] = {}
    for override in overrides:
        key, _, typed = str(override).lstrip("+").partition("=")
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping) or value is None:
            found[key] = typed
        else:
            plain = unescaped(value)
            found[key] = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return found


def _reason(error: BaseException) -> str:
    """One line that says why a run ended."""
    if isinstance(error, ErrorGroup):
        return f"{_reason(error.errors[0])} (and {len(error.errors) - 1} more)"
    if isinstance(error, OfasysError):
        return f"failed: {error.message}"
    if isinstance(error, Interrupted):
        return f"stopped by {error.name}"
    if not isinstance(error, Exception):
        return "stopped"
    return f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def read_scores(job: Job) -> Job:
    """The job with what its metrics.json says."""
    from ofasys_lite.metrics import Score

    content = json.loads((job.run / "metrics.json").read_text(encoding="utf-8"))
    known = Score.__dataclass_fields__
    scores: dict[str, Score] = {}
    for task, found in content["tasks"].items():
        own = {key: value for key, value in found["metric"].items() if key in known}
        own |= {key: math.nan for key in ("value", "low", "high") if own[key] is None}
        scores[task] = Score(**own)
    return _scored(job, scores, content["facts"].get("not evaluated"))


def _evaluated(job: Job, results: RunResults) -> Job:
    """The job with the scores of its evaluation."""
    scores = {each.task: each.metric for each in results.tasks}
    return _scored(replace(job, split=results.split), scores, results.facts.get("not evaluated"))


def _scored(job: Job, scores: Mapping[str, Score], left: str | None) -> Job:
    """The job with scores, where their rows come from, and which tasks have none."""
    data = {task: entry["card"].get("data") or {} for task, entry in find_run(str(job.run)).tasks.items()}
    own = {task: data.get(task, {}).get(job.split, data.get(task)) for task in scores}
    rows = {task: json.dumps(spec if job.split == "test" else [job.split, spec]) for task, spec in own.items()}
    return replace(job, scores=scores, rows=rows, lack=f"not evaluated: {left}" if left else "")


def tell_sweep(jobs: Sequence[Job]) -> Path | None:
    """The written file, after printing the table of all jobs; None where there was no sweep."""
    if not jobs or other_rank():
        return None
    from rich.console import Console

    from ofasys_lite.report.sweeps import print_sweep, sweep_folder, sweep_json

    print_sweep(jobs, Console())
    # an earlier sweep of this name keeps its table
    names = (sweep_folder(jobs) / f"sweep{'' if n == 1 else f'-{n}'}.json" for n in count(1))
    path = next(name for name in names if not name.exists())
    try:
        write_atomic(path, json.dumps(sweep_json(jobs), indent=1, ensure_ascii=False))
    except OfasysError as error:  # what was wrong in the jobs is still to be told
        print(error, file=sys.stderr)
        return None
    print(path, flush=True)
    return path
