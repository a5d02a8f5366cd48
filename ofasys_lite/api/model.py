"""The model in Python: made by a preset, trained by `fit`, used by a line or a task's name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ofasys_lite.api.task import as_source
from ofasys_lite.cards import modalities as modality_cards
from ofasys_lite.cards.overrides import with_settings
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.commands.compose import compose
from ofasys_lite.errors import CardError, CheckpointError, DataError
from ofasys_lite.generalist.calls import closed_line, named_row, slot_columns, split_keywords
from ofasys_lite.interop.ofasys_spellings import refuse_checkpoint

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ofasys_lite.generalist.embedding import Match
    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.generalist.prediction import Prediction, Request
    from ofasys_lite.model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Presets:
    """What presets/ says about one model and one trainer.

    Attributes:
        data: Settings of data.
        steps: Steps of a run that names no end.
    """

    model: Mapping[str, Any]
    modalities: Mapping[str, Mapping[str, Any]]
    trainer: Mapping[str, Any]
    data: Mapping[str, Any]
    steps: int | None


def read_presets(model: str = "small", trainer: str = "cpu", folder: str | Path | None = None) -> Presets:
    """The presets of these names, the package's or those in a folder of your own.

    Raises:
        CardError: An unknown name; the nearest is offered.
    """
    found = compose("train", [f"model={model}", f"trainer={trainer}"], folder)
    return Presets(found["model"], found["modalities"], found["trainer"], found["data"], found["steps"])


Closed = Collection[str] | Mapping[str, Collection[str]]
Self = TypeVar("Self", bound="GeneralistModel")


class GeneralistModel:
    """One model for many tasks. It has weights once it is trained (`fit`) or loaded (`from_pretrained`).

    Args:
        preset: Name of a model preset (tiny, quick, small, base, large, huge, or your own), or a ModelConfig.
        modalities: Settings by modality in place of the preset's: `{"IMAGE": {"patch": 8}}`.
        folder: Folder of your own with modalities/ and model/ presets.
        **sizes: Single fields of ModelConfig in place of the preset's: width, encoder_layers, dropout ...

    Attributes:
        config: Sizes of the encoder-decoder.
        run: Folder of the last run that trained it, or None.

    Raises:
        CardError: An unknown preset, field or setting; the nearest is offered.

    Example:
        >>> GeneralistModel("tiny", width=64).config.encoder_layers
        2
    """

    def __init__(
        self,
        preset: str | ModelConfig = "small",
        *,
        modalities: Mapping[str, Mapping[str, Any]] | None = None,
        folder: str | Path | None = None,
        **sizes: Any,
    ) -> None:
        from ofasys_lite.model.config import ModelConfig

        if isinstance(preset, ModelConfig):
            values, settings = preset.to_dict(), dict[str, Mapping[str, Any]]()
        elif isinstance(preset, str):
            found = read_presets(model=preset, folder=folder)
            values, settings = dict(found.model), dict(found.modalities)
        else:
            raise CardError(
                f"a model is made by the name of a preset or a ModelConfig, not by {type(preset).__name__}",
                help="GeneralistModel('small'); a trained one is loaded by GeneralistModel.from_pretrained('runs/x')",
            )
        self.config: ModelConfig = ModelConfig.from_dict({**values, **_resized(values, sizes)})
        self.run: Path | None = None
        self._generalist: Generalist | None = None
        cards = modality_cards(() if folder is None else (folder,))
        self._modalities = with_settings(with_settings(cards, settings), modalities or {})
        own = {cards[name].name: values for name, values in (modalities or {}).items()}
        #: What was asked for by itself, not by a preset: `model.width`, `modalities.IMAGE.patch`.
        self.given = {f"model.{key}" for key in (values if isinstance(preset, ModelConfig) else sizes)}
        self.given |= {f"modalities.{name}.{key}" for name, values in own.items() for key in values}

    @classmethod
    def from_pretrained(
        cls: type[Self], path: str | Path, *, device: str | torch.device = "auto", precision: str = "fp32"
    ) -> Self:
        """The model in a run folder (`runs/x`), a folder of `save_pretrained`, or a Hugging Face repository by id.

        Args:
            path: The folder or repository.
            device: Where it computes: `auto` (a CUDA device where there is one), `cpu`, `cuda`, `cuda:1` ...
            precision: Of its predictions: `fp32`, `bf16`, `int8` (CPUs), or `auto`, what a probe finds clearly faster.

        Raises:
            CheckpointError: There is none, or it is damaged or of another kind; says what to use instead.
        """
        from ofasys_lite.generalist.generalist import Generalist

        refuse_checkpoint(path)
        model = cls.__new__(cls)
        model.run, model.given = None, set()
        model._hold(Generalist.from_pretrained(path, device, precision))
        return model

    def _hold(self, generalist: Generalist) -> None:
        self._generalist = generalist
        self.config = generalist.network.config
        self._modalities = dict(generalist.modalities)

    @property
    def trained(self) -> bool:
        """True once it has weights and a vocabulary."""
        return self._generalist is not None

    @property
    def generalist(self) -> Generalist:
        """The network, its vocabulary and tasks; CheckpointError while it has none."""
        if self._generalist is None:
            raise CheckpointError(
                "this model is not trained yet, so it has no vocabulary and no weights",
                help="train it: fit(model, tasks, steps=1000); or load one: GeneralistModel.from_pretrained('runs/x')",
            )
        return self._generalist

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks it learned."""
        return tuple(self._generalist.tasks) if self._generalist is not None else ()

    def modalities(self) -> dict[str, ModalityCard]:
        """Modality cards by name and alias, with the settings this model has."""
        return dict(self._modalities)

    def save_pretrained(self, folder: str | Path, overwrite: bool = False, licence: str | None = None) -> Path:
        """Writes a self-contained folder (config.json, model.safetensors, tokenizer, a model card); returns it.

        Args:
            folder: Made where it is missing; other files in it stay.
            overwrite: A model that the folder holds is replaced; a README.md of yours, or that you changed, never.
            licence: Under which the model may be used, for the card; None: as it is known, else unknown.

        Raises:
            WriteError: The folder holds a model, or files of those names, and `overwrite` is not said; it is a file;
                it cannot be written.
        """
        return self.generalist.save_pretrained(folder, overwrite, licence)

    def to(self: Self, device: Any) -> Self:
        """This model, its weights moved to a device (`"auto"`, `"cuda"`, `"cpu"`, a torch.device)."""
        from ofasys_lite.model import pick_device

        wanted = pick_device(device)
        self.generalist.network.to(wanted)
        return self

    def cuda(self: Self, device: int | None = None) -> Self:
        """This model on a GPU."""
        return self.to("cuda" if device is None else f"cuda:{device}")

    def cpu(self: Self) -> Self:
        """This model on the CPU."""
        return self.to("cpu")

    def __call__(
        self,
        task: str,
        /,
        *values: Any,
        row: Mapping[str, Any] | None = None,
        closed_set: Closed | None = None,
        **named: Any,
    ) -> Prediction:
        """What the model writes for one sample.

        Args:
            task: A line, or the name of a task it learned.
            *values: Values of the line's columns by position, in reading order.
            row: A whole row by column; further columns in it are not looked at.
            closed_set: The only values it may write, or values by column.
            **named: Values by column, and decoding options (method, beam, n_best, length_penalty, temperature, top_k,
                top_p, no_repeat_ngram, min_length, max_length, seed ...); a name that is both is a column.

        Raises:
            InstructionError: The line does not parse or makes no sense.
            DataError: A column is missing or unreadable, or a keyword is unknown.
            CheckpointError: The model has not learned what the line needs.

        Example:
            `model("[IMAGE:img] what does the image describe? -> [TEXT:cap]", img="cat.png", beam=4).text`
        """
        name = self._task(task, closed_set)
        plan = self.generalist.entry(name).plan
        columns, options = split_keywords(plan, named, ["closed_set"])
        if row is not None and not isinstance(row, Mapping):
            raise DataError(f"row is {type(row).__name__}", help="a dict of values by column")
        whole = {**slot_columns(self.generalist.entry(name).card.columns, row or {}), **columns}
        return self._predict(name, [(named_row(plan, values, whole), "0")], options, None, None)[0]

    def predict(
        self,
        task: str,
        rows: Any,
        *,
        closed_set: Closed | None = None,
        folder: str | Path | None = None,
        progress: Callable[[int], None] | None = None,
        **options: Any,
    ) -> list[Prediction]:
        """What the model writes for each row, in order; rows are decoded together.

        Args:
            task: A line, or the name of a task it learned.
            rows: Anything `Task.add_dataset` takes: list of dicts, path, Hugging Face data set, data frame ...
            closed_set: The only values it may write, or values by column.
            folder: Folder of relative media paths; the source's own if not given.
            progress: Called with the number of rows done.
            **options: Decoding options, as in a call.

        Raises:
            DataError: Rows that cannot be read, all of them at once.
        """
        from ofasys_lite.data.rows import open_source

        name = self._task(task, closed_set)
        card = self.generalist.entry(name).card
        if isinstance(rows, Mapping) and not {"path", "hf"} & set(rows):
            raise DataError("predict takes rows, and this is one dict", help="write predict(task, [row])")
        if isinstance(rows, Sequence) and not isinstance(rows, str) and not rows:
            return []
        source = open_source(as_source(rows, "rows"))
        base = str(folder) if folder is not None else source.base or None
        read = enumerate(map(source.row, range(len(source))))
        taken = [(slot_columns(card.columns, row), source.ids(i, row)) for i, row in read]
        return self._predict(name, taken, options, base, progress)

    def embed(
        self,
        task: str,
        rows: Any = None,
        *,
        side: str | None = None,
        folder: str | Path | None = None,
        progress: Callable[[int], None] | None = None,
        **values: Any,
    ) -> NDArray[np.float32]:
        """(N, D) vectors of unit length, one a row, of one side of a line with `<->`; products of them are cosines.

        Args:
            task: A line with `<->`, or the name of such a task that it learned.
            rows: Anything `Task.add_dataset` takes; without them one row is made of `values`.
            side: `left` or `right`; None takes the side whose columns are given.
            folder: Folder of relative media paths; the source's own if not given.
            progress: Called with the number of rows done.
            **values: Values by column.

        Raises:
            DataError: Rows that cannot be read, a side that is not given whole.
            CheckpointError: The model has learned no line with `<->`.

        Example:
            `model.embed("[IMAGE:img] <-> a photo of [TEXT:cap]", img="cat.png") @ model.embed(..., cap="a cat").T`
        """
        from ofasys_lite.generalist.embedding import embed, side_number

        name = self._task(task, None)
        requests = self._requests(name, rows, values, folder)
        plan = self.generalist.entry(name).plan
        number = side_number(plan, side, requests[0].row if requests else values)
        return embed(self.generalist, requests, number, progress)

    def nearest(
        self,
        task: str,
        candidates: Any,
        rows: Any = None,
        *,
        top: int = 10,
        side: str | None = None,
        folder: str | Path | None = None,
        **values: Any,
    ) -> list[list[Match]]:
        """Per row the nearest candidates (`id`, `row`, `score`), nearest first.

        Args:
            task: A line with `<->`, or the name of such a task that it learned.
            candidates: Rows with the columns of the side that is looked for.
            rows: Rows that ask; without them one row is made of `values`.
            top: Most candidates of a row.
            side: The side that asks, `left` or `right`; None takes the one whose columns are given.
            folder: Folder of relative media paths; the sources' own if not given.
            **values: Values by column of the row that asks.

        Raises:
            DataError: Rows or candidates that cannot be read.
        """
        from ofasys_lite.generalist.embedding import Index, side_number

        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise DataError(f"top is {top!r}", help="a whole number from 1")
        name = self._task(task, None)
        asking = self._requests(name, rows, values, folder)
        plan = self.generalist.entry(name).plan
        number = side_number(plan, side, asking[0].row if asking else values)
        index = Index(self.generalist, self._requests(name, candidates, {}, folder), number)
        return index.nearest(asking, top)

    def _requests(self, name: str, rows: Any, values: Mapping[str, Any], folder: str | Path | None) -> list[Request]:
        """What is asked of a task: one row of values by column, or the rows of a source."""
        from ofasys_lite.data.rows import open_source
        from ofasys_lite.generalist.prediction import Request

        columns = self.generalist.entry(name).card.columns
        base = None if folder is None else str(folder)
        if rows is None:
            return [Request(name, slot_columns(columns, values), folder=base)]
        if values:
            raise DataError(f"rows are given, and values of one row, too: {', '.join(values)}", help="leave one out")
        if isinstance(rows, Sequence) and not isinstance(rows, str) and not rows:
            return []
        source = open_source(as_source(rows, "rows"))
        read = enumerate(map(source.row, range(len(source))))
        found = base or source.base or None
        return [Request(name, slot_columns(columns, row), source.ids(i, row), folder=found) for i, row in read]

    def _task(self, task: str, closed: Closed | None) -> str:
        """Name of the task or line in the generalist."""
        generalist = self.generalist
        if not isinstance(task, str):
            raise DataError(f"the task is {type(task).__name__}", help="a line, or the name of a task it learned")
        known = task in generalist.tasks
        if not known and "->" not in task:
            generalist.entry(task)
        if closed is None:
            return task if known else generalist.task_of_line(task)
        card = generalist.tasks[task].card if known else None
        line = card.instruction if card is not None else task
        return generalist.task_of_line(closed_line(line, closed, list(generalist.modalities)), card)

    def _predict(
        self,
        name: str,
        rows: Iterable[tuple[Mapping[str, Any], str]],
        given: Mapping[str, Any],
        folder: str | None,
        progress: Callable[[int], None] | None,
    ) -> list[Prediction]:
        from ofasys_lite.generalist.cut_inputs import warn_cut
        from ofasys_lite.generalist.predicting import predict
        from ofasys_lite.generalist.prediction import Request

        options = self.generalist.entry(name).options(**given)
        requests = [Request(name, row, id, options, folder, own_holes=True) for row, id in rows]
        warn_cut(self.generalist, requests)
        return [one for one in predict(self.generalist, requests, progress) if one is not None]

    def __repr__(self) -> str:
        sizes = f"{self.config.encoder_layers}+{self.config.decoder_layers} layers, width {self.config.width}"
        if self._generalist is None:
            return f"GeneralistModel({sizes}, not trained)"
        return f"{type(self).__name__}({sizes}, {self._generalist.parameters():,} weights, tasks={list(self.tasks)})"


def _resized(values: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes, and what the preset derives from those they change left to be derived again."""
    found = dict(sizes)
    if "heads" in sizes and values.get("kv_heads") == values.get("heads"):
        found.setdefault("kv_heads", None)
    if {"width", "mlp"} & set(sizes):
        found.setdefault("ffn", None)
    if {"width", "heads"} & set(sizes):
        found.setdefault("rotary_sections", None)
    return found
