"""Zeros in large pages, for what is read again and again.

Weights and keys of a step are tens of megabytes; in pages of 4 KiB the lookup of addresses costs about a tenth of it.
Where the system does not know the hint, or does not follow it, these are plain zeros.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

PAGE = 2**21


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
