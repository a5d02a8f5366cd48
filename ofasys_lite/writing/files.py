"""Single files: whole or not at all, and never over something else without being told."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ofasys_lite.errors import WriteError
from ofasys_lite.writing.problems import telling, writable

_PART = re.compile(r"\.part-[0-9a-f]{8}(-.*)?")
#: Seconds after which a partial file belongs to a process that was killed.
_STALE = 6 * 3600


def part_name(name: str) -> str:
    """A name for what is not complete yet; it keeps the ending, by which writers choose the format."""
    stem, dot, ending = name.rpartition(".")
    return f".part-{secrets.token_hex(4)}-{(stem or ending)[:30]}{dot if stem else ''}{ending if stem else ''}"


@contextmanager
def atomic(path: Path, sync: bool = False) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` at the end, or disappears on an error.

    A file that is replaced keeps its mode, a link is replaced by the file. What is no file (`/dev/stdout`, a pipe) is
    written to directly.

    Args:
        path: The file; folders above it are made.
        sync: Wait until it is on the disk: for what cannot be made again.

    Raises:
        WriteError: The system refuses: no room, no permission, a folder of that name.
    """
    with telling(path):
        if special(path):
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise WriteError(f"cannot write {path}: it is a folder", help="name a file in it")
        partial = path.with_name(part_name(path.name))
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            mode = stat.S_IMODE((path if path.is_file() else partial).stat().st_mode)
            yield partial
            partial.chmod(mode)  # some writers make files for their owner alone
            if sync:
                sync_file(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Returns when the file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_atomic(path: Path, content: str | bytes, sync: bool = False) -> None:
    """Writes a whole file: text as UTF-8 with line ends as they are, or bytes; see `atomic`."""
    with atomic(path, sync) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else as_utf8(content))


def as_utf8(text: str) -> bytes:
    """UTF-8 of any text: half of a surrogate pair, which has none, is spelled as JSON spells it, `\\ud83d`."""
    return text.encode("utf-8", "backslashreplace")


def claim_file(path: Path, overwrite: bool, inputs: Iterable[str | Path] = (), flag: str = "--overwrite") -> None:
    """Returns if `path` may be written, asked before any work is done.

    Args:
        overwrite: A file that is there may be replaced.
        inputs: What is read; never replaced.
        flag: How `overwrite` is said, for the message.

    Raises:
        WriteError: It is one of the inputs, it is there and `overwrite` was not said, or it cannot be written.
    """
    for each in inputs:
        if same_file(path, each):
            raise WriteError(f"{path} is read, so it is not written over", help="name another file")
    if special(path):
        return
    writable(path)
    if os.path.lexists(path) and not overwrite:
        raise WriteError(f"{path} is there already", help=f"name another file, or replace it: {flag}")


def holds(path: Path, content: bytes) -> bool:
    """Whether just this stands in the file already: then nothing is replaced by writing it."""
    try:
        return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def same_file(path: Path, other: str | Path) -> bool:
    """Whether both name one file, through links and `..` too."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def behind(path: Path) -> Path:
    """What a link leads to, so that it is written and the link stays; devices and pipes as they are."""
    return path if special(path) else path.resolve()


def special(path: Path) -> bool:
    """Whether `path` is there and is neither file nor folder: a device, a pipe, a standard stream."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if path.parent in (Path("/dev"), Path("/dev/fd")):  # `/dev/stdout` leads to a file where the shell says so
        return not stat.S_ISDIR(mode)
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def sweep(folder: Path, older: float = _STALE) -> None:
    """Takes away what killed writers left half done in a folder.

    Args:
        folder: Its partial files and folders; those further below stay.
        older: Seconds since they were last written; 0 where nobody else can be writing.
    """
    for left in folder.glob(".part-*") if folder.is_dir() else ():
        try:
            if not _PART.fullmatch(left.name) or time.time() - left.lstat().st_mtime < older:
                continue
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        except OSError:
            continue  # another process was faster, or may not; it costs room only
