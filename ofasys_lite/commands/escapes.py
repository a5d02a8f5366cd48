"""Text that OmegaConf would read as interpolation, escaped on the way in and as it was on the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_INTERPOLATION = re.compile(r"(\\*)\$\{")


def escape(text: str) -> str:
    r"""`text` as OmegaConf takes it literally: `${` becomes `\${`, backslashes before it are doubled."""
    return _INTERPOLATION.sub(lambda found: found[1] * 2 + "\\${", text)


def unescape(text: str) -> str:
    """What `escape` was given."""
    return _INTERPOLATION.sub(lambda found: found[1][: len(found[1]) // 2] + "${", text)


def escaped(value: Any) -> Any:
    """`value` with all its strings escaped."""
    return _mapped(value, escape)


def unescaped(value: Any) -> Any:
    """`value` with all its strings unescaped."""
    return _mapped(value, unescape)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    return change(value) if isinstance(value, str) else value
