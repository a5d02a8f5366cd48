"""Classes that cards name by dotted path: found when they are needed, never when a card is read."""

from __future__ import annotations

import importlib
from typing import Any

from ofasys_lite.errors import CardError

__all__ = ["load_class"]


def load_class(path: str, base: type, what: str) -> Any:
    """The class that a card names by dotted path; CardError if it is not there or not a `base`.

    Args:
        path: `my_package.my_module.MyClass`.
        base: What it must be derived from.
        what: What it is to the card, for messages: `adapter`, `preprocess`.
    """
    module, _, name = path.rpartition(".")
    if not module or module.startswith("."):
        raise CardError(f"{what} `{path}` names no module", help="write the dotted path: my_package.my_module.MyClass")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise CardError(
                f"{what} {path} needs the package `{error.name}`", help=f"pip install {error.name}"
            ) from None
        help = "give the folder on PYTHONPATH, or run the command from it"
        raise CardError(f"{what} {path}: no module `{error.name or module}`", help=help) from None
    except AttributeError:
        raise CardError(f"{what} {path}: the module has no `{name}`") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise CardError(
            f"{what} {path} is not a {base.__name__}", help=f"derive it from {base.__module__}.{base.__name__}"
        )
    return found
