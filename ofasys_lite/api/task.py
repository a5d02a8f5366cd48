"""A task in Python: one line, its data as a card's `data` may hold it, how often it is drawn. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ofasys_lite.cards import find_task, load_task_card, modalities
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.readers.arrow_values import table_rows
from ofasys_lite.data.readers.memory import ListSource
from ofasys_lite.data.rows import open_source
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.spec import is_paths
from ofasys_lite.data.streams import of_object
from ofasys_lite.errors import CardError, DataError, did_you_mean
from ofasys_lite.interop.ofasys_spellings import current_line, weight_of
from ofasys_lite.plan import build_plan
from ofasys_lite.preprocess.doubled import column_names
from ofasys_lite.preprocess.plain import plain
from ofasys_lite.recipes.recipe import SPLITS


class Task:
    """One task: the line is parsed and planned at once, so a mistake in it is told here.

    Args:
        name: Its name, unique in a run.
        instruction: Its line, such as `[IMAGE:img] what does the image describe? -> [TEXT:cap]`.
        data: Source of the training rows, or sources by split (`train`, `valid`, `test`); `add_dataset` adds them too.
        weight: How often it is drawn, in samples, against the other tasks of a run: a number, or points over steps
            `[[0, 1.0], [5000, 0.2]]`. 1 if not given.
        micro_batch_size: OFASys' name for the same: two tasks with 4 and 2 are drawn two to one. How many samples a
            step has is `samples_per_step` of the training.
        metrics: Metric name, or several, or mappings with baselines as in a card.
        folders: Folders with modality cards of your own (`folder/modalities/*.yaml`).
        **card: Further keys of a task card: columns, sets, decoding, group, epochs, stream, loss_on_words, settings ...

    Raises:
        InstructionError: The line does not parse or makes no sense.
        CardError: A value of another kind, or an unknown keyword.

    Example:
        >>> task = Task("reverse", "what is the reverse of [TEXT:word]? -> [TEXT:answer]", micro_batch_size=4)
        >>> task.add_dataset([{"word": "cat", "answer": "tac"}]).card.weight
        4.0
    """

    def __init__(
        self,
        name: str,
        instruction: str,
        *,
        data: Any = None,
        weight: float | Sequence[Sequence[float]] | None = None,
        micro_batch_size: int | None = None,
        metrics: str | Mapping[str, Any] | Sequence[Any] = (),
        folders: Sequence[str | Path] = (),
        **card: Any,
    ) -> None:
        values = {**card, "instruction": current_line(instruction)}
        if weight is not None and micro_batch_size is not None:
            raise CardError(
                f"task {name}: weight and micro_batch_size both say how often it is drawn", help="give one of the two"
            )
        if micro_batch_size is not None:
            values["weight"] = weight_of(micro_batch_size)
        elif weight is not None:
            values["weight"] = [list(point) for point in weight] if isinstance(weight, Sequence) else weight
        if metrics:
            values["metrics"] = metrics
        if not isinstance(name, str):
            raise CardError(f"a task's name is text, not {type(name).__name__}", help="name='caption'")
        self._begin(load_task_card(values, name=name), folders)
        if data is not None:
            self._add_all(data)

    def _begin(self, card: TaskCard, folders: Sequence[str | Path]) -> None:
        self._card = card
        self.folders = tuple(folders)
        self._data: dict[str, Any] = dict(card.data)
        build_plan(card, self.modalities())

    @classmethod
    def from_card(cls, card: str | Path | TaskCard, data: Any = None, folders: Sequence[str | Path] = ()) -> Task:
        """The task of a card: by name, by path (`my/tasks/vqa.yaml`), or the card itself.

        Args:
            card: Name of a card of the package or of `folders`, path of a YAML file, or a TaskCard.
            data: Sources in place of the card's.
            folders: Folders with task and modality cards of your own.

        Raises:
            CardError: There is no such card (the nearest name is offered), or it holds a mistake.
        """
        if isinstance(card, TaskCard):
            found = card
        elif isinstance(card, Path) or str(card).endswith((".yaml", ".yml")):
            found = load_task_card(Path(card))
        else:
            found = find_task(card, folders)
        task = cls.__new__(cls)
        task._begin(found if data is None else replace(found, data={}), folders)
        if data is not None:
            task._add_all(data)
        return task

    @property
    def name(self) -> str:
        """Its name."""
        return self._card.name

    @property
    def instruction(self) -> str:
        """Its line, as it was written."""
        return self._card.instruction

    @property
    def card(self) -> TaskCard:
        """Its card, with the sources added so far."""
        return replace(self._card, data=dict(self._data))

    def modalities(self) -> dict[str, ModalityCard]:
        """Modality cards by name and alias: the package's and those of `folders`."""
        return modalities(self.folders)

    def add_dataset(self, dataset: Any, split: str = "train") -> Task:
        """Gives the rows of a split; returns the task, so that calls can follow one another.

        Splits that get no rows of their own are set aside from `train` by hash: 10 % valid, 10 % test.

        Args:
            dataset: Path, URL, list of paths, `recipe:split`, `hf:name:split`, list of dicts, Hugging Face or torch
                data set (with `__len__` and `__getitem__`), pandas, polars or pyarrow table. To train a task with
                `stream=True`: a path; a generator function, an iterable or iterator of dicts, a Hugging Face
                IterableDataset.
            split: `train`, `valid` or `test`.

        Raises:
            DataError: Unknown split, a split that has rows already, or an object that holds none.
        """
        if split not in SPLITS:
            raise DataError(
                f"task {self.name}: unknown split `{split}`", help=did_you_mean(str(split), SPLITS, "splits")
            )
        if self._data.get(split) is not None:
            raise DataError(
                f"task {self.name} already has rows to {split} on"
                if split == "train"
                else f"task {self.name} already has rows for `{split}`",
                help="join them into one list, or several files into one source: ['a.csv', 'b.csv']",
            )
        stream = self._card.stream and split == "train"
        self._data[split] = (as_stream if stream else as_source)(dataset, f"{self.name} {split}")
        return self

    def _add_all(self, data: Any) -> None:
        by_split = isinstance(data, Mapping) and not {"path", "hf"} & set(data) and not is_paths(data)
        for split, source in data.items() if by_split else [("train", data)]:
            self.add_dataset(source, split)

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {self.instruction!r}, splits={list(self._data)})"


def as_source(source: Any, name: str = "") -> Any:
    """A path, URL, `recipe:split`, `hf:name:split` or mapping as it is; Python objects as a RowSource.

    Args:
        source: What `open_source` takes, or a table of pandas, polars or pyarrow.
        name: What a list is called in messages.

    Raises:
        DataError: The object holds no rows by number, and what to give instead.
    """
    library = type(source).__module__.partition(".")[0]
    if (isinstance(source, (str, Path, Mapping, RowSource)) and library != "datasets") or is_paths(source):
        return source
    rows = _records(source, library)
    if rows is not None or (isinstance(source, Sequence) and not isinstance(source, (bytes, bytearray))):
        return ListSource(source if rows is None else rows, name=name or type(source).__name__)
    module = type(source).__module__
    if module.startswith("torch.utils.data") and hasattr(source, "batch_sampler"):
        raise DataError("a DataLoader has batches, not rows", help="give the data set in it: loader.dataset")
    return open_source(source)


def as_stream(source: Any, name: str = "") -> Any:
    """A path, URL, `hf:name:split` or mapping as it is; Python objects without a length as the first rows of a stream.

    Args:
        source: A path and the like; a generator function, an iterable or iterator of dicts, a
            `datasets.IterableDataset`.
        name: What it is called in messages.

    Raises:
        DataError: It gives no rows, or can be read by number.
    """
    if isinstance(source, (str, Path, Mapping, RowSource)) or is_paths(source):
        return source
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        raise DataError(f"{name}: {type(source).__name__} has rows by number", help="leave stream=True out")
    return of_object(source, name)


def _records(source: Any, library: str) -> list[dict[str, Any]] | None:
    """The rows of a table in memory as dicts, values that are missing as None; None for anything else."""
    if library == "pandas" and hasattr(source, "notna"):
        if not hasattr(source, "columns"):
            raise DataError("a pandas Series has no columns", help="give a DataFrame: series.to_frame('column')")
        named = [level for level, name in enumerate(source.index.names) if name is not None]  # as its files have it
        names = column_names([*(source.index.names[level] for level in named), *source.columns])
        columns = [_held(source.index.get_level_values(level).to_series()) for level in named]
        columns += [_held(source.iloc[:, place]) for place in range(source.shape[1])]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if library == "polars" and hasattr(source, "to_arrow"):
        return table_rows(source.to_arrow())
    if library == "pyarrow" and hasattr(source, "to_pylist") and hasattr(source, "column_names"):
        return table_rows(source if hasattr(source, "to_batches") else _table_of(source))
    return None


def _table_of(batch: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def _held(column: Any) -> list[Any]:
    """The values of a column of pandas, plain ones."""
    held = column.astype(object).where(column.notna(), None)
    if str(column.dtype).lower() in ("float32", "float16"):  # Python's floats would show digits that nobody wrote
        return [value if value is None else plain(getattr(np, str(column.dtype).lower())(value)) for value in held]
    return [plain(value) for value in held]
