"""A bounded number of open files: a table of thousands of parts needs no more handles than one of a hundred."""

from __future__ import annotations

import os
import weakref
from collections import deque
from typing import Protocol


class Holder(Protocol):
    """What holds something open that it can open again."""

    def release(self) -> None:
        """Lets it go."""


class Handle:
    """An open file; closed when nobody refers to it any more, so that no thread loses it while reading."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        if os is not None:  # at the end of the interpreter
            os.close(self.number)


class Pool:
    """Those who hold something open in this process; a newcomer above the limit makes the first of them let go.

    Args:
        most: Most holders; None: a quarter of the files that the system lets a process open.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._holders: deque[weakref.ref[Holder]] = deque()

    def add(self, holder: Holder) -> None:
        """Counts one that has opened something."""
        if self._most is None:
            self._most = _share()
        self._holders.append(weakref.ref(holder))
        while len(self._holders) > self._most:
            first = self._holders.popleft()()
            if first is not None and first is not holder:
                first.release()


def _share() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 128
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1024 if limit < 0 else max(8, min(1024, limit // 4))
