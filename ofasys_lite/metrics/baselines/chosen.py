"""Baselines that are chosen on training rows by how well they answer them: copy, best_constant, greedy_list.

Legend: N scenes, C candidates, O objects of all scenes.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.source import spread
from ofasys_lite.errors import CardError
from ofasys_lite.metrics.baselines.constant import overlaps
from ofasys_lite.metrics.baselines.problem import Problem
from ofasys_lite.metrics.score import Value
from ofasys_lite.metrics.values import as_objects, as_text, canonical

_COPIED = 500  # training rows that say which column is copied
_CANDIDATES, _JUDGED = 120, 300  # constants that are tried, and training rows they are tried on
_SCENES, _BOXES = 3000, 80  # training scenes of greedy_list, and boxes of a label that are tried


def copy(problem: Problem) -> list[Value]:
    """The text or structured input that is most like the target in training (chrF), as it is."""
    column = copied_column(problem)
    return [row.get(column) if column else None for row in problem.test_rows]


def copied_column(problem: Problem) -> str:
    """The input that `copy` answers with; empty if none is text. The target column's own kind decides nothing."""
    from ofasys_lite.metrics.texts import chrf

    columns = problem.columns("text")
    if len(columns) < 2:
        return columns[0] if columns else ""
    rows = [problem.train_rows[i] for i in spread(len(problem.train_rows), _COPIED)]
    wanted = [as_text(row.get(problem.target)) for row in rows]
    scores = []
    for column in columns:
        statistics = chrf([as_text(row.get(column)) for row in rows], wanted, rows)
        scores.append(float(statistics.combine(statistics.sums_NK.sum(0))))
    return columns[int(np.argmax(scores))]


def best_constant(problem: Problem) -> list[Value]:
    """The training target that the task's metric likes best as the answer to all training rows.

    Tried are the 60 most frequent and 60 others, on at most 300 rows, all spread over the training rows.

    Raises:
        CardError: Nobody said which metric judges the task.
    """
    from ofasys_lite.metrics.by_name import evaluate_metric

    targets = problem.targets()
    if not targets:
        return [None] * len(problem.test_rows)
    if not problem.metric:
        raise CardError("baseline `best_constant` is chosen by a metric, and none is named", help="majority")
    counts: dict[str, list[int]] = defaultdict(list)
    for number, target in enumerate(targets):
        counts[canonical(target)].append(number)
    often = sorted(counts.values(), key=lambda numbers: (-len(numbers), numbers[0]))
    candidates = [numbers[0] for numbers in often[: _CANDIDATES // 2]]
    rest = [numbers[0] for numbers in often[_CANDIDATES // 2 :]]
    candidates += [rest[i] for i in spread(len(rest), _CANDIDATES - len(candidates))]
    rows = [problem.train_rows[i] for i in spread(len(targets), _JUDGED)]
    wanted = [row.get(problem.target) for row in rows]
    # fewer than two samples: no interval is taken
    ranks = [
        evaluate_metric(
            problem.metric, [targets[number]] * len(rows), wanted, None, rows, samples=1, higher=problem.higher
        ).rank
        for number in candidates
    ]
    return [targets[candidates[int(np.argmax(ranks))]]] * len(problem.test_rows)


def greedy_list(problem: Problem) -> list[Value]:
    """A constant list of objects: the training box that finds most objects is added as long as training F1 grows.

    Of 3,000 training scenes, 80 boxes of each label are tried.
    """
    targets = problem.targets()
    scenes = [as_objects(targets[i]) for i in spread(len(targets), _SCENES)]
    of_label: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for scene in scenes:
        for box, label in scene:
            if box is not None:
                of_label[label].append(box)
    tried: list[tuple[str, NDArray[np.float64]]] = []
    found: list[NDArray[np.bool_]] = []  # (O of the label,) what each tried box finds
    for label, boxes in sorted(of_label.items()):
        boxes_O4 = np.asarray(boxes, dtype=np.float64)
        chosen = boxes_O4[[*spread(len(boxes_O4), _BOXES)]]
        tried += [(label, box) for box in chosen]
        found += list(overlaps(chosen, boxes_O4) >= 0.5)
    objects, there = list[tuple[str, NDArray[np.float64]]](), sum(map(len, of_label.values()))
    left = {label: np.ones(len(boxes), dtype=bool) for label, boxes in of_label.items()}
    hits, best = 0, 0.0
    while tried:
        gains = [int((finds & left[label]).sum()) for (label, _), finds in zip(tried, found, strict=True)]
        place = int(np.argmax(gains))
        value = 2 * (hits + gains[place]) / ((len(objects) + 1) * len(scenes) + there)
        if value <= best:
            break
        best, hits = value, hits + gains[place]
        objects.append(tried[place])
        left[tried[place][0]] &= ~found[place]
    answer = [{"box": box.tolist(), "label": label} for label, box in objects]
    return [list(answer) for _ in problem.test_rows]
