"""Files by path or URL: read at any offset with few open handles, hashed by content, sent to workers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from ofasys_lite.errors import DataError, WriteError, needed
from ofasys_lite.writing import atomic, cache_folder


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

    A table of thousands of parts needs no more open files than one of a hundred.

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


_BLOCK = 1 << 20
_OPEN = Pool()


def is_url(path: str) -> bool:
    """True for an fsspec URL (`s3://...`, `memory://...`, chained ones too), False for a local path."""
    return "://" in path or "::" in path


@contextmanager
def remote_errors(path: str) -> Iterator[None]:
    """Makes one DataError of whatever a remote store raises: each has errors of its own, with pages of text."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except Exception as error:
        text = str(error).strip().splitlines()
        raise DataError(
            f"{path} cannot be opened: {type(error).__name__}{': ' + text[0][:200] if text else ''}",
            help="check the address, the network and your rights; or fetch the file and name its path",
        ) from None


class DataFile:
    """One file, local or behind fsspec; opened when read, and closed again when many others are.

    Args:
        path: Local path or fsspec URL (`far`).
        name: What it is called in messages, where `path` is a copy of it.
        folder: The folder that relative media paths in it start from; empty: the one it lies in.
    """

    def __init__(self, path: str, name: str = "", folder: str = "") -> None:
        self.path = path
        self.far = is_url(path)
        self.name = name or path
        self.folder = folder or (path.rpartition("/")[0] if self.far else str(Path(path).parent))
        self._handle: Handle | None = None
        self._seen: tuple[int, int, int] | None = None
        self._remote: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_remote": None}

    def remote(self) -> tuple[Any, str]:
        """(fsspec file system, path in it)."""
        if self._remote is None or self._remote[0] != os.getpid():  # file systems do not survive a fork
            fsspec = needed("fsspec", self.path, "data")
            with remote_errors(self.path):
                system, path = fsspec.core.url_to_fs(self.path)
            self._remote = (os.getpid(), system, path)
        return self._remote[1], self._remote[2]

    def open(self) -> BinaryIO:
        """The file opened for reading bytes from the start."""
        if self.far:
            system, path = self.remote()
            with remote_errors(self.path):
                return cast(BinaryIO, system.open(path, "rb"))
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise unreadable(self.name, error) from None

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`.

        Raises:
            DataError: If the file is gone, or another one than when it was indexed.
        """
        found, at = b"", start
        if self.far:
            system, path = self.remote()
            with remote_errors(self.path):
                found = cast(bytes, system.cat_file(path, start=start, end=stop))
        else:
            try:
                handle = self._handle or self._opened()
                while at < stop and (part := _pread(handle.number, stop - at, at)):
                    found, at = found + part if found else part, at + len(part)
            except OSError as error:
                raise unreadable(self.name, error, "read") from None
        if len(found) != stop - start:
            raise self._changed()
        return found

    def _opened(self) -> Handle:
        """The file opened anew; DataError if it is not the one that was hashed."""
        handle = Handle(os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
        if self._seen is not None and _traits(os.fstat(handle.number)) != self._seen:
            raise self._changed()
        self._handle = handle
        _OPEN.add(self)
        return handle

    def release(self) -> None:
        """Closes the file; it is opened again when it is read."""
        self._handle = None

    def _changed(self) -> DataError:
        return DataError(
            f"{self.name} has changed since it was first read",
            help="do not change data while it is read; start again",
        )

    def size(self) -> int:
        """Number of bytes."""
        if self.far:
            system, path = self.remote()
            with remote_errors(self.path):
                return int(system.size(path) or 0)
        return self._stat().st_size

    def digest(self) -> str:
        """The hash of its content; remembered for as long as the file's time and size stay the same."""
        stamp = self._stamp()
        key = hashlib.blake2b(stamp.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
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

    def _stat(self) -> os.stat_result:
        try:
            return os.stat(self.path)
        except OSError as error:
            raise unreadable(self.name, error) from None

    def _stamp(self) -> str:
        """What changes when the file does: path, size and time, or the remote store's own tag."""
        if self.far:
            system, path = self.remote()
            with remote_errors(self.path):
                return f"{self.path}|{system.ukey(path)}"
        self._seen = _traits(self._stat())
        size, time_ns, number = self._seen
        return f"{os.path.abspath(self.path)}|{size}|{time_ns}|{number}"

    def _settled(self) -> bool:
        """False while the file is so new that another write could leave the same time stamp."""
        if self.far:
            return not self.path.startswith("memory:")  # another process's memory may have the same tag
        return time.time() - self._stat().st_mtime > 2


def unreadable(name: str, error: OSError, what: str = "opened") -> DataError:
    """The error for a file that the system does not let us read."""
    help = ""
    if isinstance(error, PermissionError):
        help = f"you have no right to read it: chmod u+r '{name}', or ask its owner"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        help = "the system's limit of open files is reached: ulimit -n 1024"
    return DataError(f"{name} cannot be {what}: {error.strerror or error}", help=help)


def _traits(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from a later one of the same path; pipes and devices change all the time."""
    return (found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else (0, 0, found.st_ino)


def _seek_and_read(handle: int, size: int, start: int) -> bytes:
    os.lseek(handle, start, os.SEEK_SET)
    return os.read(handle, size)


#: Bytes of an open file at a place, without moving a position that forked workers share; Windows has no such call.
_pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _seek_and_read)
