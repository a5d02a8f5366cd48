"""Settings of modalities as a run or a model changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import CardError, did_you_mean


def with_settings(
    cards: Mapping[str, ModalityCard], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, ModalityCard]:
    """Modality cards by name and alias, single settings changed.

    A setting that is a mapping in its card takes the keys that it has there, each by itself; `{}` takes any.

    Raises:
        CardError: An unknown modality or setting, with the nearest; a value of another kind than the card's.
    """
    given: dict[str, Mapping[str, Any]] = {}
    for name, values in settings.items():
        if name not in cards:
            raise CardError(f"unknown modality {name}", help=did_you_mean(str(name), sorted(cards)))
        if not isinstance(values, Mapping):
            raise CardError(f"modalities.{name} is `{values}`", help=f"write modalities.{name}.KEY=VALUE")
        given[cards[name].name] = values
    changed: dict[str, ModalityCard] = {}
    for card in cards.values():
        if values := overrides_of(card, given):
            changed[card.name] = replace(card, settings=_merged(card.name, "", card.settings, values))
    return {name: changed.get(card.name, card) for name, card in cards.items()}


def overrides_of(card: ModalityCard, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `settings`, by modality, change of a card: what is said of it, and of the one that it is `like`."""
    other = settings.get(card.like, {})
    return {**{key: other[key] for key in card.shared if key in other}, **settings.get(card.name, {})}


def given_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something: without nulls inside mappings, which leave a value to its owner.

    Example:
        >>> given_settings({"patch": 4, "widths": None, "codec": {"width": 8, "loss": None}})
        {'patch': 4, 'widths': None, 'codec': {'width': 8}}
    """
    return {
        key: {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value
        for key, value in settings.items()
    }


def _merged(name: str, path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`; `path` is where both stand among the settings of the modality `name`."""
    found = dict(old)
    for key, value in new.items():
        full = f"{path}{key}"
        if key not in old:
            if not path:
                help = f"{did_you_mean(str(key), old, 'settings')}; a setting stands in its card first"
                raise CardError(f"modality {name} has no setting `{key}`", help=help)
            if old:
                help = did_you_mean(str(key), old, "it has")
                raise CardError(f"setting `{path[:-1]}` of modality {name} has no `{key}`", help=help)
        elif isinstance(old[key], Mapping) and isinstance(value, Mapping):
            value = _merged(name, f"{full}.", old[key], value)
        elif isinstance(value, Mapping) and value and old[key] is not None:
            parent = f"modalities.{name}.{full}"
            help = f"{parent} is one value, without keys of its own"
            raise CardError(f"unknown key `{parent}.{next(iter(value))}`", help=help)
        else:
            wanted = _wanted(old[key], value)
            if wanted:
                help = f"{full} is {wanted}, such as {_shown(old[key])}"
                raise CardError(f"setting `{full}` of modality {name} is {value!r}", help=help)
        found[key] = value
    return found


def _wanted(old: Any, new: Any) -> str:
    """What a value must be that takes the place of `old`, in words; empty if `new` is that (of null: anything)."""
    kinds: tuple[tuple[type | tuple[type, ...], type | tuple[type, ...], str], ...] = (
        (bool, bool, "true or false"),
        (int, int, "a whole number"),
        (float, (int, float), "a number"),
        (Mapping, Mapping, "a mapping of names to values"),
        ((list, tuple), (list, tuple), "a list"),
        (str, (str, int, float), "a word or a text"),
    )
    if old is None or new is None:
        return ""
    _, allowed, words = next(each for each in kinds if isinstance(old, each[0]))
    fits = isinstance(new, allowed) and (isinstance(old, bool) or not isinstance(new, bool))
    return "" if fits else words


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(dict(value) if isinstance(value, Mapping) else value)
