"""A baseline of grids that are filled: legal_digit.

Legend: S side of the grid.
"""

from __future__ import annotations

import math
from collections import Counter

from ofasys_lite.metrics.baselines.problem import Problem
from ofasys_lite.metrics.score import Row, Value
from ofasys_lite.metrics.structures import as_grid


def legal_digit(problem: Problem) -> list[Value]:
    """What is given, and in each empty cell (0) the digit most frequent there in training that no clue forbids.

    A clue forbids its digit in its row, its column and, where the grid has boxes, its box. An input without a square
    grid has no answer.
    """
    counts: Counter[tuple[int, int, int]] = Counter()
    for target in problem.targets():
        for y, row in enumerate(as_grid(target) or []):
            counts.update((y, x, digit) for x, digit in enumerate(row))
    return [_filled(_puzzle(problem, row), counts) for row in problem.test_rows]


def _puzzle(problem: Problem, row: Row) -> list[list[int]] | None:
    grids = (as_grid(row.get(name)) for name in problem.inputs)
    return next((grid for grid in grids if grid is not None), None)


def _filled(puzzle: list[list[int]] | None, counts: Counter[tuple[int, int, int]]) -> Value:
    if puzzle is None:
        return None
    side = len(puzzle)
    box = math.isqrt(side) if math.isqrt(side) ** 2 == side else 1
    found = [list(row) for row in puzzle]
    for y in range(side):
        for x in range(side):
            if puzzle[y][x]:
                continue
            top, left = y // box * box, x // box * box
            seen = {*puzzle[y], *(row[x] for row in puzzle)}
            seen |= {digit for row in puzzle[top : top + box] for digit in row[left : left + box]}
            free = [digit for digit in range(1, side + 1) if digit not in seen]
            found[y][x] = max(free, key=lambda digit, y=y, x=x: counts[y, x, digit], default=1)  # type: ignore[misc]
    return found
