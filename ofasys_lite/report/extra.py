"""The one place that says how to install what reports need."""

from __future__ import annotations

import importlib
from types import ModuleType

from ofasys_lite.errors import OfasysError

__all__ = ["needs"]


def needs(module: str) -> ModuleType:
    """The imported module; raises OfasysError with the command to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise OfasysError(
            f"the report needs `{package}`: {error}", help='install the extra: pip install "ofasys_lite[report]"'
        ) from error
