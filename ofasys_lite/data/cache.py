"""What is computed once per content of a source and kept: offsets, lengths, split keys, converted tables.

Everything lies under one folder and may be deleted at any time; files appear whole or not at all.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import WriteError
from ofasys_lite.writing import atomic, cache_folder

__all__ = ["Arrays", "cached_arrays"]

Arrays = dict[str, NDArray[np.int64]]


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
    except (OSError, WriteError):
        pass  # a cache that cannot be written costs time, not the run
    return arrays
