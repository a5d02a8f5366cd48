"""A run folder and an export of commit 2edd866: what it wrote must be read, resumed and decoded by every later commit.

python tests/e2e/old_files.py       write them anew (at a commit whose files are to be kept readable)
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import code_worlds
import equality
import lightning as L
import tiny_worlds
from equality_worlds import OLD

import ofasys_lite
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.layout.ready import DataSettings

__all__ = ["ARCHIVE", "STOP", "STORED", "trained", "unpacked", "written"]

ARCHIVE = equality.STORED.parent / "old_files.zip"
STORED = equality.STORED.parent / "old_files.json"
STOP = 2
#: What the run is begun and resumed with.
DATA = DataSettings(
    pieces=300,
    bins=16,
    modalities={"IMAGE": {"patch": 2, "widths": [4], "codec": {}}, "AUDIO": {"mels": 8, "channels": 8}},
)
SETTINGS: dict[str, Any] = {"steps": 4, "samples_per_step": 10, "log_every": 1, "ema": 0.5, "data": DATA}


class _Stop(L.Callback):
    """Interrupts after a few steps, as Ctrl-C does."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == STOP:
            raise KeyboardInterrupt


@contextmanager
def unpacked() -> Iterator[Path]:
    """A folder with `run` (interrupted after two of four steps), `export` (of the whole run) and `codec`."""
    with equality.alone() as folder:
        with zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(folder)
        yield folder


def trained(folder: Path, **more: Any) -> Generalist:
    """The model at the end of the run in `folder`."""
    return tiny_worlds.run(OLD.cards(equality.CODEC), folder, model=dict(OLD.model), **SETTINGS, **more)


def written(model: Generalist, folder: Path) -> dict[str, Any]:
    """What an export says to rows that are made anew, for it holds none."""
    rows = {card.name: card.data["test"] for card in OLD.cards(equality.CODEC)}
    return equality.written(model, OLD, folder, rows)


def main() -> None:
    """Writes the archive and what its models say."""
    with equality.alone() as folder:
        code_worlds.codec(equality.CODEC, width=2, channels=2, codes=4)
        whole = trained(folder / "whole")
        fit = L.Trainer.fit

        def stopping(trainer: L.Trainer, *rest: Any, **more: Any) -> None:
            trainer.callbacks.append(_Stop())  # type: ignore[attr-defined]
            fit(trainer, *rest, **more)

        with suppress(KeyboardInterrupt), mock.patch.object(L.Trainer, "fit", stopping):
            trained(folder / "run")
        whole.save_pretrained(folder / "export")
        # an export names the files of its modality cards
        config = folder / "export" / "config.json"
        config.write_text(config.read_text("utf-8").replace(f"{Path(ofasys_lite.__file__).parents[1]}/", ""), "utf-8")
        with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_LZMA) as archive:
            for part in (equality.CODEC.name, "export", "run"):
                for path in sorted((folder / part).rglob("*")):
                    if path.is_file() and path.stat().st_size:
                        archive.write(path, path.relative_to(folder))
        loaded = Generalist.from_pretrained(folder / "export")
        numbers = {
            "machine": equality.machine(),
            "plans": {task: entry.plan.hash for task, entry in loaded.tasks.items()},
            "export": equality.weights(loaded.network),
            "end": equality.weights(whole.network),
            "losses": equality.losses(folder / "whole", "train"),
            "written": written(loaded, folder),
        }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in numbers.items())
    STORED.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
