"""Classes and functions named by dotted path: found when they are needed, never when a card is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ofasys_lite.errors import CardError, did_you_mean


def load_object(path: str, what: str) -> Any:
    """What a dotted path names; CardError if it is not there.

    Args:
        path: `my_package.my_module.name`.
        what: What it is to who names it, for messages: `adapter`, `optimizer`.
    """
    module, _, name = path.rpartition(".")
    if not module or module.startswith("."):
        raise CardError(f"{what} `{path}` names no module", help="write the dotted path: my_package.my_module.name")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise CardError(
                f"{what} {path} needs the package `{error.name}`", help=f"pip install {error.name}"
            ) from None
        help = "give the folder on PYTHONPATH, or run the command from it"
        raise CardError(f"{what} {path}: no module `{error.name or module}`", help=help) from None
    if not hasattr(found, name):
        known = [each for each, value in vars(found).items() if callable(value) and not each.startswith("_")]
        raise CardError(f"{what} {path}: the module has no `{name}`", help=did_you_mean(name, known, "it has"))
    return getattr(found, name)


def load_function(path: str, what: str, help: str) -> Callable[..., Any]:
    """The function or class that a dotted path names; CardError, with `help` where it is none."""
    found: Callable[..., Any] = load_object(path, what)
    if not callable(found):
        raise CardError(f"{what} {path} is no function", help=help)
    return found


def load_class(path: str, base: type, what: str) -> Any:
    """The class that a card names by dotted path; CardError if it is not there or not a `base`.

    Args:
        path: `my_package.my_module.MyClass`.
        what: What it is to the card, for messages: `adapter`, `preprocess`.
    """
    found = load_object(path, what)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise CardError(
            f"{what} {path} is not a {base.__name__}", help=f"derive it from {base.__module__}.{base.__name__}"
        )
    return found
