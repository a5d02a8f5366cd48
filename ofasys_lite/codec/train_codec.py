"""Trains an image codec on the pictures of a task; its codes for whole splits, kept by content.

Step k of a run draws its images and its random numbers from (seed, k): a resumed run ends as an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from torch import Tensor

from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, load_codec, save_codec
from ofasys_lite.codec.losses import CodecLearner, CodecLosses, patch
from ofasys_lite.codec.residual_quantizer import ResidualQuantizer
from ofasys_lite.data.codec_facts import codec_hash
from ofasys_lite.data.contents import media_key
from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import CardError, CheckpointError, DataError, did_you_mean
from ofasys_lite.model import give_way, keep_freed_memory, pick_device
from ofasys_lite.preprocess.image_decode import open_image, resized, turned
from ofasys_lite.signals import Patient
from ofasys_lite.writing import (
    as_utf8,
    atomic,
    begun_by_us,
    cache_folder,
    claim_folder,
    current,
    locked,
    sweep,
    telling,
    write_atomic,
)

Pixels = npt.NDArray[np.uint8]

#: Decoded images are kept in memory up to this many bytes.
_KEPT = 2**30
#: Share of unreadable images above which a training stops.
_UNREADABLE = 0.01


class Images:
    """The images of a column as squares of one size, decoded when they are first asked for.

    Args:
        side: Side in pixels; images are stretched to it.

    Raises:
        DataError: There is no such column, or no row.
    """

    def __init__(self, source: RowSource, column: str, side: int) -> None:
        if not len(source):
            raise DataError(f"{source.name} has no rows")
        if column not in source.columns and "." not in column:
            help = did_you_mean(column, source.columns, "it has")
            raise DataError(f"{source.name} has no column `{column}`", help=help)
        self.source, self.column, self.side = source, column, side
        self._kept: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self.source)

    def value(self, i: int) -> Any:
        """What row i holds."""
        return self.source.value(i, self.column)

    def image(self, i: int) -> Pixels:
        """(side, side, 3) uint8 of row i; DataError if it holds no readable image."""
        found = self._kept.get(i)
        if found is None:
            value = self.value(i)
            if value is MISSING or value is None:
                raise DataError(f"{self.source.name}, row {i + 1}: no image in `{self.column}`")
            opened = open_image(value, self.source.base or None, 100.0)
            found = resized(opened, self.side, self.side, turned(opened), draft=opened is not value)
            if (len(self._kept) + 1) * found.nbytes <= _KEPT:
                self._kept[i] = found
        return found

    def batch(self, rows: Sequence[int]) -> Tensor:
        """(N, side, side, 3) uint8."""
        return torch.from_numpy(np.stack([self.image(i) for i in rows]))

    def readable(self) -> tuple[list[int], list[DataError]]:
        """Rows with an image that can be decoded, and what is wrong with the others."""
        good, errors = [], []
        for i in range(len(self)):
            try:
                self.image(i)
                good.append(i)
            except DataError as error:
                errors.append(error)
        return good, errors


#: What a training writes.
_FILES = ("codec.json", "model.safetensors", "checkpoint.pt", "metrics.jsonl", "quarantine.jsonl")


@dataclass(frozen=True, slots=True)
class CodecRun:
    """What a codec's training needs.

    Attributes:
        images: Pictures of the training split.
        folder: Where the codec, its checkpoint and metrics.jsonl go.
        lr: Learning rate of AdamW, falling by a cosine after 5 % of warm-up.
        seed: Of weights, order and restarts.
        resume: Go on from the folder's checkpoint.
        checkpoint_every: Steps.
        losses: What the pictures are judged by beside the config's `loss`.
        device: Where it is trained: `auto`, `cpu`, `cuda` ...

    Raises:
        CardError: The discriminator would begin behind the last step, or the pictures are too small for it.
    """

    config: CodecConfig
    images: Images
    folder: Path
    steps: int = 2000
    batch: int = 64
    lr: float = 1e-3
    seed: int = 0
    resume: bool = False
    checkpoint_every: int = 200
    losses: CodecLosses = field(default_factory=CodecLosses)
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.losses.gan_weight:
            patch(self.config.size)
        if self.losses.gan_weight and self.losses.gan_start >= self.steps:
            message = f"codec: the discriminator begins at step {self.losses.gan_start} of {self.steps}"
            raise CardError(message, help="write a smaller --gan-start, or more --steps")


def train_codec(run: CodecRun, console: Console | None = None) -> ImageCodec:
    """The trained codec, saved in the run's folder, in evaluation mode.

    Raises:
        CardError: The perceptual network cannot be had.
        CheckpointError: The folder holds a codec and `resume` is off, or its checkpoint is of another run.
        WriteError: Another process trains there, the folder holds files of others, or it cannot be written.
        DataError: More than 1 % of the images cannot be read, or none can.
        OfasysError: A loss is not finite any more; the last checkpoint stays.
    """
    claim_codec(run.folder, run.resume)
    with locked(run.folder, "codec"):
        sweep(run.folder, older=0)
        return _train_codec(run, console or Console(stderr=True))


def claim_codec(folder: Path, resume: bool) -> None:
    """Returns if a codec may be trained into a folder.

    Raises:
        CheckpointError: It holds a codec, and `resume` is off; or it holds none, and `resume` is on.
        WriteError: It holds files of others under our names, is a file, or cannot be written.
    """
    there = (folder / "checkpoint.pt").exists() or current(folder, "codec.json").exists()
    if there and not resume:
        raise CheckpointError(f"{folder} already holds a codec", help="go on with --resume, or name another folder")
    if resume and not (folder / "checkpoint.pt").exists():
        raise CheckpointError(f"nothing to resume in {folder}", help="leave --resume out")

    def ours(place: Path) -> bool:
        return there or begun_by_us(place)

    claim_folder(folder, ours, "a codec", "name another folder, or move them away", _FILES)


def _train_codec(run: CodecRun, console: Console) -> ImageCodec:
    perceptual = run.losses.network(run.config.size)
    facts = _facts(run, run.losses.recorded(perceptual))
    state = _begin(run, facts)
    rows = _rows(run, console)
    torch.manual_seed(run.seed)
    keep_freed_memory()
    device = pick_device(run.device)
    codec = ImageCodec(run.config).to(device)
    learner = CodecLearner(codec, run.losses, perceptual)
    first = 0
    if state is not None:
        learner.load(state)
        first = int(state["step"])
    codec.train()
    columns = (TextColumn("codec"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with give_way(device), Patient() as stop, Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        shown = bar.add_task("codec", total=run.steps, completed=first, text="")
        for step, picked in _order(run, rows, first):
            if stop.number is not None:
                _checkpoint(run, learner, facts, step)
                stop.check()
            torch.manual_seed(random.Random(f"{run.seed}/{step}").getrandbits(63))
            pixels = run.images.batch(picked).to(device)
            # codes made before vectors differ collapse to a few: the first steps learn without them
            if step == _plain_steps(run) and isinstance(codec.quantizer, ResidualQuantizer):
                codec.quantizer.begin(codec.latents(pixels))
            told = learner.update(pixels, step, step < _plain_steps(run), run.lr * _share(step, run.steps))
            if (step + 1) % 20 == 0 or step + 1 == run.steps:
                _log(run.folder, {"step": step + 1, **told})
                bar.update(shown, text=_shown(told))
            bar.update(shown, completed=step + 1)
            if (step + 1) % run.checkpoint_every == 0:
                _checkpoint(run, learner, facts, step + 1)
        _checkpoint(run, learner, facts, run.steps)
        save_codec(codec.eval(), run.folder, run.losses.recorded(perceptual))
    return codec


def _shown(told: Mapping[str, float]) -> str:
    """What stands behind the bar: the loss, its parts if there are any, codes in use."""
    names = {"perceptual": "perceptual", "discriminator": "discriminator", "gan_weight": "adaptive weight"}
    parts = [f"{text} {told[name]:.3g}" for name, text in names.items() if name in told]
    return ", ".join([f"loss {told['loss']:.4f}", *parts, f"{told['codes_used']} codes in use"])


def _begin(run: CodecRun, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint to go on from."""
    path = run.folder / "checkpoint.pt"
    if not run.resume:
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before, asked = json.loads(state["facts"]), json.loads(json.dumps(facts))
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
        what = str(error).partition("\n")[0] or type(error).__name__
        help = "it is damaged or none of ours; train a codec in another folder"
        raise CheckpointError(f"cannot read {path}: {what}", help=help) from None
    if before != asked:
        names = sorted(key for key in {*before, *asked} if before.get(key) != asked.get(key))
        told = "; ".join(f"{key} was {_said(before.get(key))}, now {_said(asked.get(key))}" for key in names)
        help = "give the same images, sizes, losses, steps and seed"
        raise CheckpointError(f"{path} is of another run: {told}", help=help)
    return state


def _said(value: object) -> str:
    """A setting in a message: a hash by its beginning, `not given` for one that was not there."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    if value is None:
        return "not given"
    text = str(value)
    return f"{text[:12]}..." if re.fullmatch("[0-9a-f]{32,}", text) else text


def _facts(run: CodecRun, losses: Mapping[str, object]) -> dict[str, Any]:
    """What a resumed run must have in common; nothing of losses where none was given, as before there were any."""
    own = {"plain": _plain_steps(run), "steps": run.steps, "batch": run.batch, "lr": run.lr, "seed": run.seed}
    facts = {
        **run.config.to_dict(),
        **own,
        "images": media_key(run.images.source, (run.images.column,)),
        "column": run.images.column,
    }
    return {**facts, "losses": losses} if losses else facts


def _rows(run: CodecRun, console: Console) -> list[int]:
    with console.status(f"reading {len(run.images):,} images"):
        good, errors = run.images.readable()
    if errors:
        rows = [json.dumps({"reason": error.message}) + "\n" for error in errors]
        write_atomic(run.folder / "quarantine.jsonl", "".join(rows))
        console.print(f"note: {len(errors)} of {len(run.images)} images cannot be read ({run.folder}/quarantine.jsonl)")
    if not good or len(errors) > _UNREADABLE * len(run.images):
        raise DataError(
            f"{len(errors)} of {len(run.images)} images cannot be read, limit {100 * _UNREADABLE:.0f} %; "
            f"the first: {errors[0].message}",
            help="mend the rows that quarantine.jsonl names",
        )
    return good


def _order(run: CodecRun, rows: Sequence[int], first: int) -> Iterator[tuple[int, list[int]]]:
    """Step numbers with the rows they draw: epochs, each a permutation keyed by (seed, epoch)."""
    epoch, order = -1, np.zeros(0, dtype=np.int64)
    for step in range(first, run.steps):
        picked = []
        for place in range(step * run.batch, (step + 1) * run.batch):
            if place // len(rows) != epoch:
                epoch = place // len(rows)
                order = np.random.default_rng((run.seed, epoch)).permutation(len(rows))
            picked.append(rows[order[place % len(rows)]])
        yield step, picked


def _plain_steps(run: CodecRun) -> int:
    """Steps without codes at the begin of a training: a tenth, at most 200; none where no book has to be placed."""
    return 0 if run.config.levels else min(200, run.steps // 10)


def _share(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    rising = min(1.0, (step + 1) / warm)
    return rising * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, step / steps)))))


def _log(folder: Path, row: Mapping[str, object]) -> None:
    path = folder / "metrics.jsonl"
    with telling(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _checkpoint(run: CodecRun, learner: CodecLearner, facts: Mapping[str, Any], step: int) -> None:
    with atomic(run.folder / "checkpoint.pt", sync=True) as partial:
        torch.save({**learner.state(), "step": step, "facts": json.dumps(facts)}, partial)


@torch.no_grad()
def depth_errors(codec: ImageCodec, images: Images, rows: Sequence[int], batch: int = 64) -> list[float]:
    """Mean squared error of pixels (0 to 1) with the first 1 ... K codes of each position."""
    sums = np.zeros(codec.config.depth)
    for start in range(0, len(rows), batch):
        want = images.batch(rows[start : start + batch]).to(codec.device)
        codes = codec.encode(want)
        for k in range(codec.config.depth):
            gap = codec.decode(codes, k + 1).float() - want.float()
            sums[k] += float((gap / 255).pow(2).mean((1, 2, 3)).sum())
    return [float(s) / max(1, len(rows)) for s in sums]


@torch.no_grad()
def cached_codes(
    folder: str | Path,
    source: RowSource,
    column: str,
    batch: int = 64,
    console: Console | None = None,
    device: str = "auto",
) -> Path:
    """The .npz with the codes of all images of a source: `codes` (N, L, K) and `rows` (N,), made where it is missing.

    The name holds the hashes of codec and rows, so codes of another codec or of changed rows are never mixed up.
    Images that cannot be read have no row. Progress is drawn on `console`, if one is given.
    """
    key = hashlib.sha256(as_utf8(f"{codec_hash(folder)}/{media_key(source, (column,))}/{column}")).hexdigest()[:24]
    path = cache_folder() / "codes" / f"{key}.npz"
    if path.exists():
        return path
    codec = load_codec(folder, device)
    images = Images(source, column, codec.config.size)
    good, _ = images.readable()
    starts = range(0, len(good), batch)
    shown = track(starts, "encoding", console=console or Console(stderr=True), disable=console is None)
    parts = [codec.encode(images.batch(good[i : i + batch]).to(codec.device)).cpu().numpy() for i in shown]
    shape = (0, codec.config.lines**2, codec.config.depth)
    codes = np.concatenate(parts) if parts else np.zeros(shape, dtype=np.int64)
    small = codes.astype(np.uint16 if codec.config.codes <= 2**16 else np.int32)
    with atomic(path) as partial:
        np.savez(partial, codes=small, rows=np.array(good, dtype=np.int64))
    return path
