"""Why a path leads nowhere: a dead link, a folder one may not look into, backslashes, other capitals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def home(text: str) -> str:
    """`text` with a leading `~/` as the home folder; every other `~` is a character of a name."""
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def names_in(folder: Path) -> list[str]:
    """The sorted names in a folder; none where it is no folder or may not be looked into."""
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return []


def absence(name: str, tried: Sequence[Path]) -> tuple[str, str]:
    """(what is wrong, what to do) where none of the paths leads to a file; ("", "") where simply nothing is there."""
    for path in tried:
        if os.path.islink(path):
            return f"it is a link to {os.readlink(path)}, which is not there", "mend the link, or name the file itself"
        above = reversed(path.parents)
        locked = next((one for one in above if os.path.isdir(one) and not os.access(one, os.X_OK)), None)
        if locked is not None:
            return f"no right to look into {locked}", f"chmod u+rx '{locked}', or ask its owner"
    if "\\" in name and os.sep == "/":
        slashes = name.replace("\\", "/")
        found = any(os.path.exists(str(path).replace("\\", "/")) for path in tried)
        help = f"did you mean `{slashes}`?" if found else f"write it with slashes: {slashes}"
        return "on this system a backslash is a part of a name, not a border of folders", help
    for path in tried:
        near = next((one for one in names_in(path.parent) if one.casefold() == path.name.casefold()), None)
        if near is not None:
            return f"capitals count, and there is {near}", f"did you mean `{path.parent / near}`?"
    return "", ""
