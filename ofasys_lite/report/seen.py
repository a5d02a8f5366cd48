"""Rows of an evaluation that the model was trained on: known by what they hold, wherever they stand now."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.contents import Contents, read_columns, row_hashes
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import Plan

#: What is done with such rows: stop, leave them out, judge them as well.
SEEN = ("refuse", "drop", "keep")


def without_seen(
    plan: Plan, source: RowSource, numbers: tuple[int, ...], contents: Contents | None, split: str, seen: str
) -> tuple[tuple[int, ...], str]:
    """(numbers of the rows that are judged, what should be said of them; empty where all is well).

    Args:
        contents: Which rows the task was trained on; None where that is not known.
        split: Its name. Training rows are judged where `train` is asked for.
        seen: `refuse`, `drop` or `keep`.

    Raises:
        DataError: Rows were trained on, and `seen` is `refuse`, or none is left.
    """
    task = plan.task
    if split == "train":
        return numbers, ""
    if contents is None or contents.columns != read_columns(plan):
        return numbers, f"task {task}: which rows it was trained on is not known"
    hashes = row_hashes(source, contents.columns, None if len(numbers) == len(source) else numbers)
    if hashes is None:
        return numbers, f"task {task}: {source.name} gives a row twice in two ways: which were trained on is not known"
    trained_N = contents.trained(hashes)
    if not trained_N.any():
        return numbers, _doubled(task, split, contents.doubled(hashes))
    count, rest = int(trained_N.sum()), int((~trained_N).sum())
    name = source.name.removesuffix(f" ({split})")
    told = f"task {task}: {count} of {len(hashes)} {split} rows ({name}) were trained on"
    if seen == "keep":
        return numbers, f"{told}; they are judged, too (seen=keep)"
    if seen == "drop" and rest:
        kept = tuple(n for n, was in zip(numbers, trained_N.tolist(), strict=True) if not was)
        return kept, f"{told} and are left out; the other {rest} are judged (seen=drop)"
    way = f"seen=drop judges the other {rest}, " if rest else ""
    raise DataError(
        told if rest or seen == "refuse" else f"{told}: none is left",
        help=f"rows or their order have changed since; give the data it was trained with, or: {way}seen=keep all",
    )


def _doubled(task: str, split: str, doubled_N: NDArray[np.bool_]) -> str:
    """A note of rows that stand in both splits from the start: the data's own affair, but a reader should know."""
    count, total = int(doubled_N.sum()), len(doubled_N)
    if not count:
        return ""
    be, rows = ("equals", "a training row") if count == 1 else ("equal", "training rows")
    return f"task {task}: {count} of {total} {split} rows {be} {rows}"
