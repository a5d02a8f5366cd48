"""The codec of a line that names none: trained on the training split before the run, kept by content for the next.

Only the training split is looked at; the folder's name is a hash of sizes, steps, seed and rows, so runs over the same
pictures share one codec, and an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ofasys_lite.adapters.codes import CodesAdapter, head_layers
from ofasys_lite.cards.classes import load_class
from ofasys_lite.cards.overrides import given_settings
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.codec.image_codec import CodecConfig
from ofasys_lite.codec.train_codec import CodecRun, Images, train_codec
from ofasys_lite.codec.turns import await_first_rank, turn
from ofasys_lite.data.codec_facts import Known, check_scalar, known
from ofasys_lite.data.contents import media_key
from ofasys_lite.data.fields import field, is_empty
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import CardError, DataError
from ofasys_lite.layout.ready import DataSettings, settings_of
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.codecs import TOKENIZER_KEYS, codec_of
from ofasys_lite.plan.segments import SlotSegment, option
from ofasys_lite.writing import cache_folder, current, other_rank

#: Updates of a codec whose line does not say how many.
STEPS = 2000
_SIDE = 32


@dataclass(frozen=True, slots=True)
class CodecTrainer:
    """Finds the codecs that lines ask for by sizes, and trains those that are missing.

    Attributes:
        modalities: Modality cards by name; `codec` among their settings overrides sizes (width, channels, loss ...).
        data: Settings of the run's data, which go before those of the cards.
        layers: Of the model's decoder: codes that are deeper are refused before a codec is trained.
        before: Called before a training draws its own progress.
        trains: False: the sizes of a codec are enough, none is looked for or trained.
    """

    modalities: Mapping[str, ModalityCard]
    data: DataSettings
    seed: int
    layers: int
    console: Console
    before: Callable[[], None]
    after: Callable[[], None]
    device: str = "auto"
    trains: bool = True

    def find(self, card: TaskCard, slot: SlotSegment, rows: RowSource) -> Known:
        """The codec of a slot, trained now if it is not there.

        Raises:
            CardError: Sizes that no codec can have, or a slot whose values none is trained on.
            CheckpointError: On other ranks than 0: rank 0 has not trained the codec.
        """
        call = codec_of(slot) or CallValue("")
        steps = int(str(call.get("steps", STEPS)))
        try:
            config = self._config(slot, call)
        except CardError as error:
            message = f"task {card.name}, slot [{slot.modality}:{slot.column}]: {error.message}"
            raise CardError(message, help=error.help) from None
        check_scalar(card, slot, config.to_dict())
        if not self.trains:
            return Known(Path(), {**config.to_dict(), "hash": ""})
        pictures = media_key(rows, (slot.column,))
        facts = {**config.to_dict(), "steps": steps, "seed": self.seed, "rows": pictures, "of": slot.column}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache_folder() / "codecs" / key
        if not _there(folder):
            if other_rank():
                waiting = f"waiting for rank 0, which trains the codec of {card.name} ({folder})"
                await_first_rank(folder, lambda: _there(folder), lambda: self._tell(waiting))
            else:
                images = _images(rows, slot, config.size)
                self._train(card, CodecRun(config, images, folder, steps, seed=self.seed, device=self.device))
        return known(folder)

    def _train(self, card: TaskCard, run: CodecRun) -> None:
        """Trains the codec, unless another process has just done it."""
        waiting = f"another process trains the codec of {card.name} ({run.folder}): waiting for it"
        with turn(run.folder, lambda: self._tell(waiting)):
            if _there(run.folder):
                return
            size, depth = run.config.size, run.config.depth
            self.before()
            self._tell(
                f"training a codec on the pictures of {card.name}: {size} x {size}, depth {depth}, "
                f"{run.steps} steps ({run.folder})"
            )
            train_codec(replace(run, resume=(run.folder / "checkpoint.pt").exists()), self.console)
            self.after()

    def _tell(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def _config(self, slot: SlotSegment, call: CallValue) -> CodecConfig:
        """Sizes of the codec that the slot asks for; CardError where none can be trained for it."""
        help = f"train one before, and name its folder: codec={call.name}(codecs/mine)"
        if not load_class(slot.adapter, CodesAdapter, "adapter").trained:
            raise CardError("only codecs of images are trained before a run", help=help)
        said = {k: v for k, v in call.keyed if k in TOKENIZER_KEYS and k != "steps"}
        settings = given_settings(settings_of(self.modalities[slot.modality], self.data)).get("codec") or {}
        config = CodecConfig.from_dict({**settings, **said, "size": option(slot.options, "size", _SIDE)})
        head_layers(str(call.get("layers", "last")), config.depth, self.layers)
        return config


class _Given(Images):
    """Images of a column that may be empty: rows without one are not counted as unreadable."""

    def readable(self) -> tuple[list[int], list[DataError]]:
        """Rows with an image that can be decoded, and what is wrong with those that hold something else."""
        good, errors = list[int](), list[DataError]()
        for i in range(len(self)):
            try:
                if not is_empty(self.source.value(i, self.column)):
                    self.image(i)
                    good.append(i)
            except DataError as error:
                errors.append(error)
        if not good and not errors:
            raise DataError(f"{self.source.name} has no image in `{self.column}`")
        return good, errors


class _Elements(Images):
    """Images of a group, element by element.

    Args:
        over: Column with the list of records that hold them in `column`; empty where `column` itself holds lists.
    """

    def __init__(self, source: RowSource, column: str, side: int, over: str) -> None:
        super().__init__(source, over or column, side)
        self.field = column if over else ""
        held = (_listed(source, i, over or column) for i in range(len(source)))
        counts = [len(value) if isinstance(value, list) else 0 for value in held]
        self.places = [(i, place) for i, count in enumerate(counts) for place in range(count)]
        if not self.places:
            raise DataError(f"{source.name} has no image in `{over or column}`")

    def __len__(self) -> int:
        return len(self.places)

    def value(self, i: int) -> Any:
        """What stands at an element."""
        row, place = self.places[i]
        found = _listed(self.source, row, self.column)[place]
        return field(found, self.field) if self.field else found


def _listed(source: RowSource, i: int, column: str) -> Any:
    """The value of a row as a list where it is one, as data sets of several libraries have them."""
    value = source.value(i, column)
    # pictures are arrays too, of numbers
    several = isinstance(value, (list, tuple)) or str(getattr(value, "dtype", "")) == "object"
    return list(value) if several else value


def _images(rows: RowSource, slot: SlotSegment, side: int) -> Images:
    """The pictures that a codec of the slot is trained on."""
    over = slot.key.removesuffix(slot.column).rstrip(".")
    if over or any(isinstance(_listed(rows, i, slot.column), list) for i in range(min(8, len(rows)))):
        return _Elements(rows, slot.column, side, over)
    return (_Given if slot.optional else Images)(rows, slot.column, side)


def _there(folder: Path) -> bool:
    return current(folder, "codec.json").exists()
