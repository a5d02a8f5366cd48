"""Typed reading of card items: every mistake of a card is noted with its place, none becomes a default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ofasys_lite.cards.yaml_nodes import Item, Key, plain, spelling
from ofasys_lite.errors import CardError, OfasysError, Place, did_you_mean, raise_all

_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")


class Fields:
    """A mapping of a card, read key by key; `finish` raises everything that was wrong.

    Args:
        owner: What it is, for messages: `task caption`, `attribute max_length`.
        errors: List shared with the mapping around it.
    """

    def __init__(self, item: Item, owner: str, errors: list[OfasysError] | None = None) -> None:
        self.owner = owner
        self.errors: list[OfasysError] = [] if errors is None else errors
        self.item = item
        if item.kind != "map":
            self.wrong(item, f"{owner} is {kind_name(item)}", "it is a mapping of keys to values")
            self.item = Item("map", (), place=item.place)

    def wrong(self, where: Item | Key | None, message: str, help: str = "") -> None:
        """Notes a mistake."""
        place: Place | None = where.place if where is not None else None
        # a value from the command line or Python has no line: then the owner says where
        text = message if place is not None or self.owner in message else f"{self.owner}: {message}"
        self.errors.append(CardError(text, place=place, help=help))

    def finish(self) -> None:
        """Raises what was noted: one CardError, or all of them as an ErrorGroup."""
        raise_all(self.errors)

    def only(self, allowed: Sequence[str]) -> None:
        """Notes every key that is not allowed, with the nearest name."""
        for key, _ in self.item.pairs():
            if key.text not in allowed:
                self.wrong(key, f"unknown key `{key.text}` in {self.owner}", did_you_mean(key.text, allowed))

    def has(self, key: str) -> bool:
        """Whether the key is there with a value other than null."""
        item = self.item.get(key)
        return item is not None and not is_null(item)

    def get(self, key: str) -> Item | None:
        """The item of a key, None if absent or null."""
        item = self.item.get(key)
        return None if item is None or is_null(item) else item

    def text(self, key: str, default: str = "") -> str:
        """A scalar as it is spelt."""
        item = self.get(key)
        return default if item is None else self.as_text(item, key, default)

    def as_text(self, item: Item, key: str, default: str = "") -> str:
        """The spelling of one item."""
        found = spelling(item)
        if found is None:
            self.wrong(item, f"`{key}` is {kind_name(item)}", "it is a word or a text")
            return default
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of scalars as they are spelt; a lone scalar is a list of one."""
        item = self.get(key)
        return () if item is None else self.as_texts(item, key)

    def as_texts(self, item: Item, key: str) -> tuple[str, ...]:
        """The spellings of the items of a list."""
        items = item.value if item.kind == "list" else (item,)
        return tuple(self.as_text(each, key) for each in items)

    def text_map(self, key: str) -> dict[str, str]:
        """A mapping of names to scalars."""
        item = self.get(key)
        if item is None:
            return {}
        inner = Fields(item, f"`{key}`", self.errors)
        return {k.text: inner.as_text(v, k.text) for k, v in inner.item.pairs()}

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false (yes, no, on and off are accepted)."""
        item = self.get(key)
        if item is None:
            return default
        found = (spelling(item) or "").lower()
        if found in _TRUE or found in _FALSE:
            return found in _TRUE
        self.wrong(item, f"`{key}` is {kind_name(item)}", "it is true or false")
        return default

    def integer(self, key: str, default: int | None, low: int | None = None) -> int | None:
        """A whole number of at least `low`."""
        item = self.get(key)
        if item is None:
            return default
        found = plain(item)
        if isinstance(found, bool) or not isinstance(found, int) or item.style:
            self.wrong(item, f"`{key}` is {kind_name(item)}", "it is a whole number")
            return default
        if low is not None and found < low:
            self.wrong(item, f"`{key}` is {found}", f"it is at least {low}")
            return default
        return found

    def number(self, key: str, default: float | None = None) -> float | None:
        """A number."""
        item = self.get(key)
        return default if item is None else self.as_number(item, key, default)

    def as_number(self, item: Item, key: str, default: float | None = None) -> float | None:
        """The number of one item; not a number, infinite and text are refused."""
        found = plain(item)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or item.style or found - found != 0:
            self.wrong(item, f"`{key}` is {kind_name(item)}", "it is a number")
            return default
        return found

    def one_of(self, key: str, allowed: Iterable[str], default: str) -> str:
        """One of some names."""
        item = self.get(key)
        if item is None:
            return default
        names = list(allowed)
        found = self.as_text(item, key, default)
        if found not in names:
            self.wrong(item, f"`{key}` cannot be `{found}`", did_you_mean(found, names))
            return default
        return found

    def plain_map(self, key: str) -> dict[str, Any]:
        """A mapping of plain values."""
        item = self.get(key)
        if item is None:
            return {}
        if item.kind != "map":
            self.wrong(item, f"`{key}` is {kind_name(item)}", "it is a mapping of keys to values")
            return {}
        found: dict[str, Any] = plain(item)
        return found


def is_null(item: Item) -> bool:
    """Whether the item is YAML's or Python's nothing."""
    return item.kind in ("scalar", "python") and plain(item) is None


def kind_name(item: Item) -> str:
    """What an item is, in words, for messages."""
    if item.kind == "map":
        return "a mapping"
    if item.kind == "list":
        return "a list"
    found = spelling(item)
    if found is None or is_null(item):
        return "empty"
    shown = found if len(found) <= 40 else found[:37] + "..."
    return f"`{shown}`"
