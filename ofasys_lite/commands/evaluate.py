"""`ofasys-lite evaluate run=runs/x`: every task's metric beside its baselines; metrics.json and report.html."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.commands.run_keys import refuse_unknown
from ofasys_lite.commands.sweep import Outcome, run_jobs
from ofasys_lite.errors import CardError, CheckpointError, did_you_mean
from ofasys_lite.model.config import PRECISIONS
from ofasys_lite.recipes.recipe import SPLITS
from ofasys_lite.run.find_run import Found, find_run, refuse_elsewhere
from ofasys_lite.run.run_folder import environment
from ofasys_lite.writing import begun_by_us, claim_folder, locked, write_atomic

if TYPE_CHECKING:
    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.report import RunResults

#: What is written, with the tail of an evaluation in the place of the braces.
_FILES = ("metrics{}.json", "evaluation{}.json", "report{}.html", "samples{}", "predictions{}")
#: Without torch; report/task_rows.py tells what they do.
_SEEN = ("refuse", "drop", "keep")
#: What does not go into the name of a file.
_UNFIT = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """Keys of presets/evaluate.yaml.

    Attributes:
        tasks: Names; empty takes all tasks of the run.
        split: `train`, `valid` or `test`.
        limit: Most rows per task, evenly spread; None takes all.
        checkpoint: `last` (the exported weights), `best` (of the best validation) or a .safetensors file.
        seed: Of baselines that draw, and of the intervals.
        bootstrap: Most parts that groups are dealt to for the intervals.
        baselines: Fit and score baselines.
        samples: Outputs per task in the report.
        report: Write report.html.
        output: Folder of what is written; None is the run.
        precision: Of matrix products: `fp32`, `bf16`, `int8` (on CPUs), or `auto` (what a probe finds clearly faster).
        seen: What is done with rows that were trained on: `refuse`, `drop` or `keep` them.
        decoding: Options in place of those of lines and cards, for all tasks that are evaluated.
        device: Where it computes: `auto` (a CUDA device where there is one), `cpu`, `cuda`, `cuda:1` ...
    """

    tasks: tuple[str, ...] = ()
    split: str = "test"
    limit: int | None = None
    checkpoint: str = "last"
    seed: int = 0
    bootstrap: int = 1000
    baselines: bool = True
    samples: int = 12
    report: bool = True
    output: str | None = None
    precision: str = "fp32"
    seen: str = "refuse"
    decoding: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise CardError(f"split={self.split}: there is no such split", help=did_you_mean(self.split, SPLITS))
        if self.seen not in _SEEN:
            raise CardError(f"seen={self.seen}: it is not known", help=did_you_mean(str(self.seen), _SEEN))
        if self.precision not in PRECISIONS:
            raise CardError(f"`precision` is `{self.precision}`", help=did_you_mean(str(self.precision), PRECISIONS))
        for name, low in (("limit", 1), ("seed", 0), ("bootstrap", 1), ("samples", 0)):
            value = getattr(self, name)
            if value is None and name == "limit":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise CardError(f"`{name}` is `{value}`", help=f"a whole number from {low}")
        if not isinstance(self.decoding, Mapping):
            raise CardError(f"`decoding` is `{self.decoding}`", help="options by name, such as decoding.beam=4")
        for name in ("baselines", "report"):
            if not isinstance(getattr(self, name), bool):
                raise CardError(f"`{name}` is `{getattr(self, name)}`", help="true or false")

    @staticmethod
    def of(content: Mapping[str, Any]) -> EvaluateOptions:
        """The options in a composed configuration; CardError for wrong values."""
        given = {f.name: content[f.name] for f in fields(EvaluateOptions) if f.name in content}
        tasks = given.get("tasks") or ()
        given["tasks"] = (tasks,) if isinstance(tasks, str) else tuple(map(str, tasks))
        for name in ("checkpoint", "output"):  # Hydra reads a folder called 3 as a number
            if given.get(name) is not None:
                given[name] = str(given[name])
        return EvaluateOptions(**given)


def main(arguments: Sequence[str]) -> int:
    """0 when the table is printed and the files are written."""
    # `evaluate runs/x` is `evaluate run=runs/x`
    given = [f"run={a}" if i == 0 and "=" not in a and not a.startswith("-") else a for i, a in enumerate(arguments)]
    if not any(argument.startswith(("run=", "-")) for argument in given):
        raise CardError("`run` is not given", help="name a folder under runs/: ofasys-lite evaluate run=runs/x")

    _refuse_tasks(given)
    # which options there are the lines say: the preset names none, and Hydra takes further keys behind a plus only
    given = [f"+{argument}" if argument.startswith(("decoding.", "decoding={")) else argument for argument in given]

    def one(content: dict[str, Any], folder: str | None) -> Outcome:
        refuse_unknown(content, "evaluate")
        environment(content.get("data") or {})
        results = evaluate_run(content["run"], EvaluateOptions.of(content))
        return Outcome(find_run(str(content["run"])).folder, results=results)

    run_jobs("evaluate", given, one)
    return 0


def _refuse_tasks(arguments: Sequence[str]) -> None:
    """CardError for keys of single tasks: a run is judged on the data and by the cards that it was trained with."""
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~")
        if key.startswith("tasks."):
            raise CardError(
                f"`{key}`: a run is judged on the data that it was trained beside; tasks=[...] takes names alone",
                help="for other rows: ofasys-lite predict RUN TASK --data FILE --out answers.csv, which holds the "
                "references too; with scores, in Python: evaluate(model, [task]) of a Task with these rows",
            )


def evaluate_run(run: str | Path, options: EvaluateOptions | None = None) -> RunResults:
    """The results of a finished run, after printing the table and writing metrics.json, evaluation.json, report.html.

    Raises:
        OfasysError: Unknown run, task or checkpoint, sources that cannot be opened.
    """
    options = options or EvaluateOptions()
    found = find_run(str(run))
    for task in options.tasks:
        found.task(task)
    refuse_elsewhere(found.folder, {name: found.task(name)["card"]["data"] for name in options.tasks or found.tasks})
    weights = _weights(found, options.checkpoint)
    output = found.folder if options.output is None else Path(options.output).expanduser()
    part = options.tasks if options.output is None and set(options.tasks) != set(found.tasks) else ()
    tail = _tail(options, part, output)
    names = [name.format(tail) for name in _FILES]
    claim_folder(output, lambda place: _judged(place, tail), "an evaluation", "name another folder: output=", names)
    if options.report:
        from ofasys_lite.report.charts import needs

        needs("matplotlib")
        needs("jinja2")
    with locked(output, "evaluation of"):
        return _evaluated(found, weights, options, output, tail)


def _tail(options: EvaluateOptions, part: Sequence[str], folder: Path) -> str:
    """What follows the files' names: all tasks on all rows of the test split have the plain ones.

    Another split, some of the tasks and another decoding than the cards' always stand beside them; some of the rows,
    and other weights than the last, where an evaluation of all stands there already.
    """
    split = "" if options.split == "test" else f"-{options.split}"
    names = "-".join(part)
    names = names if len(names) <= 100 else f"{len(part)}-tasks-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    ways = "".join(f"-{name}{_UNFIT.sub('_', str(value))[:40]}" for name, value in options.decoding.items())
    tail = split + (f"-{names}" if part else "") + ways
    if not _whole(folder / f"metrics{tail}.json"):
        return tail
    limit = "" if options.limit is None else f"-limit{options.limit}"
    return tail + limit + ("" if options.checkpoint == "last" else f"-{Path(options.checkpoint).stem}")


def _whole(metrics: Path) -> bool:
    """Whether an evaluation of all rows by the exported weights stands there."""
    try:
        facts = json.loads(metrics.read_text(encoding="utf-8"))["facts"]
        return str(facts["rows evaluated"]).startswith("all") and "weights" not in facts
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _judged(folder: Path, tail: str) -> bool:
    """Whether files of an evaluation in a folder are ours: a run's own, or those beside an evaluation we wrote."""
    return begun_by_us(folder) or (folder / f"evaluation{tail}.json").is_file() or (folder / "plans.json").is_file()


def _weights(found: Found, checkpoint: str) -> Path | None:
    """The file of weights in place of the export's; None for the export's own."""
    if checkpoint == "last":
        return None
    if checkpoint == "best":
        path = found.folder / "checkpoints" / "best.safetensors"
        if not path.is_file():
            raise CheckpointError(
                f"{found.folder} keeps no best checkpoint: it was not validated", help="checkpoint=last"
            )
        return path
    path = next((p for p in (Path(checkpoint), found.folder / checkpoint) if p.is_file()), None) or Path()
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"checkpoint={checkpoint}: there is no such file", help="last, best, or the path of a .safetensors file"
        )
    return path


def _evaluated(found: Found, weights: Path | None, options: EvaluateOptions, output: Path, tail: str) -> RunResults:
    from rich.console import Console

    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.report import print_table

    model = Generalist.from_pretrained(found.export, options.device, options.precision)
    if weights is not None:
        from ofasys_lite.generalist.export import load_weights

        load_weights(model.network, weights)
    results = _progressed(model, options)
    results = _with_run(results, found, options.checkpoint)
    print_table(results, Console())
    for note in str(results.facts.get("rows trained on", "")).splitlines():
        print(f"note: {note}", file=sys.stderr)
    for path in _write(results, output, options.report, tail):
        print(path)
    if output == found.folder and not tail and weights is None and _whole(output / "metrics.json"):
        _tell_card(results, found.export)
    sys.stdout.flush()
    return results


def _progressed(model: Generalist, options: EvaluateOptions) -> RunResults:
    """The evaluation with a bar on the terminal; without one, a line as each task begins."""
    from rich.console import Console
    from rich.progress import Progress

    from ofasys_lite.report.evaluate_model import evaluate

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True)
    with ExitStack() as shown:
        rows: dict[str, Any] = {}

        def tell(task: str, done: int, total: int) -> None:
            if not rows:  # an empty bar would leave a line behind errors that come before
                shown.enter_context(bar)
            if task not in rows:
                rows[task] = bar.add_task(task, total=total)
                if not console.is_terminal:
                    console.print(f"evaluating {task}: {total} rows", highlight=False, soft_wrap=True)
            bar.update(rows[task], completed=done)

        return evaluate(
            model,
            list(options.tasks) or None,
            options.split,
            options.limit,
            options.baselines,
            options.samples,
            tell,
            seed=options.seed,
            bootstrap=options.bootstrap,
            seen=options.seen,
            decoding=options.decoding,
        )


def _with_run(results: RunResults, found: Found, checkpoint: str) -> RunResults:
    """The results with the run's name, history, what its training took, and which of its weights were used."""
    from ofasys_lite.report.forgetting import FILE, changes
    from ofasys_lite.run.run_folder import RunFolder

    history = RunFolder(found.folder).history()
    steps = [row for row in history if row.get("kind") == "step"]
    facts = dict(results.facts)
    if steps:
        facts["training"] = f"{steps[-1]['step']:,} steps, {steps[-1]['time'] / 60:.1f} minutes"
    begun = found.folder / FILE
    if begun.exists():
        told = json.loads(begun.read_text(encoding="utf-8"))
        facts["began with"] = f"{told['path']}; {'; '.join(changes(told))}"
    if checkpoint != "last":
        facts["weights"] = "best validation" if checkpoint == "best" else checkpoint
    name = found.folder.name if found.folder.name != "export" else found.folder.resolve().parent.name
    return replace(results, name=name, history=history, facts=facts)


def _tell_card(results: RunResults, export: Path) -> None:
    """Puts the results into the export and its model card."""
    from ofasys_lite.generalist.export import add_results
    from ofasys_lite.report import metrics_json

    told = metrics_json(results)
    written = add_results(export, {key: told[key] for key in ("split", "facts", "tasks")})
    print(export / "README.md" if written else f"{export / 'README.md'} was changed by somebody, and stays as it is")


def _write(results: RunResults, folder: Path, report: bool, tail: str) -> list[Path]:
    """Writes all files of the results; the paths."""
    from ofasys_lite.report import metrics_json, save_pictures, save_predictions, save_results, write_report

    metrics = folder / f"metrics{tail}.json"
    write_atomic(metrics, json.dumps(metrics_json(results), indent=1, ensure_ascii=False))
    written = [metrics, save_results(results, folder / f"evaluation{tail}.json")]
    written += save_pictures(results, folder / f"samples{tail}")
    written += save_predictions(results, folder / f"predictions{tail}")
    return [*written, write_report(results, folder / f"report{tail}.html")] if report else written
