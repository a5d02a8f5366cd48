"""Folders that hold several files of ours: claimed before they are written, never without their old or new content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ofasys_lite.errors import WriteError
from ofasys_lite.writing.files import part_name, sweep, sync_file
from ofasys_lite.writing.problems import telling, writable

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
        help: The way out, for the message.
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
