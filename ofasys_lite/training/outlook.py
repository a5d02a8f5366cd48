"""What a run says of its costs (expected.py) before the first step, and which of its budgets will not hold them."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ofasys_lite.data.mixture import Mixture
from ofasys_lite.generalist.network import Network
from ofasys_lite.layout.ready import ReadyTask
from ofasys_lite.model import ModelConfig
from ofasys_lite.model.speed import Speed, probe_speed
from ofasys_lite.training.expected import ADAPTER, Expected, expect
from ofasys_lite.training.parameter_groups import Group
from ofasys_lite.training.settings import TrainSettings

#: Where Linux says how much memory a container may have.
_CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Outlook:
    """An estimate beside what there is.

    Attributes:
        room: Bytes of memory of the device, or of the machine; 0 where nobody says.
    """

    expected: Expected
    settings: TrainSettings
    config: ModelConfig
    speed: Speed
    device: torch.device
    room: int

    @property
    def seconds(self) -> float:
        """Of a step: its share of the operations at a block's speed, the update's at that of products and of memory."""
        again = 4 / 3 if self.config.gradient_checkpointing else 1.0
        products = self.speed.bf16 if self.device.type == "cuda" and self.speed.bf16 else self.speed.fp32
        share = again * self.expected.flops / self.expected.ranks / self.speed.block
        return share + self.expected.update / products + self.expected.passed / self.speed.memory

    @property
    def steps(self) -> int:
        """Steps until the run ends, by `steps` or by `minutes`."""
        by_time = None if self.settings.minutes is None else int(60 * self.settings.minutes / self.seconds)
        return min(each for each in (self.settings.steps, by_time) if each is not None)

    def lines(self) -> list[str]:
        """A few lines, none of them above 80 characters."""
        found, speed = self.expected, self.speed
        parts = {name: size for name, size in found.parameters.items() if not name.startswith(ADAPTER)}
        parts |= {"adapters": sum(found.parameters.values()) - sum(parts.values())}
        update = f" and {_short(found.update)}FLOP of the update" if found.update else ""
        ranks = f" on each of {found.ranks} ranks" if found.ranks > 1 else ""
        bf16 = f", {_short(speed.bf16)} in bf16" if speed.bf16 else ""
        said = [
            f"expected: {_short(sum(found.parameters.values()))} parameters ({_listed(parts)})",
            f"  a step: {self.settings.samples_per_step} samples, {_short(found.flops)}FLOP{update}; "
            f"{duration(self.seconds)}, {self.steps:,} steps in {duration(self.steps * self.seconds)}",
            f"  memory{ranks}: {_short(found.rank.peak)}B ({_listed(found.rank.memory)})",
            f"  (probed: {_short(speed.fp32)}FLOP/s in products of {speed.rows} x {speed.width} x {speed.inner}{bf16}, "
            f"{_short(speed.block)} in a block)",
            *(
                f"note: rougher for the adapter {name}: what it computes could not be counted ({error}); each of its "
                "matrices is taken to be used once a row"
                for name, error in found.rough.items()
            ),
            *self.unfit(),
        ]
        return [line for text in said for line in textwrap.wrap(text, 80, subsequent_indent="    ")]

    def unfit(self) -> list[str]:
        """What will not hold the run: minutes too short for its steps, memory above what there is."""
        settings, said = self.settings, []
        if settings.steps is not None and self.steps < settings.steps:
            said.append(
                f"warning: minutes={settings.minutes:g} end it after about {self.steps:,} of {settings.steps:,} steps; "
                f"all of them take {duration(settings.steps * self.seconds)}; the learning rate follows the steps, and "
                "its schedule is cut short there"
            )
        here = self.expected.rank.peak * (1 if self.device.type == "cuda" else self.expected.ranks / settings.nodes)
        if self.room and here > self.room:
            what = "this GPU" if self.device.type == "cuda" else "this machine"
            said.append(
                f"warning: it needs {_short(here)}B of memory, and {what} has {_short(self.room)}B: smaller packs "
                "(trainer.source_budget), trainer.gradient_checkpointing=true or a smaller model take less"
            )
        return said


def outlook(
    tasks: Sequence[ReadyTask],
    network: Network,
    groups: Sequence[Group],
    mixture: Mixture,
    settings: TrainSettings,
    device: torch.device,
    bf16: bool,
    beside: Sequence[int] = (),
) -> Outlook:
    """What a run will cost on `device`: some rows are read, and the machine is probed for a second at most."""
    ranks = settings.nodes * (settings.devices if settings.devices > 0 else max(1, torch.cuda.device_count()))
    expected = expect(tasks, network, groups, mixture, settings, bf16, ranks, beside)
    sequences = max(1.0, sum(task.samples for task in expected.tasks) / max(1.0, expected.rank.packs) / ranks)
    length = max(1, round(expected.rank.widest[0] / sequences))
    speed = probe_speed(network.config, round(expected.rank.widest[0]), length, device, bf16)
    return Outlook(expected, settings, network.config, speed, device, room_of(device))


def room_of(device: torch.device) -> int:
    """Bytes of memory of a GPU, or of the machine or the container on it; 0 where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return 0
    for place in _CONTAINER:
        text = Path(place).read_text(encoding="ascii").strip() if Path(place).is_file() else ""
        found += [int(text)] if text.isdigit() else []
    return min(found)


def duration(seconds: float) -> str:
    """`0.48 s`, `13 minutes`, `2.5 hours`, `12 days`.

    Example:
        >>> duration(0.4812), duration(790), duration(9000), duration(1e6)
        ('0.48 s', '13 minutes', '2.5 hours', '12 days')
    """
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.95 * size:
            amount = seconds / size
            return f"{amount:.1f} {name}" if amount < 9.95 else f"{amount:.0f} {name}"
    return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"


def _short(number: float) -> str:
    """Three digits and the mark of what follows them: `5.55 M`, `20 G`, `7`."""
    for size, mark in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {mark}"
    return f"{number:.3g}"


def _listed(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_short(size)}" for name, size in sizes.items())
