"""VIDEO: what a clip costs to read, and whether a model of `moving_digits` looks at more than one frame.

    OMP_NUM_THREADS=1 python benchmarks/video.py cost [RUN]
    OMP_NUM_THREADS=1 python benchmarks/video.py motion RUN [--rows 500]

`cost`: CPU milliseconds of one thread a clip, median and range of 7: of its header, of 8 frames, of all of its frames;
of a film of 10 s at 640 x 360 (H.264, a keyframe every 2 s), and of an animation of `moving_digits`; with a run also of
an answer. `motion`: accuracy on test clips by what is asked: as they are, with frames in reverse, and with one frame
in the place of all: who reads motion says the opposite of a clip in reverse and knows nothing of a frame.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from ofasys_lite.cards import modalities
from ofasys_lite.data.rows import open_source
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.preprocess.base import READ, Context
from ofasys_lite.preprocess.video import VideoPreprocess
from ofasys_lite.recipes.moving_digits import DIRECTIONS, animation, moving

OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def film(path: Path, seconds: int = 10, rate: int = 30) -> Path:
    """A film of smooth noise that drifts."""
    import av

    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 20, 3)).astype(np.uint8)
    wide = np.asarray(Image.fromarray(small).resize((960, 540), Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 640, 360, "yuv420p", 2 * rate
        for number in range(seconds * rate):
            left = number % 320
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[90:450, left : left + 640]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def milliseconds(call: Callable[[], Any], count: int, repetitions: int = 7) -> str:
    """CPU milliseconds a call: median (range), after one warm-up."""
    call()
    found = []
    for _ in range(repetitions):
        start = time.process_time()
        for _ in range(count):
            call()
        found.append(1000 * (time.process_time() - start) / count)
    return f"{statistics.median(found):.2f} ms ({min(found):.2f}-{max(found):.2f})"


def cost(run: str | None) -> None:
    """Prints what clips cost."""
    tool = VideoPreprocess(Context(modalities()["VIDEO"].settings, None, adapter="image"))  # type: ignore[arg-type]
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 8:20] = 255
    small = animation(moving(digit, "left", random.Random(0)), "WEBP")
    with tempfile.TemporaryDirectory() as folder:
        path = film(Path(folder) / "film.mp4")
        for name, value, count in (("film", path, 1), ("animation", small, 20)):
            print(f"{name}: header {milliseconds(lambda value=value: VideoPreprocess.measure(value, None), 5 * count)}")
            for frames in (8, 300) if name == "film" else (6,):
                said = (("frames", frames), ("max_rows", 4096))
                read = milliseconds(lambda value=value, said=said: tool.encode(value, said, READ), count)
                print(f"{name}: {frames} frames {read}")
    if run is not None:
        model = Generalist.from_pretrained(run, "cpu")
        asked = [Request("moving_digits", {"clip": small, "question": "where does it move?"})]
        print(f"an answer about the animation {milliseconds(lambda: predict(model, asked), 5)}")


def motion(run: str, count: int) -> None:
    """Prints what a model says of clips, of clips in reverse, and of single frames."""
    model = Generalist.from_pretrained(run, "cpu")
    source = open_source("moving_digits:test")
    rows = [source.row(i) for i in range(min(count, len(source)))]
    for way, change in {"as they are": list, "in reverse": lambda x: x[::-1], "one frame": lambda x: x[:1] * 6}.items():
        asked = [{**row, "clip": change(_frames(row["clip"]))} for row in rows]
        found = predict(model, [Request("moving_digits", {k: row[k] for k in ("clip", "question")}) for row in asked])
        for kind in ("digit", "direction"):
            pairs = [(p.values["answer"], row) for p, row in zip(found, rows, strict=True) if p and row["kind"] == kind]
            told = [("right", lambda row: row["answer"])]
            told += [("opposite", lambda row: OPPOSITE[row["answer"]])] if kind == "direction" else []
            for word, wanted in told:
                groups = [row["group"] for _, row in pairs]
                score = evaluate_metric("accuracy", [a for a, _ in pairs], [wanted(row) for _, row in pairs], groups)
                print(f"{way}: {kind} {word} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}], {len(pairs)} clips")
    print(f"by chance {1 / len(DIRECTIONS):.2f} of directions, {1 / 10:.2f} of digits")


def _frames(content: bytes) -> list[Image.Image]:
    return [frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content)))]


def main() -> None:
    """Runs one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "motion"))
    parser.add_argument("run", nargs="?")
    parser.add_argument("--rows", type=int, default=500)
    given = parser.parse_args()
    if given.what == "cost":
        cost(given.run)
    else:
        motion(given.run, given.rows)


if __name__ == "__main__":
    main()
