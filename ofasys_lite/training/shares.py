"""What weights of tasks mean (`mixture.unit`), and how often rows may come again before it is said (`mixture.repeats`).

Where weights are shares of tokens, a task is drawn by its weight over the mean number of tokens of its samples. The
mean is measured before the first step on rows as training lays them out, so it is a function of the data alone: the
mixture stays in closed form, is the same on every rank, and a resumed run keeps the numbers of its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ofasys_lite.data.mixture import Mixture, Schedule
from ofasys_lite.errors import CardError, check_choice, check_keys, check_types

UNITS = ("samples", "tokens")
#: Rows of each task whose tokens are counted, spread evenly over its training split.
MEASURED = 256


@dataclass(frozen=True, slots=True)
class MixtureSettings:
    """How tasks are mixed.

    Attributes:
        unit: What weights are shares of: `samples`, or `tokens`: source and target rows as they are trained.
        repeats: A task whose rows are gone through more often is told of; 0 tells of none. Four passes are worth about
            as much as new rows ("Scaling Data-Constrained Language Models", arXiv 2305.16264).
    """

    unit: str = "samples"
    repeats: float = 4.0

    def __post_init__(self) -> None:
        check_types("mixture", self)
        check_choice("mixture", "unit", self.unit, UNITS)
        if self.repeats < 0:
            raise CardError(
                f"mixture: repeats is {self.repeats}", help="repeats is 0 (tell of none) or more, such as 4"
            )

    @staticmethod
    def of(value: Any) -> MixtureSettings:
        """The settings that a mapping says; CardError on unknown keys (the near name is offered) and wrong values."""
        if isinstance(value, MixtureSettings):
            return value
        if not isinstance(value, Mapping):
            raise CardError(f"mixture is {value!r}", help="a mapping: mixture.unit=tokens, mixture.repeats=4")
        check_keys("mixture", value, (each.name for each in fields(MixtureSettings)))
        return MixtureSettings(**value)

    def to_plain(self) -> dict[str, Any]:
        """What `of` takes."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def in_samples(weight: Any, mean: float, what: str) -> Schedule:
    """A weight in shares of tokens as one in samples, of a task whose samples have `mean` tokens."""
    points = Schedule.parse(weight, what).points
    # nine digits: weights are exact fractions of what they are written as
    return Schedule(tuple((step, float(f"{value / mean:.9g}")) for step, value in points))


def means_note(means: Mapping[str, float]) -> str:
    """What is said at the start of a run whose weights are shares of tokens."""
    shown = ", ".join(f"{task} {mean:,.0f}" for task, mean in means.items())
    return f"weights are shares of tokens; tokens of a sample, in the mean of up to {MEASURED} rows: {shown}"


def repeat_notes(mixture: Mixture, steps: int | None, repeats: float, told: set[str] | None = None) -> list[str]:
    """Notes of tasks whose rows come more than `repeats` times in `steps` steps; none where nobody knows how many.

    Args:
        told: Tasks of which it was said; those of which it is said now are added.
    """
    if not repeats or steps is None:
        return []
    told, notes = set() if told is None else told, []
    for task, count in zip(mixture.tasks, mixture.counts(steps), strict=True):
        if task.size is None or count <= repeats * task.size or task.name in told:
            continue
        told.add(task.name)
        notes.append(
            f"task {task.name}: each of its {task.size:,} rows is trained on {count / task.size:.1f} times in "
            f"{steps:,} steps, more than {repeats:g} (mixture.repeats): more rows, less weight or "
            f"`epochs: {max(1, int(repeats))}` on its card leave room for others"
        )
    return notes
