"""The parameters of a run in groups: who trains them, at which rate and decay, in which steps; as a table, too."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rich.table import Table
from rich.text import Text
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

from ofasys_lite.errors import CardError, nearest
from ofasys_lite.training.rules import OptimizerSpec, ParameterRule
from ofasys_lite.training.settings import TrainSettings

#: Layers whose weights are factors of a product. Tables, norms and parameters that a module holds by itself are none.
_PRODUCTS = (nn.Linear, nn.Bilinear, _ConvNd, nn.MultiheadAttention, nn.RNNBase)
#: What `muon` trains by itself, of their matrices and kernels.
_HIDDEN = ("body.*", "adapters.*")


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are trained alike.

    Attributes:
        name: The patterns that chose them and `matrices` or `others`.
        parameters: By their name in the network.
        lr: Factor of the trainer's learning rate, the optimizer's own among it.
        first: The first step they are trained in; None: from the begin.
        last: The first step they are trained in no more; None: never.
    """

    name: str
    optimizer: OptimizerSpec
    parameters: dict[str, nn.Parameter]
    lr: float
    decay: float
    first: int | None = None
    last: int | None = None

    def trained(self, step: int) -> bool:
        """Whether step number `step` (from 0) moves them."""
        return (self.first is None or step >= self.first) and (self.last is None or step < self.last)

    @property
    def always(self) -> bool:
        """Whether every step moves them."""
        return self.first is None and self.last is None


def groups_of(network: nn.Module, settings: TrainSettings) -> tuple[Group, ...]:
    """All parameters of the network in groups: matrices before others, as the rules come.

    Matrices are the weights of linear layers and convolutions; they decay, and tables, norms and biases do not, unless
    a rule says so. A matrix that is also the weight of an `nn.Embedding` (a tied head) is a table.

    Raises:
        CardError: A pattern matches nothing (near names are offered), or `muon` gets no matrix.
    """
    named = dict(network.named_parameters())
    for rule in settings.parameters:
        for pattern in rule.match:
            if not any(fnmatchcase(name, pattern) for name in named):
                raise _nothing(pattern, named)
    rules, rest = settings.parameters, settings.optimizer
    if rest.path == "muon":
        rules, rest = (ParameterRule(_HIDDEN, optimizer=rest), *rules), OptimizerSpec()
    products = _products(network)
    found: dict[tuple[object, ...], Group] = {}
    # groups of matrices come first, as the optimizer's state of earlier runs has them
    for matrix in (True, False):
        for name, parameter in named.items():
            if (parameter in products) == matrix:
                group = _group_of(name, parameter, matrix, rules, rest, settings)
                key = (group.name, group.optimizer.key, group.lr, group.decay, group.first, group.last)
                held = found.setdefault(key, group).parameters
                held[name] = parameter
    groups = tuple(found.values())
    for rule in rules:
        if rule.optimizer is not None and all(group.optimizer.key != rule.optimizer.key for group in groups):
            raise CardError(
                f"trainer: no parameter is left for the optimizer {rule.optimizer.name}",
                help="muon takes matrices (weights of linear layers), and later rules win",
            )
    return groups


def _group_of(
    name: str,
    parameter: nn.Parameter,
    matrix: bool,
    rules: Sequence[ParameterRule],
    rest: OptimizerSpec,
    settings: TrainSettings,
) -> Group:
    """The group, still without parameters, that a parameter belongs to."""
    chosen, lr, decay = rest, 1.0, settings.weight_decay if matrix else 0.0
    first, last = None, None
    patterns = list[str]()
    for rule in rules:
        if not any(fnmatchcase(name, pattern) for pattern in rule.match):
            continue
        # Muon takes matrices and kernels; what else is matched stays with the optimizer it had
        if rule.optimizer is not None and (rule.optimizer.path != "muon" or matrix):
            chosen = rule.optimizer
        lr = lr if rule.lr is None else rule.lr
        decay = decay if rule.decay is None else rule.decay
        first, last = (first, last) if rule.train is None else rule.train
        patterns += [", ".join(rule.match)] if rule in settings.parameters else []
    called = f"{' + '.join(patterns) or 'all'}, {'matrices' if matrix else 'others'}"
    return Group(called, chosen, {}, chosen.lr * lr, decay, first, last)


def _products(network: nn.Module) -> set[nn.Parameter]:
    """Parameters that only layers of `_PRODUCTS` own, and that are matrices or kernels."""
    owners: dict[nn.Parameter, list[nn.Module]] = {}
    for module in network.modules():
        lists = getattr(module, "parametrizations", ())
        # what a parametrization reads is the layer's own weight
        read = [p for each in lists for p in lists[each].parameters(recurse=False)]
        if not isinstance(module, ParametrizationList):
            for parameter in (*module.parameters(recurse=False), *read):
                owners.setdefault(parameter, []).append(module)
    return {p for p, held in owners.items() if p.ndim > 1 and all(isinstance(m, _PRODUCTS) for m in held)}


def _nothing(pattern: str, names: Collection[str]) -> CardError:
    """The error for a pattern that matches nothing: the near name, with the pattern's own end."""
    parts = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}
    stem = pattern.rstrip(".*")
    near = nearest(stem, sorted(parts))
    said = "" if near is None else f"did you mean `{near}{pattern[len(stem) :]}`? "
    tops = sorted({".".join(name.split(".")[:2]) for name in names})
    return CardError(
        f"trainer: parameters: `{pattern}` matches no parameter",
        help=f"{said}names begin with {', '.join(tops[:20])}; a run writes all of them into parameters.json",
    )


def structure_of(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What the state of the optimizers rests on, in plain values: who trains which parameters, in which order."""
    return [
        {
            "optimizer": group.optimizer.name,
            "group": group.name,
            "tensors": len(group.parameters),
            "names": hashlib.sha256("\n".join(group.parameters).encode()).hexdigest()[:16],
        }
        for group in groups
    ]


def described(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups in plain values, with the names of their parameters: what a run's folder keeps."""
    return [
        {
            "group": group.name,
            "optimizer": group.optimizer.to_plain(),
            "lr": group.lr,
            "decay": group.decay,
            "train": [group.first, group.last],
            "parameters": {name: list(p.shape) for name, p in group.parameters.items()},
        }
        for group in groups
    ]


def table(groups: Sequence[Group]) -> Table:
    """The groups for a terminal: numbers, who trains them, factor of the rate, decay, steps."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("parameters", "tensors", "numbers", "optimizer", "lr", "decay", "steps"):
        made.add_column(column, justify="left" if column in ("parameters", "optimizer", "steps") else "right")
    for group in groups:
        held = [p for p in group.parameters.values() if p.requires_grad]
        still = len(group.parameters) - len(held)
        made.add_row(
            Text(group.name),
            f"{len(held)}" + (f" (+{still} fixed)" if still else ""),
            f"{sum(p.numel() for p in held):,}",
            Text(group.optimizer.name),
            f"x{group.lr:g}",
            f"{group.decay:g}",
            _steps(group),
        )
    return made


def _steps(group: Group) -> str:
    if group.always:
        return "all"
    if group.last == 0:
        return "never"
    return f"{group.first or 0} to {'the end' if group.last is None else group.last}"
