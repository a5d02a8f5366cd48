"""Files by path or fsspec URL: found with near names, read at any offset, hashed by content, sent to workers."""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from ofasys_lite.errors import DataError, WriteError, nearest
from ofasys_lite.writing import atomic, cache_folder

__all__ = ["DataFile", "expand", "is_url"]

_BLOCK = 1 << 20


def is_url(path: str) -> bool:
    """True for an fsspec URL (`s3://...`, `memory://...`, chained ones too), False for a local path."""
    return "://" in path or "::" in path


class DataFile:
    """One file, local or behind fsspec; opened when first read, again in every process that it is sent to.

    Args:
        path: Local path or fsspec URL.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._handle: int | None = None
        self._remote: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_handle": None, "_remote": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __del__(self) -> None:
        handle = self.__dict__.get("_handle")
        if handle is not None and os is not None:
            os.close(handle)

    @property
    def name(self) -> str:
        """The path as the user wrote it."""
        return self.path

    @property
    def folder(self) -> str:
        """The folder that relative media paths in the file start from."""
        return self.path.rpartition("/")[0] if is_url(self.path) else str(Path(self.path).parent)

    def remote(self) -> tuple[Any, str]:
        """(fsspec file system, path in it)."""
        if self._remote is None or self._remote[0] != os.getpid():  # file systems do not survive a fork
            try:
                import fsspec
            except ImportError:
                raise DataError(
                    f"{self.path} needs fsspec", help="install the extra `data`: pip install 'ofasys_lite[data]'"
                ) from None
            try:
                system, path = fsspec.core.url_to_fs(self.path)
            except (ValueError, ImportError) as error:
                raise DataError(f"{self.path} cannot be opened: {error}") from None
            self._remote = (os.getpid(), system, path)
        return self._remote[1], self._remote[2]

    def open(self) -> BinaryIO:
        """The file opened for reading bytes from the start."""
        try:
            if is_url(self.path):
                system, path = self.remote()
                return cast(BinaryIO, system.open(path, "rb"))
            return open(self.path, "rb")
        except OSError as error:
            raise DataError(f"{self.path} cannot be opened: {error.strerror or error}") from None

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`.

        Raises:
            DataError: If the file is gone, or shorter than when it was indexed.
        """
        try:
            if is_url(self.path):
                system, path = self.remote()
                found = cast(bytes, system.cat_file(path, start=start, end=stop))
            else:
                if self._handle is None:
                    self._handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                found = _read_at(self._handle, start, stop - start)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from None
        if len(found) != stop - start:
            raise DataError(
                f"{self.path} has changed: bytes {start} to {stop} are not there any more",
                help="do not change data while it is read; start again",
            )
        return found

    def size(self) -> int:
        """Number of bytes."""
        if is_url(self.path):
            system, path = self.remote()
            return int(system.size(path) or 0)
        return os.path.getsize(self.path)

    def digest(self) -> str:
        """The hash of its content; remembered for as long as the file's time and size stay the same."""
        stamp = self._stamp()
        key = hashlib.blake2b(stamp.encode(), digest_size=16).hexdigest()
        memo = cache_folder() / "hashes" / f"{key}.json"
        try:
            return str(json.loads(memo.read_text(encoding="utf-8"))["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        state = hashlib.blake2b(digest_size=16)
        with self.open() as handle:
            while block := handle.read(_BLOCK):
                state.update(block)
        digest = state.hexdigest()
        if self._settled() and self._stamp() == stamp:
            try:
                with atomic(memo) as temporary:
                    temporary.write_text(json.dumps({"digest": digest, "path": self.path}), encoding="utf-8")
            except (OSError, WriteError):
                pass  # hashed again next time
        return digest

    def _stamp(self) -> str:
        """What changes when the file does: path, size and time, or the remote store's own tag."""
        if is_url(self.path):
            system, path = self.remote()
            return f"{self.path}|{system.ukey(path)}"
        found = os.stat(self.path)
        return f"{os.path.abspath(self.path)}|{found.st_size}|{found.st_mtime_ns}|{found.st_ino}"

    def _settled(self) -> bool:
        """False while the file is so new that another write could leave the same time stamp."""
        if is_url(self.path):
            return not self.path.startswith("memory:")  # another process's memory may have the same tag
        return time.time() - os.stat(self.path).st_mtime > 2


def _read_at(handle: int, start: int, size: int) -> bytes:
    """`size` bytes at `start` of an open file, without moving a position that forked workers share."""
    if hasattr(os, "pread"):
        parts = []
        while size > 0 and (part := os.pread(handle, size, start)):
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return b"".join(parts)
    os.lseek(handle, start, os.SEEK_SET)
    return os.read(handle, size)


def expand(pattern: str | Sequence[str], base: Path | None = None) -> list[str]:
    """The files that a path, a URL, a pattern or a list of them means, in order.

    `{00..09}` counts, `{a,b}` chooses, `*` and `?` match names. Relative paths are looked for in `base`, then here.

    Raises:
        DataError: If nothing is there; the nearest name in the folder is offered.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    return [found for one in patterns for name in _braces(str(one)) for found in _existing(name, base)]


def _braces(pattern: str) -> list[str]:
    """All texts that the braces in `pattern` mean."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{},]*(?:,[^{},]*)+)\}", pattern)
    if match is None:
        return [pattern]
    if match[3] is not None:
        middles = match[3].split(",")
    else:
        first, last = int(match[1]), int(match[2])
        if last < first:
            raise DataError(f"{pattern}: {{{match[1]}..{match[2]}}} counts backwards", help="write the smaller first")
        middles = [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return list(itertools.chain.from_iterable(_braces(head + middle + tail) for middle in middles))


def _existing(name: str, base: Path | None) -> list[str]:
    """The files that one path without braces means."""
    if is_url(name):
        return _existing_url(name)
    path = Path(name).expanduser()
    tried = [path] if path.is_absolute() or base is None else [base / path, path]
    for candidate in tried:
        if candidate.exists():
            return [str(candidate)]
        if any(mark in name for mark in "*?[") and (found := sorted(glob.glob(str(candidate)))):
            return found
    raise DataError(f"no file {name}", help=_near_file(tried))


def _existing_url(name: str) -> list[str]:
    """The files that a URL, maybe with `*`, means."""
    file = DataFile(name)
    system, path = file.remote()
    if any(mark in path for mark in "*?["):
        found = sorted(str(system.unstrip_protocol(one)) for one in system.glob(path))
        if found:
            return found
    elif system.exists(path):
        return [name]
    folder = path.rpartition("/")[0]
    try:
        near = nearest(path, [str(one) for one in system.ls(folder, detail=False)]) if folder else None
    except OSError:
        near = None
    raise DataError(f"no file {name}", help=f"did you mean `{system.unstrip_protocol(near)}`?" if near else "")


def _near_file(tried: Sequence[Path]) -> str:
    """Help for a missing file: the nearest name in its folder, or the nearest folder."""
    for path in tried:
        if path.parent.is_dir():
            near = nearest(path.name, sorted(one.name for one in path.parent.iterdir()))
            if near is not None:
                return f"did you mean `{path.parent / near}`?"
    path = tried[-1]
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; paths start from {os.getcwd()}"
    return f"looked in {', '.join(str(one.parent.resolve()) for one in tried)}"
