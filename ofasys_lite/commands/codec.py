"""`ofasys-lite codec train|encode|show`: images as grids of residual codes, and what is left of them."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ofasys_lite.cards.find import find_task, modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.data.attributes import slot_class
from ofasys_lite.errors import CardError, DataError, did_you_mean
from ofasys_lite.plan import build_plan
from ofasys_lite.preprocess import kinds
from ofasys_lite.recipes.recipe import SPLITS
from ofasys_lite.signals import Interrupted
from ofasys_lite.writing import atomic, behind, claim_file

if TYPE_CHECKING:
    from ofasys_lite.codec.image_codec import ImageCodec
    from ofasys_lite.codec.losses import CodecLosses
    from ofasys_lite.codec.train_codec import Images


def main(arguments: Sequence[str]) -> int:
    """0 when the codec was trained, codes were written or the sheet was drawn."""
    given = _parser().parse_args(list(arguments))
    return int(given.run(given))


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser("ofasys-lite codec", description=__doc__)
    verbs = parser.add_subparsers(dest="what", required=True, metavar="train|encode|show")
    training = verbs.add_parser("train", help="train a codec on the images of a task")
    training.set_defaults(run=_train)
    training.add_argument("task", help="task card with an IMAGE slot")
    training.add_argument("--out", type=Path, required=True, help="folder of the codec")
    training.add_argument("--size", type=int, default=32, help="side of the square images in pixels (32)")
    training.add_argument("--factor", type=int, default=4, help="pixels a position is wide and high (4)")
    training.add_argument("--depth", type=int, default=2, help="codes per position (2)")
    training.add_argument("--codes", type=int, help="codes of a book (256; with --levels their product)")
    training.add_argument(
        "--levels", type=int, nargs="+", default=[], help="scalar codes without a book, such as 4 4 4"
    )
    training.add_argument("--channels", type=int, default=32, help="latent channels (32)")
    training.add_argument("--width", type=int, default=32, help="channels of the convolutions (32)")
    training.add_argument("--separate", action="store_true", help="a codebook per depth instead of one for all")
    training.add_argument("--loss", default="mse", help="error of the pixels: mse or l1 (mse)")
    _add_losses(training)
    training.add_argument("--steps", type=int, default=2000)
    training.add_argument("--batch", type=int, default=64)
    training.add_argument("--lr", type=float, default=1e-3)
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    encoding = verbs.add_parser("encode", help="write the codes of a task's images, kept by content")
    encoding.set_defaults(run=_encode)
    showing = verbs.add_parser("show", help="draw originals and reconstructions by depth")
    showing.set_defaults(run=_show)
    showing.add_argument("--rows", type=int, default=12, help="images on the sheet (12)")
    showing.add_argument("--out", type=Path, help="PNG to write; FOLDER/TASK-SPLIT.png if not given")
    showing.add_argument("--overwrite", action="store_true", help="replace the file of --out if it is there")
    for each in (encoding, showing):
        each.add_argument("codec", type=Path, help="folder of the codec")
        each.add_argument("task", help="task card with an IMAGE slot")
        each.add_argument("--split", default="test", help="train, valid or test (test)")
    for each in (training, encoding, showing):
        each.add_argument("--device", default="auto", help="auto (a CUDA device where there is one), cpu, cuda ...")
        each.add_argument("--column", help="column of images; the task's first IMAGE slot if not given")
        each.add_argument("--config-dir", action="append", default=[], help="a folder of your own with tasks/")
    return parser


def _add_losses(training: argparse.ArgumentParser) -> None:
    group = training.add_argument_group("losses beside the error of the pixels")
    group.add_argument(
        "--perceptual",
        metavar="NAME",
        help="network whose features are compared too: a timm model, or package.module:function",
    )
    group.add_argument("--perceptual-weight", type=float, metavar="W", help="how much that counts (1)")
    group.add_argument("--gan-weight", type=float, metavar="W", help="how much a discriminator of patches counts (0)")
    group.add_argument(
        "--gan-start", type=int, metavar="STEP", help="step at which the discriminator begins (half of --steps)"
    )


def _losses(given: argparse.Namespace) -> CodecLosses:
    """What the flags say; CardError for a flag that says nothing without another."""
    from ofasys_lite.codec.losses import CodecLosses

    if given.perceptual_weight is not None and given.perceptual is None:
        raise CardError("--perceptual-weight without a network", help="name one: --perceptual NAME")
    if given.gan_start is not None and not given.gan_weight:
        raise CardError("--gan-start without a discriminator", help="give its weight: --gan-weight W, often 0.1 to 1")
    start = given.steps // 2 if given.gan_start is None else given.gan_start
    return CodecLosses(
        perceptual=given.perceptual,
        perceptual_weight=1.0 if given.perceptual_weight is None else given.perceptual_weight,
        gan_weight=given.gan_weight or 0.0,
        gan_start=start if given.gan_weight else 0,
    )


def _column(card: TaskCard, folders: Sequence[str]) -> str:
    """The data column of the task's first slot of pictures."""
    plan = build_plan(card, modalities(folders))
    found = next((s.column for s in plan.slots() if slot_class(s).kind == kinds.PICTURE), None)
    if found is None:
        raise CardError(f"task {card.name} has no IMAGE slot", help="name a task with images, or --column")
    return found


def _images(given: argparse.Namespace, split: str, side: int) -> Images:
    from ofasys_lite.codec.train_codec import Images
    from ofasys_lite.data.splits import open_card

    if split not in SPLITS:
        raise DataError(f"unknown split `{split}`", help=did_you_mean(split, SPLITS, "splits"))
    card = find_task(given.task, given.config_dir)
    column = given.column or _column(card, given.config_dir)
    sources, _ = open_card(card)
    return Images(sources[split], column, side)


def _train(given: argparse.Namespace) -> int:
    from ofasys_lite.codec.image_codec import CodecConfig
    from ofasys_lite.codec.train_codec import CodecRun, claim_codec, train_codec

    claim_codec(given.out, given.resume)
    if given.steps < 1 or given.batch < 1 or given.lr <= 0:
        raise CardError(f"steps {given.steps}, batch {given.batch}, lr {given.lr}", help="all are above 0")
    config = CodecConfig(
        size=given.size,
        factor=given.factor,
        depth=given.depth,
        codes=given.codes if given.codes is not None else math.prod(given.levels) if given.levels else 256,
        channels=given.channels,
        width=given.width,
        shared=not given.separate,
        loss=given.loss,
        levels=tuple(given.levels),
    )
    losses = _losses(given)
    images = _images(given, "train", config.size)
    sizes = (given.steps, given.batch, given.lr, given.seed, given.resume)
    run = CodecRun(config, images, given.out, *sizes, losses=losses, device=given.device)
    try:
        codec = train_codec(run)
    except Interrupted:
        if (given.out / "checkpoint.pt").exists():
            print("to go on where it stopped: the same command with --resume", file=sys.stderr)
        raise
    print(given.out)
    _tell(codec, _images(given, "valid", config.size), "valid")
    return 0


def _tell(codec: ImageCodec, images: Images, split: str) -> None:
    from ofasys_lite.codec.train_codec import depth_errors

    good, _ = images.readable()
    for k, error in enumerate(depth_errors(codec, images, good), 1):
        print(f"{split}: mean squared error with {k} of {codec.config.depth} codes: {error:.5f} ({len(good)} images)")


def _encode(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ofasys_lite.codec.image_codec import load_codec
    from ofasys_lite.codec.train_codec import cached_codes

    images = _images(given, given.split, load_codec(given.codec).config.size)
    print(cached_codes(given.codec, images.source, images.column, console=Console(stderr=True), device=given.device))
    return 0


def _show(given: argparse.Namespace) -> int:
    import numpy as np
    from PIL import Image

    from ofasys_lite.codec.image_codec import load_codec

    path = given.out or given.codec / f"{Path(given.task).stem}-{given.split}.png"
    claim_file(path, given.overwrite or given.out is None)
    codec = load_codec(given.codec, given.device)
    images = _images(given, given.split, codec.config.size)
    good, _ = images.readable()
    if given.rows < 1 or not good:
        raise DataError("no image to show", help="--rows is at least 1, and the split holds readable images")
    want = images.batch(good[:: max(1, len(good) // given.rows)][: given.rows]).to(codec.device)
    codes = codec.encode(want)
    # one line of originals, then one of reconstructions per depth
    lines = [want, *(codec.decode(codes, k + 1) for k in range(codec.config.depth))]
    sheet = np.concatenate([np.concatenate(list(line.cpu().numpy()), axis=1) for line in lines])
    scale = max(1, 96 // codec.config.size)
    with atomic(behind(path)) as partial:
        Image.fromarray(sheet.repeat(scale, 0).repeat(scale, 1)).save(partial)
    print(path)
    _tell(codec, images, given.split)
    return 0
