"""Memory of a process: zeros in large pages for what is read again and again; freed blocks are kept for the next ones.

Weights and keys of a step are tens of megabytes; in pages of 4 KiB the lookup of addresses costs about a tenth of it.
Where the system does not know the hint, or does not follow it, these are plain zeros.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

PAGE = 2**21
#: Parameters of glibc's mallopt (malloc.h): free bytes at the heap's end that go back to the system; smallest block
#: that is taken from the system by itself, and goes back when it is freed.
_TRIM, _APART = -1, -3
#: What users set for themselves; then nothing is changed.
_ASKED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def large_zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    """Zeros of `shape`, of the type and on the device of `like`; from one large page on, in large pages."""
    count = prod(shape)
    size = count * like.element_size()
    hint = getattr(mmap, "MADV_HUGEPAGE", None)
    if hint is None or like.device.type != "cpu" or size < PAGE:
        return like.new_zeros(tuple(shape))
    # room to begin at a page's border; what is not touched takes no memory
    pages = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        pages.madvise(hint)
    except OSError:
        return like.new_zeros(tuple(shape))
    # the tensor keeps the pages alive
    whole = torch.frombuffer(pages, dtype=torch.uint8)
    start = -whole.data_ptr() % PAGE
    return whole[start : start + size].view(like.dtype).view(tuple(shape))


@lru_cache(maxsize=1)
def keep_freed() -> bool:
    """Whether this process now keeps large blocks that are freed, for its next ones; asked once per process.

    glibc gives them back to the system at once, which hands them out again page by page, each emptied first: a
    training step or a batch to predict takes gigabytes that way. What is kept can be more than the most that was in
    use: one block of 64 MiB, made and freed again and again, left up to 514 MB. Only on Linux with glibc, and not where
    the environment sets glibc's limits (`MALLOC_TRIM_THRESHOLD_` and the like, `GLIBC_TUNABLES`); elsewhere nothing
    happens.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _ASKED):
        return False
    try:
        set_limit = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # older versions refuse blocks of more than 32 MiB
    apart = set_limit(_APART, 2**30) or set_limit(_APART, 2**25)
    return bool(apart and set_limit(_TRIM, 2**31 - 1))
