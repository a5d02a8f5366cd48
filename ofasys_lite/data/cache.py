"""What is computed once per content of a source and kept: offsets, lengths, split keys, converted tables.

Everything lies under one folder and may be deleted at any time; files appear whole or not at all.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "atomic", "cache_folder", "cached_arrays"]

Arrays = dict[str, NDArray[np.int64]]


def cache_folder() -> Path:
    """The folder for everything that can be computed again: $OFASYS_CACHE, else ~/.cache/ofasys_lite."""
    return Path(os.environ.get("OFASYS_CACHE") or "~/.cache/ofasys_lite").expanduser()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` at the end, or disappears on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def cached_arrays(kind: str, key: str, build: Callable[[], Mapping[str, NDArray[np.int64]]]) -> Arrays:
    """The arrays that `build` gives, from the cache if it holds them.

    Args:
        kind: What they are, with a version (`lines-1`); part of the file's name.
        key: Hash of all that they depend on.
        build: Computes them; errors pass through.
    """
    path = cache_folder() / "index" / f"{kind}-{key}.npz"
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # not there, or broken by a full disk: built again
    arrays = dict(build())
    try:
        with atomic(path) as temporary, open(temporary, "wb") as out:
            np.savez(out, allow_pickle=False, **arrays)
    except OSError:
        pass  # a cache that cannot be written costs time, not the run
    return arrays
