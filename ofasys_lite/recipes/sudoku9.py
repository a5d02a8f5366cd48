"""Sudoku 9 x 9 with unique solutions, drawn by chance; no solution of the test split occurs in training."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import SPLITS, Built, Limits, Row, assemble, digest, split_of

SIDE, BOX = 9, 3
CELLS = SIDE * SIDE
#: Clues of a puzzle, fewest and most.
CLUES = (36, 60)
Grid = tuple[int, ...]
_ALL = (1 << SIDE) - 1


@cache
def _units(cell: int) -> tuple[int, int, int]:
    row, column = divmod(cell, SIDE)
    return row, SIDE + column, 2 * SIDE + row // BOX * BOX + column // BOX


def solutions(puzzle: Grid, generator: random.Random | None = None) -> Iterator[Grid]:
    """Complete grids that agree with the clues, one by one; their digits tried in an order of chance, where given."""
    grid = list(puzzle)
    # digits, as bits, that rows, columns and boxes have
    taken = [0] * (3 * SIDE)
    for cell, digit in enumerate(grid):
        bit = 1 << digit >> 1
        if digit and any(taken[unit] & bit for unit in _units(cell)):
            return
        for unit in _units(cell):
            taken[unit] |= bit
    yield from _filled(grid, taken, [cell for cell in range(CELLS) if not grid[cell]], generator)


def _filled(grid: list[int], taken: list[int], blank: list[int], generator: random.Random | None) -> Iterator[Grid]:
    if not blank:
        yield tuple(grid)
        return
    best, free, count = blank[0], 0, SIDE + 1
    for cell in blank:
        row, column, box = _units(cell)
        left = _ALL & ~(taken[row] | taken[column] | taken[box])
        if (bits := left.bit_count()) < count:
            best, free, count = cell, left, bits
            if bits <= 1:
                break
    rest = [cell for cell in blank if cell != best]
    digits = [digit for digit in range(1, SIDE + 1) if free >> (digit - 1) & 1]
    if generator is not None:
        generator.shuffle(digits)
    for digit in digits:
        bit = 1 << (digit - 1)
        for unit in _units(best):
            taken[unit] |= bit
        grid[best] = digit
        yield from _filled(grid, taken, rest, generator)
        grid[best] = 0
        for unit in _units(best):
            taken[unit] &= ~bit


def unique(puzzle: Grid) -> bool:
    """Whether exactly one complete grid agrees with the clues."""
    found = solutions(puzzle)
    return next(found, None) is not None and next(found, None) is None


def draw(number: int) -> tuple[Grid, Grid]:
    """(puzzle, its only solution), by the number alone."""
    generator = random.Random(f"sudoku9 {number}")
    solution = next(solutions((0,) * CELLS, generator))
    clues = generator.randint(*CLUES)
    while True:
        kept = set(generator.sample(range(CELLS), clues))
        puzzle = tuple(digit if cell in kept else 0 for cell, digit in enumerate(solution))
        if unique(puzzle):
            return puzzle, solution
        # few clues seldom leave one solution
        clues = min(clues + 1, CLUES[1])


def _rows(grid: Grid) -> list[list[int]]:
    return [list(grid[start : start + SIDE]) for start in range(0, CELLS, SIDE)]


def _text(grid: Grid) -> str:
    return " / ".join(" ".join(map(str, row)) for row in _rows(grid))


def build(wheels: Wheels, limits: Limits) -> Built:
    """A puzzle a solution, drawn until every split has its number."""
    del wheels
    left = {split: limits.of(split) for split in SPLITS}
    rows: list[Row] = []
    number = 0
    while any(left.values()):
        puzzle, solution = draw(number)
        number += 1
        group = digest(_text(solution))[:16]
        split = split_of(group)
        if not left[split]:
            continue
        left[split] -= 1
        rows.append(
            {
                "group": group,
                "puzzle": _rows(puzzle),
                "solution": _rows(solution),
                "puzzle_text": _text(puzzle),
                "solution_text": _text(solution),
            }
        )
    return Built(assemble("sudoku9", rows, limits))
