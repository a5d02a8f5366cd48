"""Runs and exports as they are seen before torch is imported: where they lie, which tasks they learned."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.cards.stored import stored_modalities
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import CheckpointError, DataError, did_you_mean
from ofasys_lite.writing import current


@dataclass(frozen=True, slots=True)
class Found:
    """A trained model on disk.

    Attributes:
        folder: What the user named: a run or an export.
        tasks: What the model learned: name -> {"card": ..., "closed": ..., "plan": ...}.
    """

    folder: Path
    export: Path
    tasks: Mapping[str, Any]
    modalities: Mapping[str, ModalityCard]

    def task(self, name: str) -> Mapping[str, Any]:
        """A learned task; CheckpointError with the near name if there is none."""
        if name not in self.tasks:
            raise CheckpointError(
                f"{self.folder} has not learned the task `{name}`", help=did_you_mean(name, self.tasks, "it learned")
            )
        found: Mapping[str, Any] = self.tasks[name]
        return found


def refuse_elsewhere(folder: Path, data: Mapping[str, Mapping[str, Any]]) -> None:
    """Tells a run's relative paths that lead nowhere from here, and would from a folder above the run.

    Args:
        folder: The run's.
        data: Task -> split -> source, as its card has it.

    Raises:
        DataError: The command was started in another folder than the training.
    """
    for task, sources in data.items():
        for name in (path for source in sources.values() for path in _paths(source)):
            if name.startswith(("/", "~/")) or Path(name).exists():
                continue
            for above in folder.resolve().parents:
                if (above / name).exists():
                    raise DataError(
                        f"task {task}: no file {name} in {Path.cwd()}: relative paths start where the run was trained",
                        help=f"it lies in {above}: cd {shlex.quote(str(above))}",
                    )


def _paths(source: Any) -> list[str]:
    if isinstance(source, Mapping):
        source = source.get("path")
    listed = source if isinstance(source, (list, tuple)) else [source]
    return [each for each in listed if isinstance(each, str)]


def find_run(text: str) -> Found:
    """The run or export that `text` names (`runs/x`, or `x` for a folder under runs/).

    Raises:
        CheckpointError: No such folder (with the near name), or no finished run in it.
    """
    folder = next((p for p in (Path(text), Path("runs") / text) if p.is_dir()), None)
    if folder is None:
        names = sorted(str(p.parent.parent) for p in Path("runs").glob("**/export/config.json"))
        near = did_you_mean(text if text.startswith("runs/") else f"runs/{text}", names, "runs")
        raise CheckpointError(f"{text}: there is no such run", help=near if names else "train one: ofasys-lite train")
    for export in (folder / "export", folder):
        path = current(export, "config.json")
        if path.is_file():
            break
    else:
        unfinished = (folder / "checkpoints" / "last.ckpt").exists() or (folder / "config.yaml").exists()
        raise CheckpointError(
            f"{folder} holds no trained model: export/config.json is missing",
            help=f"finish it: ofasys-lite train resume={folder}" if unfinished else "name a folder under runs/",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Found(folder, export, content["tasks"], stored_modalities(content["modalities"]))
    except (ValueError, KeyError, TypeError):
        of_others = b'"model_type"' in path.read_bytes()
        help = begin_with_others(path.parent) if of_others else "name a folder under runs/"
        raise CheckpointError(f"{path} is no export of a model", help=help) from None


def begin_with_others(folder: Path) -> str:
    """What to do with a folder of another house."""
    return (
        f"weights of others: start.text={folder} (start.image=, start.audio=), or "
        f"ofasys-lite import {folder} --to runs/x"
    )
