"""What is seen in clips of `moving_digits` that a model wrote: `python benchmarks/video_judge.py runs/films`.

The judge knows nothing of the model. The way of a clip is the step that brings its frames best upon each other on the
canvas without borders (cyclic cross-correlation of neighbours, summed); by it the frames are brought back and averaged,
the digit is centred, and named by the nearest digit of real training clips, prepared likewise. It is asked about real
test clips, about as many clips that the model wrote for their captions, and about these against shuffled captions.
Intervals: 95 %, from 10,000 draws of clips again.
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
from ofasys_lite.preprocess.video_clips import Limits
from ofasys_lite.preprocess.video_decode import open_clip

#: Direction -> (down, right), and the speeds of the data in pixels a frame.
WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
SPEEDS = (2, 3, 4)


def light(value: Any) -> Any:
    """(F, H, W) greys in 0 to 1 of a clip of the data or a written one."""
    with open_clip(value, None, Limits(10, 100)) as clip:
        count, length = clip.header.frames, clip.header.length
        moments = [(n + 0.5) * length / count for n in range(count)]
        frames = [np.asarray(image.convert("L")) for image in clip.at(moments)]
    return np.stack(frames) / 255


def step_of(frames_FHW: Any) -> tuple[int, int]:
    """(down, right) in pixels a frame, the best of the steps that the data has and of standing still."""
    spectrum = np.fft.fft2(frames_FHW)
    fit_HW = np.fft.ifft2(np.conj(spectrum[:-1]) * spectrum[1:]).real.sum(0)
    steps = [(0, 0), *((s * down, s * right) for down, right in WAYS.values() for s in SPEEDS)]
    return max(steps, key=lambda step: fit_HW[step[0] % fit_HW.shape[0], step[1] % fit_HW.shape[1]])


def direction_of(step: tuple[int, int]) -> str:
    """The name of a step's direction; `none` where it stands still."""
    return next((name for name, way in WAYS.items() if tuple(np.sign(step)) == way), "none")


def digit_of(frames_FHW: Any, step: tuple[int, int]) -> Any:
    """(H * W,) the digit of a clip in the middle, of unit length."""
    still = [np.roll(frame, (-n * step[0], -n * step[1]), (0, 1)) for n, frame in enumerate(frames_FHW)]
    mean_HW = np.mean(still, 0)
    for axis, size in enumerate(mean_HW.shape):
        # the centre of gravity on a circle
        turns = np.exp(2j * np.pi * np.arange(size) / size)
        centre = np.angle((mean_HW.sum(1 - axis) * turns).sum()) * size / (2 * np.pi)
        mean_HW = np.roll(mean_HW, round(size / 2 - centre), axis)
    return mean_HW.ravel() / max(np.linalg.norm(mean_HW), 1e-9)


class Judge:
    """The nearest training digit."""

    def __init__(self, clips: list[Any], digits: list[str]) -> None:
        self.known = np.stack([digit_of(frames, step_of(frames)) for frames in clips])
        self.digits = digits

    def says(self, clips: list[Any]) -> list[tuple[str, str]]:
        """(digit, direction) of each clip."""
        steps = [step_of(frames) for frames in clips]
        found = np.stack([digit_of(*pair) for pair in zip(clips, steps, strict=True)])
        nearest = (found @ self.known.T).argmax(1)
        return [(self.digits[n], direction_of(step)) for n, step in zip(nearest, steps, strict=True)]


def accuracy(said: list[Any], labels: list[Any]) -> dict[str, float]:
    """Share that agrees, with its interval."""
    right = np.array([a == b for a, b in zip(said, labels, strict=True)], dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(right), size=(10_000, len(right)))
    low, high = np.quantile(right[drawn].mean(1), [0.025, 0.975])
    return {"value": float(right.mean()), "low": float(low), "high": float(high)}


def judged(said: list[tuple[str, str]], labels: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Accuracy of the digit, of the direction, and of both."""
    return {
        "digit": accuracy([a for a, _ in said], [a for a, _ in labels]),
        "direction": accuracy([b for _, b in said], [b for _, b in labels]),
        "both": accuracy(said, labels),
    }


def read(name: str, most: int) -> list[dict[str, Any]]:
    """Rows of a split, a clip each (the data has two questions a clip)."""
    source = open_source(f"{os.environ.get('OFASYS_DATA', 'data')}/moving_digits/{name}.parquet")
    rows = [source.row(i) for i in range(len(source)) if source.value(i, "kind") == "digit"]
    return rows[:most]


def main() -> None:
    """Prints the table and, with --out, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--task", default="moving_digits_writing")
    parser.add_argument("--steps", type=int, nargs="+", default=[25])
    parser.add_argument("--cfg", type=float, nargs="+", default=[1.0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    train, test = read("train", given.train), read("test", given.clips)
    judge = Judge([light(row["clip"]) for row in train], [row["digit"] for row in train])
    labels = [(row["digit"], row["direction"]) for row in test]
    shuffled = [labels[i] for i in np.random.default_rng(0).permutation(len(labels))]
    found: dict[str, Any] = {"real test clips": judged(judge.says([light(row["clip"]) for row in test]), labels)}
    model = Generalist.from_pretrained(given.run, "cpu")
    for steps in given.steps:
        for cfg in given.cfg:
            options = model.entry(given.task).options(steps=steps, cfg=cfg, seed=given.seed)
            begin = time.process_time()
            asked = [Request(given.task, {"caption": row["caption"]}, f"{n}", options) for n, row in enumerate(test)]
            written = [light(each.values["clip"]) for each in predict(model, asked) if each is not None]
            name = f"written in {steps} passes, cfg {cfg:g}"
            said = judge.says(written)
            found[name] = {**judged(said, labels), "CPU ms a clip": 1000 * (time.process_time() - begin) / len(written)}
            found[f"{name}, captions shuffled"] = judged(said, shuffled)
    for name, parts in found.items():
        told = [
            f"{key} {p['value']:.3f} [{p['low']:.3f}, {p['high']:.3f}]" if isinstance(p, dict) else f"{key} {p:.1f}"
            for key, p in parts.items()
        ]
        print(f"{name}: {'; '.join(told)}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
