"""Quotes around a whole line: left over from a shell or a page, never words of a prompt."""

from __future__ import annotations

import re

#: Opening quote -> what may close it.
_PAIRS = {'"': '"', "'": "'", "`": "`", "“": "”“", "”": "”", "„": "“”", "‘": "’‘", "’": "’", "«": "»", "»": "«"}
_SIDES = re.compile(r"<->|->|;;|\|\|\|")


def inside_quotes(text: str) -> tuple[int, int]:
    """Start and end of what stands inside the quotes around a whole line; of the whole text if it has none.

    Quotes at both ends are the line's own where they pair on every side of the arrow: `"[TEXT:a]" -> "[TEXT:b]"`.

    Example:
        >>> inside_quotes('"[TEXT:a] -> [TEXT:b]"')
        (1, 21)
    """
    start, end = _stripped(text, 0, len(text))
    found = (0, len(text))
    while (inner := _without_one(text, start, end)) is not None:
        start, end = found = _stripped(text, *inner)
    return found


def unquoted(text: str) -> str:
    r"""The line as it was meant: without quotes around it, and without backslashes that stood for these quotes.

    Example:
        >>> unquoted(r'"what is \"[TEXT:a]\"? -> [TEXT:b]"')
        'what is "[TEXT:a]"? -> [TEXT:b]'
    """
    start, end = inside_quotes(text)
    if (start, end) == (0, len(text)):
        return text
    inner = text[start:end]
    mark = text.lstrip()[0]
    if mark in "\"'" and not re.search(rf"(?<!\\){mark}", inner):
        return inner.replace(f"\\{mark}", mark)
    return inner


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), start + len(inner.rstrip())


def _without_one(text: str, start: int, end: int) -> tuple[int, int] | None:
    r"""What one pair of outer quotes holds, maybe written `\"`; None where there is none or it belongs to the line."""
    whole = text[start:end]
    escaped = len(whole) > 1 and whole[0] == "\\" and whole[1] in _PAIRS
    width = 2 if escaped else 1
    closing = _PAIRS.get(whole[width - 1 : width])
    if closing is None or len(whole) < 2 * width or whole[-1] not in closing or escaped != (whole[-2] == "\\"):
        return None
    sides = _SIDES.split(whole.replace("\\", "") if escaped else whole)
    mark = whole[width - 1]
    doubled = len(whole) > 4 and whole[:2] == 2 * mark and whole[-2:] == 2 * whole[-1]
    if len(sides) == 1 or (not doubled and all(_pair(side, mark, closing) for side in sides)):
        return None
    return start + width, end - width


def _pair(side: str, opening: str, closing: str) -> bool:
    """Whether the quotes of one side of the arrow are as many as a deliberate writer would put there."""
    if opening in closing:  # an apostrophe inside a word is no quote
        return len(re.findall(rf"(?<!\\)(?:{opening}(?!\w)|(?<!\w){opening})", side)) % 2 == 0
    return side.count(opening) == sum(side.count(each) for each in closing)
