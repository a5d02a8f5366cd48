"""The types every recipe is made of: what a data set's columns are, from which wheels it comes, which rows it gave.

A recipe is a description (in recipes.json, printed by `ofasys-lite data list`) and one pure function from wheels to
rows. Nothing here opens a file.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ofasys_lite.recipes.fetch import Source, Wheels

SPLITS = ("train", "valid", "test")
#: Shares of the splits in percent, where nothing else is said.
RATIOS = (80.0, 10.0, 10.0)
Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a prepared data set.

    Attributes:
        name: Column name, as an instruction line binds it.
        kind: text, image (PNG bytes), video (bytes of a clip), audio (FLAC bytes), box (x0, y0, x1, y1 in pixels),
            motion (frames of numbers), objects (records of box and label), grid (rows of digits), record (a
            dictionary; keys that a row lacks are null), turns (records of role and content) or list (of text).
    """

    name: str
    kind: str
    help: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest number of rows kept per split; whole data sets have fewer."""

    train: int
    valid: int = 500
    test: int = 1000

    def of(self, split: str) -> int:
        """The limit of one split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[split]


@dataclass(frozen=True, slots=True)
class RecipeInfo:
    """What a recipe makes, said before anything is fetched.

    Attributes:
        name: Name of the recipe and of the prepared folder.
        title: One line for `ofasys-lite data list`.
        sources: The pinned wheels it reads; empty for a generator.
        columns: All columns but `id` and `group`, which every data set has.
        group: What `group` holds: the unit that never crosses a split and that intervals resample.
        limits: The largest number of rows per split.
        counts: Rows per split of the pinned version, as counted.
        size_mb: Size of the prepared folder in megabytes, as measured.
        generated: Which part is generated rather than found; empty if none.
        note: How it was split and what a reader of its scores must know.
        version: Raised whenever the same wheels give other rows.
    """

    name: str
    title: str
    sources: tuple[Source, ...]
    licence: str
    columns: tuple[Column, ...]
    group: str
    limits: Limits
    counts: Mapping[str, int]
    size_mb: float
    generated: str = ""
    note: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Built:
    """What a recipe returns: rows per split, and files that travel beside them (name -> bytes)."""

    splits: Mapping[str, list[Row]]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A description and the pure function that makes its rows from the opened wheels."""

    info: RecipeInfo
    build: Callable[[Wheels, Limits], Built]


def digest(text: str) -> str:
    """Hexadecimal sha1 of `text`."""
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def split_of(key: str, ratios: Sequence[float] = RATIOS) -> str:
    """The split of a key, for ever: `train` (80 of 100), `valid` (10) or `test` (10) by its sha1.

    Args:
        ratios: Shares of train, valid and test in percent.

    Example:
        >>> split_of("cat"), split_of("cat", (20, 40, 40))
        ('train', 'valid')
    """
    number = int(digest(key), 16)
    percent = number % 100 + number // 100 % 100 / 100  # whole numbers first: the same as ever
    return "train" if percent < ratios[0] else "valid" if percent < ratios[0] + ratios[1] else "test"


def assemble(
    name: str, rows: Iterable[Row], limits: Limits, split: Callable[[str], str] = split_of
) -> dict[str, list[Row]]:
    """Rows per split with their `id`, groups in the order of a hash, so that the first n rows are a fair sample.

    Args:
        rows: Rows with a `group` each.
        limits: Largest number of rows per split; the last group may be cut.
    """
    parts: dict[str, list[Row]] = {each: [] for each in SPLITS}
    for row in rows:
        parts[split(row["group"])].append(row)
    return numbered(name, parts, limits)


def numbered(name: str, parts: Mapping[str, list[Row]], limits: Limits | None = None) -> dict[str, list[Row]]:
    """Rows of each split with their `id`, groups in hash order and rows of a group in the given order."""
    found = {}
    for split, rows in parts.items():
        keys = {row["group"]: digest(f"order {row['group']}") for row in rows}
        kept = sorted(rows, key=lambda row: keys[row["group"]])[: limits.of(split) if limits else None]
        found[split] = [{"id": f"{name}-{split}-{place:05d}", **row} for place, row in enumerate(kept)]
    return found


def pick(values: Sequence[T], generator: random.Random) -> T:
    """One of the values, by chance."""
    return values[int(generator.random() * len(values))]
