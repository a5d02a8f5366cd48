"""Folders that hold several files of ours: claimed and locked, never without their old or new content.

The lock is the operating system's and ends with the process that holds it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ofasys_lite.errors import WriteError
from ofasys_lite.writing.files import part_name, sweep, sync_file, write_atomic
from ofasys_lite.writing.problems import telling, writable

#: Seconds that children of a killed holder (loader workers) are waited for: they have its lock until they notice.
_GRACE = 15.0
_RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
_LOCK, _HOLDER = ".ofasys-lock", ".ofasys-holder.json"


def other_rank() -> bool:
    """True on ranks that a launcher started beside rank 0, which locks and writes for all."""
    return any(os.environ.get(name, "0") not in ("0", "") for name in _RANKS)


def begun_by_us(folder: Path) -> bool:
    """Whether a process of ours has held the folder before: what lies in it under our names is ours."""
    return (folder / _LOCK).is_file()


@contextmanager
def locked(folder: Path, what: str = "run") -> Iterator[None]:
    """The time in which no other process writes into `folder`; may be nested.

    Ranks beside rank 0 pass: its lock is theirs. Where the disk knows no locks, there is none.

    Args:
        what: What is in it, for the message.

    Raises:
        WriteError: Another process holds it; says which, where and since when.
    """
    if other_rank():
        yield
        return
    from filelock import FileLock

    made = not folder.exists()
    with telling(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # one object per place: a process that holds it gets it again, whoever asks
        lock = FileLock(folder.resolve() / _LOCK, is_singleton=True, thread_local=False)
        again = lock.is_locked
        known = _acquire(lock, folder, what)
    try:
        if known and not again:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "what": what}
            write_atomic(folder / _HOLDER, json.dumps(holder))
        yield
    finally:
        if known:
            if not again:
                (folder / _HOLDER).unlink(missing_ok=True)
            lock.release()
            if made and not again:
                _take_away(folder)


def _take_away(folder: Path) -> None:
    """Removes a folder in which nothing but the lock was written: the work ended with a mistake before it began."""
    with suppress(OSError):
        if os.listdir(folder) == [_LOCK]:
            (folder / _LOCK).unlink()
            folder.rmdir()


def _acquire(lock: Any, folder: Path, what: str) -> bool:
    """Whether the lock is held now; False where the disk knows none."""
    from filelock import Timeout

    since = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=0)
            return True
        except NotImplementedError:
            return False
        except Timeout:
            holder = _holder(folder)
            if not _dead(holder) or time.monotonic() - since > _GRACE:
                raise WriteError(
                    f"{what} {folder} is in use by {_said(holder)}",
                    help="wait until it ends, stop it, or name another folder",
                ) from None
            time.sleep(0.2)


def _holder(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _dead(holder: dict[str, Any]) -> bool:
    """Whether the process that took the lock is known to be gone."""
    # elsewhere than on POSIX systems, asking would end it
    if os.name != "posix" or holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _said(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"


#: Complete files on their way into the folder that holds this one.
_NEW = ".new"
_TRIES = 10


def claim_folder(
    folder: Path, ours: Callable[[Path], bool], what: str, help: str, names: Collection[str] | None = None
) -> None:
    """Returns if our files may be written into `folder`: nothing of somebody else's is replaced.

    Args:
        folder: Absent, empty, or a folder that `ours` knows.
        ours: Whether what is in the folder was made by us; asked of a folder that is not empty.
        what: What is written, for the message (`a data set`).
        names: Names that are written; other files may then stand beside them. None: the folder is to be ours alone.

    Raises:
        WriteError: The folder holds files of somebody else, is no folder, or cannot be written.
    """
    writable(folder, folder=True)
    if not folder.is_dir():
        return
    finish(folder)
    # hidden files (.gitkeep, .DS_Store) belong to tools, and nothing of ours is called so
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    taken = found if names is None else [name for name in found if name in names]
    if not taken or ours(folder):
        return
    shown = ", ".join(taken[:5]) + (f" and {len(taken) - 5} more" if len(taken) > 5 else "")
    raise WriteError(f"{folder} holds files that are not of {what}: {shown}", help=help)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder to write files into; at the end they all move into `folder`, other files there stay.

    Killed at any moment, `folder` holds the old files or the new ones, for those who ask `current` where they are: the
    complete new files are renamed as one, and then move one by one. An error leaves the old files.

    Raises:
        WriteError: The system refuses: no room, no permission.
    """
    made = not folder.exists()
    with telling(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        stage = folder / part_name("files")
        stage.mkdir()
        try:
            yield stage
            for path in stage.iterdir():
                sync_file(path)
                if (folder / path.name).is_dir():
                    raise WriteError(f"cannot write {folder / path.name}: it is a folder", help="name another folder")
            _put(stage, folder)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            if made:
                with suppress(OSError):  # it holds files: all is well
                    folder.rmdir()


def _put(stage: Path, folder: Path) -> None:
    for last in (False,) * _TRIES + (True,):
        finish(folder)
        try:
            stage.rename(folder / _NEW)
            break
        except OSError:  # another process put its own there meanwhile
            if last or not (folder / _NEW).is_dir():
                raise
    finish(folder)


def finish(folder: Path) -> None:
    """Moves complete files that a killed writer could not move any more to their places; nothing if there are none."""
    new = folder / _NEW
    try:
        for name in sorted(os.listdir(new)):
            os.replace(new / name, folder / name)
        new.rmdir()
    except (FileNotFoundError, NotADirectoryError):
        pass  # nothing is on its way, or another process moves it just now


def current(folder: Path, name: str) -> Path:
    """Where a file of a folder lies that `staged` writes: where it belongs, or on its way there."""
    new = folder / _NEW / name
    return new if new.is_file() else folder / name
