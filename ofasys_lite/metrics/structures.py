"""Metrics of STRUCT values: slot_f1, record_f1, triplet_f1, struct_exact, sudoku_solved, grid_cells."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.values import as_text, canonical
from ofasys_lite.preprocess.flat import triplets
from ofasys_lite.preprocess.linear import as_struct, read_struct


def slot_f1(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Micro F1 over leaves: a leaf is right if its path and its value are; order within lists is free."""
    return _multiset_f1([Counter(_leaves(p)) for p in predictions], [Counter(_leaves(r)) for r in references])


def record_f1(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Micro F1 over records (elements of a list, or key-value pairs of one record); a record is right as a whole."""
    return _multiset_f1([Counter(_records(p)) for p in predictions], [Counter(_records(r)) for r in references])


def triplet_f1(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Micro F1 over the sets of triplets of each row: one written twice counts once, case and white space aside."""
    sets = [[Counter(set(_triplets(value))) for value in values] for values in (predictions, references)]
    return _multiset_f1(*sets)


def struct_exact(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of structures equal to the reference, order of keys aside; empty references are left out.

    An empty structure is what a model says that has learned nothing, so it earns nothing.
    """
    right, counted = [], []
    for prediction, reference in zip(predictions, references, strict=True):
        theirs = as_struct(reference)
        full = next(_leaves(theirs), None) is not None
        counted.append(full)
        right.append(full and canonical(as_struct(prediction)) == canonical(theirs))
    return Statistics.ratio(right, counted, details={"empty_references": len(counted) - sum(counted)})


def _multiset_f1(ours: Sequence[Counter[str]], theirs: Sequence[Counter[str]]) -> Statistics:
    hits = [(a & b).total() for a, b in zip(ours, theirs, strict=True)]
    extra = [a.total() - hit for a, hit in zip(ours, hits, strict=True)]
    missed = [b.total() - hit for b, hit in zip(theirs, hits, strict=True)]
    return Statistics.f1(hits, extra, missed)


def _triplets(value: Value) -> Iterator[str]:
    """Each triplet as one text; nothing of what holds none."""
    try:
        found = triplets(read_struct(value))
    except DataError:
        return
    for parts in found:
        yield "\x00".join(" ".join(part.casefold().split()) for part in parts)


def _leaves(value: Value, path: str = "") -> Iterator[str]:
    value = as_struct(value) if not path else value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner, f"{path}/*")
    elif as_text(value):
        yield f"{path}={canonical(value)}"


def _records(value: Value) -> Iterator[str]:
    value = as_struct(value)
    if isinstance(value, Mapping):
        yield from (f"{key}={canonical(inner)}" for key, inner in value.items())
    elif isinstance(value, (list, tuple)):
        yield from map(canonical, value)
    elif as_text(value):
        yield canonical(value)


def sudoku_solved(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of grids that obey the rules and equal the (unique) solution; grids are lists or text."""
    solved, cells = [], []
    for prediction, reference in zip(predictions, references, strict=True):
        ours, theirs = as_grid(prediction), as_grid(reference)
        solved.append(ours is not None and ours == theirs and _obeys_rules(ours))
        flat = [a == b for x, y in zip(ours or [], theirs or [], strict=False) for a, b in zip(x, y, strict=False)]
        cells.append(sum(flat) / max(1, len(theirs or []) ** 2))
    return Statistics.mean(solved, details={"right_cells": sum(cells) / max(1, len(cells))})


def grid_cells(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of cells of square grids that are as in the reference, those that a puzzle gives among them."""
    right, counted = [], []
    for prediction, reference in zip(predictions, references, strict=True):
        ours, theirs = as_grid(prediction) or [], as_grid(reference) or []
        alike = len(ours) == len(theirs)
        right.append(
            sum(a == b for x, y in zip(ours, theirs, strict=False) for a, b in zip(x, y, strict=False)) * alike
        )
        counted.append(len(theirs) ** 2)
    return Statistics.ratio(right, counted)


def as_grid(value: Value) -> list[list[int]] | None:
    """The square grid of numbers in a list of rows, a record of rows or a text; None where there is none.

    Example:
        >>> as_grid("1 2 | 3 4 ; 3 4 | 1 2 ; 2 1 | 4 3 ; 4 3 | 2 1")[3]
        [4, 3, 2, 1]
    """
    value = as_struct(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    text = value if isinstance(value, str) else canonical(value)
    numbers = [int(number) for number in re.findall(r"[0-9]{1,4}", text)]
    if re.search(r"[0-9]{4,}", text):  # digits written without spaces
        numbers = [int(digit) for digit in re.findall(r"[0-9]", text)]
    side = math.isqrt(len(numbers))
    if side == 0 or side * side != len(numbers):
        return None
    return [numbers[start : start + side] for start in range(0, len(numbers), side)]


def _obeys_rules(grid: list[list[int]]) -> bool:
    """True if every row, column and box holds 1 to n once."""
    side = len(grid)
    box = math.isqrt(side)
    if box * box != side:
        return False
    full = set(range(1, side + 1))
    columns = [list(column) for column in zip(*grid, strict=True)]
    boxes = [
        [grid[top + i][left + j] for i in range(box) for j in range(box)]
        for top in range(0, side, box)
        for left in range(0, side, box)
    ]
    return all(set(unit) == full for unit in (*grid, *columns, *boxes))
