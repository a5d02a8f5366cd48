"""The keys of a run beside its tasks: every one known, every value of its kind, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Any, TypeVar

from ofasys_lite.cards.find import content_folder
from ofasys_lite.cards.other_names import other_names
from ofasys_lite.cards.overrides import with_settings
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.cards.yaml_nodes import plain, read_yaml
from ofasys_lite.errors import CardError, OfasysError, check_keys, did_you_mean, raise_all
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.training.rules import OPTIMIZERS
from ofasys_lite.training.settings import MODEL_SWITCHES, TrainSettings
from ofasys_lite.training.shares import MixtureSettings
from ofasys_lite.training.start import Start

LOGGERS = ("csv", "tensorboard")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run was asked for beside its tasks, checked."""

    train: TrainSettings
    model: ModelConfig
    data: DataSettings
    loggers: tuple[str, ...]


def settings_of(content: Mapping[str, Any]) -> Settings:
    """The settings in a composed configuration.

    Args:
        content: Plain values by group, with steps, minutes and seed as checked numbers.

    Raises:
        CardError: A wrong key or value; several come as an ErrorGroup.
    """
    errors: list[OfasysError] = []
    for make in (_train, _model, _data, _loggers):
        noted(partial(make, content), errors)
    raise_all(errors)
    return Settings(_train(content), _model(content), _data(content), _loggers(content))


def refuse_unknown(content: Mapping[str, Any], verb: str) -> None:
    """CardError for keys at the top of a configuration, or of its `data`, that the verb's preset does not have."""
    known = _top_keys(verb)
    errors: list[OfasysError] = [unknown_key(str(key), verb, {}) for key in content if key not in known]
    noted(partial(_data, content), errors)
    raise_all(errors)


def unknown_key(key: str, verb: str, types: Mapping[str, ModalityCard]) -> CardError:
    """The error for a key, maybe with dots, that the verb does not have: the near name, or where it stands."""
    group, _, inner = key.partition(".")
    known = _top_keys(verb)
    if inner and group in ("modalities", "logger", "start", *_INSIDE) and group in known:
        parent = key.rpartition(".")[0]
        single = CardError(f"unknown key `{key}`", help=f"{parent} is one value, without keys of its own")
        if inner in _INSIDE.get(group, ()):
            return CardError(
                f"unknown key `{key}`", help=f"the preset of {group} leaves it out, so it is added: +{key}=..."
            )
        first, _, rest = inner.partition(".")
        if (group, first) == ("trainer", "optimizer"):
            return CardError(f"unknown key `{key}`", help=_optimizer_help(rest))
        if rest and first in _top_keys(verb):
            return CardError(f"unknown key `{key}`", help=f"{first} stands at the top: {inner}=...")
        if first in _INSIDE.get(group, ()):
            return single
        try:
            _try(group, inner, types)
        except CardError as error:
            return error if group == "modalities" else CardError(f"unknown key `{key}`", help=error.help)
        return single
    if group in other_names("run"):
        return CardError(f"unknown key `{key}`", help=f"it is written {other_names('run')[group]}")
    inside = next((each for each, names in _INSIDE.items() if key in names and each in known), None)
    if inside is not None:
        return CardError(f"unknown key `{key}`", help=f"it is a key of {inside}: {inside}.{key}=...")
    return CardError(f"unknown key `{key}`", help=did_you_mean(group, sorted(known), "keys"))


def _optimizer_help(option: str) -> str:
    """Where an option of the optimizer stands; the near name of one that no short name has."""
    having = [name for name, options in OPTIMIZERS.items() if option in options or option == "lr"]
    if not having:
        return did_you_mean(option, sorted({"lr", *(each for options in OPTIMIZERS.values() for each in options)}))
    written = f"trainer.optimizer={{path: {having[-1]}, {option}: ...}}"
    return f"it is written as {written}; +trainer.optimizer.{option}=... where such a mapping stands already"


def _try(group: str, inner: str, types: Mapping[str, ModalityCard]) -> None:
    """CardError of whatever reads `group`, given the key `inner` (maybe with dots) of it."""
    nested: Any = None
    for part in reversed(inner.split(".") if group in ("modalities", "logger") else [inner]):
        nested = {part: nested}
    if group == "modalities":
        with_settings(types, nested)
    elif group == "start":
        Start.of(nested, types)
    else:
        settings_of({"steps": 1, group: nested})


@lru_cache
def _top_keys(verb: str) -> frozenset[str]:
    """Keys that presets/<verb>.yaml has at its top, groups among them."""
    preset = plain(read_yaml(content_folder("presets") / f"{verb}.yaml"))
    groups = [name for each in preset["defaults"] if isinstance(each, dict) for name in each]
    named = [name for name in groups if not name.startswith("override ") and name != "experiment"]
    return frozenset([*named, *(key for key in preset if key not in ("defaults", "hydra"))])


def noted(make: Callable[[], Made], errors: list[OfasysError]) -> Made | None:
    """What `make` returns; None, and what it raised in `errors`, if that is a user's mistake."""
    try:
        return make()
    except OfasysError as error:
        errors.extend(error.errors)
    return None


def _group(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The mapping of a group; a group that is switched off (`null`) is empty."""
    value = content.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise CardError(f"`{name}` is `{value}`", help=f"{name}=PRESET chooses, {name}.KEY=VALUE changes one key")
    return dict(value)


def _train(content: Mapping[str, Any]) -> TrainSettings:
    values = _group(content, "trainer")
    for key in ("steps", "minutes", "seed", "mixture"):
        if key in values:
            raise CardError(f"trainer: unknown key `{key}`", help=f"it stands at the top: {key}={values[key]}")
    given = {key: value for key, value in values.items() if key not in MODEL_SWITCHES}
    end: dict[str, Any] = {key: content.get(key) for key in ("steps", "minutes")}
    end["mixture"] = MixtureSettings.of(content.get("mixture") or {})
    return TrainSettings.from_dict({**given, **end, "seed": content.get("seed") or 0})


def _model(content: Mapping[str, Any]) -> ModelConfig:
    trainer = content.get("trainer")
    values = trainer if isinstance(trainer, Mapping) else {}
    model = _group(content, "model")
    for key, field in MODEL_SWITCHES.items():
        if field in model:
            raise CardError(f"model: unknown key `{field}`", help=f"it is a switch of the trainer: trainer.{key}=true")
        if not isinstance(values.get(key, False), bool):
            raise CardError(f"trainer: {key} is {values[key]!r}", help=f"{key} is true or false")
    return ModelConfig.from_dict({**model, **{field: values.get(key, False) for key, field in MODEL_SWITCHES.items()}})


def _data(content: Mapping[str, Any]) -> DataSettings:
    values = _group(content, "data")
    check_keys("data", values, _DATA)
    for key, value in values.items():
        kinds, wanted = _DATA[key]
        if kinds and not isinstance(value, kinds):
            raise CardError(f"data: {key} is {value!r}", help=f"{key} is {wanted}")
    return DataSettings(values.get("pieces", 2000), values.get("bins", 1000), values.get("tokenizer"))


#: Key of `data` -> kinds of its value (none: judged by DataSettings), and what it is in words.
_DATA: Mapping[str, tuple[tuple[type, ...], str]] = {
    "root": ((str, type(None)), "the path of a folder"),
    "cache": ((str, type(None)), "the path of a folder, or null"),
    "cards": ((str, list, type(None)), "a folder, or a list of them"),
    "prepare": ((bool,), "true or false"),
    "tokenizer": ((str, type(None)), "the folder of a run or export (runs/x), or null"),
    "pieces": ((), ""),
    "bins": ((), ""),
}
_INSIDE: Mapping[str, frozenset[str]] = {
    "trainer": frozenset([*(f.name for f in fields(TrainSettings)), *MODEL_SWITCHES]),
    "data": frozenset(_DATA),
    "model": frozenset(f.name for f in fields(ModelConfig)),
    "mixture": frozenset(f.name for f in fields(MixtureSettings)),
}


def _loggers(content: Mapping[str, Any]) -> tuple[str, ...]:
    value = content.get("logger")
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise CardError(f"`logger` is `{value}`", help=f"logger=null, or of {', '.join(LOGGERS)}: logger=[csv]")
    for name, options in value.items():
        if name not in LOGGERS:
            raise CardError(f"logger `{name}` is not known", help=did_you_mean(str(name), LOGGERS))
        given = options if isinstance(options, Mapping) else {"enabled": options}
        check_keys(f"logger.{name}", given, ("enabled",))
        if not isinstance(given.get("enabled", True), bool):
            raise CardError(f"logger.{name}.enabled is `{given['enabled']}`", help="true or false")
    return tuple(
        str(name) for name, options in value.items() if not isinstance(options, Mapping) or options.get("enabled", True)
    )
