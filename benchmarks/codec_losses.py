"""What a perceptual network and a discriminator change of a codec that is equal otherwise, on test images.

    OMP_NUM_THREADS=1 python benchmarks/codec_losses.py --folder codecs     # digits at 16 x 16, 3 codecs of 600 steps

Settings, images and figures are those of codec_depth.py at depth 2. The perceptual network is a classifier of the real
training digits (judge.py) with seed 2; the judges have the seeds 0 and 1. They are other weights of the same network
trained on the same images, so Frechet distances may still favour the perceptual loss; squared errors do not.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from codec_depth import Measured, _short, measure
from common import RESULTS, machine, table, write_row
from judge import Judge, load_digits
from torch import Tensor, nn

from ofasys_lite.cards.find import find_task
from ofasys_lite.codec.image_codec import CodecConfig
from ofasys_lite.codec.losses import CodecLosses
from ofasys_lite.codec.train_codec import CodecRun, Images, train_codec
from ofasys_lite.data.splits import open_card

SIDE = 16


class Stages(nn.Module):
    """The four maps of a judge's convolutions, each behind its ReLU."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.parts = nn.ModuleList(body[i : i + 3] for i in range(0, 12, 3))

    def forward(self, pixels_NCHW: Tensor) -> list[Tensor]:
        maps = []
        for part in self.parts:
            pixels_NCHW = part(pixels_NCHW)
            maps.append(pixels_NCHW)
        return maps


def digits_network() -> Stages:
    """The perceptual network: no judge of the figures has its seed."""
    return Stages(Judge.train(*load_digits(SIDE)["train"], seed=2).network.body)


def variants(given: argparse.Namespace) -> dict[str, CodecLosses]:
    """Names of the rows and their losses."""
    judged = {"perceptual": "codec_losses:digits_network", "perceptual_weight": given.perceptual_weight}
    adversary = {"gan_weight": given.gan_weight, "gan_start": given.steps // 2}
    return {
        "squared error alone": CodecLosses(),
        "with perceptual": CodecLosses(**judged),
        "with discriminator": CodecLosses(**adversary),
    }


def run(given: argparse.Namespace) -> dict[str, object]:
    """Trains, measures, prints; what is kept."""
    config = CodecConfig(size=SIDE, factor=4, depth=2, codes=64, channels=16, width=16)
    splits = load_digits(SIDE)
    judges = [Judge.train(*splits["train"], seed) for seed in (0, 1)]
    source = open_card(find_task("digits"))[0]["train"]
    found: dict[str, list[Measured]] = {}
    for seed in given.seeds:
        for name, losses in variants(given).items():
            folder = given.folder / f"{name.replace(' ', '-')}-s{seed}"
            resume = (folder / "checkpoint.pt").exists()
            images = Images(source, "image", SIDE)
            codec = train_codec(CodecRun(config, images, folder, given.steps, 64, 3e-3, seed, resume, losses=losses))
            found.setdefault(name, []).append(measure(codec, folder, seed, judges, splits["test"], splits["train"]))
            print(name, found[name][-1], flush=True)
    rows = [["losses", "squared error x 1000", "Frechet to the test images", "by a second judge", "accuracy"]]
    for name, of in found.items():
        shown = ("mse", 1e3, 2), ("frechet_test", 1.0, 3), ("frechet_other", 1.0, 3), ("accuracy", 1.0, 3)
        rows.append([name, *(", ".join(f"{getattr(m, k) * s:.{d}f}" for m in of) for k, s, d in shown)])
    print(table(rows))
    return {
        "command": shlex.join(["python", "benchmarks/codec_losses.py", *map(_short, sys.argv[1:])]),
        "settings": {key: value for key, value in vars(given).items() if key not in ("folder", "out")},
        "codecs": {name: [asdict(m) for m in of] for name, of in found.items()},
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="codecs are kept in FOLDER/LOSSES-sSEED")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--perceptual-weight", type=float, default=0.1)
    parser.add_argument("--gan-weight", type=float, default=0.5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of codec_losses.json")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    print(write_row("codec_losses", {**machine("torch", "numpy"), **run(given)}, given.out))


if __name__ == "__main__":
    main()
