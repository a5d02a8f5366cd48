"""PERFORMANCE row 15: CPU seconds of two steps of OFASys' tiny model over ours at equal width, depth and image tokens.

    OMP_NUM_THREADS=1 python benchmarks/ofasys_steps.py

Theirs is a RECORDED CONSTANT, 1.88 s (text infilling, 16 samples of 64 tokens) and 3.60 s (captions, 8 pictures of
224 pixels): OFASys was run once on a machine of this kind, one thread, fp32; here it is not, so nothing is interleaved.
Ours: 4 + 4 layers of width 256, 4 heads, ffn 1,024, a table of 59,457 rows as theirs, 196 rows a picture, trained by
`fit`; loader, callbacks and optimizer are in the step. The product peak of this machine stands beside it. The ratio is
that of fp32 on both sides; what ours takes in bf16, where the probe finds that faster, stands beside it.
"""

from __future__ import annotations

import argparse
import random
import string
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, peak_flops, spread, table, write_row
from PIL import Image
from watched import watching

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.generalist.network import Network
from ofasys_lite.model import flops, probe_precision
from ofasys_lite.training import fit as training

RECORDED = {"infilling": 1.88, "caption": 3.60}
TABLE = 59_457
SKIPPED = 2


def texts(count: int, words: int) -> list[str]:
    """Texts of so many words of a few, so that each becomes one token."""
    rng = random.Random(0)
    known = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 5))) for _ in range(60)]
    return [" ".join(rng.choices(known, k=words)) for _ in range(count)]


def tasks() -> dict[str, tuple[Task, int]]:
    """Task and samples a step."""
    rng = np.random.default_rng(0)
    infilling = Task("infilling", "[TEXT:text,mask_ratio=0.3] -> [TEXT:text]")
    infilling.add_dataset([{"text": text} for text in texts(400, 64)])
    caption = Task("caption", "[IMAGE:img] what does the image describe? -> [TEXT:cap]")
    pictures = [Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)) for _ in range(24)]
    caption.add_dataset([{"img": pictures[n % 24], "cap": text} for n, text in enumerate(texts(120, 20))])
    return {"infilling": (infilling, 16), "caption": (caption, 8)}


def padded(config: Any, rows: int, specs: Any) -> Network:
    """The network with as many rows in its token table as OFASys has, whatever the tokenizer needs."""
    return Network(config, max(rows, TABLE), specs)


def measured(name: str, steps: int, folder: Path, peak: float, precision: str = "fp32") -> dict[str, Any]:
    """CPU seconds of our steps of one task."""
    task, samples = tasks()[name]
    image = {"patch": 8, "min_pixels": 224 * 224, "max_pixels": 224 * 224}
    sizes: dict[str, Any] = {"width": 256, "heads": 4, "ffn": 1024, "encoder_layers": 4, "decoder_layers": 4}
    model = GeneralistModel("tiny", modalities={"IMAGE": image}, **sizes)
    options: dict[str, Any] = {"workers": 0, "threads": 1, "precision": precision, "preset": "cpu", "valid_every": 0}
    with watching() as watch:
        fit(
            model,
            task,
            steps=steps,
            samples_per_step=samples,
            pieces=1200,
            folder=folder / f"{name}-{precision}",
            **options,
        )
    ours = spread(watch.steps(SKIPPED))
    means = [[held // steps // samples] * samples for held in watch.held]
    work = 3 * flops(model.generalist.network.config, *means, TABLE)  # adapters not counted
    parameters = sum(p.numel() for p in model.generalist.network.parameters())
    return {
        "recorded_s": RECORDED[name],
        "ours_s": ours.to_dict(),
        "ratio": RECORDED[name] / ours.median,
        "gflop": work / 1e9,
        "use_of_peak": work / ours.median / peak,
        "samples": samples,
        "rows_read_and_learned": watch.rows[-1],
        "parameters": parameters,
    }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints and stores; returns the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    training.Network = padded  # type: ignore[assignment,misc]
    peak = peak_flops("float32")
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measured(name, asked.steps, Path(folder), peak) for name in RECORDED}
        if probe_precision() == "bf16":
            for name, each in found.items():
                each["ratio_in_bf16"] = measured(name, asked.steps, Path(folder), peak, "bf16")["ratio"]
    row = {"recorded": True, "steps": found, "peak_gflops": peak / 1e9, "machine": machine("torch")}
    keys = list(found["caption"])
    print(table([["step", *keys], *([name, *(str(each[key]) for key in keys)] for name, each in found.items())]))
    print("stored in", write_row("ofasys_steps", row, asked.out))
    return row


if __name__ == "__main__":
    main()
