"""One GPU, looked at in one run of under 8 minutes: kernels against references, tiny tasks as a user runs them, speed.

    python benchmarks/gpu.py                      # on a machine with a GPU
    python benchmarks/gpu.py --device cpu         # the same script at toy size: proves it, measures nothing

Every attention back-end that the device has is held against the plain reference in values and gradients, and so are
the head, CTC and the image stem. Three tiny tasks are trained, resumed, evaluated, drawn, exported and loaded, with
torch.compile off and on. Two sizes of the model train on a ragged mixture of texts, pictures and sounds through the
real loader: useful tokens per second, share of the peak (a bf16 8192-cubed product timed here), memory, the loader's
share of the time. What a device lacks is skipped with the reason; what fails is told, and the rest goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from common import machine, table, write_row
from gpu_checks import checks
from gpu_training import SIZES, TOY, measure, peak, prepare, use

#: Seconds after which no further part is begun on a GPU.
LIMIT = 420.0


class Parts:
    """Runs one part after another; a failure is kept and told."""

    def __init__(self, limit: float) -> None:
        self.begin, self.limit = time.perf_counter(), limit
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Any], reason: str = "") -> Any:
        """What `work` gives; None where it is skipped or fails."""
        begin = time.perf_counter()
        if not reason and begin - self.begin > self.limit:
            reason = f"{self.limit:.0f} s are over"
        if reason:
            self.skipped[name] = reason
            print(f"skipped: {name}: {reason}", flush=True)
            return None
        try:
            found = work()
        except Exception as error:
            self.failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            traceback.print_exc()
            found = None
        self.seconds[name] = time.perf_counter() - begin
        print(f"{name}: {self.seconds[name]:.1f} s", flush=True)
        return found


def compared(device: torch.device) -> list[dict[str, Any]]:
    """All comparisons as rows."""
    return [{**asdict(check), "passed": check.passed} for check in checks(device)]


def report(row: dict[str, Any]) -> str:
    """The printed tables."""
    kernels = [["check", "largest difference", "allowed", ""]]
    for check in row["checks"] or ():
        if check["difference"] is None:
            kernels.append([check["name"], "-", "-", f"skipped: {check['reason']}"])
        else:
            passed = "right" if check["passed"] else "WRONG"
            kernels.append([check["name"], f"{check['difference']:.1e}", f"{check['limit']:.0e}", passed])
    used = [["tiny tasks", "train", "resume", "evaluate", "draw", "export", "on", "export says the same"]]
    for name, done in row["tasks"].items():
        seconds = [f"{done['seconds'][key]:.1f} s" for key in used[0][1:6]]
        used.append([name, *seconds, done["said"]["device"], done["said"]["export says the same"]])
    speed = [["steps", "M parameters", "tokens/s", "MFU", "GiB", "loader's share", "ms a step"]]
    for name, f in row["steps"].items():
        figures = [f"{f['parameters_M']:.1f}", f"{f['tokens_per_s']:.0f}", f"{f['mfu']:.3f}", f"{f['memory_GiB']:.2f}"]
        speed.append([name, *figures, f"{f['loader_wait']:.3f}", f"{f['ms_per_step']:.0f}"])
    told = [f"skipped: {name}: {reason}" for name, reason in row["skipped"].items()]
    told += [f"FAILED: {name}: {error}" for name, error in row["failed"].items()]
    return "\n\n".join([table(kernels), table(used), table(speed), "\n".join(told)])


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile on a CPU too: minutes, needs a compiler")
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs, prints and stores everything; exits with 1 if something failed or is wrong."""
    args = arguments(argv)
    device = torch.device(args.device)
    toy = device.type != "cuda"
    parts = Parts(float("inf") if toy else LIMIT)
    row: dict[str, Any] = {"device": _device(device), "machine": machine("torch"), "toy": toy}
    row["checks"] = parts.run("kernels", lambda: compared(device))
    slow = "" if not toy or args.compile else "takes minutes on a CPU; --compile runs it"
    row["tasks"] = {}
    for name, compiled in (("plain", False), ("compiled", True)):
        with tempfile.TemporaryDirectory() as folder:
            work = _using(Path(folder), compiled, 4 if toy else 40, device)
            done = parts.run(f"tasks, {name}", work, slow if compiled else "")
        if done is not None:
            row["tasks"][name] = asdict(done)
    row["peak_flops"] = parts.run("peak", lambda: peak(device))
    ready = parts.run("mixture", lambda: prepare(toy))
    row["steps"] = {}
    for size, load in (TOY if toy else SIZES).items():
        for name, compiled in ((size, False), (f"{size}, compiled", True)):
            reason = "no mixture or peak" if ready is None or row["peak_flops"] is None else slow if compiled else ""
            found = parts.run(f"steps, {name}", _measuring(ready, load, device, compiled, row["peak_flops"]), reason)
            if found is not None:
                row["steps"][name] = found
    row |= {"skipped": parts.skipped, "failed": parts.failed, "seconds": parts.seconds}
    print("\n" + report(row))
    path = write_row("gpu_cpu_toy" if toy else "gpu", row, args.out)
    print(f"\nwritten to {path}; {time.perf_counter() - parts.begin:.0f} s in all")
    if parts.failed or any(not check["passed"] for check in row["checks"] or ()):
        raise SystemExit(1)
    return row


def _using(folder: Path, compiled: bool, steps: int, device: torch.device) -> Callable[[], Any]:
    return lambda: use(folder, compiled, steps, device.type)


def _measuring(ready: Any, load: Any, device: torch.device, compiled: bool, peak_flops: Any) -> Callable[[], Any]:
    return lambda: measure(ready, load, device, compiled, peak_flops)


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    high, low = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, compute capability {high}.{low}"


if __name__ == "__main__":
    main()
