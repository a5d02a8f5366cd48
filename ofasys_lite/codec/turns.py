"""Processes that want the same codec: one trains it, the others wait for it.

The lock is the operating system's (`filelock`): it ends with the process that holds it, however that ends. The process
that gets it next goes on from the dead one's checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ofasys_lite.errors import CheckpointError

#: Seconds between two looks.
_POLL = 0.5
#: Seconds after which waiting is told.
_QUIET = 1.0
#: Seconds without a codec after nobody trains it any more: files of other machines show up late on network disks.
_GRACE = 90.0
#: Seconds until rank 0 must have begun.
_PATIENCE = 300.0


@contextmanager
def turn(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """The time in which no other process trains the codec of `folder`.

    Args:
        folder: The codec's folder; the lock lies beside it.
        waiting: Called once if another process is at it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock(folder))
    try:
        lock.acquire(timeout=_QUIET)
    except Timeout:
        waiting()
        lock.acquire(poll_interval=_POLL)
    try:
        yield
    finally:
        lock.release()


def await_first_rank(folder: Path, done: Callable[[], bool], waiting: Callable[[], None]) -> None:
    """Returns when rank 0 has trained the codec of `folder`; several machines need one cache folder.

    Args:
        waiting: Called once if it is not there at first.

    Raises:
        CheckpointError: Rank 0 ended without a codec, or never began.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    begun, since = False, time.monotonic()
    if not done():
        waiting()
    while not done():
        if _held(folder):
            begun, since = True, time.monotonic()
        elif time.monotonic() - since > (_GRACE if begun else _PATIENCE):
            what = "ended without training" if begun else f"has not begun to train, after {_PATIENCE:g} s,"
            raise CheckpointError(
                f"rank 0 {what} the codec {folder}, for which this rank waits",
                help="rank 0's own message says why; ranks on several machines need one cache folder (data.cache)",
            )
        time.sleep(_POLL)


def _held(folder: Path) -> bool:
    """Whether a process trains the codec; ranks ask one after another, else they would take each other for it."""
    with FileLock(f"{folder}.asking"):
        try:
            with FileLock(_lock(folder), timeout=0):
                return False
        except Timeout:
            return True


def _lock(folder: Path) -> str:
    return f"{folder}.lock"
