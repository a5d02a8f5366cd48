"""Local copies of files that cannot be read at random places: behind http, compressed, or in UTF-16.

A copy is made once per content and kept in the cache; where the cache has no room, the message says which folder.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ofasys_lite.data.array_cache import turn
from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.source import combined
from ofasys_lite.errors import DataError, WriteError, needed
from ofasys_lite.preprocess.web import fetching, is_web
from ofasys_lite.writing import atomic, cache_folder

_BLOCK = 1 << 20
#: First bytes of compressed files -> what they are called.
_HEADS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_READERS: Mapping[str, Callable[[BinaryIO], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
#: What a compressed file that is cut off or broken raises.
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeError)


def name_of(path: str) -> str:
    """The last part of a path or URL, without the query of an address."""
    path = path.partition("#")[0].partition("?")[0] if is_web(path) else path
    return path.rpartition("/")[2]


def data_file(path: str) -> DataFile:
    """The file that a path or URL names; what lies behind http is fetched whole, once for as long as it is the same."""
    if not is_web(path):
        return DataFile(path)
    copy = _fetched(path)
    return DataFile(str(copy), path, path.partition("#")[0].partition("?")[0].rpartition("/")[0])


def _fetched(url: str) -> Path:
    """The local copy of a web address, fetched if the server says that it is another one, or says nothing about it."""
    folder = cache_folder() / "fetched"
    with fetching(url) as answer:
        told = [answer.headers.get(name) for name in ("ETag", "Last-Modified", "Content-Length")]
        path = folder / combined(url, *told)
        if any(told[:2]) and path.exists():
            return path
        _kept(path, url, lambda out: shutil.copyfileobj(answer, out, _BLOCK))
        length = told[2]
        if length is not None and length.isdigit() and path.stat().st_size < int(length):
            path.unlink()
            raise DataError(f"{url}: the answer breaks off", help="try again")
    return path


def _kept(path: Path, name: str, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a copy to the cache; DataError where there is no room for it."""
    try:
        with atomic(path) as temporary, open(temporary, "wb") as out:
            write(out)
    except WriteError as error:
        raise DataError(
            f"{name}: no copy of it can be kept: {error.message}",
            help="make room there, or name another folder: export OFASYS_CACHE=/big/disk",
        ) from None


def unpacked(file: DataFile, encoding: str = "utf-8") -> tuple[DataFile, str]:
    """(the file itself or its unpacked copy in UTF-8, the encoding to read it in).

    Args:
        file: A file, maybe compressed (gzip, bzip2, xz, zstd, or a zip of one file), maybe UTF-16 text.
        encoding: What the card says; a UTF-16 file is known by its first two bytes whatever it says.

    Raises:
        DataError: It is broken, or no copy can be kept.
    """
    with file.open() as handle:
        head = handle.read(8)
    packing = packing_of(head, file.name)
    if packing:
        file = _copy(file, packing, lambda raw: unpacking(raw, packing, file.name))
        with file.open() as handle:
            head = handle.read(8)
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    if not wide and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return file, encoding
    source = encoding if wide else "utf-16"
    return _copy(file, source, lambda raw: codecs.EncodedFile(raw, "utf-8", source)), "utf-8"


def _copy(file: DataFile, what: str, reader: Callable[[BinaryIO], Any]) -> DataFile:
    """The file as `reader` reads it, kept by the content it is made of."""
    path = cache_folder() / "unpacked" / combined(file.digest(), what)
    if not path.exists():
        try:
            with turn(path), file.open() as raw, reader(raw) as content:
                if not path.exists():  # another process may have been faster
                    _kept(path, file.name, lambda out: shutil.copyfileobj(content, out, _BLOCK))
        except BROKEN as error:
            raise incomplete(file.name, what, error) from None
    return DataFile(str(path), file.name, file.folder)


def packing_of(head: bytes, name: str) -> str:
    """How a file is compressed, by its first eight bytes: gzip, bzip2, xz, zstd, zip; empty where it is not."""
    if head.startswith(b"PK\x03\x04") and name.lower().endswith(".zip"):
        return "zip"
    return next((kind for start, kind in _HEADS.items() if head.startswith(start)), "")


def incomplete(name: str, what: str, error: Exception) -> DataError:
    """The error for a compressed file that cannot be unpacked."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{name} is no complete {what} file: {said}", help="fetch or write it again")


def unpacking(raw: BinaryIO, packing: str, name: str) -> Any:
    """The unpacked content of an open file."""
    if packing in _READERS:
        return _READERS[packing](raw)
    if packing == "zip":
        archive = zipfile.ZipFile(raw)
        inner = [one for one in archive.namelist() if not one.endswith("/") and not one.startswith("__MACOSX")]
        if len(inner) != 1:
            raise DataError(f"{name} holds {len(inner)} files", help=f"unpack it and name one: {', '.join(inner[:5])}")
        return archive.open(inner[0])
    return needed("pyarrow", name, "data", ", or unpack it: unzstd").CompressedInputStream(raw, "zstd")
