"""The optimizers of a run, one for each that its groups name, and what a step does with them; averages of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ofasys_lite.cards.classes import load_function
from ofasys_lite.errors import CardError
from ofasys_lite.training.muon import Muon
from ofasys_lite.training.parameter_groups import Group
from ofasys_lite.training.rules import OPTIMIZERS, OptimizerSpec
from ofasys_lite.training.settings import TrainSettings


def check_optimizers(settings: TrainSettings) -> None:
    """Finds what builds the optimizers that the settings name; CardError where one is not there.

    Asked before data are read: a name that leads nowhere must not cost a preparation.
    """
    for spec in (settings.optimizer, *(r.optimizer for r in settings.parameters if r.optimizer is not None)):
        _builder(spec)


class Optimization:
    """Groups of parameters and the optimizers that train them.

    Raises:
        CardError: An optimizer cannot be built, or does not take its parameters as they are.
    """

    def __init__(self, groups: Sequence[Group], settings: TrainSettings) -> None:
        self.groups = tuple(groups)
        self.settings = settings
        #: What the network itself trains: groups may only take from it. Here, of those that not every step trains.
        self._timed = [(g, [p for p in g.parameters.values() if p.requires_grad]) for g in self.groups if not g.always]
        self.optimizers: list[torch.optim.Optimizer] = []
        #: Per optimizer, its groups.
        self.held: list[list[Group]] = []
        self._asked: list[dict[str, Any]] = []
        #: The trainer's learning rate in the last step.
        self.rate = 0.0
        self.build()

    def build(self) -> list[torch.optim.Optimizer]:
        """New optimizers for the parameters as they are now (on whatever device)."""
        parts: dict[tuple[object, ...], list[Group]] = {}
        for group in self.groups:
            parts.setdefault(group.optimizer.key, []).append(group)
        self.held = list(parts.values())
        self.optimizers = [_built(held, self.settings) for held in self.held]
        # of those with a short name: what a checkpoint brings back is what was asked for when the run began
        self._asked = [
            {key: made.param_groups[0][key] for key in OPTIMIZERS.get(held[0].optimizer.name, ())}
            for made, held in zip(self.optimizers, self.held, strict=True)
        ]
        return self.optimizers

    def begin(self, step: int, rate: float, alone: bool) -> None:
        """Makes ready for step number `step`: rates, decay, options, and no gradients computed for what it leaves.

        Args:
            step: From 0.
            rate: The trainer's learning rate, of which every group takes its share.
            alone: Whether no other rank waits for gradients: those of a parameter that is trained in other steps are
                expected by DDP in every step, and only taken away (`drop_frozen`).
        """
        self.rate = rate
        for optimizer, held, asked in zip(self.optimizers, self.held, self._asked, strict=True):
            for values, group in zip(optimizer.param_groups, held, strict=True):
                values.update(asked)
                values["lr"] = rate * group.lr
                if "weight_decay" in values:
                    values["weight_decay"] = group.decay
        for group, trainable in self._timed:
            if alone or group.last == 0:
                for parameter in trainable:
                    parameter.requires_grad_(group.trained(step))

    def thaw(self) -> None:
        """Leaves the network as it was, whatever step the run ended at."""
        for _, trainable in self._timed:
            for parameter in trainable:
                parameter.requires_grad_(True)

    def drop_frozen(self, step: int) -> None:
        """Takes the gradients of what step number `step` does not train: neither decay nor moments move."""
        for group, _ in self._timed:
            if not group.trained(step):
                for parameter in group.parameters.values():
                    parameter.grad = None


def _built(groups: Sequence[Group], settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimizer of groups that name the same one."""
    spec = groups[0].optimizer
    given: list[dict[str, Any]] = [{"params": list(g.parameters.values()), "weight_decay": g.decay} for g in groups]
    try:
        made = _builder(spec)(given, lr=settings.lr * spec.lr, **_options(spec, settings))
    except CardError:
        raise
    except Exception as error:
        raise CardError(
            f"trainer: optimizer {spec.name} cannot be built: {type(error).__name__}: {error}",
            help="it is called with the groups of parameters, lr and its options: build(groups, lr=..., **options)",
        ) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise CardError(
            f"trainer: optimizer {spec.name} gave {type(made).__name__}", help="return a torch.optim.Optimizer"
        )
    if [_ids(g["params"]) for g in made.param_groups] != [_ids(g["params"]) for g in given]:
        raise CardError(
            f"trainer: optimizer {spec.name} has other groups of parameters than it was given",
            help="hand the groups on as they are: MyOptimizer(groups, lr=lr)",
        )
    return made


def _ids(parameters: Sequence[nn.Parameter]) -> list[int]:
    return [id(p) for p in parameters]


def _options(spec: OptimizerSpec, settings: TrainSettings) -> dict[str, Any]:
    """The options with the defaults of a short name in their place."""
    if spec.path not in OPTIMIZERS:
        return dict(spec.options)
    found = {key: default for key, (default, _) in OPTIMIZERS[str(spec.path)].items()} | dict(spec.options)
    if spec.path == "adamw":
        found |= {"betas": tuple(found["betas"] or settings.betas), "fused": True}
    return found


def _builder(spec: OptimizerSpec) -> Callable[..., Any]:
    """What is called with groups, lr and options."""
    if spec.path == "adamw":
        return torch.optim.AdamW
    if spec.path == "muon":
        return Muon
    return (
        load_function(spec.path, "optimizer", "build(groups, lr=..., ...)") if isinstance(spec.path, str) else spec.path
    )


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], norm: float) -> None:
    """Shrinks the gradients together where they are longer than `norm`, bit for bit as `clip_grad_norm_` does.

    That one sorts them by device and type first, and asks each length for its device: a third of its time.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        found = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (norm / (found + 1e-6)).clamp(max=1.0))


def followed(
    average: dict[str, Tensor], weights: Mapping[str, nn.Parameter], decay: float, step: int
) -> dict[str, Tensor]:
    """The average behind one more step: the weights themselves at first, nothing where `decay` is 0.

    Args:
        average: By name of the parameter; what is not empty is changed in place.
        weights: By name, behind the step.
        decay: How much of the average stays (0 to below 1).
        step: Steps done: a young average follows the weights more closely.
    """
    if decay <= 0:
        return average
    names, values = list(weights), [p.detach() for p in weights.values()]
    if not average:
        return {n: v.clone() for n, v in zip(names, values, strict=True)}
    if average[names[0]].device != values[0].device:
        # a checkpoint's averages come on the host
        average = {n: v.to(values[0].device) for n, v in average.items()}
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_([average[n] for n in names], values, weight)
    return average


def fill(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Puts `values` into the network's parameters, by name."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(values[name])
