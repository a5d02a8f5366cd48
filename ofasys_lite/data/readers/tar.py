"""WebDataset shards: files of one tar that share a key are one row, the rest of the name is the column."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import Arrays, cached_arrays
from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.readers.lines import Progress, decode
from ofasys_lite.data.source import RowSource, combined, row_error
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.doubled import read_json

_TEXT = frozenset({"txt", "text", "transcript", "cls", "cls2", "class", "count", "index", "id", "caption", "label"})
#: The column of a sample's key.
KEY = "__key__"


class TarSource(RowSource):
    """Rows of one tar of samples (WebDataset), read at their offsets.

    `a/001.jpg`, `a/001.txt` and `a/001.seg.png` are the row with key `a/001` and the columns `__key__`, jpg, txt and
    seg.png.
    Text and json files are read as such, npy as arrays, everything else stays bytes.

    Raises:
        DataError: If it is empty, broken, or holds a sample twice.
    """

    def __init__(self, file: DataFile, progress: Progress | None = None) -> None:
        self.file = file
        digest = file.digest()
        self._fingerprint = combined("tar", digest)
        self.name = file.name
        self.base = ""
        arrays = cached_arrays("tar-3", digest, lambda: _index(file, progress))
        self._keys = _texts(arrays["keys"], arrays["key_ends"])
        self._names = _texts(arrays["names"], arrays["name_ends"])
        self.columns = (KEY, *self._names)
        self._first = arrays["first"]
        self._members_M3 = arrays["members"]  # (column, start, stop) of each file

    def __len__(self) -> int:
        return len(self._keys)

    def ids(self, i: int, row: Mapping[str, Any] | None = None) -> str:
        """The key of sample `i`."""
        return self._keys[self.check_row(i)]

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`: key and files."""
        out: dict[str, Any] = {KEY: self._keys[self.check_row(i)]}
        for number, start, stop in self._members_M3[self._first[i] : self._first[i + 1]].tolist():
            name = self._names[number]
            out[name] = member_value(name, self.file.read(start, stop), self.place(i))
        return out

    def value(self, i: int, column: str) -> Any:
        """One file of row `i`; the others are not read."""
        if column in self._names:
            for number, start, stop in self._members_M3[self._first[i] : self._first[i + 1]].tolist():
                if self._names[number] == column:
                    return member_value(column, self.file.read(start, stop), self.place(i))
        return super().value(i, column)


def member_value(name: str, content: bytes, place: str) -> Any:
    """What a file of a sample holds, told by its extension."""
    kind = name.rpartition(".")[2].lower()
    if kind in _TEXT:
        return decode(content, "utf-8", f"{place}, file {name}")
    if kind == "json":
        try:
            return read_json(content)
        except ValueError as error:
            raise row_error(place, f"bad JSON: {error}", column=name) from None
    if kind == "npy":
        try:
            return np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise row_error(place, f"cannot read array: {error}", column=name) from None
    return content


def split_name(path: str) -> tuple[str, str] | None:
    """(key, column) of a file in a tar; None where the name has no extension."""
    folder, slash, name = path.rpartition("/")
    stem, dot, rest = name.partition(".")
    return (folder + slash + stem, rest) if dot and stem and rest else None


def _index(file: DataFile, progress: Progress | None) -> Arrays:
    """Keys, columns and offsets of all samples of a tar."""
    keys: list[str] = []
    names: dict[str, int] = {}
    first: list[int] = []
    members: list[tuple[int, int, int]] = []
    seen: set[str] = set()
    held: set[str] = set()
    size = file.size()
    with file.open() as handle:
        for member in _members(handle, file.name):
            parts = split_name(member.name)
            if parts is None:
                continue
            key, name = parts
            if not keys or key != keys[-1]:
                if key in seen:
                    raise DataError(
                        f"{file.name}: the files of sample {key} do not stand together",
                        help="sort the tar by name: tar --sort=name -cf shard.tar folder",
                    )
                seen.add(key)
                keys.append(key)
                first.append(len(members))
                held = set()
            if name in held:
                raise twice(file.name, key, name)
            held.add(name)
            start = member.offset_data
            members.append((names.setdefault(name, len(names)), start, start + member.size))
            if progress is not None and len(members) % 4096 == 0:
                progress(f"index of {file.name}", start, size)
    if not keys:
        raise DataError(f"{file.name} holds no samples", help="files such as 0001.jpg and 0001.txt make a sample")
    out = {
        "first": np.array([*first, len(members)], np.int64),
        "members": np.array(members, np.int64).reshape(-1, 3),
    }
    for label, texts in (("key", keys), ("name", list(names))):
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        out[f"{label}s"] = np.frombuffer(b"".join(encoded), np.uint8).astype(np.int64)
        out[f"{label}_ends"] = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return out


def _texts(letters: NDArray[np.int64], ends: NDArray[np.int64]) -> list[str]:
    """The texts that one array of bytes and one of ends hold."""
    content = letters.astype(np.uint8).tobytes()
    starts = [0, *ends.tolist()]
    return [content[start:stop].decode("utf-8", "surrogateescape") for start, stop in pairwise(starts)]


def _members(handle: Any, name: str) -> Iterator[tarfile.TarInfo]:
    """The files of an open tar in order; DataError if it is broken or cut off."""
    try:
        with tarfile.open(fileobj=handle, mode="r:", tarinfo=EndMarked) as tar:
            for member in tar:
                if member.isfile():
                    yield member
    except (tarfile.TarError, EOFError, OSError) as error:
        raise no_tar(name, error) from None


class EndMarked(tarfile.TarInfo):
    """Members of a tar that must end with the empty block that every writer puts there last.

    tarfile takes the end of the file, or behind its first member what is no header, for the end of the tar: one that
    was cut off between two members or within a header, or is broken there, would lose the rest without a word.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> EndMarked:
        """The next member; ReadError where there is neither one nor the mark."""
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            kind = type(error).__name__  # private names: no block, an empty one, part of one, another one
            if not tar.offset or kind == "EOFHeaderError":
                raise
            said = _UNMARKED if kind == "EmptyHeaderError" else f"{error} at byte {tar.offset:,}"
            raise tarfile.ReadError(said) from error


_UNMARKED = "its end mark is missing: it was cut off, or not closed when it was written"


def no_tar(name: str, error: Exception) -> DataError:
    """The error for a tar that is broken or cut off."""
    help = "fetch or write it again"
    if str(error) == _UNMARKED:
        help += f"; if all of it is there, mark its end: head -c 1024 /dev/zero >> {name}"
    return DataError(f"{name} is no complete tar: {error}", help=help)


def twice(name: str, key: str, column: str) -> DataError:
    """The error for a sample that has a file twice."""
    return DataError(f"{name}: sample {key} has the file .{column} twice")
