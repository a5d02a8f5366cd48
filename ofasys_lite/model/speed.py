"""How fast this machine is at a model's own sizes: a probe of a second, from which the time of a step follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ofasys_lite.model.borders import Parts
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.layers import EncoderBlock
from ofasys_lite.model.probe import wait_for
from ofasys_lite.model.rotary import rotary_table
from ofasys_lite.model.work import body_work

#: Seconds that one measurement may take; there are five at most.
_SECONDS = 0.2
#: Numbers of a pass over memory, more than caches hold.
_PASS = 1 << 22
#: Times that one is made, at most; the fastest counts, since what else runs only ever slows.
_TIMES = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """What the probe found, in floating point operations a second, of memory in bytes.

    Attributes:
        rows: Of the products, which read `width` columns and make `inner`, and of the block.
        fp32: Products in fp32.
        bf16: Products in bf16, where the run takes it; else 0.
        block: A block of the model forward and backward, in the run's precision: what a step does most of its time.
        memory: Bytes a second that a pass over numbers reads and writes.
    """

    rows: int
    width: int
    inner: int
    fp32: float
    bf16: float
    block: float
    memory: float


def probe_speed(
    config: ModelConfig,
    rows: int,
    length: int,
    device: torch.device,
    bf16: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Speeds on `device` with sequences of `length` rows, `rows` together; fewer where they would take too long.

    Args:
        rows: Of a pack.
        bf16: Whether the run's products are in bf16.
        clock: Seconds; benchmarks on a shared machine give the process's own.
    """
    width, inner = config.width, config.inner
    generator = torch.Generator().manual_seed(0)
    weight_DF = torch.randn(width, inner, generator=generator).to(device)

    def products(count: int, dtype: torch.dtype) -> float:
        x_RD = torch.randn(count, width, generator=generator).to(device, dtype)
        w_DF = weight_DF.to(dtype)
        return 2.0 * count * width * inner / _fastest(lambda: torch.mm(x_RD, w_DF), device, clock)

    few = products(64, torch.float32)
    # forward and backward a row of a block costs about so many operations
    row = body_work(replace(config, encoder_layers=1, decoder_layers=0, source="encoder"), [1], [], []).flops
    count = max(64, min(max(rows, 64), int(0.5 * _SECONDS / 2 * few / row)))
    length = max(1, min(length, count))
    fp32 = products(count, torch.float32)
    half = products(count, torch.bfloat16) if bf16 else 0.0
    block = _block(config, count, length, device, bf16, clock)
    one, other = (torch.ones(_PASS, device=device) for _ in range(2))
    passing = 12 * _PASS / _fastest(lambda: one.lerp_(other, 0.1), device, clock)
    return Speed(count, width, inner, fp32, half, block, passing)


def _block(
    config: ModelConfig, rows: int, length: int, device: torch.device, bf16: bool, clock: Callable[[], float]
) -> float:
    """Operations a second of one encoder block over whole sequences, forward and backward."""
    lengths = [length] * max(1, rows // length)
    config = replace(config, encoder_layers=1, decoder_layers=0, source="encoder")
    config = replace(config, compile_blocks=False, gradient_checkpointing=False)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        block = EncoderBlock(config).to(device)
        x_SD = torch.randn(sum(lengths), config.width).to(device).requires_grad_()
        places = torch.cat([torch.arange(n) for n in lengths])[:, None].expand(-1, 3).to(device)
        rotation, parts = rotary_table(places, config), Parts(lengths, 0)

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                out_SD = block(x_SD, rotation, parts)
            out_SD.float().square().mean().backward()

        return body_work(config, lengths, [], []).flops / _fastest(step, device, clock)


def _fastest(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of `work`, the fastest of a few times behind a first one that sets up."""
    work()
    found: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(found) < _TIMES and (not found or time.perf_counter() < end):
        wait_for(device)
        begin = clock()
        work()
        wait_for(device)
        found.append(clock() - begin)
    return max(min(found), 1e-9)
