"""What a path means: one file taken literally, a pattern, a URL; where nothing is, what stands there instead."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ofasys_lite.data.file_access import DataFile, is_url, remote_errors
from ofasys_lite.errors import DataError, nearest
from ofasys_lite.preprocess.absence import absence, home, names_in

_WEB = ("http://", "https://")


def expand(pattern: str | Sequence[str], base: Path | None = None) -> list[str]:
    """The files that a path, a URL, a pattern or a list of them means, in order.

    A path of something that is there means just that, whatever marks it holds. Else `{00..09}` counts, `{a,b}`
    chooses, `*`, `?` and `[...]` match names. Relative paths are looked for in `base`, then here.

    Raises:
        DataError: If nothing is there; the nearest name in the folder is offered.
    """
    patterns = [pattern] if isinstance(pattern, str) else [str(one) for one in pattern]
    return [found for one in patterns for found in _one(one, base)]


def _one(pattern: str, base: Path | None) -> list[str]:
    if not is_url(pattern):
        for candidate in _candidates(pattern, base):
            if os.path.exists(candidate):
                return [str(candidate)]
    return [found for name in _braces(pattern) for found in _existing(name, base)]


def _candidates(name: str, base: Path | None) -> list[Path]:
    path = Path(home(name))
    return [path] if path.is_absolute() or base is None else [base / path, path]


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
    tried = _candidates(name, base)
    for candidate, root in zip(tried, (base, None) if len(tried) > 1 else (None,), strict=True):
        if os.path.exists(candidate):
            return [str(candidate)]
        # the folder of a card is no part of the pattern, whatever marks its name holds
        found = (
            sorted(glob.glob(home(name), root_dir=root, recursive=True)) if any(mark in name for mark in "*?[") else []
        )
        if found:
            return [str(root / one) if root is not None else one for one in found]
    if any(mark in name for mark in "*?"):
        raise DataError(f"no file matches {name}", help=f"paths start from {os.getcwd() if base is None else base}")
    message, help = absence(name, tried)
    raise DataError(f"no file {name}{': ' if message else ''}{message}", help=help or _near(tried))


def _existing_url(name: str) -> list[str]:
    """The files that a URL, maybe with `*`, means."""
    if name.startswith(_WEB) and "*" not in name:
        return [name]  # whether it is there is seen when it is fetched
    system, path = DataFile(name).remote()
    with remote_errors(name):
        if any(mark in path for mark in "*?["):
            found = sorted(str(system.unstrip_protocol(one)) for one in system.glob(path))
            if found:
                return found
        elif system.exists(path):
            return [name]
    folder = path.rpartition("/")[0]
    try:
        with remote_errors(name):
            near = nearest(path, [str(one) for one in system.ls(folder, detail=False)]) if folder else None
    except DataError:
        near = None
    raise DataError(f"no file {name}", help=f"did you mean `{system.unstrip_protocol(near)}`?" if near else "")


def _near(tried: Sequence[Path]) -> str:
    """The nearest name in the folder, or the nearest folder."""
    for path in tried:
        near = nearest(path.name, names_in(path.parent))
        if near is not None:
            return f"did you mean `{path.parent / near}`?"
    path = tried[-1]
    if not os.path.isdir(path.parent):
        return f"there is no folder {path.parent}; paths start from {os.getcwd()}"
    return f"looked in {', '.join(str(one.parent.resolve()) for one in tried)}"
