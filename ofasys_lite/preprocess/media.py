"""Where media values come from: bytes of a path, URL, base64 text or dictionary; and typed settings of a card.

Shared by images and audio; decoding is their own business.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ofasys_lite.errors import CardError, DataError, nearest, needed
from ofasys_lite.preprocess.absence import absence, home, names_in
from ofasys_lite.preprocess.web import is_web, web_bytes

Number = TypeVar("Number", int, float)

#: What `locate` gives: a local path, or the bytes themselves.
Source = Path | bytes


def setting(settings: Mapping[str, Any], key: str, default: Number, low: float = 0, high: float = 1e12) -> Number:
    """The number `settings[key]` (or `default`), of the default's type; raises CardError for another type or range."""
    value = settings.get(key)
    # a card may name a setting and leave it open: null is the default
    value = default if value is None else value
    whole = isinstance(default, int)
    fits = isinstance(value, int) if whole else isinstance(value, (int, float))
    if isinstance(value, bool) or not fits or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise CardError(
            f"setting `{key}` is {value!r}", help=f"write {kind} from {low:g} to {high:g}; the default is {default:g}"
        )
    return type(default)(value)


def found(value: object) -> str:
    """A few words that say what `value` is, for messages: type, and size or beginning."""
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes" + (f" that begin with {bytes(value[:8])!r}" if value else "")
    if isinstance(value, str):
        return f"text {value[:60]!r}" + ("..." if len(value) > 60 else "")
    if isinstance(value, Mapping):
        return "a dictionary with " + (", ".join(f"`{key}`" for key in list(value)[:8]) or "no keys")
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"an array of shape {tuple(shape)} and type {getattr(value, 'dtype', '?')}"
    return f"a value of type {type(value).__name__}"


def naming(error: DataError, value: Any) -> str:
    """The error's message, with the file that `value` names where only the file's content is spoken of.

    Example:
        >>> naming(DataError("cannot read image: it is broken"), "cats/3.png")
        'cannot read image cats/3.png: it is broken'
    """
    path = value.get("path") if isinstance(value, Mapping) else value
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    begun = re.match(r"cannot read \w+(?=: )", error.message)
    named = isinstance(name, str) and 0 < len(name) <= 255 and not name.startswith("data:")
    if begun is None or not named or name in error.message or name in error.help:
        return error.message
    return f"{begun[0]} {name}{error.message[begun.end() :]}"


def locate(value: Any, folder: str | None, kind: str, base64_heads: Iterable[str] = ()) -> Source | None:
    """The local path or the bytes behind `value`; None if it is neither text, path, bytes nor such a dictionary.

    Args:
        value: Path (relative ones are resolved against `folder`), fsspec URL, `data:` URL, base64 text, bytes, or a
            dictionary with `bytes` and `path` as Hugging Face datasets give it.
        folder: Folder of relative paths, or None for the working directory.
        kind: `image` or `audio`, for messages.
        base64_heads: Beginnings by which base64 text of this kind is told from a path.

    Raises:
        DataError: Missing file (with the near name in its folder), broken base64, URL that cannot be read, no bytes.
    """
    if isinstance(value, Mapping) and "array" not in value and ("bytes" in value or "path" in value):
        inner = value.get("bytes")
        value = inner if inner is not None else value.get("path")
        if value is None:
            raise DataError(
                f"cannot read {kind}: `bytes` and `path` are both empty", help="one of the two must hold a value"
            )
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _filled(bytes(value), kind)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return None
    text, heads = value, tuple(base64_heads)
    if not text.strip():
        raise DataError(f"cannot read {kind}: the value is an empty text", help=f"give the path of the {kind}")
    if text.startswith("data:"):
        header, comma, body = text.partition(",")
        if not comma or not header.endswith(";base64"):
            raise DataError(f"cannot read {kind}: {found(text)} is no data URL", help="form: data:TYPE;base64,DATA")
        return _filled(_decode64(body, kind), kind)
    if "://" in text[:16]:
        return _filled(_fetch(text, kind), kind)
    if folder is not None and "://" in folder and not text.startswith(heads):
        return _filled(_fetch(f"{folder}/{text}", kind), kind)  # beside a table that was fetched
    if len(text) >= 32 and text.startswith(heads):
        return _filled(_decode64(text, kind), kind)
    path = Path(folder or "", home(text) if text.startswith("~") else text)
    if os.path.isfile(path):
        return path
    raise _no_file(text, path, kind)


def elsewhere(value: Any, settings: Mapping[str, Any]) -> bool:
    """True for texts that need a folder or a network to be looked at, as far as `check` may know."""
    if isinstance(value, Mapping) and value.get("bytes") is None:
        value = value.get("path")
    if not isinstance(value, str):
        return False
    is_url = "://" in value[:16] and not value.startswith("file://")
    relative = settings.get("folder") is None and not value.startswith("/") and len(value) < 256
    return is_url or (relative and not value.startswith("data:"))


def read_bytes(source: Source, kind: str) -> bytes:
    """The bytes of `source`; raises DataError if the file cannot be read or is empty."""
    if isinstance(source, bytes):
        return source
    try:
        return _filled(source.read_bytes(), kind)
    except OSError as error:
        raise DataError(f"cannot read {kind} {source}: {error.strerror or error}") from error


def _filled(content: bytes, kind: str) -> bytes:
    if not content:
        raise DataError(f"cannot read {kind}: it is empty (0 bytes)", help="write the file again or drop the row")
    return content


def _decode64(text: str, kind: str) -> bytes:
    compact = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except binascii.Error as error:
        raise DataError(f"cannot read {kind}: {found(text)} is no base64 ({error})") from error


def _fetch(url: str, kind: str) -> bytes:
    if url.startswith("file://"):
        return read_bytes(Path(url[7:]), kind)
    if is_web(url):
        try:
            return web_bytes(url)
        except DataError as error:
            raise DataError(f"cannot read {kind} {error.message}", help=error.help) from error
    fsspec = needed("fsspec", f"cannot read {kind} {url}: a URL", "data")
    try:
        with fsspec.open(url, "rb") as file:
            content: bytes = file.read()
    except Exception as error:  # every store raises errors of its own
        said = str(error).strip().splitlines()
        raise DataError(
            f"cannot read {kind} {url}: {type(error).__name__} {said[0] if said else ''}".rstrip()
        ) from error
    return content


def _no_file(text: str, path: Path, kind: str) -> DataError:
    if len(text) > 255 and "." not in text[-8:]:
        return DataError(f"cannot read {kind}: {found(text)} is neither a path nor base64 of a known {kind} format")
    if os.path.isdir(path):
        return DataError(f"cannot read {kind} {path}: it is a folder", help=f"give the path of one {kind} file")
    what, help = absence(str(path), [path])
    return DataError(f"cannot read {kind} {path}: {what or 'no such file'}", help=help or _near(path))


def _near(path: Path) -> str:
    names = names_in(path.parent)
    if not os.path.isdir(path.parent):
        start = "relative paths start at the folder of the data file, or at `media:` of the source"
        return f"the folder {path.parent} does not exist; {start}"
    near = nearest(path.name, names)
    shown = ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "") if names else "nothing"
    return (f"did you mean `{near}`? " if near is not None else "") + f"{path.parent} holds: {shown}"
