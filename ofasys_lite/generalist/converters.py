"""Converters of a network: what a training puts into its weights, and how they leave it as plain weights again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from ofasys_lite.cards.classes import load_object
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.lora import Lora

#: Converters with a short name.
CONVERTERS: Mapping[str, Callable[..., Any]] = {"lora": Lora}


class Converter:
    """Base of all converters; a class that has the three methods need not derive from it.

    A converter is built by the keywords that the settings give it, changes the network before its optimizers are made,
    is called behind every step, and says what the weights are without it: exports, and the model that a training
    leaves, are plain, and load without the converter.
    """

    def convert(self, network: nn.Module) -> None:
        """Changes the network in place. Random draws are seeded by the run."""
        raise CardError(
            f"trainer: converter {type(self).__qualname__} does not say how it converts a network",
            help="give it a method convert(self, network)",
        )

    def after_step(self, network: nn.Module, step: int) -> None:
        """What follows the update of step number `step` (from 0), alike on all ranks, under no_grad."""

    def plain(self, network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` (the network's, by name) with the names, shapes and meaning that they had before `convert`."""
        return tensors


def make_converter(path: str | Callable[..., Any] | Converter, options: Mapping[str, Any]) -> Converter:
    """The converter that a short name, a dotted path, a class or an object says.

    Raises:
        CardError: It is not there, does not take the options, or lacks a method.
    """
    if isinstance(path, str):
        found = CONVERTERS.get(path) or load_object(path, "converter")
    else:
        found = path
    name = path if isinstance(path, str) else getattr(path, "__qualname__", type(path).__name__)
    try:
        made = found(**options) if isinstance(found, type) or not hasattr(found, "convert") else found
    except CardError:
        raise
    except Exception as error:
        raise CardError(
            f"trainer: converter {name} cannot be built: {type(error).__name__}: {error}",
            help="it is called with its options as keywords",
        ) from error
    for method in ("convert", "after_step", "plain"):
        if not callable(getattr(made, method, None)):
            raise CardError(
                f"trainer: converter {name} has no method `{method}`",
                help="derive it from ofasys_lite.generalist.converters.Converter",
            )
    return cast(Converter, made)


def check_plain(name: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Compares names and shapes of plain weights with those before the conversion.

    Raises:
        CardError: They differ: what is trained could not be exported.
    """
    missing, extra = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    wrong = [key for key in before if key in after and before[key].shape != after[key].shape]
    if missing or extra or wrong:
        what = _first("missing", missing) or _first("unknown", extra) or _first("of another shape", wrong)
        raise CardError(
            f"trainer: converter {name}: plain() does not give the weights as they were before convert(): {what}",
            help="exports load without the converter: return every tensor under its old name, in its old shape",
        )


def _first(what: str, names: Sequence[str]) -> str:
    return f"{what} {', '.join(names[:3])}" + (" ..." if len(names) > 3 else "") if names else ""
