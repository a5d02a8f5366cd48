"""Baselines that look at no input.

majority, random_target, unigram, mean_box, best_box, label_blind_box, constant_list.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ofasys_lite.metrics.baselines.problem import Problem, image_of, most_frequent
from ofasys_lite.metrics.score import Array as Boxes
from ofasys_lite.metrics.score import Row, Value
from ofasys_lite.metrics.values import as_box, as_objects, as_text
from ofasys_lite.preprocess.linear import as_struct

_CANDIDATES = 400  # training boxes tried as the best constant box


def majority(problem: Problem) -> list[Value]:
    """The most frequent training target, for every row."""
    return [most_frequent(problem.targets())] * len(problem.test_rows)


def random_target(problem: Problem) -> list[Value]:
    """The target of a training row, drawn by the seed for each row anew."""
    targets = problem.targets()
    if not targets:
        return [None] * len(problem.test_rows)
    drawn = np.random.default_rng(problem.seed).integers(len(targets), size=len(problem.test_rows))
    return [targets[number] for number in drawn]


def unigram(problem: Problem) -> list[Value]:
    """The most frequent white-space token of the training targets, as often as targets are long (median)."""
    tokens = [as_text(target).split() for target in problem.targets()]
    best = most_frequent(token for line in tokens for token in line)
    length = round(float(np.median([len(line) for line in tokens]))) if tokens else 0
    return [" ".join([as_text(best)] * max(1, length))] * len(problem.test_rows)


def mean_box(problem: Problem) -> list[Value]:
    """The mean training box, in shares of the image where the rows hold one, else in pixels."""
    boxes = _relative_boxes(problem)
    return _placed(problem, np.mean(boxes, axis=0)) if len(boxes) else [None] * len(problem.test_rows)


def best_box(problem: Problem) -> list[Value]:
    """The constant box that overlaps the most training boxes by at least half, of 400 drawn from training."""
    boxes = _relative_boxes(problem)
    if not len(boxes):
        return [None] * len(problem.test_rows)
    generator = np.random.default_rng(problem.seed)
    drawn = boxes[generator.permutation(len(boxes))[:_CANDIDATES]]
    candidates = np.concatenate([drawn, boxes.mean(0, keepdims=True), np.median(boxes, axis=0, keepdims=True)])
    shared = overlaps(candidates, drawn)
    return _placed(problem, candidates[int(np.argmax((shared >= 0.5).mean(1) + 1e-3 * shared.mean(1)))])


def overlaps(first_N4: Boxes, second_M4: Boxes) -> Boxes:
    """Intersection over union (N, M) of every pair of boxes."""
    a, b = first_N4[:, None], second_M4[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    common = sides.prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    shared: Boxes = common / (areas[0] + areas[1] - common)
    return shared


def label_blind_box(problem: Problem) -> list[Value]:
    """The box of a random object of the scene where the row lists its objects, else the best constant box."""
    draw = random.Random(problem.seed)
    constant = best_box(problem)
    values = []
    for row, fallback in zip(problem.test_rows, constant, strict=True):
        scene = _scene(row, problem.target)
        values.append(list(draw.choice(scene)) if scene else fallback)
    return values


def constant_list(problem: Problem) -> list[Value]:
    """The most frequent multiset of labels, each with the mean box it has at its rank from the left."""
    scenes = [as_objects(target) for target in problem.targets()]
    labels = most_frequent(sorted(label for _, label in scene) for scene in scenes)
    places: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for scene in scenes:
        seen: Counter[str] = Counter()
        for box, label in sorted((item for item in scene if item[0] is not None), key=lambda item: item[0] or ()):
            places[label, seen[label]].append(box)
            seen[label] += 1
    ranks: Counter[str] = Counter()
    objects = []
    for label in labels if isinstance(labels, list) else []:
        boxes = places.get((label, ranks[label]), [])
        ranks[label] += 1
        if boxes:
            objects.append({"box": np.mean(boxes, axis=0).tolist(), "label": label})
    return [list(objects) for _ in problem.test_rows]


def _scene(row: Row, target: str) -> Sequence[tuple[float, ...]]:
    """All boxes of the first column that lists objects; the target column is not looked at."""
    for name, value in row.items():
        value = as_struct(value)
        if name != target and isinstance(value, (list, tuple)) and value:
            boxes = [as_box(record) for record in value]
            if all(box is not None for box in boxes):
                return [box for box in boxes if box is not None]
    return []


def _relative_boxes(problem: Problem) -> Boxes:
    """Training boxes (N, 4), divided by width and height of the row's image where there is one."""
    columns = problem.columns("image")
    boxes = []
    for row in problem.train_rows:
        box = as_box(row.get(problem.target))
        if box is not None:
            boxes.append(np.asarray(box) / _sides(row, columns))
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _placed(problem: Problem, box: Boxes) -> list[Value]:
    columns = problem.columns("image")
    return [(box * _sides(row, columns)).tolist() for row in problem.test_rows]


def _sides(row: Row, columns: Sequence[str]) -> Boxes:
    """(width, height, width, height) of the row's first image; ones without an image."""
    image = image_of(row.get(columns[0])) if columns else None
    return np.asarray([*image.size, *image.size] if image is not None else [1, 1, 1, 1], dtype=np.float64)
