"""Scores from what was said: predictions, references and baselines' answers are enough, no model and no data are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ofasys_lite.metrics import Margin, Score, TrainRows, evaluate_metric, item_scores, margin
from ofasys_lite.report.results import Baseline, Said, Told


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
