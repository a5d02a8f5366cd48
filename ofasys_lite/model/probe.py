"""Which precision is faster here: measured once per process, never assumed from a name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional

from ofasys_lite.errors import CheckpointError, did_you_mean
from ofasys_lite.model.attention import attend
from ofasys_lite.model.config import PRECISIONS
from ofasys_lite.model.fast_linear import (
    FastLinear,
    autocast,
    best_seconds,
    bytes_are_exact,
    learned_products,
    make_linear,
    one_thread,
    onednn_from,
    products,
)

# what decides: bf16 must win clearly, since its weights and sums are less exact
WORTHWHILE = 1.2
#: Rows of the packs of the probe: other ones each time, as in a training. On CPUs with AMX a product of new sizes in
#: bf16 is prepared anew, which can take longer than itself: equal products alone said 30x where trainings lost half.
PACKS = (777, 512, 641, 893)


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


def pick_precision(wanted: str, device: torch.device) -> str:
    """The precision of predictions: `fp32`, `bf16`, `int8`, or with `auto` what is clearly faster on `device`.

    Raises:
        CheckpointError: There is no such precision, or none on this device.
    """
    if wanted not in PRECISIONS:
        raise CheckpointError(f"precision `{wanted}` is not known", help=did_you_mean(str(wanted), PRECISIONS))
    if wanted == "int8" and device.type != "cpu":
        raise CheckpointError(f"precision `int8` is not of {device.type}", help="it is of CPUs; bf16 is of both")
    if wanted == "int8" and not bytes_are_exact():
        raise CheckpointError(
            "precision `int8`: this processor (or this torch) does not add products in eight bits exactly",
            help="fp32, or auto (what a probe finds clearly faster)",
        )
    if wanted != "auto":
        return wanted
    return _fastest() if device.type == "cpu" else probe_precision(device)


@lru_cache(maxsize=1)
def _fastest() -> str:
    """What is clearly faster in products of few rows, as of steps that write: of two alike the more exact one.

    Milliseconds, once.
    """
    layer, cpu = FastLinear(512, 2048, bias=False), torch.device("cpu")
    x_RI = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    best, least = "fp32", 0.0
    for precision in ("fp32", "bf16", "int8") if bytes_are_exact() else ("fp32", "bf16"):
        with products(cpu, precision), torch.inference_mode(), autocast(cpu, precision):
            # the first ones lay weights out
            taken = best_seconds(lambda: layer(x_RI).float(), 32)
        if precision == "fp32" or least >= WORTHWHILE * taken:
            best, least = precision, taken
    return best


@lru_cache(maxsize=8)
def probe_precision(device: torch.device | str = "cpu", width: int = 512) -> str:
    """`bf16` where it is clearly faster on `device`, else `fp32`: a layer's steps are timed once.

    About two seconds on a CPU, of one thread: what others do beside it decides nothing.
    """
    device = torch.device(device)
    with one_thread() if device.type == "cpu" else contextlib.nullcontext():
        fp32, bf16 = _seconds(device, width)
    return "bf16" if fp32 >= WORTHWHILE * bf16 else "fp32"


def _seconds(device: torch.device, width: int) -> tuple[float, float]:
    """Seconds in fp32 and in bf16 of steps over packs of different rows, forward and backward.

    Both in turns, the better one of two for each pack; the first pack sets up and is not counted.
    """
    generator = torch.Generator().manual_seed(0)
    heads = width // 64 if width % 64 == 0 else 1
    layer = nn.ModuleList(make_linear(*sizes) for sizes in ((width, 3 * width), (width, 4 * width), (4 * width, width)))
    layer.to(device)

    def step(rows: int, number: int, bf16: bool) -> float:
        x_RD = torch.randn(rows, width, generator=generator).to(device)
        lengths = [40 + number, 60 - number] * (rows // 100) + [rows % 100]
        wait_for(device)
        begin = clock()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            q_RHC, k_RHC, v_RHC = layer[0](x_RD).unflatten(1, (3 * heads, -1)).chunk(3, 1)
            read_RD = x_RD + attend(q_RHC, k_RHC, v_RHC, lengths, lengths, False).flatten(1)
            out_RD = layer[2](functional.gelu(layer[1](read_RD)))
        out_RD.float().square().mean().backward()
        wait_for(device)
        return clock() - begin

    # a CPU's own thread; a GPU works while that one waits
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    total = [0.0, 0.0]
    least = onednn_from() if device.type == "cpu" else 0  # as a training has it
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), learned_products(least):
        for number, rows in enumerate(PACKS):
            taken = [[step(rows + more, number, bf16) for bf16 in (False, True)] for more in (0, 5)]
            if number:
                total = [held + min(of) for held, of in zip(total, zip(*taken, strict=True), strict=True)]
    return total[0], total[1]


def wait_for(device: torch.device) -> None:
    """Returns when `device` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def exact_types(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """No autocast inside; on torch's `meta` device, which knows none, nothing."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


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
