"""Sudoku 4 x 4 with unique solutions, made by a generator; solutions of the test split are never seen in training."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import cache

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, split_of

SIDE = 4
Grid = tuple[int, ...]


def _peers(cell: int) -> frozenset[int]:
    row, column = divmod(cell, SIDE)
    box = (row // 2, column // 2)
    near = (
        other
        for other in range(SIDE * SIDE)
        if other // SIDE == row or other % SIDE == column or (other // SIDE // 2, other % SIDE // 2) == box
    )
    return frozenset(near) - {cell}


PEERS = tuple(_peers(cell) for cell in range(SIDE * SIDE))


def _solutions(grid: list[int], cell: int = 0) -> Iterator[Grid]:
    """All completions of a grid whose cells from `cell` on are blank."""
    if cell == SIDE * SIDE:
        yield tuple(grid)
        return
    for digit in range(1, SIDE + 1):
        if all(grid[peer] != digit for peer in PEERS[cell]):
            grid[cell] = digit
            yield from _solutions(grid, cell + 1)
            grid[cell] = 0


@cache
def solution_grids() -> tuple[Grid, ...]:
    """All 288 complete grids, in order."""
    return tuple(_solutions([0] * SIDE * SIDE))


def unique(puzzle: Grid) -> bool:
    """Whether exactly one complete grid agrees with the clues."""
    clues = [(cell, digit) for cell, digit in enumerate(puzzle) if digit]
    fitting = (grid for grid in solution_grids() if all(grid[cell] == digit for cell, digit in clues))
    return next(fitting, None) is not None and next(fitting, None) is None


def _puzzles(solution: Grid, count: int) -> list[Grid]:
    """`count` different puzzles of one solution with 4 to 10 clues and no other solution."""
    generator = random.Random(f"sudoku {solution}")
    found: dict[Grid, None] = {}
    for clues in itertools.cycle(range(4, 11)):
        kept = set(sorted(range(SIDE * SIDE), key=lambda _: generator.random())[:clues])
        puzzle = tuple(digit if cell in kept else 0 for cell, digit in enumerate(solution))
        if unique(puzzle):
            found.setdefault(puzzle)
        if len(found) == count:
            break
    return list(found)


def _rows(grid: Grid) -> list[list[int]]:
    return [list(grid[start : start + SIDE]) for start in range(0, SIDE * SIDE, SIDE)]


def _text(grid: Grid) -> str:
    return " / ".join(" ".join(str(digit) for digit in row) for row in _rows(grid))


def build(wheels: Wheels, limits: Limits) -> Built:
    """The same number of puzzles for each solution of a split."""
    del wheels
    parts: dict[str, list[Grid]] = {"train": [], "valid": [], "test": []}
    for solution in solution_grids():
        parts[split_of(_text(solution))].append(solution)
    rows: list[Row] = []
    for split, solutions in parts.items():
        each = -(-limits.of(split) // len(solutions))
        rows += [
            {
                "group": _text(solution),
                "puzzle": _rows(puzzle),
                "solution": _rows(solution),
                "puzzle_text": _text(puzzle),
                "solution_text": _text(solution),
            }
            for solution in solutions
            for puzzle in _puzzles(solution, each)
        ]
    return Built(assemble("sudoku", rows, limits))
