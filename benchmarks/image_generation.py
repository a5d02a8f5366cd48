"""Image generation by codes with depth against its controls, at equal backbone and sequence length.

    OMP_NUM_THREADS=1 python benchmarks/image_generation.py --codecs codecs --out runs/image-generation
    OMP_NUM_THREADS=1 python benchmarks/image_generation.py --table          # the table of what is there

Digits by class (`draw the digit: [TEXT:label]`), digits by caption (`draw: [TEXT:description]`, say `a bold very
slanted seven`, see described.py) and coloured shapes by caption, 16 x 16 pixels, 64 codes, 2 x 2 positions (`--factor
4`: 4 x 4). Every variant trains the same encoder-decoder through `fit`, with the same steps and samples. Codecs see
the training split only. Distance: Frechet, in the features of a classifier of real training images
(benchmarks/judge.py), of drawn pictures to the test split; floor: training to test split; ceiling of each depth: the
codec's reconstructions of the test split. Runs that are finished are kept, so the script can be stopped and started.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import re
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, commit
from described import Describer
from frechet import frechet_distance
from judge import Judge, load_card
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from ofasys_lite.api.model import GeneralistModel
from ofasys_lite.api.task import Task, as_source
from ofasys_lite.api.training import fit
from ofasys_lite.cards.find import find_task
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.splits import open_card
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.model import ModelConfig

SIDE = 16


@dataclass(frozen=True, slots=True)
class World:
    """A data set: its card, the column that is asked for, what stands before it, the column of its classes."""

    card: str
    column: str
    words: str
    label: str


WORLDS = {
    "digits": World("digits", "label", "draw the digit:", "label"),
    "described": World("digits", "description", "draw:", "label"),
    "shapes": World("caption", "caption", "draw:", "caption"),
}

#: Variant -> (depth, further arguments of the codec).
VARIANTS: dict[str, tuple[int, str]] = {
    "depth 1": (1, ""),
    "depth 2": (2, ""),
    "depth 4": (4, ""),
    "parallel heads 2": (2, "layers=parallel"),
    "no feedback 2": (2, "feedback=false"),
    "flat 2": (2, "layers=flat"),
    "random order 2": (2, "order=random,anneal=STEPS"),
    "self-correction 2": (2, "correct=0.1"),
    "parallel heads 4": (4, "layers=parallel"),
    "no feedback 4": (4, "feedback=false"),
    # controls of equal bits: depth 2 and 16 codes hold what depth 1 and 256 codes hold, depth 4 what four times the
    # positions hold, depth 1 what depth 2 and 4 codes or depth 4 and 2 codes hold
    "depth 1, 256 codes": (1, "codes=256"),
    "depth 1, 4 x positions": (1, "factor=HALF"),
    "depth 2, 4 codes": (2, "codes=4"),
    "depth 4, 2 codes": (4, "codes=2"),
}


def model_of() -> GeneralistModel:
    """The backbone of the comparison: 1 + 6 layers of width 64."""
    config = ModelConfig(width=64, encoder_layers=1, decoder_layers=6, heads=4, rotary_theta=100.0)
    # small codecs as benchmarks/codec_depth.py trains them
    return GeneralistModel(config, modalities={"IMAGE": {"codec": {"width": 16, "channels": 16}}})


def line_of(given: argparse.Namespace, world: World, variant: str, seed: int) -> str:
    """The instruction of a variant; its codec is the one in `--codecs`, or trained by the run."""
    depth, more = VARIANTS[variant]
    cfg = given.cfg[0]
    folder = None if given.codecs is None else given.codecs / f"{world.card}{SIDE}-d{depth}-s{seed}"
    settings = {"depth": depth, "codes": given.codes, "factor": given.factor}
    words = {"STEPS": str(int(0.75 * given.steps)), "HALF": str(given.factor // 2)}
    for part in filter(None, more.split(",")):
        key, value = part.split("=")
        settings[key] = words.get(value, value)
    if folder is None or not folder.exists():
        settings["steps"] = given.codec_steps
    said = ",".join(([] if "steps" in settings else [str(folder)]) + [f"{k}={v}" for k, v in settings.items()])
    return (
        f"{world.words} [TEXT:{world.column},drop=0.1] -> "
        f"[IMAGE:image,size={SIDE},codec=dnd({said}),decode=sample(cfg={cfg:g})]"
    )


class Rows:
    """What a world holds.

    Attributes:
        splits: Split -> its pictures (N, S, S, 3) and the numbers of their classes.
        asked: Split -> what is asked for, for every picture.
        describer: Of the world whose captions are measured on the pictures.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.splits, names = load_card(world.card, "image", world.label, SIDE)
        self.describer: Describer | None = None
        if world.column == "description":
            self.describer = Describer.of(self.splits["train"][0])
            self.asked = {split: self.describer.captions(*each) for split, each in self.splits.items()}
        else:
            self.asked = {split: [names[i] for i in labels] for split, (_, labels) in self.splits.items()}

    def source(self, split: str) -> RowSource:
        """The rows of a split: the card's, or with a column of what is asked for."""
        source = open_card(find_task(self.world.card))[0][split]
        if self.describer is None:
            return source
        said = enumerate(self.asked[split])
        return as_source([source.row(i) | {self.world.column: text} for i, text in said], f"described {split}")

    def task(self, line: str) -> Task:
        """The world's rows under a line."""
        task = Task("draw", line)
        for split in self.splits:
            task.add_dataset(self.source(split), split)
        return task


def drawn(model: Generalist, world: World, prompts: Sequence[str], options: DecodeOptions) -> NDArray[np.uint8]:
    """(N, S, S, 3) pictures of prompts."""
    requests = [Request("draw", {world.column: text}, str(i), options) for i, text in enumerate(prompts)]
    return np.stack([np.asarray(p.values["image"]) for p in predict(model, requests) if p is not None])


@torch.no_grad()
def likelihood(model: Generalist, source: RowSource) -> float:
    """Nats that the codes of a test picture cost, all depths together: comparable between variants of one codec."""
    maker = model.maker("draw")
    coder = next(model.network.coder(name) for name in model.network.adapters if "dnd" in name)
    model.network.eval()
    total = 0.0
    for start in range(0, len(source), 128):
        rows = range(start, min(start + 128, len(source)))
        batch = collate([maker.example(source.row(i), source.ids(i), None, False) for i in rows])
        total += float(model.network(to_device(batch, model.device)).values_U.sum()) * coder.heads.depth
    return total / len(source)


def train(given: argparse.Namespace, world: World, data: Rows, variant: str, seed: int, folder: Path) -> dict[str, Any]:
    """Trains one run into `folder`; what is known of it before it draws."""
    line = line_of(given, world, variant, seed)
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.process_time()
    fit(
        model_of(),
        data.task(line),
        steps=given.steps,
        folder=folder,
        console=Console(file=io.StringIO()),
        samples_per_step=given.batch,
        lr=given.lr,
        warmup=0.05,
        valid_every=0,
        checkpoint_every=100_000,
        progress=False,
        workers=0,
        threads=1,
        seed=seed,
        precision="fp32",
    )
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    keys = ("factor", "codes", "codec_steps", "steps", "batch", "lr", "samples")
    return {
        "variant": variant,
        "seed": seed,
        "line": line,
        "train_cpu_seconds": round(time.process_time() - begin, 1),
        "settings": {key: getattr(given, key) for key in keys} | {"torch": torch.__version__, "side": SIDE},
    }


def look(given: argparse.Namespace, world: World, data: Rows, seed: int, folder: Path) -> dict[str, Any]:
    """What the run in `folder` draws, and what its codec and the real pictures come to."""
    model = Generalist.from_pretrained(folder)
    images, labels = data.splits["test"]
    judge = Judge.train(*data.splits["train"])
    test = judge.features(images)
    coder = next(a for n, a in model.network.adapters.items() if "dnd" in n)
    rebuilt = coder.codec.decode(coder.codec.encode(torch.from_numpy(images))).numpy()
    row: dict[str, Any] = {
        "floor": frechet_distance(judge.features(data.splits["train"][0]), test),
        "judge_accuracy": float((judge.classes(images) == labels).mean()),
        "reconstruction": frechet_distance(judge.features(rebuilt), test),
        "nats": likelihood(model, data.source("test")),
        "cfg": {},
    }
    if data.describer is not None:
        row["described"] = data.describer.agreement(rebuilt, data.asked["test"])
        row["by_digit"] = data.describer.by_digit(*data.splits["train"], *data.splits["test"])
    at = np.resize(np.arange(len(images)), given.samples)
    asked, want = [data.asked["test"][i] for i in at], labels[at]
    for cfg in given.cfg:
        begin = time.process_time()
        pictures = drawn(model, world, asked, DecodeOptions("sample", cfg=cfg, seed=seed))
        spent = time.process_time() - begin
        found = row["cfg"][f"{cfg:g}"] = {
            "frechet": frechet_distance(judge.features(pictures), test),
            "accuracy": float((judge.classes(pictures) == want).mean()),
            "sampling_ms": round(1000 * spent / len(pictures), 2),
        }
        if data.describer is not None:
            found["described"] = data.describer.agreement(pictures, asked)
        np.savez_compressed(folder / f"drawn-{cfg:g}.npz", pictures=pictures[:200], labels=want[:200])
    return row


def bits_of(row: dict[str, Any]) -> float:
    """Bits that the codes of a picture of this run can hold."""
    said = dict(re.findall(r"(depth|codes|factor)=(\d+)", row["line"]))
    return (SIDE // int(said["factor"])) ** 2 * int(said["depth"]) * math.log2(int(said["codes"]))


def table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Mean and single values per variant and guidance."""
    for world in dict.fromkeys(row["world"] for row in rows):
        for cfg in dict.fromkeys(c for row in rows for c in row["cfg"]):
            shown = Table(title=f"{world}, guidance {cfg}: Frechet distance to the test split")
            headings = ("variant", "mean", "seeds", "class accuracy", "nats", "reconstruction", "bits", "ms a picture")
            for heading in headings:
                shown.add_column(heading)
            for variant in VARIANTS:
                mine = [r for r in rows if r["world"] == world and r["variant"] == variant and cfg in r["cfg"]]
                if mine:
                    values = [r["cfg"][cfg]["frechet"] for r in mine]
                    shown.add_row(
                        variant,
                        f"{statistics.mean(values):.2f}",
                        " ".join(f"{v:.2f}" for v in values),
                        f"{statistics.mean(r['cfg'][cfg]['accuracy'] for r in mine):.3f}",
                        f"{statistics.mean(r.get('nats', float('nan')) for r in mine):.2f}",
                        f"{statistics.mean(r['reconstruction'] for r in mine):.2f}",
                        ", ".join(sorted({f"{bits_of(r):.0f}" for r in mine})),
                        f"{statistics.mean(r['cfg'][cfg]['sampling_ms'] for r in mine):.1f}",
                    )
            console.print(shown)
        floor = next(r["floor"] for r in rows if r["world"] == world)
        right = next(r["judge_accuracy"] for r in rows if r["world"] == world)
        console.print(f"floor (training against test split) {floor:.2f}; judge on real test pictures {right:.3f}\n")


def sheet(given: argparse.Namespace, rows: Sequence[dict[str, Any]], world: str, path: Path) -> None:
    """The first two drawings of each of the first classes, a line per variant, of the smallest seed and guidance."""
    lines = []
    for variant in VARIANTS:
        mine = [row for row in rows if (row["world"], row["variant"]) == (world, variant)]
        if mine:
            row = min(mine, key=lambda row: row["seed"])
            cfg = min(row["cfg"], key=float)
            kept = np.load(given.out / f"{world}-{variant.replace(' ', '-')}-s{row['seed']}" / f"drawn-{cfg}.npz")
            at = [i for label in range(12) for i in np.flatnonzero(kept["labels"] == label)[:2]]
            drawings = np.concatenate(kept["pictures"][at], 1)
            lines.append((variant, Image.fromarray(drawings).resize((2 * drawings.shape[1], 2 * SIDE), 0)))
    margin = 150
    whole = Image.new("RGB", (margin + max(line.width for _, line in lines), (2 * SIDE + 6) * len(lines)), "white")
    for n, (variant, line) in enumerate(lines):
        ImageDraw.Draw(whole).text((4, n * (2 * SIDE + 6) + SIDE - 6), variant, "black", font_size=14)
        whole.paste(line, (margin, n * (2 * SIDE + 6)))
    whole.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", type=Path, default=None, help="folder of codecs of benchmarks/codec_depth.py")
    parser.add_argument("--out", type=Path, default=Path("runs/image-generation"))
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--factor", type=int, default=8, help="pixels of a position")
    parser.add_argument("--codes", type=int, default=64)
    parser.add_argument("--codec-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--samples", type=int, default=1004)
    parser.add_argument("--cfg", nargs="*", type=float, default=[2.0, 1.0])
    parser.add_argument("--result", type=Path, default=RESULTS / "image_generation.json")
    parser.add_argument("--sheet", type=Path, default=None, help="folder for a picture of drawings")
    parser.add_argument("--redraw", action="store_true", help="draw again with finished runs that are still in --out")
    parser.add_argument("--table", action="store_true", help="only print what the result file holds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    kept = json.loads(given.result.read_text(encoding="utf-8")) if given.result.exists() else {"rows": []}
    rows: list[dict[str, Any]] = kept["rows"]
    worlds = {name: Rows(WORLDS[name]) for name in ({} if given.table else given.worlds)}

    def place(name: str, variant: str, seed: int) -> Path:
        return given.out / f"{name}-{variant.replace(' ', '-')}-s{seed}"

    def keep() -> None:
        given.result.parent.mkdir(parents=True, exist_ok=True)
        given.result.write_text(json.dumps({**kept, "rows": rows}, indent=1) + "\n", encoding="utf-8")

    for row in rows if given.redraw else []:
        folder = place(row["world"], row["variant"], row["seed"])
        if row["world"] in worlds and (folder / "export").exists():
            seen = look(given, WORLDS[row["world"]], worlds[row["world"]], row["seed"], folder)
            row |= seen | {"cfg": row["cfg"] | seen["cfg"]}
            keep()
    for seed, name, variant in itertools.product([] if given.table else given.seeds, given.worlds, given.variants):
        if any((r["world"], r["variant"], r["seed"]) == (name, variant, seed) for r in rows):
            continue
        row = {"world": name, "commit": commit()}
        row |= train(given, WORLDS[name], worlds[name], variant, seed, place(name, variant, seed))
        row |= look(given, WORLDS[name], worlds[name], seed, place(name, variant, seed))
        rows.append(row)
        console.print(name, variant, "seed", seed, row["cfg"], f"{row['train_cpu_seconds']} s", highlight=False)
        keep()
    table(rows, console)
    if given.sheet is not None:
        for world in dict.fromkeys(row["world"] for row in rows):
            sheet(given, rows, world, given.sheet / f"drawn_{world}.png")


if __name__ == "__main__":
    main()
