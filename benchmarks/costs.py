"""What runs cost against what `train` says they will: parameters, operations, memory, time; models on paper.

    python benchmarks/costs.py                        # quickstart, showcase, generation: 30 steps of each, some minutes
    python benchmarks/costs.py --only quickstart      # the others stay as they are stored
    python benchmarks/costs.py --page                 # the tables of docs/costs.md from what is stored

Every training runs in a process of its own at one thread. Operations are those of torch's counter (causal attention
whole, where the estimate counts half), memory what torch's profiler says is allocated at once on top of what was there
when a step began, the largest of some steps; time is process CPU time of a step, the median, beside an estimate from
probes that are made between the steps, in process CPU time, too. Data of the tasks must be prepared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import RESULTS, commit, machine, table, write_row

PRESETS = ("quickstart", "showcase", "generation")
STEPS = 30
#: Steps of ten in which operations are counted, memory is traced, the machine is probed; the others are timed.
COUNTED, TRACED, PROBED = 3, 5, 8
#: The first steps set up and are not timed.
WARM = 2
PAGE = Path(__file__).parents[1] / "docs" / "costs.md"
MARK = "<!-- python benchmarks/costs.py --page -->\n"


def tensors(module: Any) -> int:
    """Bytes of everything that a run holds between two steps, gradients among it."""
    held = [*module.network.parameters(), *module.network.buffers(), *module.average.values()]
    held += [p.grad for p in module.network.parameters() if p.grad is not None]
    for optimizer in module.optimization.optimizers:
        held += [x for state in optimizer.state.values() for x in state.values() if hasattr(x, "untyped_storage")]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in held}.values())


def traced(work: partial[Any]) -> int:
    """Most bytes at once that `work` allocates on top of what was there, by torch's own accounting."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    results: Any = found.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def measure(preset: str) -> dict[str, Any]:
    """Estimate and measurement of one preset's training."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ofasys_lite.commands.app import main as ofasys_lite
    from ofasys_lite.training import fit, outlook
    from ofasys_lite.training.module import TrainingModule

    torch.set_num_threads(1)
    asked: list[partial[Any]] = []
    said: list[Any] = []
    flops, memory, numbers = list[int](), list[int](), list[int]()
    seconds, speeds = list[float](), list[Any]()
    plain_step, plain_probe, plain_outlook = TrainingModule.training_step, outlook.probe_speed, fit.outlook

    def probe(*arguments: Any) -> Any:
        asked.append(partial(plain_probe, *arguments, clock=time.process_time))
        return asked[0]()

    def look(*arguments: Any) -> Any:
        said.append(plain_outlook(*arguments))
        return said[0]

    def step(self: Any, share: Any, batch_idx: int) -> None:
        work = partial(plain_step, self, share, batch_idx)
        number = self.trainer.global_step
        if number % 10 == PROBED:
            numbers.append(sum(p.numel() for p in self.network.parameters()))
            speeds.append(asked[0]())
        if number % 10 == COUNTED:
            # torch counts its own products only
            kept, self.onednn = self.onednn, 0
            with FlopCounterMode(display=False) as counter:
                work()
            self.onednn = kept
            flops.append(counter.get_total_flops())
        elif number % 10 == TRACED:
            memory.append(tensors(self) + traced(work))
        else:
            begin = time.process_time()
            work()
            if number >= WARM:
                seconds.append(time.process_time() - begin)

    TrainingModule.training_step = step  # type: ignore[method-assign]
    outlook.probe_speed, fit.outlook = probe, look  # type: ignore[assignment]
    values = ["minutes=null", f"steps={STEPS}", "evaluate=false", "overwrite=true", "name=costs"]
    values += ["trainer.workers=0", "trainer.threads=1", "trainer.precision=fp32", "trainer.valid_every=1000"]
    if ofasys_lite(["train", f"experiment={preset}", *values]):
        raise SystemExit(f"the training of {preset} failed")
    found = said[0]
    timed = [replace(found, speed=speed).seconds for speed in speeds]
    return {
        "steps": STEPS,
        "commit": commit(),
        "parameters": [sum(found.expected.parameters.values()), numbers[-1]],
        "gflop": [(found.expected.flops + found.expected.update) / 1e9, statistics.mean(flops) / 1e9],
        "update_gflop": found.expected.update / 1e9,
        "megabytes": [found.expected.rank.peak / 1e6, max(memory) / 1e6],
        "cpu_seconds": [statistics.median(timed), statistics.median(seconds)],
        "range_of_seconds": [[min(each), max(each)] for each in (timed, seconds)],
        "lines": found.lines(),
    }


def published() -> list[dict[str, Any]]:
    """Models and formulas of papers, on paper: nothing is run."""
    from torch import nn

    from ofasys_lite.model import ModelConfig, body_work, parameters
    from ofasys_lite.training.expected import memory_of
    from ofasys_lite.training.parameter_groups import groups_of
    from ofasys_lite.training.settings import TrainSettings

    large: dict[str, Any] = {"width": 1024, "heads": 16, "ffn": 4096, "mlp": "gelu"}
    bart = ModelConfig(**large, encoder_layers=12, decoder_layers=12, norm="layernorm", bias=True)
    t5 = ModelConfig(**large, encoder_layers=24, decoder_layers=24, norm="rmsnorm", bias=False)
    network: Any = nn.Linear(1000, 1000, bias=False)
    settings = TrainSettings(steps=1)
    group = groups_of(network, settings)[0]
    held = memory_of(network, [(network.weight, group)], settings, body_work(bart, [], [], []), True, 1)
    # a layer of GPT-3 in 16 bits: rows s, width h, heads a
    s, h, a = 2048, 12288, 96
    gpt3 = ModelConfig(width=h, encoder_layers=1, decoder_layers=0, heads=a, norm="layernorm", mlp="gelu")
    layer = body_work(gpt3, [s], [], []).bytes(True) - 6 * s * h  # without the norm behind the last layer
    return [
        {
            "what": "BART-large, parameters",
            "estimate": parameters(bart) + 50265 * 1024,
            "published": 406e6,
            "source": "Hugging Face transformers 4, pretrained_models.rst; 2.1 M are learned positions",
        },
        {
            "what": "T5-large, parameters",
            "estimate": parameters(t5) + 32128 * 1024,
            "published": 770e6,
            "source": "arXiv 1910.10683, section 3.7",
        },
        {
            "what": "AdamW in mixed precision, bytes a parameter without activations",
            "estimate": sum(held.values()) / 1e6,
            "published": 16,
            "source": "arXiv 1910.02054, section 3.1: gradients in 16 bits, here in 32",
        },
        {
            "what": "a layer of GPT-3 (s 2048, h 12288, a 96) without dropout, bytes kept",
            "estimate": layer,
            "published": s * h * (32 + 2 * a * s / h),
            "source": "arXiv 2205.05198, section 4.1, its masks and dropped weights left out",
        },
    ]


def text(value: float) -> str:
    """Four digits of a large number, two behind the point of a small one."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def page(row: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    names = {"parameters": "", "gflop": " GFLOP a step", "megabytes": " MB at most", "cpu_seconds": " CPU s a step"}
    lines = [["preset", "what", "estimate", "measured", "ratio"]]
    for preset, found in row["presets"].items():
        for key, name in names.items():
            guess, real = found[key]
            lines.append([preset, name.strip() or "parameters", text(guess), text(real), f"{guess / real:.2f}"])
    papers = [["what", "estimate", "published", "ratio", "source"]]
    for each in row["published"]:
        guess, real = each["estimate"], each["published"]
        papers.append([each["what"], text(guess), text(real), f"{guess / real:.2f}", each["source"]])
    said = row["machine"]
    missing = [preset for preset in PRESETS if preset not in row["presets"]]
    where = f"{said['cpu']}, torch {said['torch']}, one thread"
    where += f"; not measured yet: {', '.join(missing)}" if missing else ""
    return f"{where}.\n\n{table(lines)}\n\nOn paper:\n\n{table(papers)}\n"


def renew(row: Mapping[str, Any]) -> None:
    """Puts the tables behind the mark in docs/costs.md."""
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(before + MARK + page(row), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table, stores it and renews the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PRESETS, default=[], help="presets that are measured")
    parser.add_argument("--page", action="store_true", help="only write the page from what is stored")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        Path("found.json").write_text(json.dumps(measure(given.one)), encoding="utf-8")
        return 0
    if given.page:
        renew(json.loads((RESULTS / "costs.json").read_text(encoding="utf-8")))
        return 0
    stored = RESULTS / "costs.json"
    for preset in given.only or PRESETS:
        with TemporaryDirectory() as folder:
            subprocess.run([sys.executable, str(Path(__file__).resolve()), "--one", preset], cwd=folder, check=True)
            found = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
        before = json.loads(stored.read_text(encoding="utf-8"))["presets"] if stored.exists() else {}
        row = {"machine": machine("torch", "lightning"), "presets": {**before, preset: found}}
        renew(json.loads(write_row("costs", {**row, "published": published()}).read_text(encoding="utf-8")))
    print(page(json.loads(stored.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
