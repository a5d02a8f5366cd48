"""The codec of a line that names none: trained on the training split before the run, kept by content for the next.

Only the training split is looked at; the folder's name is a hash of sizes, steps, seed and rows, so runs over the same
pictures share one codec, and an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.cache import cache_folder
from ofasys_lite.data.codecs import Known, known
from ofasys_lite.data.ready import DataSettings, settings_of
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import CardError
from ofasys_lite.plan.codecs import TOKENIZER_KEYS, codec_of
from ofasys_lite.plan.types import SlotSegment, option

__all__ = ["CodecTrainer"]

#: Updates of a codec whose line does not say how many.
STEPS = 2000
_SIDE = 32


@dataclass(frozen=True, slots=True)
class CodecTrainer:
    """Finds the codecs that lines ask for by sizes, and trains those that are missing.

    Attributes:
        modalities: Modality cards by name; `codec` among their settings overrides sizes (width, channels, loss ...).
        data: Settings of the run's data, which go before those of the cards.
        seed: Of the run.
        console: Where progress is drawn.
        before: Called before a training draws its own progress.
        after: Called when it is done.
    """

    modalities: Mapping[str, ModalityCard]
    data: DataSettings
    seed: int
    console: Console
    before: Callable[[], None]
    after: Callable[[], None]

    def find(self, card: TaskCard, slot: SlotSegment, rows: RowSource) -> Known:
        """The codec of a slot, trained now if it is not there.

        Raises:
            CardError: Sizes that no codec can have.
        """
        from ofasys_lite.adapters.image_codec import CodecConfig
        from ofasys_lite.training.codec import CodecRun, Images, train_codec

        call = codec_of(slot)
        said = {} if call is None else {k: v for k, v in call.keyed if k in TOKENIZER_KEYS}
        steps = int(str(said.pop("steps", STEPS)))
        size = option(slot.options, "size", _SIDE)
        try:
            config = CodecConfig.from_dict({**self._settings(slot), **said, "size": size})
        except CardError as error:
            message = f"task {card.name}, slot [{slot.modality}:{slot.column}]: {error.message}"
            raise CardError(message, help=error.help) from None
        facts = {**config.to_dict(), "steps": steps, "seed": self.seed, "rows": rows.fingerprint, "of": slot.column}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache_folder() / "codecs" / key
        if not (folder / "codec.json").exists() and _other_rank():
            _await(folder)
        if not (folder / "codec.json").exists():
            self.before()
            self.console.print(
                f"training a codec on the pictures of {card.name}: {config.size} x {config.size}, "
                f"depth {config.depth}, {steps} steps ({folder})",
                highlight=False,
            )
            images = Images(rows, slot.column, config.size)
            train_codec(CodecRun(config, images, folder, steps, seed=self.seed, resume=_begun(folder)), self.console)
            self.after()
        return known(folder)

    def _settings(self, slot: SlotSegment) -> dict[str, object]:
        return dict(settings_of(self.modalities[slot.modality], self.data).get("codec") or {})


def _begun(folder: Path) -> bool:
    return (folder / "checkpoint.pt").exists()


def _other_rank() -> bool:
    """True on ranks that a launcher started beside rank 0, which trains the codec for all."""
    return any(os.environ.get(name, "0") not in ("0", "") for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))


def _await(folder: Path) -> None:
    """Waits for rank 0's codec; a shared cache folder is needed on several machines."""
    while not (folder / "codec.json").exists():
        time.sleep(1.0)
