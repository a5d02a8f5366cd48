"""PERFORMANCE rows 10 and 11: what a step costs beside its model: Lightning, logging, callbacks; 100 tasks over one.

    OMP_NUM_THREADS=1 python benchmarks/step_cost.py

Row 10: `fit` on 20 tasks, all callbacks, each of 20 losses logged every 20 steps, against a bare loop over the same
shares with the same network: forward, backward, clip, fused AdamW, and nothing else. Row 11: `fit` on the same rows as
one task and dealt to 100 tasks, 100 samples a step, loader in the process. Models are so small that the host is what
costs. CPU time of one thread, A B A B; of each step the least of all repetitions counts, then their mean.
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import pstats
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import machine, spread, table, write_row
from lightning import Callback
from rich.console import Console
from watched import Watch, quiet_mean, watching

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.training import fit as training

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "red", "blue", "green", "black")
SKIPPED = 10
OPTIONS: dict[str, Any] = {
    "workers": 0,
    "threads": 1,
    "pieces": 300,
    "precision": "fp32",
    "preset": "cpu",
    "ema": 0.0,
    "valid_samples": 1,
}


def rows(count: int) -> list[dict[str, str]]:
    """Rows of equal length: six words, and the same backwards."""
    rng = random.Random(0)
    drawn = [rng.choices(WORDS, k=6) for _ in range(count)]
    return [{"text": f"{n:05d} " + " ".join(words), "back": " ".join(words[::-1])} for n, words in enumerate(drawn)]


def tasks(count: int, all_rows: Sequence[dict[str, str]]) -> list[Task]:
    """The rows dealt to so many tasks of one line."""
    line = "[TEXT:text] backwards -> [TEXT:back]"
    split = [{"train": all_rows[n::count], "valid": all_rows[n::count][:2]} for n in range(count)]
    return [Task(f"task{n}", line, data=data) for n, data in enumerate(split)]


def trained(made: Sequence[Task], steps: int, samples: int, folder: Path, repetition: int) -> Any:
    """One training by the public API, watched."""
    model = GeneralistModel("tiny", width=32, heads=2, ffn=64, encoder_layers=1, decoder_layers=1)
    place = folder / f"{len(made)}-{repetition}"
    with watching() as watch, (folder / "told").open("w") as told:
        quiet = Console(file=told)
        fit(model, list(made), steps=steps, samples_per_step=samples, folder=place, console=quiet, **OPTIONS)
    return watch


@contextmanager
def around(learn: Callable[..., None]) -> Iterator[None]:
    """Inside it the steps of a training go through `learn`: what makes them, and its arguments."""
    plain = training.learn
    training.learn = partial(learn, plain)
    try:
        yield
    finally:
        training.learn = plain


def bare(module: Any, data: Any, steps: int) -> Watch:
    """A plain loop over the same shares with a copy of the network, watched alike."""
    network = copy.deepcopy(module.network).train()
    settings = module.settings
    options = {"lr": settings.lr, "betas": settings.betas, "weight_decay": settings.weight_decay}
    optimizer = torch.optim.AdamW(network.parameters(), fused=True, **options)
    watch = Watch()
    for share in data.train_dataloader():
        watch.begins.append(time.process_time())
        optimizer.zero_grad(set_to_none=True)
        for pack in share.packs:
            network(to_device(pack, torch.device("cpu"))).values_U.mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        watch.ends.append(time.process_time())
        if len(watch.begins) == steps:
            break
    return watch


def lightning(repetitions: int, steps: int, folder: Path) -> dict[str, Any]:
    """Row 10."""
    made = tasks(20, rows(800))
    loops, watches = [], []
    profiles = {"bare": cProfile.Profile(time.process_time), "lightning": cProfile.Profile(time.process_time)}

    def learn(plain: Callable[..., None], place: Any, module: Any, data: Any, *rest: Any) -> None:
        if len(loops) < repetitions:
            loops.append(bare(module, data, steps))
            plain(place, module, data, *rest)
            return
        with profiles["bare"]:
            bare(module, data, steps)
        profiled(profiles["lightning"], plain, place, module, data, *rest)

    with around(learn):
        for repetition in range(repetitions):
            watches.append(trained(made, steps, 20, folder, repetition))
        trained(made, steps, 20, folder, repetitions)
    ours, theirs = ([watch.steps(SKIPPED) for watch in each] for each in (watches, loops))
    inside = [quiet_mean([watch.inside(SKIPPED) for watch in each]) for each in (watches, loops)]
    whole, loop = quiet_mean(ours), quiet_mean(theirs)
    each = [1e3 * (statistics.fmean(a) - statistics.fmean(b)) for a, b in zip(ours, theirs, strict=True)]
    return {
        "tasks": 20,
        "log_every": 20,
        "lightning_ms": 1e3 * whole,
        "bare_ms": 1e3 * loop,
        "difference_ms": 1e3 * (whole - loop),
        "of_it_in_the_step_ms": 1e3 * (inside[0] - inside[1]),
        "difference_of_means_ms": spread(each).to_dict(),
        "profile": more(profiles["bare"], profiles["lightning"], steps, by_place=True),
    }


class _Until(Callback):
    """Ends a profile with the last step, before the final validation."""

    def __init__(self, profile: cProfile.Profile) -> None:
        self.profile = profile

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.profile.disable()


def profiled(
    profile: cProfile.Profile,
    plain: Callable[..., None],
    place: Any,
    module: Any,
    data: Any,
    callbacks: Any,
    *rest: Any,
) -> None:
    """The steps of a training under a profile."""
    profile.enable()
    plain(place, module, data, [_Until(profile), *callbacks], *rest)


def more(before: cProfile.Profile, after: cProfile.Profile, steps: int, by_place: bool = False) -> list[list[str]]:
    """Where the second profile has more own time than the first: place or function, milliseconds a step."""
    spent: Counter[str] = Counter()
    for sign, profile in ((-1, before), (1, after)):
        for (file, _, function), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
            path = Path(file)
            name = next((p for p in ("lightning", "torch", "numpy", "ofasys_lite") if p in path.parts), "Python")
            place = f"{name}/{path.name}" if name == "ofasys_lite" else name
            spent[place if by_place else f"{place} {function}"] += sign * 1e3 * own / steps
    return [[name, f"{value:.2f}"] for name, value in spent.most_common(8) if value >= 0.01]


def many(repetitions: int, steps: int, folder: Path) -> dict[str, Any]:
    """Row 11."""
    all_rows = rows(4000)
    made = {"1": tasks(1, all_rows), "100": tasks(100, all_rows)}
    runs: dict[str, list[list[float]]] = {name: [] for name in made}
    inside: dict[str, list[list[float]]] = {name: [] for name in made}
    for repetition in range(repetitions):
        for name, each in made.items():
            watch = trained(each, steps, 100, folder, 100 + repetition)
            runs[name].append(watch.steps(SKIPPED))
            inside[name].append(watch.inside(SKIPPED))
    profiles = {name: cProfile.Profile(time.process_time) for name in made}

    def learn(name: str, *given: Any) -> None:
        profiled(profiles[name], *given)

    for name, each in made.items():
        with around(partial(learn, name)):
            trained(each, steps, 100, folder, 200)
    quiet = {name: quiet_mean(found) for name, found in runs.items()}
    medians = [statistics.median(b) / statistics.median(a) for a, b in zip(runs["1"], runs["100"], strict=True)]
    return {
        "profile": more(profiles["1"], profiles["100"], steps),
        "samples_per_step": 100,
        "step_ms": {name: 1e3 * value for name, value in quiet.items()},
        "in_the_step_ms": {name: 1e3 * quiet_mean(found) for name, found in inside.items()},
        "ratio": quiet["100"] / quiet["1"],
        "ratio_of_medians": spread(medians).to_dict(),
    }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints and stores; returns the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=91)
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        row = {
            "repetitions": asked.repetitions,
            "steps": asked.steps,
            "lightning": lightning(asked.repetitions, asked.steps, Path(name)),
            "many_tasks": many(asked.repetitions, asked.steps, Path(name)),
            "machine": machine("torch", "lightning"),
        }
    parts = [(10, row["lightning"].pop("profile")), (11, row["many_tasks"].pop("profile"))]  # type: ignore[attr-defined]
    row["profile"] = {
        "what": "what is more, by own time under cProfile, which makes Python look slower than it is",
        "head": ["row", "where", "ms a step"],
        "rows": [[number, *each] for number, part in parts for each in part],
    }
    for part in ("lightning", "many_tasks"):
        print(table([["figure", "value"], *([key, str(value)] for key, value in row[part].items())]))  # type: ignore[attr-defined]
    print("stored in", write_row("step_cost", row, asked.out))
    return row


if __name__ == "__main__":
    main()
