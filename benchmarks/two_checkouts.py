"""Two checkouts of this project against each other in one run: training step, beam search, drawing, start-up.

    git worktree add ../before 9e93b69
    OMP_NUM_THREADS=1 python benchmarks/two_checkouts.py ../before --repetitions 5

Both sides run in the same Python environment, in processes that see only their checkout, a process of its own for each
subject (products of one row are up to half faster or slower by where a process happens to have its weights); A B B A
interleaved, CPU seconds of one thread. The same script plays both sides, through commands and calls that both have: a
mixture of text, pictures, boxes and sounds made here (model `quick`, 32 samples a step), beam search over closed and
free answers, pictures in codes with guidance, `check` and `train ... steps=1` as whole processes. Of the
mixture's loader also what a sample costs to read and pack, and the kilobytes in which it goes from worker to trainer.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from common import Spread, commit, machine, spread, table, write_row

HERE = Path(__file__).resolve().parents[1]
FOLDERS = ("instructions", "tasks", "modalities", "presets")
WORDS = ("red", "green", "blue", "yellow", "round", "square", "large", "small")
LINES = {
    "text": "answer: [TEXT:question] -> [TEXT:answer]",
    "label": "[IMAGE:image] which colour? -> [TEXT:colour,closed_set]",
    "boxes": "[IMAGE:image] detect. -> ([BOX:box] [TEXT:label,closed_set])*<over=objects,max=4>",
    "sound": "[AUDIO:wav] what is said? -> [TEXT:answer]",
}
CODEC = "codec=dnd(depth=2,codes=32,factor=8,steps=60)"
#: What runs within a process of the benchmark; `check` and `train` are whole processes.
LOADED = "reading and packing, a sample"
SENT = "kilobytes between processes, a sample"
PLAYED = ("training step", LOADED, SENT, "beam search, an answer", "drawing, a picture")
DRAW = f"draw: [TEXT:colour,drop=0.1] -> [IMAGE:image,size=32,{CODEC},decode=sample(cfg=2.0)]"


def rows(count: int) -> list[dict[str, Any]]:
    """Rows with a column for every line; the same on both sides."""
    import numpy as np

    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        words = [WORDS[int(i)] for i in rng.integers(len(WORDS), size=12)]
        pixels = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
        boxes = [[float(4 * i), 8.0, float(4 * i + 12), 30.0] for i in range(int(rng.integers(1, 4)))]
        found.append(
            {
                "id": str(number),
                "question": " ".join(words),
                "answer": " ".join(reversed(words[:6])),
                "colour": words[0],
                "image": pixels,
                "objects": [{"box": box, "label": words[i]} for i, box in enumerate(boxes)],
                "wav": {"array": rng.normal(0, 0.1, 8000).astype(np.float32), "rate": 8000},
            }
        )
    return found


def play(subject: str) -> float:
    """CPU seconds of one side: called in the checkout that is measured."""
    import torch
    from rich.console import Console

    from ofasys_lite import GeneralistModel, Task, fit

    torch.set_num_threads(1)
    data, quiet = rows(96), Console(file=io.StringIO())
    tasks = []
    for name, line in LINES.items():
        task = Task(name, line)
        for split in ("train", "valid", "test"):
            task.add_dataset(data if split == "train" else data[:8], split)
        tasks.append(task)
    options: dict[str, Any] = {
        "samples_per_step": 32,
        "workers": 0,
        "threads": 1,
        "precision": "fp32",
        "valid_every": 0,
        "progress": False,
        "checkpoint_every": 1000,
        "pieces": 300,
        "console": quiet,
    }
    clock = time.process_time

    def spent(work: Any) -> float:
        begin = clock()
        work()
        return clock() - begin

    with tempfile.TemporaryDirectory() as place:
        if subject == "drawing, a picture":
            artist, drawing = GeneralistModel("quick"), Task("draw", DRAW)
            drawing.add_dataset(data)
            fit(artist, drawing, steps=3, folder=f"{place}/draw", **options)
            return spent(lambda: [artist("draw", colour=word, seed=1) for word in WORDS * 2]) / len(WORDS * 2)
        model = GeneralistModel("quick")
        if subject in (LOADED, SENT):
            options["workers"] = 1
            training = lambda: fit(model, tasks, steps=28, folder=f"{place}/read", **options)  # noqa: E731
            return read(training, subject, Path(place) / "notes")
        few = spent(lambda: fit(model, tasks, steps=4, folder=f"{place}/few", **options))
        if subject == "training step":
            model = GeneralistModel("quick")
            return (spent(lambda: fit(model, tasks, steps=24, folder=f"{place}/many", **options)) - few) / 20
        asked = [{"question": row["question"]} for row in data[:24]]
        return spent(lambda: [model("text", beam=4, max_length=24, **row) for row in asked]) / 24


def read(training: Callable[[], Any], subject: str, notes: Path) -> float:
    """CPU seconds of a loader process until a sample is packed, or the kilobytes of it that go through the pipe."""
    from torch.utils.data._utils import fetch

    plain = fetch._MapDatasetFetcher.fetch

    def watched(self: Any, numbers: Any) -> Any:
        begin = time.process_time()
        packs = plain(self, numbers)
        seconds = time.process_time() - begin
        with notes.open("a") as file:
            file.write(f"{len(ForkingPickler.dumps(packs)) / 1000 if subject == SENT else seconds}\n")
        return packs

    fetch._MapDatasetFetcher.fetch = watched  # type: ignore[method-assign]
    try:
        training()
    finally:
        fetch._MapDatasetFetcher.fetch = plain  # type: ignore[method-assign]
    found = [float(line) for line in notes.read_text().split()][4:24]
    return sum(found) / len(found) / 32


def whole(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> float:
    """CPU seconds of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=dict(environment), cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {folder} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def linked(checkout: Path, place: Path) -> Path:
    """A folder from which Python finds `checkout` and nothing else of this project."""
    place.mkdir(parents=True)
    package = place / "ofasys_lite"
    package.mkdir()
    for child in (checkout / "ofasys_lite").iterdir():
        (package / child.name).symlink_to(child.resolve())
    for name in FOLDERS:
        if not (package / name).exists():
            (package / name).symlink_to((checkout / name).resolve())
    return place


def measure(checkout: Path, place: Path, repetition: int) -> dict[str, float]:
    """CPU seconds of all subjects of one checkout."""
    work = place / f"work-{repetition}"
    work.mkdir()
    with (work / "d.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["q", "a"])
        writer.writerows([f"question {i}", WORDS[i % 4]] for i in range(300))
    keys = {"OMP_NUM_THREADS": "1", "OFASYS_CACHE": str(place / "cache"), "PYTHONPATH": str(place / "code")}
    environment = {**os.environ, **keys}
    line = "[TEXT:q] what? -> [TEXT:a,closed_set]"
    tiny = ["train", "model=tiny", "trainer=cpu", "trainer.workers=0", "steps=1", "evaluate=false", "name=r"]
    mine = [f'+tasks.mine.instruction="{line}"', "+tasks.mine.data.train=d.csv"]
    found = {
        "check": whole([sys.executable, "-m", "ofasys_lite", "check", line, "d.csv"], environment, work),
        "train, one step": whole([sys.executable, "-m", "ofasys_lite", *tiny, *mine], environment, work),
    }
    out = work / "found.json"
    for subject in PLAYED:
        whole([sys.executable, str(Path(__file__).resolve()), str(checkout), "--play", subject, out], environment, work)
        found[subject] = json.loads(out.read_text(encoding="utf-8"))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Runs, prints and stores the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--play", nargs=2, default=None, metavar=("SUBJECT", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    given = parser.parse_args(argv)
    if given.play is not None:
        Path(given.play[1]).write_text(json.dumps(play(given.play[0])), encoding="utf-8")
        return
    sides = {"here": HERE, "other": given.other.resolve()}
    seconds: dict[str, dict[str, list[float]]] = {}
    commits = {name: commit(folder) for name, folder in sides.items()}
    with tempfile.TemporaryDirectory() as scratch:
        places = {name: Path(scratch) / name for name in sides}
        for name, folder in sides.items():
            linked(folder, places[name] / "code")
        for repetition in range(-1, given.repetitions):
            for name, folder in list(sides.items())[:: 1 if repetition % 2 else -1]:
                for subject, value in measure(folder, places[name], repetition).items():
                    if repetition >= 0:  # the first is the warm-up
                        seconds.setdefault(subject, {}).setdefault(name, []).append(value)
            print(f"{repetition + 1} of {given.repetitions}", file=sys.stderr, flush=True)
    ratios = {s: spread([a / b for a, b in zip(v["here"], v["other"], strict=True)]) for s, v in seconds.items()}
    shown = [["CPU seconds, or as said", f"here ({commits['here']})", f"other ({commits['other']})", "here over other"]]
    for subject, values in seconds.items():
        shown.append([subject, str(spread(values["here"])), str(spread(values["other"])), _text(ratios[subject])])
    print(table(shown))
    row = {
        "commits": commits,
        "machine": machine("torch"),
        "seconds": seconds,
        "ratio": {s: r.to_dict() for s, r in ratios.items()},
    }
    print("stored in", write_row("two_checkouts", row, given.out))


def _text(ratio: Spread) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


if __name__ == "__main__":
    main()
