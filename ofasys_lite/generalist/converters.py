"""Converters of a network: what a training puts into its weights, and how they leave it as plain weights again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ofasys_lite.cards.classes import load_object
from ofasys_lite.errors import CardError, nearest
from ofasys_lite.model import exact_types


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


class LowRank(nn.Module):
    """(O, ...) -> (O, ...): a weight and its update, which is zero at first.

    A convolution's kernel (O, C, k, ...), C channels of a group, is the matrix (O, I), I = C * k * ..., which is what
    one convolution to R channels and a 1 x 1 one back add up to where there is one group.

    Args:
        weight: (O, ...).
        rank: R; matrices with a side below it have that side's.
        scale: Factor of the update.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        outputs, inputs = weight.flatten(1).shape
        self.scale, rank = scale, min(rank, outputs, inputs)
        self.down_RI = nn.Parameter(weight.new_empty(rank, inputs).normal_(0.0, inputs**-0.5))
        self.up_OR = nn.Parameter(weight.new_zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """(O, ...), in the weight's type: what is trained is what is exported."""
        with exact_types(weight.device):
            return torch.addmm(weight.flatten(1), self.up_OR, self.down_RI, alpha=self.scale).view(weight.shape)


def _holders(every: Sequence[tuple[str, nn.Module]]) -> dict[int, list[str]]:
    """Names of each parameter that modules hold by themselves, by the parameter's id."""
    found: dict[int, list[str]] = {}
    for name, module in every:
        for key, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append(f"{name}.{key}" if name else key)
    return found


#: Layers that `lora` takes. Transposed convolutions have inputs and outputs the other way round.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Lora:
    """The converter `lora`: layers whose weight's name matches learn an update of low rank, and rest otherwise.

    Linear layers (arXiv 2106.09685) and convolutions, depthwise ones too, whose kernels are matrices (O, I) as
    `LowRank` has them. What does not match is trained as before, biases and norms too; rules of `trainer.parameters`
    let it rest.

    Args:
        match: Patterns of names.
        rank: R; a matrix with a side below it has that side's.
        alpha: The update counts alpha / rank.

    Raises:
        CardError: A value of the wrong kind.
    """

    def __init__(self, match: str | Sequence[str] = "body.*", rank: int = 8, alpha: float = 16.0) -> None:
        self.match = (match,) if isinstance(match, str) else tuple(match)
        if not self.match or not all(isinstance(each, str) for each in self.match):
            raise CardError(f"trainer: converter lora: match is {match!r}", help="a pattern, or a list of them")
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise CardError(f"trainer: converter lora: rank is {rank!r}", help="a whole number of at least 1")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not alpha > 0:
            raise CardError(f"trainer: converter lora: alpha is {alpha!r}", help="a number above 0")
        self.rank, self.scale = rank, alpha / rank
        self.names: list[str] = []

    def convert(self, network: nn.Module) -> None:
        """Puts an update on every layer that matches; its own weight and no other rests from then on.

        Layers that share a weight share its update too, whether `match` names one of them or all: they stay one weight.
        """
        every = list(network.named_modules(remove_duplicate=False))
        layers = {f"{name}.weight": module for name, module in every if isinstance(module, _LAYERS)}
        holders = _holders(every)
        tables = [id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)]
        for pattern in self.match:
            found = [name for name in layers if fnmatchcase(name, pattern)]
            if not found:
                near = nearest(pattern.rstrip(".*"), {n.rsplit(".", k)[0] for n in layers for k in range(5)})
                said = "" if near is None else f"did you mean `{near}.*`? "
                raise CardError(
                    f"trainer: converter lora: `{pattern}` matches no linear layer or convolution",
                    help=f"{said}names as in parameters.json, for example {next(iter(layers), 'none')}",
                )
            for name in found:
                weight = layers[name]._parameters.get("weight")
                if id(weight) not in tables:
                    sharing = [name] if weight is None else holders[id(weight)]
                    self.names += [each for each in sharing if each not in self.names]
        updates: dict[int, LowRank] = {}
        done: set[int] = set()
        for name in self.names:
            if name not in layers:
                raise CardError(
                    f"trainer: converter lora: {name} shares its weight with a layer that matches, and is no linear "
                    "layer or convolution",
                    help="name the layers that `match` is to take, without those of this weight",
                )
            module = layers[name]
            if id(module) in done:  # one layer under two names
                continue
            done.add(id(module))
            if any(isinstance(each, LowRank) for each in module.modules()):
                raise CardError(f"trainer: converter lora: {name} is converted already", help="one converter a weight")
            if "weight" not in module._parameters:
                raise CardError(
                    f"trainer: converter lora: {name} is computed from other tensors (weight_norm and the like)",
                    help="one converter a weight; name the layers that `match` is to take, without this one",
                )
            own = module.weight.requires_grad_(False)
            if id(own) not in updates:
                updates[id(own)] = LowRank(own.detach(), self.rank, self.scale)
            parametrize.register_parametrization(module, "weight", updates[id(own)])

    def after_step(self, network: nn.Module, step: int) -> None:
        """Nothing."""

    def plain(self, network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every update added to its weight."""
        merged = dict(tensors)
        for name in self.names:
            layer = name.removesuffix(".weight")
            with torch.no_grad():
                merged[name] = network.get_submodule(layer).weight.detach()  # type: ignore[operator]
            for key in list(merged):
                if key.startswith(f"{layer}.parametrizations.weight."):
                    del merged[key]
        return merged


#: Converters with a short name.
CONVERTERS: Mapping[str, Callable[..., Any]] = {"lora": Lora}
