"""Values as JSON and YAML take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def named(value: Any) -> Any:
    """A path as text, a dataclass as its fields; any other object (a data source in memory) is named, not stored."""
    if isinstance(value, Path):
        return str(value)
    fields = is_dataclass(value) and not isinstance(value, type)
    return as_plain(asdict(value)) if fields else f"<{type(value).__name__}>"


def as_plain(value: Any, other: Callable[[Any], Any] = named) -> Any:
    """The value in mappings, lists, texts and numbers; what is none of these as `other` says it."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(each, other) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(each, other) for each in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else other(value)
