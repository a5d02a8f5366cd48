"""Infilling of digits: written from left to right against written together in rounds, at equal model and training.

    OMP_NUM_THREADS=1 python benchmarks/image_infilling.py --out runs/image-infilling

Half of the 4 x 4 positions of a 16 x 16 digit are hidden (random rectangles); the source shows the rest, and the codes
of the rest are given. Columns: Frechet distance of completed pictures to the test split in the features of a classifier
of real images (benchmarks/judge.py), squared error within the hole, the classifier's accuracy on completed pictures,
passes through the decoder, whether every given code came back as it was. Controls: the hole left grey; the hole from
another picture of the training split. Judged: the same with judges (`judges=0.3`), which choose among candidates; how
often they are right on the test split stands beside it. `passes` counts every time the decoder reads a picture:
candidates that are written, and candidates that are scored.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS
from frechet import frechet_distance
from image_generation import Rows, World
from judge import Judge, load_card
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ofasys_lite.api.model import GeneralistModel
from ofasys_lite.api.training import fit
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.rendering import given_elements
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.judged import VERDICTS

WORLD = World("digits", "label", "", "label")
SIDE, LINES = 16, 4
#: Name -> what the line says of codec and decoding, options of each way that is measured.
WAYS: dict[str, tuple[str, str, dict[str, DecodeOptions]]] = {
    "left to right": ("", "decode=sample", {"16 passes": DecodeOptions("sample")}),
    "together": (
        "",
        "decode=mask_predict(steps=8)",
        {f"{n} passes": DecodeOptions("mask_predict", steps=n) for n in (1, 2, 4, 8)},
    ),
    "together, judged": (
        ",judges=0.3",
        "decode=mask_predict(steps=8,candidates=4,patience=2)",
        {
            "8 rounds, nobody asked": DecodeOptions("mask_predict", steps=8),
            "1 round of 4": DecodeOptions("mask_predict", steps=1, candidates=4),
            "8 rounds of 4": DecodeOptions("mask_predict", steps=8, candidates=4),
            "8 rounds of 4, patience 2": DecodeOptions("mask_predict", steps=8, candidates=4, patience=2),
        },
    ),
}


def hole_of(model: Generalist, row: dict[str, Any], id: str) -> tuple[NDArray[np.bool_], list[int]]:
    """((L,) True at hidden positions, given elements) of a row as prediction sees it."""
    maker = model.maker("draw")
    example = maker.source(row, id, sample_rng(0, "draw", id, 0))
    pieces = maker.known(0, row, example.masked)
    elements = given_elements(model.network, [pieces])[0]["image"]
    return np.array([e < 0 for e in elements]), list(elements)


def measure(given: argparse.Namespace, way: str, seed: int) -> list[dict[str, Any]]:
    """Trains one model, and completes the test split in each of its ways."""
    splits, _ = load_card("digits", "image", "label", SIDE)
    judge = Judge.train(*splits["train"])
    real, labels = splits["test"]
    judges, said, options = WAYS[way]
    codec = f"{given.codecs}/digits{SIDE}-d2-s{seed}"
    line = (
        f"complete the picture: [IMAGE:image,mask_ratio=0.5,mask_style=block,size=32] -> "
        f"[IMAGE:image,size={SIDE},codec=dnd({codec},depth=2{judges}),{said}]"
    )
    folder = given.out / f"{way.replace(',', '').replace(' ', '-')}-s{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    config = ModelConfig(width=64, encoder_layers=2, decoder_layers=4, heads=4, rotary_theta=100.0)
    model = fit(
        GeneralistModel(config),
        Rows(WORLD).task(line),
        steps=given.steps,
        folder=folder,
        console=Console(file=io.StringIO()),
        samples_per_step=64,
        lr=2e-3,
        warmup=0.05,
        valid_every=0,
        checkpoint_every=100_000,
        progress=False,
        workers=0,
        threads=1,
        seed=seed,
        precision="fp32",
    ).generalist
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    task = model.entry("draw").card
    source = task.data["test"]
    rows = [source.row(i) for i in range(len(real))]
    holes = [hole_of(model, row, str(i)) for i, row in enumerate(rows)]
    hidden = np.stack([h for h, _ in holes]).reshape(-1, LINES, LINES).repeat(SIDE // LINES, 1).repeat(SIDE // LINES, 2)
    found = []
    told = _verdicts(model, rows) if judges else {}
    for name, chosen in options.items():
        begin = time.process_time()
        with counted(model) as passes:
            predictions = predict(model, [Request("draw", row, str(i), chosen) for i, row in enumerate(rows)])
        spent = time.process_time() - begin
        pictures = np.stack([np.asarray(p.values["image"]) for p in predictions if p is not None])
        coder = next(a for n, a in model.network.adapters.items() if "dnd" in n)
        kept = [
            all(e < 0 or e == _packed(c, coder.heads.size) for c, e in zip(p.codes["image"], es, strict=True))
            for p, (_, es) in zip(predictions, holes, strict=True)
            if p is not None
        ]
        row = {"way": way, "variant": name, "seed": seed, "kept_bit_equal": all(kept), "line": line, **told}
        if chosen.method == "mask_predict":
            row["passes"] = sum(passes) / len(rows)
        found.append({**row, **_figures(judge, pictures, real, labels, hidden), "ms": 1000 * spent / len(rows)})
    rng = np.random.default_rng(seed)
    others = splits["train"][0][rng.integers(len(splits["train"][0]), size=len(real))]
    mask = hidden[..., None]
    for name, filler in (("left grey", np.full_like(real, 127)), ("from another picture", others)):
        figures = _figures(judge, np.where(mask, filler, real), real, labels, hidden)
        found.append({"way": "control", "variant": name, "seed": seed, **figures})
    return found


@contextlib.contextmanager
def counted(model: Generalist) -> Iterator[list[int]]:
    """Pictures of each pass of the decoder over whole pictures within the block."""
    body, passes = model.network.body, list[int]()
    decode = body.decode

    def counting(x_TD: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        passes.append(len(named["lengths"]))
        return decode(x_TD, *args, **named)

    body.decode = counting  # type: ignore[method-assign]
    try:
        yield passes
    finally:
        del body.decode


@torch.no_grad()
def _verdicts(model: Generalist, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Per head: share of positions judged rightly, share that the commoner answer gets right, cross entropy in nats."""
    model.network.eval()
    maker, told = model.maker("draw"), dict[str, list[tuple[torch.Tensor, torch.Tensor]]](relevance=[], fidelity=[])
    judges = next(found for a in model.network.adapters.values() if (found := getattr(a, "judges", None)) is not None)
    learned = judges.loss

    def telling(states_JLD: Any, real_JL: Any, asked_JL: Any, kinds: Any) -> torch.Tensor:
        logits_JL2 = judges(states_JLD)
        for head, name in enumerate(told):
            heard_J = torch.tensor([head in VERDICTS[kind] for kind in kinds])
            at_JL = asked_JL & heard_J.unsqueeze(1)
            told[name].append((logits_JL2[..., head][at_JL], real_JL[at_JL]))
        losses: torch.Tensor = learned(states_JLD, real_JL, asked_JL, kinds)
        return losses

    judges.loss = telling  # type: ignore[method-assign]
    torch.manual_seed(0)
    for epoch in range(4):
        for start in range(0, len(rows), 64):
            numbers = range(start, min(start + 64, len(rows)))
            drawn = [maker.example(rows[i], str(i), sample_rng(0, "draw", str(i), epoch), True) for i in numbers]
            model.network(to_device(collate(drawn), model.device))
    found: dict[str, float] = {}
    for name, pairs in told.items():
        logits, real = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        share = float(real.float().mean())
        found[f"{name}_accuracy"] = float(((logits > 0) == real).float().mean())
        found[f"{name}_commoner"] = max(share, 1 - share)
        found[f"{name}_nats"] = float(torch.nn.functional.binary_cross_entropy_with_logits(logits, real.float()))
    return found


def _packed(codes: NDArray[np.int64], base: int) -> int:
    element = 0
    for code in codes.tolist():
        element = element * base + code
    return element


def _figures(
    judge: Judge,
    pictures: NDArray[np.uint8],
    real: NDArray[np.uint8],
    labels: NDArray[np.int64],
    hidden: NDArray[np.bool_],
) -> dict[str, float]:
    gap = ((pictures.astype(float) - real) / 255) ** 2
    return {
        "frechet": frechet_distance(judge.features(pictures), judge.features(real)),
        "hole_error": float(gap.mean(-1)[hidden].mean()),
        "accuracy": float((judge.classes(pictures) == labels).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", type=Path, default=Path("codecs"), help="folder of benchmarks/codec_depth.py")
    parser.add_argument("--out", type=Path, default=Path("runs/image-infilling"))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--result", type=Path, default=RESULTS / "image_infilling.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(given.result.read_text())["rows"] if given.result.exists() else []
    for seed in given.seeds:
        for way in given.ways:
            if not any((r["way"], r["seed"]) == (way, seed) for r in rows):
                rows += [r for r in measure(given, way, seed) if r["way"] != "control" or way == "together"]
                given.result.write_text(json.dumps({"steps": given.steps, "rows": rows}, indent=1) + "\n")
    table = Table(title="digits, half of the picture hidden: means over seeds")
    for heading in (
        "way",
        "variant",
        "Frechet",
        "seeds",
        "error in the hole",
        "accuracy",
        "ms a picture",
        "given kept",
    ):
        table.add_column(heading)
    for way, variant in dict.fromkeys((r["way"], r["variant"]) for r in rows):
        mine = [r for r in rows if (r["way"], r["variant"]) == (way, variant)]
        mean = {key: statistics.mean(r[key] for r in mine) for key in ("frechet", "hole_error", "accuracy")}
        ms = statistics.mean(r["ms"] for r in mine) if "ms" in mine[0] else float("nan")
        seeds = " ".join(f"{r['frechet']:.2f}" for r in mine)
        kept = str(all(r["kept_bit_equal"] for r in mine)) if "ms" in mine[0] else ""
        figures = (f"{mean['frechet']:.2f}", seeds, f"{mean['hole_error']:.4f}", f"{mean['accuracy']:.3f}", f"{ms:.1f}")
        table.add_row(way, variant, *figures, kept)
    Console().print(table)


if __name__ == "__main__":
    main()
