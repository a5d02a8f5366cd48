"""Which rows a run is trained on, and what is said of rows of valid and test among them, or among earlier ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ofasys_lite.data.contents import Contents, Hashes, contents_of, hashes_of
from ofasys_lite.data.overlap import NOT_COMPARED, doubled_rows
from ofasys_lite.layout.ready import Ready

__all__ = ["row_notes", "trained_rows"]


def trained_rows(ready: Ready) -> tuple[dict[str, Contents], dict[str, dict[str, Hashes]]]:
    """(rows that each task is trained on, hashes of the rows of its splits); of no task whose rows vary."""
    hashes = {task.card.name: hashes_of(task.plan, task.sources) for task in ready.tasks}
    found = {task.card.name: contents_of(task.plan, hashes[task.card.name]) for task in ready.tasks}
    contents = {task: held for task, held in found.items() if held is not None}
    return contents, {task: hashes[task] for task in contents}


def row_notes(
    contents: Mapping[str, Contents], hashes: Mapping[str, Mapping[str, Hashes]], checked: Collection[str]
) -> Iterator[str]:
    """Notes of rows of valid and test that were trained on earlier; and of those in train, where no check looked.

    Args:
        contents: Which rows each task is and was trained on.
        hashes: Hashes of the rows of each split, by task.
        checked: Notes of the check before the run.
    """
    for task, splits in hashes.items():
        for split in ("valid", "test"):
            rows = splits.get(split)
            if rows is None or not len(rows):
                continue
            count = int(contents[task].trained(rows).sum())
            if count:
                yield (
                    f"task {task}: {count:,} of {len(rows):,} {split} rows were trained on earlier; "
                    f"{'validation' if split == 'valid' else 'evaluation'} leaves them out"
                )
            twice = int(contents[task].doubled(rows).sum())
            if twice and f"task {task}: {NOT_COMPARED}" in checked:
                yield f"task {task}: {doubled_rows(split, len(rows), twice)}"
