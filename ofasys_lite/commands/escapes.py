"""Text that OmegaConf would read as interpolation, escaped on the way in and as it was on the way out."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["escape", "escaped", "unescape", "unescaped"]

_INTERPOLATION = re.compile(r"(\\*)\$\{")


def escape(text: str) -> str:
    r"""`text` as OmegaConf takes it literally: `${` becomes `\${`, backslashes before it are doubled."""
    return _INTERPOLATION.sub(lambda found: found[1] * 2 + "\\${", text)


def unescape(text: str) -> str:
    """What `escape` was given."""
    return _INTERPOLATION.sub(lambda found: found[1][: len(found[1]) // 2] + "${", text)


def escaped(value: Any) -> Any:
    """`value` with all its strings escaped."""
    if isinstance(value, dict):
        return {key: escaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [escaped(each) for each in value]
    return escape(value) if isinstance(value, str) else value


def unescaped(value: Any) -> Any:
    """`value` with all its strings unescaped."""
    if isinstance(value, dict):
        return {key: unescaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [unescaped(each) for each in value]
    return unescape(value) if isinstance(value, str) else value
