"""What a report is made of: the results of one run, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ofasys_lite.metrics import Margin, Score
from ofasys_lite.preprocess.kinds import Shown


@dataclass(frozen=True, slots=True)
class Answers:
    """What one baseline says.

    Attributes:
        kind: `trivial` (listed under `baselines` in the card) or `reference` (under `references`).
        note: What a reader should know, such as the training rows it was fitted on; may be empty.
    """

    name: str
    kind: str
    values: Sequence[Any]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """All that one metric of a task judges.

    Attributes:
        kind: Kind of the values (`preprocess.kinds`).
        higher: Whether more is better, where the metric does not say it itself.
        closed: The values of a closed set, in its order; empty for others.
    """

    name: str
    column: str
    kind: str
    higher: bool | None
    closed: tuple[str, ...]
    predictions: Sequence[Any]
    references: Sequence[Any]
    against: tuple[Answers, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """All that was said to the rows of a task: enough to make its scores once more.

    Attributes:
        groups: Group of each row, a pair where groups cross.
        rows: The rows without media, for metrics that look at them.
        told: Per metric, the headline first.
    """

    ids: Sequence[str]
    groups: Sequence[str | tuple[str, str]]
    rows: Sequence[Mapping[str, Any]]
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class SampleInput:
    """One source value of a sample.

    Attributes:
        modality: Its modality (IMAGE, AUDIO, TEXT ...), as a caption.
        shown: How it looks, as its modality says; None: as a text, record or table, a picture by its type.
    """

    column: str
    modality: str
    value: Any
    shown: Shown | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One row with what the model made of it.

    Attributes:
        prediction: What the model said: text, box, list of objects, structure; None shows only the reference.
        correct: True or False where that can be said of one sample, else None.
        id: Name of the row, for finding it again.
        looks: How prediction and reference look, as for `SampleInput.shown`.
    """

    inputs: Sequence[SampleInput]
    prediction: Any
    reference: Any
    correct: bool | None = None
    id: str = ""
    looks: tuple[Shown | None, Shown | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Score of one baseline on the task's own test rows.

    Attributes:
        kind: `trivial` or `reference`.
        note: What a reader should know of it, such as the training rows it was fitted on; may be empty.
    """

    name: str
    kind: str
    score: Score
    note: str = ""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task: its metric, what it is held against, and samples to look at.

    Attributes:
        baselines: Trivial baselines and classical references on the same rows.
        margin: Model minus the strongest trivial baseline, paired; None without a trivial baseline.
        samples: A few rows with predictions, none chosen by how well the model did.
        worst: The rows that it did worst on.
        said: All predictions; None in what is read from an evaluation without them.
        chance: Per slot, the loss of a model that knows only how often each target id is; drawn into the curves.
    """

    task: str
    instruction: str
    metric: Score
    baselines: tuple[Baseline, ...] = ()
    margin: Margin | None = None
    samples: tuple[Sample, ...] = ()
    chance: Mapping[str, float] = field(default_factory=dict)
    worst: tuple[Sample, ...] = ()
    said: Said | None = field(default=None, compare=False)

    def strongest(self, kind: str = "trivial") -> Baseline | None:
        """The best baseline of a kind, or None if there is none."""
        return max((b for b in self.baselines if b.kind == kind), key=lambda b: b.score.rank, default=None)

    @property
    def clear(self) -> bool:
        """True if the margin's whole interval lies above zero and there are groups enough to know."""
        return self.margin is not None and self.margin.clear


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that could not be read: task, id of the row, reason, and where it stands (`qa.csv, row 17`)."""

    task: str
    id: str
    reason: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class RunResults:
    """All that is known of one run.

    Attributes:
        facts: What to print at the head, in order: model, parameters, data, time, precision, machine ...
        tasks: Results in the order of the table.
        history: Rows of metrics.jsonl. `kind` is `train` (step, time in s, task, slot, loss; optional chance, tokens
            and samples since the row before), `step` (step, time, tokens_per_second) or `valid` (step, time, task,
            value: a normalised score).
    """

    name: str
    facts: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]
    history: Sequence[Mapping[str, Any]] = ()
    quarantine: Sequence[RefusedRow] = field(default=())
    split: str = "test"

    @property
    def clear(self) -> int:
        """Number of tasks that clear their strongest trivial baseline."""
        return sum(task.clear for task in self.tasks)

    @property
    def verdict(self) -> str:
        """How many tasks clear their baselines, in a sentence without its end; where none was scored, just that."""
        if self.tasks and not any(task.baselines for task in self.tasks):
            return "no baselines were scored"
        return f"{self.clear} of {len(self.tasks)} tasks clear their strongest trivial baseline"
