"""What a classifier of real clips sees in clips that a model wrote.

    python benchmarks/motion_judge.py runs/motion
    python benchmarks/motion_judge.py runs/mocap --task text_to_motion --data mocap --label text

The judge is a logistic regression (gradient descent, no library) on simple features of a clip: mean, deviation and mean
absolute change of each channel, and where its strongest frequency lies. It learns the real training recordings of a
data set and is asked about the real test recordings, about as many clips that the model wrote for their labels,
and about those against shuffled labels. Intervals: 95 %, from 10,000 draws of clips again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ofasys_lite.data.rows import open_source
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict


def features(frames_TC: Any) -> Any:
    """(4 C,) of one clip."""
    frames = np.asarray(frames_TC, dtype=np.float64)
    spectrum = np.abs(np.fft.rfft(frames - frames.mean(0), axis=0))
    change = np.abs(np.diff(frames, axis=0)).mean(0)
    parts = (frames.mean(0), np.log(frames.std(0) + 1e-3), np.log(change + 1e-3), spectrum.argmax(0) / len(frames))
    return np.concatenate(parts)


class Judge:
    """Logistic regression of labels on standardised features."""

    def __init__(self, clips: list[Any], labels: list[str]) -> None:
        self.names = sorted(set(labels))
        x = np.stack([features(clip) for clip in clips])
        self.mean, self.deviation = x.mean(0), x.std(0) + 1e-9
        wanted = np.eye(len(self.names))[[self.names.index(label) for label in labels]]
        x = self._standard(x)
        self.weights = np.zeros((x.shape[1], len(self.names)))
        for _ in range(2000):
            self.weights -= 0.1 * (x.T @ (_softmax(x @ self.weights) - wanted) / len(x) + 0.01 * self.weights)

    def _standard(self, x: Any) -> Any:
        return np.concatenate([(x - self.mean) / self.deviation, np.ones((len(x), 1))], 1)

    def says(self, clips: list[Any]) -> list[str]:
        """The label of each clip."""
        scores = self._standard(np.stack([features(clip) for clip in clips])) @ self.weights
        return [self.names[number] for number in scores.argmax(1)]


def _softmax(x: Any) -> Any:
    shifted = np.exp(x - x.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def accuracy(said: list[str], labels: list[str]) -> dict[str, float]:
    """Share that agrees, with its interval."""
    right = np.array([a == b for a, b in zip(said, labels, strict=True)], dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(right), size=(10_000, len(right)))
    low, high = np.quantile(right[drawn].mean(1), [0.025, 0.975])
    return {"value": float(right.mean()), "low": float(low), "high": float(high)}


def main() -> None:
    """Prints the table and, with --out, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--task", default="motion_writing")
    parser.add_argument("--data", default="basic_motions", help="the data set, prepared")
    parser.add_argument("--label", default="label", help="its column of what is done, which the task reads")
    parser.add_argument("--steps", type=int, nargs="+", default=[25])
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    root = os.environ.get("OFASYS_DATA", "data")
    real = {}
    for split in ("train", "valid", "test"):
        source = open_source(f"{root}/{given.data}/{split}.parquet")
        real[split] = [source.row(i) for i in range(len(source))]
    learned = real["train"] + real["valid"]
    judge = Judge([row["clip"] for row in learned], [row[given.label] for row in learned])
    labels = [row[given.label] for row in real["test"]]
    clips = [row["clip"] for row in real["test"]]
    found: dict[str, Any] = {"real test clips": accuracy(judge.says(clips), labels)}
    model = Generalist.from_pretrained(given.run, "cpu")
    shuffled = [labels[i] for i in np.random.default_rng(0).permutation(len(labels))]
    for steps in given.steps:
        options = model.entry(given.task).options(steps=steps, cfg=given.cfg, seed=given.seed)
        begin = time.process_time()
        asked = [Request(given.task, {given.label: label}, f"{n}", options) for n, label in enumerate(labels)]
        written = [each.values["clip"] for each in predict(model, asked) if each is not None]
        seconds = time.process_time() - begin
        own = [clip.frames_TC for clip in written]
        said = judge.says(own)
        name = f"written in {steps} passes"
        found[name] = accuracy(said, labels)
        found[f"{name}, labels shuffled"] = accuracy(said, shuffled)
        lasts = sum(len(clip) / (clip.rate or 10.0) for clip in written)
        found[f"{name}: CPU seconds a second of motion"] = seconds / lasts
        found[f"{name}: frames"] = sorted({len(clip) for clip in written})
        found[f"{name}: distance"] = distance(own, [row["clip"] for row in real["train"]], clips)
    for name, value in found.items():
        shown = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" if "value" in str(value) else value
        print(f"{name}: {shown}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def distance(written: list[Any], train: list[Any], test: list[Any]) -> dict[str, float]:
    """Mean distance to the nearest training clip, of written clips and of real test clips: a copy would have 0.

    Clips are compared from their first frames on, as far as both go.
    """
    scale = np.concatenate([np.asarray(clip) for clip in train]).std(0) + 1e-6

    def nearest(clip: Any) -> float:
        own = np.asarray(clip)[:100] / scale
        others = [np.asarray(other)[: len(own)] / scale for other in train]
        return float(min(np.abs(own[: len(other)] - other).mean() for other in others))

    return {
        "written to training": float(np.mean([nearest(clip) for clip in written])),
        "real test to training": float(np.mean([nearest(clip) for clip in test])),
    }


if __name__ == "__main__":
    main()
