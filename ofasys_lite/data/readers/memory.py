"""Rows that Python objects give: lists of dicts, torch-style map datasets, Hugging Face datasets."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Mapping, Sequence
from typing import Any

from ofasys_lite.cards.classes import load_object
from ofasys_lite.data.copies import data_file, name_of
from ofasys_lite.data.readers.arrow_values import Reading, readings
from ofasys_lite.data.source import Chained, NoRows, RowSource, combined, row_error
from ofasys_lite.errors import DataError, OfasysError, did_you_mean, needed
from ofasys_lite.preprocess.absence import home
from ofasys_lite.preprocess.plain import all_plain, plain


class ListSource(RowSource):
    """Rows of a list of dicts; its columns are all keys of all rows; DataError if there are none, or one is no dict."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], name: str = "list", base: str = "", fingerprint: str = ""
    ) -> None:
        if not rows:
            raise NoRows(f"{name} has no rows", help="give at least one row")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise DataError(
                    f"{name}, row {number}: found {type(row).__name__}, not a dict",
                    help='such as {"q": "...", "a": "..."}',
                )
        self.rows = rows
        self.name = name
        self.base = base
        keys = dict.fromkeys(key for row in rows for key in row)
        self._named = all(type(key) is str for key in keys)
        self.columns = tuple(dict.fromkeys(map(str, keys)))
        self._fingerprint = fingerprint

    def _hash(self) -> str:
        """Hash of all rows."""
        return _hash_rows(self)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, i: int) -> dict[str, Any]:
        """A copy of row `i`, its values as people write them."""
        row = self.rows[i if 0 <= i < len(self.rows) else self.check_row(i)]
        if self._named and all_plain(row.values()):  # most rows, in a third of the time
            return dict(row)
        return {str(key): plain(value) for key, value in row.items()}


class DatasetSource(RowSource):
    """Rows of any object with `__len__` and `__getitem__` that gives dicts, such as a torch Dataset.

    Its columns are the keys of its first item.

    Raises:
        DataError: If it is empty, has no length, or its first item is no dict.
    """

    def __init__(self, dataset: Any, name: str = "") -> None:
        self.dataset = dataset
        self.name = name or type(dataset).__name__
        if not len(dataset):
            raise NoRows(f"{self.name} has no rows", help="give at least one row")
        self.columns = tuple(self.row(0))

    def _hash(self) -> str:
        """Hash of its class and all rows."""
        kind = type(self.dataset)
        return combined(kind.__module__, kind.__qualname__, _hash_rows(self))

    def __len__(self) -> int:
        return len(self.dataset)

    def row(self, i: int) -> dict[str, Any]:
        """Item `i`; DataError if it is no dict."""
        found = self.dataset[self.check_row(i)]
        if not isinstance(found, Mapping):
            raise row_error(
                self.place(i),
                f"`{type(self.dataset).__name__}[{i}]` gives {type(found).__name__}, not a dict",
                help="let __getitem__ give a dict of columns",
            )
        return {str(key): plain(value) for key, value in found.items()}


def own_rows(path: str, reader: str) -> RowSource:
    """The rows that a reader of the user's makes of a file or folder.

    Args:
        path: Path or URL; what is at a web address is fetched first.
        reader: Dotted path of a function (or class) of a path that gives a list of dicts, an object with `__len__` and
            `__getitem__`, or a RowSource.

    Raises:
        CardError: There is no such function.
        DataError: It cannot read the file, or gives no rows by number.
    """
    function, file = load_object(reader, "format"), data_file(path)
    try:
        rows = function(file.path)
        if isinstance(rows, RowSource):
            return rows
        if isinstance(rows, Sequence) and not isinstance(rows, str):
            return ListSource(rows, name_of(path), file.folder)
        if hasattr(rows, "__len__") and hasattr(rows, "__getitem__"):
            return DatasetSource(rows, name_of(path))
    except OfasysError:
        raise
    except Exception as error:
        help = f"it is read by {reader}, as `format` says"
        raise DataError(f"{path}: {type(error).__name__}: {error}", help=help) from error
    help = "a list of dicts, an object with `__len__` and `__getitem__`, or a RowSource"
    raise DataError(f"{path}: {reader} gives {type(rows).__name__}, which is no rows by number", help=help)


class HuggingFaceSource(RowSource):
    """Rows of a `datasets.Dataset`; images and audio come as bytes or path, not decoded; DataError if it is empty."""

    def __init__(self, dataset: Any, name: str = "") -> None:
        if not len(dataset):
            raise NoRows(f"{name or 'dataset'} has no rows", help="give at least one row")
        # what the library keeps: a hash of the data and all that was done to it
        self._fingerprint = combined("datasets-2", dataset._fingerprint)
        self.dataset, self._read = _plain_format(dataset)
        self.columns = tuple(self.dataset.column_names)
        self.name = name or f"dataset {dataset.info.dataset_name or dataset._fingerprint}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.dataset, self._read = _plain_format(self.dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`: labels by their names, other values as people write them."""
        found = self.dataset[self.check_row(i)]
        read = self._read
        if read is None:  # a transform of the user's makes what it likes of the columns
            return {str(key): plain(value) for key, value in found.items()}
        try:
            return {name: read[name](value) if name in read else value for name, value in found.items()}
        except DataError as error:
            raise row_error(self.place(i), error.message, help=error.help) from None


def is_stored(source: RowSource) -> bool:
    """Whether the fingerprint of a source is known without reading all its rows: not that of Python objects."""
    inner = getattr(source, "source", None)
    if isinstance(inner, RowSource):
        return is_stored(inner)
    if isinstance(source, Chained):
        return all(map(is_stored, source.sources))
    if isinstance(source, HuggingFaceSource):
        return source._read is not None  # a transform may give other values each time
    return not isinstance(source, DatasetSource) and (not isinstance(source, ListSource) or bool(source._fingerprint))


def _plain_format(dataset: Any) -> tuple[Any, dict[str, Reading] | None]:
    """(the dataset giving Python values, media not decoded; how they are read, None under a transform)."""
    if dataset.format["type"] == "custom":
        return dataset, None
    dataset = dataset.with_format(None)
    for name, feature in list(dataset.features.items()):
        if type(feature).__name__ in ("Image", "Audio", "Video") and hasattr(feature, "decode"):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return dataset, readings(dataset.features.arrow_schema)


def hugging_face_rows(name: str, split: str, config: str | None = None, streaming: bool = False) -> Any:
    """The `datasets` object of a saved folder, of a data set in the local cache, or of one on the hub.

    Raises:
        DataError: If the datasets library is missing, nothing is found, or there is no such split.
    """
    from pathlib import Path

    datasets = needed("datasets", "`hf:`", "data")
    folder = Path(home(name))
    try:
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            found = datasets.load_from_disk(str(folder))
            if isinstance(found, datasets.DatasetDict):
                if split not in found:
                    raise DataError(
                        f"hf:{name} has no split `{split}`", help=did_you_mean(split, list(found), "splits")
                    )
                found = found[split]
            return found.to_iterable_dataset() if streaming else found
        return datasets.load_dataset(name, config, split=split, streaming=streaming)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"hf:{name}:{split} cannot be opened: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            help="name a folder made by save_to_disk, or a data set of the hub that is in the local cache or reachable",
        ) from None


def _hash_rows(source: RowSource) -> str:
    """Hash over all rows of a source: two that differ in one value have two."""
    state = hashlib.blake2b(f"{len(source)}".encode(), digest_size=16)
    for i in range(len(source)):
        row = source.row(i)
        try:  # plain values at once, in the one format of marshal that depends on nothing but them
            state.update(marshal.dumps(row, 2))
        except ValueError:
            feed(state, row)
    return state.hexdigest()


def feed(state: Any, value: Any) -> None:
    """Adds one value to a hash: by content where Python or numpy knows it."""
    if type(value) is str:  # most values, without the questions below
        text = value.encode("utf-8", "surrogatepass")
        state.update(b"str:%d:" % len(text) + text)
        return
    state.update(type(value).__name__.encode() + b":")
    if isinstance(value, Mapping):
        for key, part in value.items():
            feed(state, str(key))
            feed(state, part)
    elif isinstance(value, (list, tuple)):
        state.update(f"{len(value)}".encode())
        for part in value:
            feed(state, part)
    elif isinstance(value, bytes):
        state.update(f"{len(value)}:".encode() + value)
    elif hasattr(value, "tobytes"):  # numpy arrays and PIL images
        shape = getattr(value, "shape", getattr(value, "size", ""))
        state.update(f"{shape}{getattr(value, 'dtype', getattr(value, 'mode', ''))}".encode() + value.tobytes())
    elif hasattr(value, "numpy"):  # torch tensors
        feed(state, value.numpy())
    elif value is None or isinstance(value, (str, int, float)):
        text = str(value).encode("utf-8", "surrogatepass")
        state.update(f"{len(text)}:".encode() + text)
