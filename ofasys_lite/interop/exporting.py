"""A model here -> files that others read: which targets there are, where they go, what was done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ofasys_lite.errors import CheckpointError, WriteError, did_you_mean
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.interop.export_fairseq import write_fairseq
from ofasys_lite.interop.export_hugging_face import write_hugging_face
from ofasys_lite.interop.export_onnx import write_onnx
from ofasys_lite.interop.fairseq_weights import EXPORT_MARK
from ofasys_lite.interop.hugging_face import EXPORTED
from ofasys_lite.run.run_folder import RunFolder, run_holding
from ofasys_lite.version import __version__
from ofasys_lite.writing import claim_folder, current, staged

#: Target -> what writes its files into an empty folder and says, a line each, what it did.
TARGETS: Mapping[str, Callable[[Generalist, Path], list[str]]] = {
    "hf": write_hugging_face,
    "fairseq": write_fairseq,
    "onnx": write_onnx,
}


def export_model(model: Generalist, target: str, folder: Path, overwrite: bool = False) -> list[str]:
    """Writes the model as a target into `folder`, whose other files stay; what was done, a line each.

    Args:
        overwrite: Replaces an older export of ours; what others wrote is never replaced.

    Raises:
        CheckpointError: The target has no counterpart of something that the model has; nothing is written.
        WriteError: The folder holds an export already, a run, or files of others with names of ours, or is one that a
            run keeps for itself.
    """
    if target not in TARGETS:
        raise CheckpointError(f"`{target}` is no target", help=did_you_mean(target, TARGETS, "targets"))
    if RunFolder(folder).trained():
        raise WriteError(
            f"{folder} holds a run, which could not be found beside an export's config.json",
            help=f"a folder of its own: --out {folder / target}",
        )
    run = run_holding(folder)
    if run is not None:
        raise WriteError(
            f"{folder} is what the run {run.name} keeps for itself",
            help=f"a folder beside it: --out {run / target}",
        )
    with staged(folder) as stage:
        lines = TARGETS[target](model, stage)
        _mark(stage, target)
        names = sorted(path.name for path in stage.iterdir())
        help = "name another folder (--out FOLDER), or replace what we wrote there: --overwrite"
        if _ours(folder) and not overwrite:
            raise WriteError(f"{folder} already holds an export", help=help)
        claim_folder(folder, _ours, "an export of ours", help, names)
    return lines


def _mark(stage: Path, target: str) -> None:
    """Writes beside the files what they are, and keeps what the target has to say there."""
    place = stage / EXPORT_MARK
    held = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    place.write_text(json.dumps({EXPORTED: f"ofasys_lite {__version__}", "target": target, **held}), encoding="utf-8")


def _ours(folder: Path) -> bool:
    """Whether an export of ours lies in the folder."""
    try:
        return EXPORTED in json.loads(current(folder, EXPORT_MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
