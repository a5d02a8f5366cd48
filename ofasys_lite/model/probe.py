"""Which precision is faster here: measured once per process, never assumed from a name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from ofasys_lite.errors import CheckpointError

__all__ = ["Precision", "cpu_flags", "pick_device", "probe_precision", "tensor_cores"]

# what decides: bf16 must win clearly, since its weights and sums are less exact
WORTHWHILE = 1.2
ROWS, WIDTH, INNER = 1024, 512, 2048
REPETITIONS = 4
INTERESTING = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2")


@dataclass(frozen=True, slots=True)
class Precision:
    """What the probe found.

    Attributes:
        dtype: `bf16` where it is clearly faster, else `fp32`.
        ratio: Time of a product in fp32 over its time in bf16; above 1, bf16 is faster.
        fp32_flops: Operations per second of the product in fp32.
        bf16_flops: Operations per second of the product in bf16.
        flags: Instruction sets of the CPU that matter here, or the name of the GPU.
    """

    dtype: str
    ratio: float
    fp32_flops: float
    bf16_flops: float
    flags: tuple[str, ...]

    @property
    def torch_dtype(self) -> torch.dtype:
        """The same as a torch type."""
        return torch.bfloat16 if self.dtype == "bf16" else torch.float32


def pick_device(wanted: str | torch.device = "auto") -> torch.device:
    """Where a model computes: the device that is named; with `auto` a CUDA device where there is one, else the CPU.

    Raises:
        CheckpointError: There is no such device.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device("cuda" if wanted == "gpu" else wanted)
    except (RuntimeError, TypeError) as error:
        what = str(error).splitlines()[0]
        raise CheckpointError(
            f"no device `{wanted}`: {what}", help="such as 'auto', 'cpu', 'cuda' or 'cuda:1'"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("there is no CUDA device here", help="device=auto takes what there is, here the CPU")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"there is no device {device}", help=f"here are {torch.cuda.device_count()} CUDA devices")
    return device


def probe_precision(device: torch.device | str = "cpu") -> Precision:
    """The faster precision on `device`, by timing a product of a training step's size once in both (about 50 ms)."""
    return _probe(str(torch.device(device)))


@lru_cache(maxsize=8)
def _probe(device: str) -> Precision:
    seconds = {dtype: _seconds(torch.device(device), dtype) for dtype in (torch.float32, torch.bfloat16)}
    work = 2.0 * ROWS * WIDTH * INNER
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    on_gpu = torch.device(device).type == "cuda"
    flags = (torch.cuda.get_device_name(device),) if on_gpu else cpu_flags()
    return Precision(
        dtype="bf16" if ratio >= WORTHWHILE else "fp32",
        ratio=ratio,
        fp32_flops=work / seconds[torch.float32],
        bf16_flops=work / seconds[torch.bfloat16],
        flags=flags,
    )


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Best time of a few products (R, D) x (D, F); the first one, which sets up the library, is not counted."""
    generator = torch.Generator().manual_seed(0)
    x_RD = torch.randn(ROWS, WIDTH, generator=generator).to(device, dtype)
    weight_FD = torch.randn(INNER, WIDTH, generator=generator).to(device, dtype)
    best = float("inf")
    with torch.no_grad():
        for _ in range(REPETITIONS + 1):
            _wait(device)
            begin = time.perf_counter()
            torch.nn.functional.linear(x_RD, weight_FD)
            _wait(device)
            best = min(best, time.perf_counter() - begin)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def tensor_cores(device: torch.device) -> Iterator[None]:
    """Products in fp32 on a CUDA device take TF32 meanwhile (10 bits behind the point, sums in fp32); others do not."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def cpu_flags() -> tuple[str, ...]:
    """Those instruction sets of this CPU that decide the speed of products; empty where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    words = set(next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "").split())
    return tuple(flag for flag in INTERESTING if flag in words)
