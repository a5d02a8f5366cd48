"""CATEGORY: what the loss of a step costs over all names and over drawn ones, forward and backward, in CPU time.

    python benchmarks/items.py [--names 10000 100000] [--rows 64] [--width 128]
    python benchmarks/items.py --lists runs/next_name

Prints milliseconds of CPU time (one thread; other programs do not count) and the largest table of logits, in MB; or of
a model's lists of ten names, for test rows, by `diversity`: how many hold the right one, and the mean cosine of pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ofasys_lite.data.rows import open_source
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.layout.learned import LearnedPiece
from ofasys_lite.layout.sampled import SampledSoftmax
from ofasys_lite.model import head_loss, sampled_loss
from ofasys_lite.preprocess.base import Piece


def cpu_ms(run: Callable[[], Tensor], weight: Tensor, repeats: int = 5) -> float:
    """Median CPU time of a loss and its gradients."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run().sum().backward()
        taken.append(1000 * (time.process_time() - start))
        weight.grad = None
    return float(np.median(taken))


def lists(run: str, rows: int = 400) -> None:
    """One line per `diversity`, of the best ten of 50 candidates."""
    model = Generalist.from_pretrained(run, device="cpu")
    source = open_source("code_names:test")
    asked = [source.row(int(i)) for i in np.linspace(0, len(source) - 1, rows)]
    with torch.no_grad():
        table = F.normalize(model.network.text.table, dim=1)
    for diversity in (0.0, 0.2, 0.4, 0.6, 0.8):
        options = DecodeOptions("beam", beam=50, n_best=10, diversity=diversity)
        found = predict(model, [Request("next_name", row, options=options) for row in asked])
        hits, near = [], []
        for row, answer in zip(asked, found, strict=True):
            names = [each.value for each in answer.n_best] if answer is not None else []
            hits.append(row["name"] in names)
            vectors = table[[model.vocabulary.find(f"={name}") for name in names]]
            near.append(float((vectors @ vectors.T).sum() - len(names)) / (len(names) * (len(names) - 1)))
        print(f"diversity {diversity}: recall at 10 {np.mean(hits):.3f}, mean cosine {np.mean(near):.3f}")


def main() -> None:
    """One line per number of names and way, or per `diversity`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--lists", metavar="RUN")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.lists:
        lists(given.lists)
        return
    rng = np.random.default_rng(0)
    for names in given.names:
        weight = torch.randn(names, given.width, requires_grad=True)
        states = torch.randn(given.rows, given.width, requires_grad=True)
        labels = rng.integers(names, size=given.rows)
        of_all = torch.from_numpy(labels)
        taken = cpu_ms(lambda w=weight, s=states, y=of_all: head_loss(s, w, y), weight)  # type: ignore[misc]
        print(f"{names:>9,} names, all            {taken:8.1f} ms  {4e-6 * given.rows * names:7.1f} MB")
        for negatives in (32, 256):
            bound = SampledSoftmax("sampled", (("negatives", negatives),)).among(np.arange(names), np.zeros(names, int))
            start = time.process_time()
            pieces = []
            for row, label in enumerate(labels):
                piece, arrays = bound.prepare(Piece.of_ids([label]), lambda _: Piece.of_ids([]), rng)
                pieces.append(LearnedPiece(piece, np.array([row]), "target", "text", row, row, row, (0,), arrays))
            made = bound.rows(pieces).arrays
            drawing = 1000 * (time.process_time() - start)
            at_hand, right, drawn, expected = (
                torch.from_numpy(made[key]) for key in ("names", "labels", "drawn", "expected")
            )

            def run(
                w: Tensor = weight,
                s: Tensor = states,
                c: Tensor = at_hand,
                y: Tensor = right,
                k: Tensor = drawn,
                e: Tensor = expected,
            ) -> Tensor:
                return sampled_loss(s, F.embedding(c, w), y, k, e.log())

            size = 4e-6 * given.rows * len(at_hand)
            print(
                f"{names:>9,} names, {negatives:>3} of a row   {cpu_ms(run, weight):8.1f} ms  {size:7.1f} MB"
                f"  ({len(at_hand):,} different; {drawing:.1f} ms to draw them)"
            )


if __name__ == "__main__":
    main()
