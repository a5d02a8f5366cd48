"""What the encoder's objectives teach it: a linear probe on its states, against the same network untrained.

    OMP_NUM_THREADS=1 python benchmarks/probe.py --steps 300 --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/probe.py --steps 1000 --lines order

One run learns `mae` on digits and `mlm` on spoken commands' texts, labels unseen. Then ridge regression to the labels
on the mean of the encoder's states, fitted on training rows (where they are few, on each part of them by itself, and
the mean is told), its strength chosen on the validation rows, judged on the test rows: digits among ten, intents among
all. Beside it the most frequent label. `order` asks of the same texts whether two neighbouring words have changed
places, as in half of the rows they have (the probing task BShift of arXiv 1805.01070): which words there are does not
tell it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, commit, machine

from ofasys_lite import GeneralistModel
from ofasys_lite.commands.app import main as ofasys_lite
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.report.task_rows import open_task

LINES = {
    "pictures": ("[IMAGE:image,loss=mae(ratio=0.6)] ->", "digits", "label"),
    "texts": ("[TEXT:text,loss=mlm(ratio=0.25)] ->", "intents", "intent"),
    "order": ("[TEXT:text,loss=mlm(ratio=0.25)] ->", "intents", "shifted"),
}
#: Training rows that are looked at.
ROWS = 2000


def train(names: Sequence[str], steps: int, seed: int, folder: Path) -> Path:
    """A run of so many steps on some of the lines."""
    values = [f'+tasks.{name}.instruction="{LINES[name][0]}"' for name in names]
    for name, data in ((name, LINES[name][1]) for name in names):
        values += [f"+tasks.{name}.data={{train: '{data}:train', valid: '{data}:valid', test: '{data}:test'}}"]
    arguments = [
        *("train", f"name={folder.name}", "model=quick", f"steps={steps}", "minutes=null", f"seed={seed}"),
        *("overwrite=true", "evaluate=false", "trainer.workers=0", "trainer.threads=1", "trainer.precision=fp32"),
        *(
            "trainer.samples_per_step=32",
            "trainer.lr=0.0008",
            "trainer.optimizer={path: muon, lr: 3.0}",
            "trainer.clip=5",
        ),
        *("trainer.valid_every=1000", "data.pieces=1000", "+modalities.IMAGE={patch: 4}", *values),
    ]
    if ofasys_lite(arguments):
        raise SystemExit("the training failed")
    return Path("runs") / folder.name / "export"


def shifted(row: Mapping[str, Any], number: int) -> dict[str, Any] | None:
    """The row as it is, or with two neighbouring words of its text exchanged, by its number; None of too few words."""
    words = str(row["text"]).split(" ")
    rng = np.random.default_rng([7, number])
    places = [i for i in range(len(words) - 1) if words[i] != words[i + 1]]
    if len(words) < 4 or not places:
        return None
    place, change = places[int(rng.integers(len(places)))], bool(rng.integers(2))
    if change:
        words[place : place + 2] = words[place + 1], words[place]
    return {**row, "text": " ".join(words), "shifted": str(change)}


def states(model: GeneralistModel, task: str, split: str, count: int, label: str) -> tuple[Any, list[str]]:
    """((N, D) means of the encoder's states, labels) of rows spread over a split."""
    generalist, rows = model.generalist, open_task(model.generalist.entry(task).card, None)[split]
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int).tolist()
    vectors, labels = [], []
    for start in range(0, len(chosen), 64):
        held = [rows.row(i) for i in chosen[start : start + 64]]
        if label == "shifted":
            found_rows = (shifted(row, i) for row, i in zip(held, chosen[start : start + 64], strict=True))
            held = [row for row in found_rows if row is not None]
        batch = to_device(collate([generalist.maker(task).source(row, "0") for row in held]), torch.device("cpu"))
        with torch.inference_mode():
            found = generalist.network.encode(batch.source)
        vectors += [part.mean(0).numpy() for part in found.split(list(batch.source.lengths))]
        labels += [str(row[label]) for row in held]
    return np.stack(vectors).astype(np.float64), labels


def probed(parts: Mapping[str, tuple[Any, list[str]]]) -> float:
    """Share of the test rows that ridge regression to one column a label names."""
    fit_ND, fit = parts["train"]
    names = sorted(set(fit))
    middle, wide = fit_ND.mean(0), fit_ND.std(0) + 1e-9

    def ready(x_ND: Any) -> Any:
        return np.concatenate([(x_ND - middle) / wide, np.ones((len(x_ND), 1))], 1)

    x_ND, y_NC = ready(fit_ND), np.array([[float(label == name) for name in names] for label in fit])

    def share(weights_DC: Any, split: str) -> float:
        told = (ready(parts[split][0]) @ weights_DC).argmax(1)
        return float(np.mean([names[int(i)] == label for i, label in zip(told, parts[split][1], strict=True)]))

    tried = [np.linalg.solve(x_ND.T @ x_ND + s * np.eye(x_ND.shape[1]), x_ND.T @ y_NC) for s in (0.1, 1, 10, 100, 1000)]
    return share(max(tried, key=lambda weights_DC: share(weights_DC, "valid")), "test")


def few(parts: Mapping[str, tuple[Any, list[str]]], fitted: int) -> float:
    """`probed` by `fitted` of the training rows at a time: the mean over parts that share no row."""
    x_ND, labels = parts["train"]
    count = max(1, len(labels) // fitted)
    return statistics.fmean(probed({**parts, "train": (x_ND[k::count], labels[k::count])}) for k in range(count))


def main() -> None:
    """Prints the table, writes it to benchmarks/results/probe.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES), help="what one run learns together")
    parser.add_argument("--judged", type=int, default=600, help="rows of the test split")
    parser.add_argument("--fitted", type=int, default=ROWS, help="training rows that the probe is fitted on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, Any] = {name: {"trained": [], "untrained": []} for name in given.lines}
    for seed in given.seeds:
        for what, steps in (("untrained", 0), ("trained", given.steps)):
            with tempfile.TemporaryDirectory(prefix=f"probe-{what}-{seed}-") as folder:
                model = GeneralistModel.from_pretrained(train(given.lines, max(1, steps), seed, Path(folder)))
            for name in given.lines:
                counts = {"train": ROWS, "valid": given.judged, "test": given.judged}
                parts = {split: states(model, name, split, count, LINES[name][2]) for split, count in counts.items()}
                table[name][what].append(round(few(parts, given.fitted), 3))
                commonest = max(set(parts["train"][1]), key=parts["train"][1].count)
                table[name]["majority"] = round(parts["test"][1].count(commonest) / len(parts["test"][1]), 3)
                print(f"seed {seed}, {what}, {name}: {table[name][what][-1]}", flush=True)
    for name, row in table.items():
        row["mean"] = {what: round(statistics.mean(row[what]), 3) for what in ("untrained", "trained")}
        print(name, json.dumps(row))
    found = {
        "benchmark": "probe",
        "commit": commit(),
        "machine": machine(),
        "steps": given.steps,
        "fitted": given.fitted,
        "judged": given.judged,
        "table": table,
    }
    (RESULTS / ("probe.json" if given.lines == list(LINES) else f"probe_{'_'.join(given.lines)}.json")).write_text(
        json.dumps(found, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
