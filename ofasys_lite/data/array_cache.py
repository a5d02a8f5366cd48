"""What is computed once per content of a source and kept: offsets, lengths, split keys, converted tables.

Everything lies under one folder and may be deleted at any time; files appear whole or not at all.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import WriteError
from ofasys_lite.writing import atomic, cache_folder

Arrays = dict[str, NDArray[np.int64]]


def cached_arrays(kind: str, key: str, build: Callable[[], Mapping[str, NDArray[np.int64]]]) -> Arrays:
    """The arrays that `build` gives, from the cache if it holds them.

    Args:
        kind: What they are, with a version (`lines-1`); part of the file's name.
    """
    path = cache_folder() / "index" / f"{kind}-{key}.npz"
    found = _stored(path)
    if found is not None:
        return found
    with turn(path):
        found = _stored(path)  # another process may have been faster
        if found is not None:
            return found
        arrays = dict(build())
        try:
            with atomic(path) as temporary, open(temporary, "wb") as out:
                np.savez(out, allow_pickle=False, **arrays)
        except (OSError, WriteError):
            pass  # a cache that cannot be written costs time, not the run
    return arrays


def _stored(path: Path) -> Arrays | None:
    """The arrays in a file; None where it is not there, or was broken by a full disk."""
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """The time in which no other process makes the file of the cache at `path`: ranks wait for the first of them.

    Where the cache cannot be written, or the disk knows no locks, each makes its own.
    """
    from filelock import FileLock

    # one object per place: what is made within what is made may be the same
    lock = FileLock(path.with_name(f".{path.name}.lock"), is_singleton=True, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
        if not lock.is_locked:
            with suppress(OSError):  # whoever waits for it still holds it, and finds the file
                os.unlink(lock.lock_file)
