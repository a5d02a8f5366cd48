"""A bounded number of open files: a table of thousands of parts needs no more handles than one of fifty."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Pool"]

T = TypeVar("T")
R = TypeVar("R")


class Pool(Generic[T]):
    """What is open in this process, at most `most` at once: what was not used for longest is closed for something new.

    Args:
        most: Most things that are open.
        close: Closes one.
    """

    def __init__(self, most: int, close: Callable[[T], None]) -> None:
        self._most = most
        self._close = close
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, T] = OrderedDict()

    def use(self, key: Hashable, open: Callable[[], T], work: Callable[[T], R]) -> R:
        """What `work` makes of the thing that `key` names, which `open` opens if it is not open."""
        if self._pid != os.getpid():  # after a fork another thread's lock would never be given back
            self._begin()
        with self._lock:  # held while working: another thread must not close what is read
            found = self._held.get(key)
            if found is None:
                found = open()
                while len(self._held) >= self._most:
                    self._close(self._held.popitem(last=False)[1])
                self._held[key] = found
            else:
                self._held.move_to_end(key)
            return work(found)
