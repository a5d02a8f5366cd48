"""Optimizers by short name and their options; rules for groups of parameters; converters. Plain values, no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ofasys_lite.errors import CardError, check_keys, did_you_mean, nearest
from ofasys_lite.writing.plain_values import as_plain

#: Iterations of `minimax` behind which nothing is left to gain.
MOST_MINIMAX = 5
#: Options of the optimizers with a short name -> (its default; None: the trainer's own, what it is in words).
OPTIMIZERS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "adamw": {
        "betas": (None, "two numbers from 0 to below 1"),
        "eps": (1e-8, "a number above 0"),
    },
    "muon": {
        "momentum": (0.95, "a number from 0 to below 1"),
        "nesterov": (True, "true or false"),
        "iteration": ("minimax", "minimax or quintic"),
        "ns_steps": (None, "a whole number of at least 1, at most 5 of minimax"),
        "adjust_lr_fn": ("match_rms_adamw", "match_rms_adamw or original"),
        "beta2": (0.0, "a number from 0 to below 1"),
        "block": (None, "a whole number of at least 1, or null"),
        "precision": ("auto", "auto, fp32 or bf16"),
    },
}
Spec = TypeVar("Spec")
_OPTIMIZER_HELP = (
    f"{', '.join(OPTIMIZERS)}, the dotted path of a function or class of yours (my_module.build), or a mapping of "
    "`path` and its options"
)


def plain_path(value: object) -> str:
    """The dotted path of what was given by name or, in Python, as an object."""
    if isinstance(value, str):
        return value
    return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__name__)}"


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer: a short name, or what builds one.

    Attributes:
        path: `adamw`, `muon`, a dotted path, or in Python the function or class itself.
        lr: Its learning rate as a factor of `trainer.lr`.
    """

    path: str | Callable[..., Any] = "adamw"
    lr: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The short name or dotted path."""
        return plain_path(self.path)

    @property
    def key(self) -> tuple[object, ...]:
        """Groups of equal keys share one optimizer; the rate belongs to the groups."""
        return self.name, repr(sorted(self.options.items()))

    def __post_init__(self) -> None:
        where = f"trainer: optimizer {self.name}"
        _factor(where, self.lr)
        if callable(self.path):
            return
        if not isinstance(self.path, str) or not self.path:
            raise CardError(f"trainer: optimizer is {self.path!r}", help=_OPTIMIZER_HELP)
        if self.path not in OPTIMIZERS:
            if _dotted(self.path):
                return
            near = nearest(self.path, OPTIMIZERS)
            said = f"did you mean `{near}`? " if near else ""
            raise CardError(f"trainer: optimizer `{self.path}` is not known", help=f"{said}{_OPTIMIZER_HELP}")
        known = OPTIMIZERS[self.path]
        for key, value in self.options.items():
            if key not in known:
                raise CardError(f"{where}: unknown option `{key}`", help=did_you_mean(str(key), ("lr", *known)))
            if not _fits(key, value):
                raise CardError(f"{where}: {key} is {value!r}", help=f"{key} is {known[key][1]}")
        if self.options.get("iteration") != "quintic" and self.options.get("ns_steps", 0) > MOST_MINIMAX:
            raise CardError(
                f"{where}: ns_steps is {self.options['ns_steps']!r}",
                help=f"at most {MOST_MINIMAX}: there is no more to gain; or iteration: quintic",
            )

    @staticmethod
    def of(value: object) -> OptimizerSpec:
        """The optimizer that a name, a mapping (`path`, `lr`, options) or an object says.

        Raises:
            CardError: A name that is not known (the near one is offered), a wrong option.
        """
        if isinstance(value, OptimizerSpec):
            return value
        if not isinstance(value, Mapping):
            return OptimizerSpec(value)  # type: ignore[arg-type]
        given = {str(key): each for key, each in value.items()}
        if "path" not in given:
            raise CardError("trainer: the mapping of optimizer has no `path`", help=_OPTIMIZER_HELP)
        return OptimizerSpec(given.pop("path"), given.pop("lr", 1.0), given)

    def to_plain(self) -> object:
        """What `of` takes, in plain values."""
        if self.lr == 1.0 and not self.options:
            return self.name
        return {"path": self.name, **({} if self.lr == 1.0 else {"lr": self.lr}), **as_plain(self.options, plain_path)}


@dataclass(frozen=True)
class ConverterSpec:
    """A converter of the network (`generalist/converters.py`).

    Attributes:
        path: `lora`, a dotted path, or in Python a class, a function or the converter itself.
    """

    path: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The short name or dotted path."""
        return plain_path(self.path)

    @staticmethod
    def of(value: object) -> ConverterSpec:
        """The converter that a name, a mapping (`path`, options) or an object says.

        Raises:
            CardError: A name that is not known (the near one is offered).
        """
        if isinstance(value, ConverterSpec):
            return value
        given = {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {"path": value}
        path = given.pop("path", None)
        if path is None or (isinstance(path, str) and path != "lora" and not _dotted(path)):
            near = "did you mean `lora`? " if isinstance(path, str) and nearest(path, ["lora"]) else ""
            raise CardError(
                f"trainer: converter `{path}` is not known",
                help=f"{near}lora, the dotted path of a class of yours, or a mapping of `path` and its options",
            )
        return ConverterSpec(path, given)

    def to_plain(self) -> object:
        """What `of` takes, in plain values."""
        return {"path": self.name, **as_plain(self.options, plain_path)} if self.options else self.name


def _dotted(path: str) -> bool:
    return "." in path and all(part.isidentifier() for part in path.split("."))


@dataclass(frozen=True)
class ParameterRule:
    """What some of the parameters have of their own; None leaves it to earlier rules and to the trainer.

    Attributes:
        match: Patterns of names (`*`, `?`, `[0-3]`; a star also matches dots); one that fits is enough.
        lr: Factor of the optimizer's learning rate.
        decay: Weight decay, of everything that matches.
        train: Steps (from, to) in which they are trained, to exclusive; None is the begin or the end.
    """

    match: tuple[str, ...]
    lr: float | None = None
    decay: float | None = None
    train: tuple[int | None, int | None] | None = None
    optimizer: OptimizerSpec | None = None

    @staticmethod
    def of(value: object) -> ParameterRule:
        """The rule that a mapping says.

        Raises:
            CardError: A key that is not known (the near one is offered), no `match`, a wrong value.
        """
        if isinstance(value, ParameterRule):
            return value
        if not isinstance(value, Mapping):
            raise CardError(f"trainer: a rule of parameters is {value!r}", help=_RULE_HELP)
        check_keys("trainer: parameters", value, (each.name for each in fields(ParameterRule)))
        match = value.get("match")
        patterns = (match,) if isinstance(match, str) else match
        whole = isinstance(patterns, Sequence) and patterns and all(isinstance(p, str) and p for p in patterns)
        if not whole:
            raise CardError(f"trainer: parameters: match is {match!r}", help=_RULE_HELP)
        where = f"trainer: parameters of `{', '.join(patterns)}`"  # type: ignore[arg-type]
        for name in ("lr", "decay"):
            if value.get(name) is not None:
                _factor(where, value[name], name)
        optimizer = None if value.get("optimizer") is None else OptimizerSpec.of(value["optimizer"])
        train = _steps(where, value.get("train"))
        return ParameterRule(tuple(patterns), value.get("lr"), value.get("decay"), train, optimizer)  # type: ignore[arg-type]

    def to_plain(self) -> dict[str, object]:
        """What `of` takes, in plain values."""
        said = {
            "match": list(self.match) if len(self.match) > 1 else self.match[0],
            "lr": self.lr,
            "decay": self.decay,
            "train": self.train and list(self.train),
            "optimizer": self.optimizer and self.optimizer.to_plain(),
        }
        return {key: value for key, value in said.items() if value is not None}


def listed(name: str, value: object, of: Callable[[object], Spec], help: str) -> tuple[Spec, ...]:
    """The rules or converters that a list of the trainer's settings says; CardError with `help` where it is no list."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise CardError(f"trainer: {name} is {value!r}", help=help)
    return tuple(of(each) for each in value)


_RULE_HELP = "a mapping such as {match: body.encoder.*, lr: 0.1, decay: 0.0, train: [500, null], optimizer: muon}"
_STEPS_HELP = "[from, to] in steps, null for the begin or the end, as [500, null]; false: never; true: always"


def _steps(where: str, value: object) -> tuple[int | None, int | None] | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return (None, None) if value else (0, 0)
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise CardError(f"{where}: train is {value!r}", help=_STEPS_HELP)
    for step in value:
        if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 0):
            raise CardError(f"{where}: train is {list(value)}", help=_STEPS_HELP)
    first, last = value
    if first is not None and last is not None and first > last:
        raise CardError(f"{where}: train is {list(value)}", help=f"it ends before it begins; {_STEPS_HELP}")
    return first, last


def _factor(where: str, value: object, name: str = "lr") -> None:
    what = "a factor of trainer.lr" if name == "lr" else "a weight decay"
    wrong = isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0
    if wrong:
        raise CardError(f"{where}: {name} is {value!r}", help=f"{name} is {what}: a number of at least 0")


def _fits(key: str, value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key == "betas":
        pair = list(value) if isinstance(value, (list, tuple)) else []
        return len(pair) == 2 and all(type(beta) in (int, float) and 0 <= beta < 1 for beta in pair)
    if key == "nesterov":
        return isinstance(value, bool)
    if key == "block" and value is None:
        return True
    if key in ("ns_steps", "block"):
        return isinstance(value, int) and number and value >= 1
    if key == "iteration":
        return value in ("minimax", "quintic")
    if key == "precision":
        return value in ("auto", "fp32", "bf16")
    if key == "adjust_lr_fn":
        return value in ("match_rms_adamw", "original")
    if key in ("momentum", "beta2"):
        return number and 0 <= value < 1  # type: ignore[operator]
    return number and value > 0  # type: ignore[operator]
