"""What more codes per position buy: reconstructions of real test images by codecs of depth 1, 2 and 4, equal otherwise.

    OMP_NUM_THREADS=1 python benchmarks/codec_depth.py --folder codecs      # digits at 16 x 16, about 20 CPU minutes
    OMP_NUM_THREADS=1 python benchmarks/codec_depth.py --folder codecs --set shapes32 --task caption --label caption \\
        --side 32 --seeds 0                                                 # coloured shapes

Every codec sees the same training images in the same order, with the same book of 64 codes for all depths, the same
positions and the same number of steps; only the codes per position differ. Measured on the test split, which no codec
and no judge has seen: mean squared error of pixels (0 to 1), Frechet distance in the features of a classifier of the
real training images (judge.py), and how often that classifier names the reconstruction rightly. Margins are paired by
seed. A codec that FOLDER holds already is used if it was trained with the very same settings, else refused.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, commit, machine, table, write_row
from frechet import frechet_distance, frechet_interval
from judge import Judge, Pixels, Split, load_card
from PIL import Image, ImageDraw, ImageFont

from ofasys_lite.cards.find import find_task
from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec
from ofasys_lite.codec.train_codec import CodecRun, Images, train_codec
from ofasys_lite.data.splits import open_card

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Measured:
    """One codec on the test split.

    Attributes:
        depth: Codes per position.
        seed: Of weights and order.
        mse: Mean squared error of pixels, 0 to 1.
        mse_uncoded: The same where the decoder gets the vectors before quantization: what codes alone cannot mend.
        frechet_test: Distance of the reconstructions to the images themselves.
        frechet_test_interval: 95 %, over the images.
        frechet_other: The distance to the images themselves in the features of a judge with another seed.
        frechet_train: Distance of the reconstructions to the real training images.
        accuracy: Share of reconstructions that the judge puts into the right class.
        codes_used: Codes of the book that stand in the test split's codes.
        loss_before: Mean training loss in the fourth fifth of the steps.
        loss_end: Mean training loss in the last fifth.
    """

    depth: int
    seed: int
    mse: float
    mse_uncoded: float
    frechet_test: float
    frechet_test_interval: tuple[float, float]
    frechet_other: float
    frechet_train: float
    accuracy: float
    codes_used: int
    loss_before: float
    loss_end: float


def trained(given: argparse.Namespace, depth: int, seed: int) -> tuple[ImageCodec, Path]:
    """The codec of one depth and seed and its folder; trained, or gone on with, where it is not there yet."""
    config = CodecConfig(
        size=given.side,
        factor=given.factor,
        depth=depth,
        codes=given.codes,
        channels=given.channels,
        width=given.width,
    )
    sources, _ = open_card(find_task(given.task, given.config_dir))
    folder = given.folder / f"{given.set}-d{depth}-s{seed}"
    resume = (folder / "checkpoint.pt").exists()
    images = Images(sources["train"], given.image, given.side)
    run = CodecRun(config, images, folder, given.steps, given.batch, given.lr, seed, resume)
    print(f"{folder.name}: {'from its checkpoint' if resume else 'training'}", flush=True)
    return train_codec(run), folder


def rebuilt(codec: ImageCodec, images_NHWC: Pixels, batch: int = 128) -> tuple[Pixels, int]:
    """Reconstructions of uint8 images, and how many codes of the book they use."""
    parts, used = [], set()
    for start in range(0, len(images_NHWC), batch):
        codes = codec.encode(torch.from_numpy(images_NHWC[start : start + batch]))
        used |= set(codes.unique().tolist())
        parts.append(codec.decode(codes).numpy())
    return np.concatenate(parts), len(used)


@torch.no_grad()
def uncoded(codec: ImageCodec, images_NHWC: Pixels, batch: int = 128) -> Pixels:
    """What the decoder makes of uint8 images when nothing is quantized."""
    parts = []
    for start in range(0, len(images_NHWC), batch):
        latents_NHWC = codec.latents(torch.from_numpy(images_NHWC[start : start + batch]))
        out_NHWC = codec.decoder(latents_NHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        parts.append(((out_NHWC + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy())
    return np.concatenate(parts)


def _error(one_NHWC: Pixels, other_NHWC: Pixels) -> float:
    return float(np.square((one_NHWC.astype(np.float64) - other_NHWC) / 255).mean())


def measure(codec: ImageCodec, folder: Path, seed: int, judges: list[Judge], test: Split, train: Split) -> Measured:
    """All figures of one codec; the first of two judges decides."""
    judge, other = judges
    images, labels = test
    again, used = rebuilt(codec, images)
    seen, real = judge.features(again), judge.features(images)
    interval = frechet_interval(seen, real, paired=True)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = rows[-1]["step"]
    before = [row["loss"] for row in rows if 0.6 * steps < row["step"] <= 0.8 * steps]
    end = [row["loss"] for row in rows if row["step"] > 0.8 * steps]
    return Measured(
        codec.config.depth,
        seed,
        _error(again, images),
        _error(uncoded(codec, images), images),
        interval.value,
        (interval.low, interval.high),
        frechet_distance(other.features(again), other.features(images)),
        frechet_distance(seen, judge.features(train[0])),
        float((judge.classes(again) == labels).mean()),
        used,
        float(np.mean(before)),
        float(np.mean(end)),
    )


@dataclass(frozen=True, slots=True)
class Margin:
    """What the deeper of two neighbouring depths gains in one figure; above 0 is better.

    Attributes:
        figure: Name of a field of Measured.
        low: The smaller depth.
        high: The deeper one.
        gains: Seed by seed.
        ratio: Mean over seeds of the smaller depth's figure over the deeper one's.
    """

    figure: str
    low: int
    high: int
    gains: list[float]
    ratio: float


def margins(found: list[Measured], depths: list[int], seeds: list[int]) -> list[Margin]:
    """The margins of every error, paired by seed."""
    by = {(m.depth, m.seed): m for m in found}
    out = []
    for name in ("mse", "frechet_test", "frechet_other", "frechet_train"):
        for low, high in itertools.pairwise(depths):
            pairs = [(getattr(by[low, s], name), getattr(by[high, s], name)) for s in seeds]
            out.append(Margin(name, low, high, [a - b for a, b in pairs], float(np.mean([a / b for a, b in pairs]))))
    return out


_SHOWN = (  # field, head of the column, factor, digits
    ("mse", "squared error x 1000", 1e3, 2),
    ("mse_uncoded", "without codes", 1e3, 2),
    ("frechet_test", "Frechet to test", 1.0, 3),
    ("frechet_other", "second judge", 1.0, 3),
    ("frechet_train", "Frechet to train", 1.0, 2),
    ("accuracy", "accuracy", 1.0, 3),
)


def show(found: list[Measured], gained: list[Margin], depths: list[int], floors: dict[str, float]) -> str:
    """The tables as Markdown: means, and in brackets the seeds."""
    rows = [["depth", *(head for _, head, _, _ in _SHOWN), "codes used"]]
    for depth in depths:
        of = [m for m in found if m.depth == depth]
        cells = [_numbers([getattr(m, name) * scale for m in of], digits) for name, _, scale, digits in _SHOWN]
        rows.append([str(depth), *cells, ", ".join(str(m.codes_used) for m in of)])
    rows.append(["real", "0", "", "0", "0", f"{floors['frechet_train']:.2f}", f"{floors['accuracy']:.3f}", ""])
    more = [["gain in", "depths", "mean (by seed)", "ratio"]]
    style = {name: (head, scale, digits) for name, head, scale, digits in _SHOWN}
    for gain in gained:
        head, scale, digits = style[gain.figure]
        numbers = _numbers([g * scale for g in gain.gains], digits)
        more.append([head, f"{gain.low} to {gain.high}", numbers, f"{gain.ratio:.2f}"])
    return f"{table(rows)}\n\n{table(more)}"


def _numbers(values: list[float], digits: int) -> str:
    return f"**{np.mean(values):.{digits}f}** ({', '.join(f'{v:.{digits}f}' for v in values)})"


def sheet(path: Path, test: Split, lines: list[tuple[str, Pixels]], columns: int = 12) -> None:
    """Writes a PNG: a row of originals, then a row of reconstructions per depth, each with its name."""
    images, labels = test
    # classes in turn, so that the sheet shows all of them
    order = sorted(range(len(labels)), key=lambda i: (int((labels[:i] == labels[i]).sum()), int(labels[i])))
    rows = order[:columns] if int(labels.max()) < columns else order[:: max(1, int(labels.max()) // columns)][:columns]
    cell, edge, left = 80, 4, 130
    page = Image.new("RGB", (left + columns * (cell + edge), (len(lines) + 1) * (cell + edge) + edge), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(18)
    for y, (name, pixels) in enumerate([("original", images), *lines]):
        top = edge + y * (cell + edge)
        pen.multiline_text((8, top + cell // 2), name, fill="black", font=font, anchor="lm", spacing=6)
        for x, row in enumerate(rows):
            picture = Image.fromarray(pixels[row]).resize((cell, cell), Image.Resampling.NEAREST)
            page.paste(picture, (left + x * (cell + edge), top))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)


def _short(word: str) -> str:
    """A word of the command without the folders of this machine."""
    path = Path(word)
    if not path.is_absolute():
        return word
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def run(given: argparse.Namespace) -> dict[str, object]:
    """Trains, measures, prints, draws; the set's entry of the results."""
    splits, names = load_card(given.task, given.image, given.label, given.side, given.config_dir)
    test, train = splits["test"], splits["train"]
    judges = [Judge.train(*train, seed) for seed in (0, 1)]
    judge = judges[0]
    floors = {
        "frechet_train": frechet_distance(judge.features(test[0]), judge.features(train[0])),
        "accuracy": float((judge.classes(test[0]) == test[1]).mean()),
    }
    found, lines = [], []
    for seed in given.seeds:
        for depth in given.depths:
            codec, folder = trained(given, depth, seed)
            found.append(measure(codec, folder, seed, judges, test, train))
            print(found[-1], flush=True)
            if seed == given.seeds[0]:
                text = f"{depth} code{'s' * (depth > 1)}\nerror {1e3 * found[-1].mse:.1f}"
                lines.append((text, rebuilt(codec, test[0])[0]))
    gained = margins(found, given.depths, given.seeds)
    print(show(found, gained, given.depths, floors))
    if given.sheet:
        sheet(given.sheet, test, lines)
    settings = {
        k: str(v) if isinstance(v, Path) else v
        for k, v in vars(given).items()
        if k not in ("folder", "sheet", "out", "config_dir")
    }
    counts = {"train": len(train[1]), "test": len(test[1]), "classes": len(names)}
    return {
        "commit": commit(),
        "command": shlex.join(["python", "benchmarks/codec_depth.py", *map(_short, sys.argv[1:])]),
        "settings": {**settings, "images": counts},
        "real": floors,
        "codecs": [asdict(m) for m in found],
        "margins": [asdict(m) for m in gained],
    }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="codecs are kept in FOLDER/SET-dDEPTH-sSEED")
    parser.add_argument("--set", default="digits16", help="name of this set of images in folder and results")
    parser.add_argument("--task", default="digits")
    parser.add_argument("--config-dir", action="append", default=[], help="a folder of your own with tasks/")
    parser.add_argument("--image", default="image", help="column of images")
    parser.add_argument("--label", default="label", help="column of labels")
    parser.add_argument("--side", type=int, default=16, help="pixels")
    parser.add_argument("--factor", type=int, default=4, help="pixels a position is wide")
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--codes", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--sheet", type=Path, help="PNG with originals and reconstructions of the first seed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of codec_depth.json, whose other sets stay")
    given = parser.parse_args(words)
    if given.steps < 100:
        parser.error(f"--steps {given.steps}: at least 100, so that every fifth of a run has its losses")
    return given


def main(words: Sequence[str] | None = None) -> None:
    given = arguments(words)
    torch.set_num_threads(1)
    entry = run(given)
    path = given.out / "codec_depth.json"
    sets = json.loads(path.read_text(encoding="utf-8"))["sets"] if path.exists() else {}
    print(write_row("codec_depth", {**machine("torch", "numpy"), "sets": {**sets, given.set: entry}}, given.out))


if __name__ == "__main__":
    main()
