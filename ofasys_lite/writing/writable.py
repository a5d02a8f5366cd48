"""Where things may be written, asked before any work is done."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from ofasys_lite.errors import WriteError
from ofasys_lite.writing.problems import existing, telling

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
