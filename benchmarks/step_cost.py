"""PERFORMANCE rows 10 and 11: what a step costs beside its model: Lightning, logging, callbacks; 100 tasks over one.

    OMP_NUM_THREADS=1 python benchmarks/step_cost.py

Row 10: `fit` on 20 tasks, all callbacks, each of 20 losses logged every 20 steps, against a bare loop over the same
mixture with the same network and products: forward, backward, clip, fused AdamW, the next share, and nothing else; a
step of the one, a step of the other. Row 11: `fit` on the same rows as one task and dealt to 100 tasks, 100 samples a
step, loader in the process. Models are so small that the host is what costs. CPU time of one thread, A B A B; of each
step the least of all repetitions counts, then their mean.
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import machine, spread, table, write_row
from lightning import Callback
from rich.console import Console
from watched import quiet_mean, watching

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.loader import Share
from ofasys_lite.model import learned_products
from ofasys_lite.training import fit as training
from ofasys_lite.training.steps import StepsModule

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "red", "blue", "green", "black")
SKIPPED = 10
#: Where the bare loop begins in the mixture.
LATER = 100_000
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


def trained(
    made: Sequence[Task],
    steps: int,
    samples: int,
    folder: Path,
    repetition: int,
    before: Callable[[int], None] | None = None,
) -> Any:
    """One training by the public API, watched."""
    model = GeneralistModel("tiny", width=32, heads=2, ffn=64, encoder_layers=1, decoder_layers=1)
    place = folder / f"{len(made)}-{repetition}"
    with watching(before=before) as watch, (folder / "told").open("w") as told:
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


class Bare:
    """A plain loop over shares of the same mixture with a copy of the network and the same products, step by step.

    Its shares are those of later steps, so that neither side finds what the other has just computed; and each is drawn
    behind a step, as Lightning does, so that no loader finds the processor's caches full of what the other's has left.
    """

    def __init__(self, module: Any, data: Any) -> None:
        self.network = copy.deepcopy(module.network).train()
        self.settings, self.onednn = module.settings, module.onednn
        options = {"lr": self.settings.lr, "betas": self.settings.betas, "weight_decay": self.settings.weight_decay}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), fused=True, **options)
        endless = replace(self.settings, steps=None, minutes=1)
        self.shares = iter(StepsModule(data.ready, data.mixture, endless, LATER).train_dataloader())
        self.share = next(self.shares)
        self.seconds: list[float] = []
        #: Those without the loader.
        self.inside: list[float] = []

    def step(self) -> None:
        """One step and the share of the next, which takes the place of its own; notes their CPU seconds."""
        begin = time.process_time()
        self._learn(self.share)
        learned = time.process_time()
        self.share = next(self.shares)
        self.seconds.append(time.process_time() - begin)
        self.inside.append(learned - begin)

    def _learn(self, share: Share) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with learned_products(self.onednn):
            for pack in share.packs:
                self.network(to_device(pack, torch.device("cpu"))).values_U.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()


def lightning(repetitions: int, steps: int, folder: Path) -> dict[str, Any]:
    """Row 10: before each step of the training a bare one, so that whatever slows the machine slows both."""
    made = tasks(20, rows(800))
    ours, theirs = list[list[float]](), list[list[float]]()
    inside: dict[str, list[list[float]]] = {"lightning": [], "bare": []}
    profiles = {"bare": cProfile.Profile(time.process_time), "lightning": cProfile.Profile(time.process_time)}
    for repetition in range(repetitions + 1):
        loops: list[Bare] = []
        last = repetition == repetitions

        def learn(plain: Callable[..., None], place: Any, module: Any, data: Any, *rest: Any) -> None:
            loops.append(Bare(module, data))  # noqa: B023
            plain(place, module, data, *rest)

        def before(step: int) -> None:
            if last:  # noqa: B023
                profiles["lightning"].disable()
                profiles["bare"].enable()
            loops[0].step()  # noqa: B023
            if last:  # noqa: B023
                profiles["bare"].disable()
                if step < steps - 1:
                    profiles["lightning"].enable()

        with around(learn):
            watch = trained(made, steps, 20, folder, repetition, before)
        if last:
            continue
        bare = loops[0].seconds
        # what was watched from the begin of a step to that of the next holds the next bare one
        ours.append([s - b for s, b in zip(watch.steps(SKIPPED), bare[SKIPPED + 1 :], strict=True)])
        theirs.append(bare[SKIPPED : steps - 1])
        inside["lightning"].append(watch.inside(SKIPPED))
        inside["bare"].append(loops[0].inside[SKIPPED : steps - 1])
    whole, loop = quiet_mean(ours), quiet_mean(theirs)
    within = quiet_mean(inside["lightning"]) - quiet_mean(inside["bare"])
    each = [1e3 * (statistics.fmean(a) - statistics.fmean(b)) for a, b in zip(ours, theirs, strict=True)]
    return {
        "tasks": 20,
        "log_every": 20,
        "lightning_ms": 1e3 * whole,
        "bare_ms": 1e3 * loop,
        "difference_ms": 1e3 * (whole - loop),
        "of_it_in_the_step_ms": 1e3 * within,
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
