"""Writes that fail: what the system says, as one line with a way out; whether a path can be written at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from ofasys_lite.errors import WriteError

_ELSEWHERE = "name another place"
#: Number of the system's error -> (what is wrong, what to do).
_REASONS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        errno.ENOSPC: ("the disk is full", f"make room, or {_ELSEWHERE}"),
        errno.EDQUOT: ("your share of the disk is used up", f"make room, or {_ELSEWHERE}"),
        errno.EFBIG: ("the file would be larger than the system allows", _ELSEWHERE),
        errno.EROFS: ("the file system is read-only", f"{_ELSEWHERE}, or work in a folder of your own"),
        errno.EACCES: ("you may not write there", f"{_ELSEWHERE}, or change who may write (chmod)"),
        errno.EPERM: ("you may not write there", f"{_ELSEWHERE}, or change who may write (chmod)"),
        errno.EISDIR: ("it is a folder", "name a file"),
        errno.ENOTDIR: ("a part of the path is a file, not a folder", _ELSEWHERE),
        errno.EEXIST: ("something else is there already", _ELSEWHERE),
        errno.ENOTEMPTY: ("a folder of that name is there already", _ELSEWHERE),
        errno.ENAMETOOLONG: ("the name is too long", "name a shorter one"),
        errno.ENOENT: ("its folder is gone", _ELSEWHERE),
        errno.ELOOP: ("links lead round in a circle", _ELSEWHERE),
        errno.EIO: ("the disk reports an error", f"look at the disk, or {_ELSEWHERE}"),
        errno.ESTALE: ("the network disk has lost it", "try again"),
    }
)


def reason(error: OSError) -> tuple[str, str] | None:
    """(What is wrong, what to do) for an error of the system; None for one that says nothing about paths and disks."""
    return None if error.errno is None else _REASONS.get(error.errno)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turns what the system refuses inside into a WriteError that names `path`.

    Errors that name another file pass: what is read while something is written has messages of its own.
    """
    try:
        yield
    except OSError as error:
        told = reason(error)
        if told is None or not _is_about(error, path):
            raise
        raise _refused(path, *told) from error
    except Exception as error:
        # safetensors and torch name the system's error in their text alone
        number = _number(error, path)
        if number is None:
            raise
        raise _refused(path, *_REASONS[number]) from error


def _refused(path: Path, what: str, help: str) -> WriteError:
    return WriteError(f"cannot write {path}: {what}", help=help)


def _is_about(error: OSError, path: Path) -> bool:
    if not isinstance(error.filename, (str, bytes)):
        return True
    found = Path(os.path.abspath(os.fsdecode(error.filename)))
    place = Path(os.path.abspath(path))
    return found == place or place in found.parents or found in place.parents or found.name.startswith(".part-")


def _number(error: Exception, path: Path) -> int | None:
    text = str(error)
    if type(error).__name__ == "SafetensorError":
        found = re.search(r"os error (\d+)", text)
        return int(found[1]) if found is not None and int(found[1]) in _REASONS else None
    if isinstance(error, RuntimeError) and ("PytorchStreamWriter" in text or "inline_container" in text):
        return errno.ENOSPC if shutil.disk_usage(existing(path)).free < 1 << 20 else errno.EIO
    return None


def existing(path: Path) -> Path:
    """The nearest of `path` and the folders above it that is there."""
    place = Path(os.path.abspath(path))
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place


_PROBE = 4096


def cache_folder() -> Path:
    """The folder for all that can be made again: $OFASYS_CACHE, else `ofasys_lite` in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("OFASYS_CACHE")
    if own:
        return Path(os.path.expanduser(own))
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(os.path.expanduser("~/.cache"))) / "ofasys_lite"


def writable(path: Path, folder: bool = False) -> None:
    """Returns if `path` can be written: a small file is made where it would stand, and taken away.

    Args:
        path: A file, or a folder to write into; neither it nor the folders above it need to be there.
        folder: It is a folder.

    Raises:
        WriteError: It cannot: no permission, a read-only or full disk, a file where a folder should be.
    """
    with telling(path):
        place = existing(path if folder else path.parent)
        if path.is_symlink() and not path.exists() and folder:
            raise WriteError(f"cannot write {path}: it is a link to nothing", help="mend the link, or name another")
        if folder and place == existing(path) and path.exists() and not path.is_dir():
            raise WriteError(f"cannot write into {path}: it is a file", help="name a folder")
        if not folder and path.is_dir():
            raise WriteError(f"cannot write {path}: it is a folder", help="name a file in it")
        for part in path.parts:
            if len(os.fsencode(part)) > 255:
                raise WriteError(f"cannot write {path}: the name is too long", help="name a shorter one")
        if not place.is_dir():
            raise WriteError(f"cannot write {path}: {place} is a file, not a folder", help="name another place")
        probe = place / f".part-{secrets.token_hex(4)}-probe"
        try:
            probe.write_bytes(b"\0" * _PROBE)
        finally:
            probe.unlink(missing_ok=True)


def room_for(path: Path, size: int, what: str) -> None:
    """Returns if the disk of `path` has `size` bytes left; WriteError that tells both figures if not."""
    free = shutil.disk_usage(existing(path)).free
    if free < size:
        raise WriteError(
            f"cannot write {path}: {what} takes {_size(size)}, and the disk has {_size(free)} left",
            help="make room, or name another place",
        )


def _size(count: int) -> str:
    for unit, power in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count} bytes"
