"""PERFORMANCE row 13: JPEG decode + resize of the project over Pillow's default, CPU seconds of one thread.

    OMP_NUM_THREADS=1 python benchmarks/image_decode.py

Both sides turn the same JPEG bytes (4:2:0, quality 90, a synthetic photograph: smooth shapes, edges and noise) into the
same height and width (smart_resize with the settings below) in RGB. Pillow's default: open, convert, resize(BICUBIC).
A B A B interleaved, one warm-up, median and range of 7 repetitions. The mean difference of the pixels is printed too.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, table, top_calls, write_row
from PIL import Image, ImageFilter, features

from ofasys_lite.preprocess.base import READ, Context
from ofasys_lite.preprocess.image import ImagePreprocess, picture

SETTINGS = {"patch": 14, "min_pixels": 784, "max_pixels": 224 * 224}
SIZES = ((500, 375), (1440, 1080))
REPETITIONS = 7


def photograph(width: int, height: int) -> bytes:
    """JPEG bytes of a picture with the spectrum of a photograph: noise at all scales, sharp shapes."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for scale in (1, 4, 16, 64, 256):
        small = rng.normal(size=(height // scale + 2, width // scale + 2, 3)) * scale**0.35
        for c in range(3):
            layer = Image.fromarray(small[:, :, c].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
            total[:, :, c] += np.asarray(layer)
    total = (total - total.mean()) / total.std() * 50 + 127
    image = Image.fromarray(np.clip(total, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    for i in range(8):
        x, y = int(rng.integers(width * 3 // 4)), int(rng.integers(height * 3 // 4))
        image.paste((30 * i, 255 - 30 * i, 128), (x, y, x + width // 8, y + height // 8))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def plain(content: bytes, height: int, width: int) -> np.ndarray[Any, Any]:
    """Pillow's default way."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def seconds(call: Any, count: int) -> float:
    """CPU seconds per call."""
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def compare(width: int, height: int) -> dict[str, Any]:
    """One row of the table."""
    content = photograph(width, height)
    preprocess = ImagePreprocess(Context(SETTINGS, None, adapter="image"))  # type: ignore[arg-type]
    ours = picture(preprocess.encode(content, (), READ))
    high, wide = ours.shape[:2]
    theirs = plain(content, high, wide)
    count = max(4, 20_000_000 // (width * height))
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for repetition in range(REPETITIONS + 1):
        a = seconds(lambda: preprocess.encode(content, (), READ), count)
        b = seconds(lambda: plain(content, high, wide), count)
        if repetition:
            times["ours"].append(a)
            times["plain"].append(b)
    ratios = [b / a for a, b in zip(times["ours"], times["plain"], strict=True)]
    return {
        "size": f"{width}x{height}",
        "resized": f"{wide}x{high}",
        "bytes": len(content),
        "ours_ms": round(1e3 * statistics.median(times["ours"]), 2),
        "plain_ms": round(1e3 * statistics.median(times["plain"]), 2),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "calls": top_calls(lambda: [preprocess.encode(content, (), READ) for _ in range(count)]),
        "mean_difference": round(float(np.abs(ours.astype(int) - theirs).mean()), 2),
    }


def main() -> None:
    """Prints the table and stores it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    given = parser.parse_args()
    sizes = [compare(width, height) for width, height in SIZES]
    profile = {
        "what": "ours, functions by their own time",
        "head": ["picture", "function", "share", "calls"],
        "rows": [[size["size"], *each] for size in sizes for each in size.pop("calls")],
    }
    print(table([list(sizes[0]), *([str(value) for value in size.values()] for size in sizes)]))
    row = {
        **machine("pillow", "numpy"),
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "sizes": sizes,
        "profile": profile,
    }
    print("stored in", write_row("image_decode", row, given.out))


if __name__ == "__main__":
    main()
