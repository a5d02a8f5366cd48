"""Memory of a process: zeros in large pages, and what is freed kept.

Weights and keys of a step are tens of megabytes; in pages of 4 KiB the lookup of addresses costs about a tenth of it.
Where the system does not know the hint, or does not follow it, these are plain zeros.

A step of training frees all that the next one asks for again. glibc gives blocks of more than 32 MiB, and what lies
free at the end of the heap, back to the system, which clears every page when it is touched anew: in a virtual machine
half a second a gigabyte, a twentieth to a fifth of a step whose logits are that large.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

PAGE = 2**21
#: What glibc's `mallopt` calls its two limits, and what they become, in bytes: as much as fits in its numbers; old ones
#: refuse more than 32 MiB of the second.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _IN_THE_HEAP, _AT_LEAST = 2**31 - 1, 2**30, 2**25
#: Variables by which a user sets them; then nothing is changed.
_USERS_OWN = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, up to 2 GiB at the heap's end, for what it asks for next.

    Its price is memory: blocks of other sizes leave holes (one block of 64 MiB made and freed in turn up to seven of
    them), so it is for trainings and not for what stands beside a user's own work.

    Returns:
        Whether the system's allocator follows: glibc's does, unless its own variables say what is kept, or it is old
        and lets large blocks go all the same; those of other systems are left as they are.
    """
    if any(name in os.environ for name in _USERS_OWN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError: on Windows
        return False
    # once one limit is set, the other no longer grows by itself: without a value it would stay at 128 KiB
    follows = bool(mallopt(_MMAP_THRESHOLD, _IN_THE_HEAP))
    if not follows and not mallopt(_MMAP_THRESHOLD, _AT_LEAST):
        return False
    mallopt(_TRIM_THRESHOLD, _KEPT)
    return follows


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
