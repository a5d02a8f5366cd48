"""Train, valid and test: given by the card, or set aside from train by a hash that never changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.fields import MISSING, column_help
from ofasys_lite.data.passing_rows import FirstRows
from ofasys_lite.data.rows import open_source, open_training
from ofasys_lite.data.source import RowSource, combined, has_column
from ofasys_lite.data.spec import is_stream
from ofasys_lite.data.subset import Subset, named_splits
from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.recipes.recipe import RATIOS, SPLITS, split_of


class SplitView(Subset):
    """The rows of a source that belong to one split.

    Args:
        group_column: Column whose value keys the hash, so that rows of one group stay together; None: the sample id.
        missing: Splits that have no source of their own; `train` keeps all rows of the others.

    Raises:
        DataError: On an unknown split or column.
    """

    def __init__(
        self,
        source: RowSource,
        split: str,
        group_column: str | None = None,
        missing: Collection[str] = ("valid", "test"),
    ) -> None:
        if split not in SPLITS:
            raise DataError(f"unknown split `{split}`", help=did_you_mean(split, SPLITS, "splits"))
        if group_column and not has_column(source.columns, group_column):
            raise DataError(
                f"{source.name} has no column `{group_column}` to split by",
                help=column_help(group_column, source.columns),
            )
        key = combined(source.fingerprint, group_column or "", *(source.ratios or ()))
        split_N = cached_arrays("splits-1", key, lambda: {"split": _splits(source, group_column)})["split"]
        wanted = [SPLITS.index(split)]
        if split == "train":
            wanted += [number for number, name in enumerate(SPLITS) if name not in missing and number]
        rows_N = np.flatnonzero(np.isin(split_N, wanted))
        key = combined(source.fingerprint, group_column or "", *map(str, wanted), *(source.ratios or ()))
        super().__init__(source, rows_N, f"{source.name} ({split})", key)
        self.split = split


def _splits(source: RowSource, group_column: str | None) -> NDArray[np.int64]:
    """The split (as its number in SPLITS) of every row; rows that cannot be read, or have no group, go by their id."""
    out = np.zeros(len(source), np.int64)
    for i in range(len(source)):
        key: Any = None
        with suppress(DataError):  # a row that cannot be read has its split, too
            key = source.value(i, group_column) if group_column else None
        if key is MISSING or key is None:
            key = str(i)
            with suppress(DataError):
                key = source.ids(i)
        out[i] = SPLITS.index(split_of(str(key), source.ratios or RATIOS))
    return out


def open_card(card: TaskCard, data: Mapping[str, Any] | None = None) -> tuple[dict[str, RowSource], tuple[str, ...]]:
    """What `open_splits` gives for a card: paths start at its folder, columns are renamed, groups kept together."""
    return open_splits(
        data_of(card, data),
        base=Path(card.path).parent if card.path else None,
        columns=card.columns or None,
        group_column=card.group or None,
    )


def data_of(card: TaskCard, data: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """What a card, or `data` in its place, names by split: where the card says `stream` train is one."""
    data = card.data if data is None else data
    train = data.get("train")
    if not card.stream or train is None or isinstance(train, RowSource):
        return data
    asked = train if isinstance(train, Mapping) else {"path": train}
    return {**data, "train": {**asked, "stream": True}}


def open_splits(
    data: Mapping[str, Any],
    *,
    base: Path | None = None,
    columns: Mapping[str, str] | None = None,
    group_column: str | None = None,
) -> tuple[dict[str, RowSource], tuple[str, ...]]:
    """(source of train, valid and test, notes) of a card's `data`; what it does not name comes from its train rows.

    Args:
        data: Split -> what `open_source` takes; `train` is needed.
        group_column: Column that keeps rows together when valid or test are set aside.

    Raises:
        DataError: On an unknown split, no train source, or train left without rows.
    """
    for split in data:
        if split not in SPLITS:
            raise DataError(f"unknown split `{split}`", help=did_you_mean(str(split), SPLITS, "splits"))
    if "train" not in data:
        raise DataError("no data to train on", help="name it: `data: {train: my.csv}`")
    given = dict[str, RowSource]()
    for split, spec in data.items():
        if spec is not None and split == "train":
            given[split] = open_training(spec, base=base, columns=columns)
        elif spec is not None:
            refuse_stream(split, spec)
            given[split] = open_source(spec, base=base, columns=columns)
    return set_aside(given, group_column)


def refuse_stream(split: str, spec: Any) -> None:
    """Raises DataError where valid or test are given as a stream."""
    if is_stream(spec) or isinstance(spec, FirstRows):
        raise DataError(
            f"{split} is given as a stream, and its rows are asked for by number",
            help=f"leave `stream` out; or leave {split} out: then it is made of the first rows of a stream to train on",
        )


def set_aside(given: Mapping[str, RowSource], group_column: str | None) -> tuple[dict[str, RowSource], tuple[str, ...]]:
    """(source of train, valid and test, notes): splits that are not given come from the train rows.

    Raises:
        DataError: Train is left without rows.
    """
    missing = tuple(split for split in SPLITS if split not in given)
    whole = given["train"]
    if isinstance(whole, FirstRows):
        aside, told = whole.set_aside(missing, group_column)
        found = {**given, **aside}
        return _noted(found, [note for source in given.values() for note in source.notes], told)
    views = {split: SplitView(whole, split, group_column, missing) for split in ("train", *missing) if missing}
    found = {**given, **views}
    if not len(found["train"]):
        raise DataError(
            f"{whole.name}: all {len(whole)} rows fall into {' and '.join(missing)}", help="name them in `data`"
        )
    notes = list[str]()
    if missing:
        sizes = ", ".join(f"{len(found[split]):,} {split}" for split in ("train", *missing))
        notes.append(f"{by_rule(missing, whole, group_column)}: {sizes}")
        column, said = named_splits(whole) if len(given) == 1 else ("", {})
        if column:
            lines = ", ".join(f"{split}: {{path: {whole.name}, where: {{{column}: {v}}}}}" for split, v in said.items())
            notes.append(f"what column `{column}` says of the splits is not followed; to follow it: {{{lines}}}")
    return _noted(found, [note for source in given.values() for note in source.notes], notes)


def _noted(
    found: Mapping[str, RowSource], own: Sequence[str], told: Sequence[str]
) -> tuple[dict[str, RowSource], tuple[str, ...]]:
    """The splits, and notes: those of their sources, of how they were made, and of which have no rows."""
    notes = [*dict.fromkeys(own), *told]
    for split in ("valid", "test"):
        if not len(found[split]):
            lost = "it is not validated" if split == "valid" else "it is trained, and not evaluated"
            notes.append(f"its {split} split has no rows: {lost}; name some in `data`")
    return {split: found[split] for split in SPLITS}, tuple(notes)


def by_rule(missing: Collection[str], whole: RowSource, group_column: str | None) -> str:
    """What is said of splits that are set aside: `valid and test come from qa.csv, by sha1 of the sample id`."""
    by = f"column `{group_column}`" if group_column else "sample id"
    verb = "come" if len(missing) > 1 else "comes"
    shares = "" if whole.ratios is None else f" ({' : '.join(f'{share:g}' for share in whole.ratios)})"
    return f"{' and '.join(missing)} {verb} from {whole.name}, by sha1 of the {by}{shares}"
