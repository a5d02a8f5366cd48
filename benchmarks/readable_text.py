"""Pictures of words, drawn from text and read back by OCR: `write: [TEXT:word]`, 32 x 32 pixels, several fonts.

    for k in 1 4; do ofasys-lite codec train rich_text_image --out codecs/words32f4c32-d$k --size 32 \\
        --factor 4 --depth $k --codes 32 --width 16 --channels 16 --steps 1500 --batch 32; done
    OMP_NUM_THREADS=1 python benchmarks/readable_text.py --codecs codecs --threads 1 --seeds 0 2

Needs the data set `written_words` and the extra `ocr`. For each depth of codes: OCR word accuracy and character error
on test words by kind (unseen words in seen fonts, seen words in unseen fonts, both unseen) of (1) the real pictures,
(2) the codec's reconstructions of them, which no generator over these codes can be expected to pass, and (3) pictures
drawn from the word alone. Codecs and models see the training split only. Finished runs are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from ofasys_lite.api.model import GeneralistModel
from ofasys_lite.api.task import Task
from ofasys_lite.api.training import fit
from ofasys_lite.codec.image_codec import load_codec
from ofasys_lite.codec.train_codec import Images
from ofasys_lite.data.rows import open_source
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.model import ModelConfig

SIDE = 32
KINDS = ("unseen_word", "unseen_font", "unseen_both")


def read(pictures: NDArray[np.uint8], rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Kind -> word accuracy with its interval, and character error, of pictures of rows."""
    found = {}
    for kind in KINDS:
        at = [i for i, row in enumerate(rows) if row["kind"] == kind]
        shown, said = [pictures[i] for i in at], [{"word": rows[i]["word"]} for i in at]
        words = [row["word"] for row in said]
        score = evaluate_metric("ocr_accuracy", shown, words, rows=said, groups=words)
        wrong = evaluate_metric("ocr_cer", shown, words, rows=said, groups=words)
        found[kind] = {"accuracy": score.value, "low": score.low, "high": score.high, "cer": wrong.value}
    return found


def train(given: argparse.Namespace, depth: int, seed: int, folder: Path, codec: Path) -> Generalist:
    """The model that draws words in codes of a depth."""
    line = (
        f"write: [TEXT:word,spelled,drop=0.1] -> "
        f"[IMAGE:image,size={SIDE},codec=dnd({codec},depth={depth}),decode=sample(cfg=2)]"
    )
    length = {"steps": given.steps} if given.minutes is None else {"minutes": given.minutes}
    task = Task("write", line)
    for split in ("train", "valid", "test"):
        task.add_dataset(open_source(f"written_words:{split}"), split)
    config = ModelConfig(
        width=given.width, encoder_layers=2, decoder_layers=6, heads=4, rotary_theta=100.0, norm="layernorm", mlp="gelu"
    )
    return fit(
        GeneralistModel(config),
        task,
        **length,
        folder=folder,
        samples_per_step=32,
        lr=given.lr,
        warmup=0.03,
        valid_every=0,
        checkpoint_every=500,
        workers=min(1, given.threads - 1),
        threads=given.threads,
        seed=seed,
        precision="fp32",
        resume=(folder / "checkpoints" / "last.ckpt").exists(),
    ).generalist


def measure(given: argparse.Namespace, depth: int, seed: int) -> dict[str, Any]:
    """Everything of one depth and seed."""
    codec_folder = given.codecs / f"words{SIDE}f{given.factor}c{given.codes}-d{depth}"
    source = open_source("written_words:test")
    rows = [dict(source.row(i)) for i in range(len(source))]
    real = Images(source, "image", SIDE).batch(range(len(source)))
    codec = load_codec(codec_folder)
    asked = (SIDE, given.factor, depth, given.codes)
    if (codec.config.size, codec.config.factor, codec.config.depth, codec.config.codes) != asked:
        raise SystemExit(f"{codec_folder} is no codec of size, factor, depth and codes {asked}")
    with torch.no_grad():
        parts = [codec.decode(codec.encode(real[i : i + 64])) for i in range(0, len(real), 64)]
    row: dict[str, Any] = {"factor": given.factor, "depth": depth, "seed": seed, "codec": codec.config.to_dict()}
    row["train_pictures"] = len(open_source("written_words:train"))
    row["real"] = read(real.numpy(), rows)
    row["reconstruction"] = read(torch.cat(parts).numpy(), rows)
    if given.ceiling:
        return row
    folder = given.out / f"factor-{given.factor}-depth-{depth}-s{seed}"
    begin = time.process_time()
    model = train(given, depth, seed, folder, codec_folder)
    row["train_cpu_seconds"] = round(time.process_time() - begin, 1)
    begin = time.process_time()
    options = DecodeOptions("sample", cfg=given.cfg, temperature=given.temperature)
    predictions = predict(model, [Request("write", r, str(i), options) for i, r in enumerate(rows)])
    drawn = np.stack([np.asarray(p.values["image"]) for p in predictions if p is not None])
    row["ms"] = 1000 * (time.process_time() - begin) / len(rows)
    row["drawn"] = read(drawn, rows)
    row["steps"] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]).get("step")
    sheet(drawn, rows, folder.with_suffix(".png"))
    sheet(torch.cat(parts).numpy(), rows, given.out / f"reconstructed-factor-{given.factor}-depth-{depth}.png")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return row


def sheet(pictures: NDArray[np.uint8], rows: list[dict[str, Any]], path: Path) -> None:
    """The first 16 of each kind, drawn at twice their size; unchosen."""
    lines = []
    for kind in KINDS:
        at = [i for i, row in enumerate(rows) if row["kind"] == kind][:16]
        lines += [np.concatenate([pictures[i] for i in at[n : n + 8]], axis=1) for n in (0, 8)]
    whole = np.concatenate(lines).repeat(2, 0).repeat(2, 1)
    Image.fromarray(whole).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", type=Path, default=Path("codecs"))
    parser.add_argument("--out", type=Path, default=Path("runs/readable-text"))
    parser.add_argument("--depths", nargs="*", type=int, default=[4, 1])
    parser.add_argument("--factor", type=int, default=4, help="pixels of a position")
    parser.add_argument("--codes", type=int, default=32, help="codes of a book")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=3000, help="the same for all depths")
    parser.add_argument("--minutes", type=float, default=None, help="instead of --steps")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--cfg", type=float, default=2.0)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ceiling", action="store_true", help="only read real pictures and reconstructions")
    parser.add_argument("--result", type=Path, default=RESULTS / "readable_text.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = json.loads(given.result.read_text())["rows"] if given.result.exists() else []
    for seed, depth in [(seed, depth) for seed in given.seeds for depth in given.depths]:
        if not any((r["factor"], r["depth"], r["seed"]) == (given.factor, depth, seed) for r in rows):
            row = measure(given, depth, seed)
            keys = ("minutes", "steps", "width", "lr", "cfg", "temperature", "threads")
            rows.append({**row, "settings": {key: getattr(given, key) for key in keys}})
            given.result.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    table = Table(title="OCR word accuracy (character error)")
    for heading in ("factor", "depth", "seed", "pictures", *KINDS):
        table.add_column(heading)
    for row in rows:
        for what in ("real", "reconstruction", "drawn"):
            if what in row:
                cells = [f"{row[what][k]['accuracy']:.3f} ({row[what][k]['cer']:.3f})" for k in KINDS]
                table.add_row(*(str(row[key]) for key in ("factor", "depth", "seed")), what, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
