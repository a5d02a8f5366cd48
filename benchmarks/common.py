"""What all benchmarks share: process CPU time, interleaved repetitions, medians with range, the machine, JSON rows."""

from __future__ import annotations

import cProfile
import json
import os
import platform
import pstats
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
FLAGS = ("amx_bf16", "amx_int8", "amx_tile", "avx512_bf16", "avx512_fp16", "avx512f", "avx2")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of one figure over repetitions."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}-{self.high:.3g})"

    def to_dict(self) -> dict[str, float]:
        return {"median": self.median, "low": self.low, "high": self.high}


def spread(values: Sequence[float]) -> Spread:
    """Median and range of `values`."""
    return Spread(statistics.median(values), min(values), max(values))


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process (all its threads) that `work` takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def interleave(sides: Mapping[str, Callable[[int], object]], repetitions: int) -> dict[str, list[float]]:
    """CPU seconds of every side per repetition, A B A B; side(-1) is the warm-up and is not counted."""
    for side in sides.values():
        side(-1)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(repetitions):
        for name, side in sides.items():
            seconds[name].append(cpu_seconds(lambda side=side, repetition=repetition: side(repetition)))  # type: ignore[misc]
    return seconds


def machine(*packages: str) -> dict[str, object]:
    """Versions, CPU model and those of its flags that decide the speed of products."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = [line.partition(":") for line in text.splitlines()]
    words = next((value.split() for key, _, value in lines if key.strip() in ("flags", "Features")), [])
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "cpu": next((value.strip() for key, _, value in lines if key.strip() == "model name"), platform.machine()),
        "flags": [flag for flag in FLAGS if flag in words],
    }


def peak_flops(dtype_name: str, side: int = 2048, repetitions: int = 5) -> float:
    """Operations per second of the best of a few square matrix products of random data, in CPU time.

    By torch's products or oneDNN's, whichever are faster: on AMD torch's in fp32 take twice as long.
    """
    import torch

    from ofasys_lite.model import learned_products, matmul

    dtype = getattr(torch, dtype_name)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator).to(dtype) for _ in range(2))
    seconds = []
    for least in (0, 1):
        with learned_products(least):
            matmul(a, b)
            seconds += [cpu_seconds(lambda: matmul(a, b)) for _ in range(repetitions)]
    return 2.0 * side**3 / min(seconds)


def top_operators(work: Callable[[], object], count: int = 8) -> list[list[str]]:
    """torch's operators that take most of `work` by their own CPU time: name, share of all, calls."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]):
        work()  # what the profiler itself needs at first would be counted
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    found = sorted(seen.key_averages(), key=lambda each: -each.self_cpu_time_total)
    whole = sum(each.self_cpu_time_total for each in found)
    return [[e.key, f"{100 * e.self_cpu_time_total / whole:.0f} %", f"{e.count:,}"] for e in found[:count]]


def top_calls(work: Callable[[], object], count: int = 6) -> list[list[str]]:
    """Python functions and built-ins that take most of `work` by their own time: name, share of all, calls."""
    seen = cProfile.Profile(time.process_time)
    seen.runcall(work)
    found = pstats.Stats(seen).stats  # type: ignore[attr-defined]
    ordered = sorted(found.items(), key=lambda pair: -pair[1][2])
    whole = sum(own for _, _, own, _, _ in found.values())
    return [[name[2], f"{100 * row[2] / whole:.0f} %", f"{row[1]:,}"] for name, row in ordered[:count]]


def commit(folder: Path = Path(__file__).parent) -> str:
    """The commit of a checkout, `-dirty` behind it where its files differ from it; empty outside of one."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def write_row(name: str, row: Mapping[str, object], folder: Path | None = None) -> Path:
    """Writes `row` with date, commit and load of the machine to results/<name>.json and returns where."""
    path = (folder or RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    dated = {"benchmark": name, "date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit()}
    # who else ran: with a load above the number of cores only ratios of one run say something
    dated |= {"load": round(os.getloadavg()[0], 1), "cores": os.cpu_count(), **row}
    path.write_text(json.dumps(dated, indent=1) + "\n", encoding="utf-8")
    if folder is None:
        from performance_page import renew

        renew()  # docs/performance.md says what the stored results say
    return path


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
