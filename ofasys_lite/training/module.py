"""One LightningModule step is one step of the mixture: packs forward and backward, one optimizer update."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from ofasys_lite.data.loader import Share
from ofasys_lite.data.types import Batch
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.training.accounting import Ledger, StepCounts, unit_weights
from ofasys_lite.training.settings import TrainSettings

__all__ = ["TrainingModule", "learning_rate"]


def learning_rate(settings: TrainSettings, progress: float) -> float:
    """Learning rate at `progress` (0 to 1): linear warm-up, then a cosine down to `final` of the peak."""
    progress = min(1.0, max(0.0, progress))
    if progress < settings.warmup:
        return settings.lr * max(progress / settings.warmup, 1e-3)
    share = (progress - settings.warmup) / max(1e-9, 1 - settings.warmup)
    return settings.lr * (settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * share)))


def _seed_of(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


class TrainingModule(L.LightningModule):
    """Trains a Network; knows Lightning, and nothing of tasks but their terms.

    Args:
        network: The weights.
        ledger: Numbering of the run's terms and tasks.
        settings: How to train.
    """

    def __init__(self, network: Network, ledger: Ledger, settings: TrainSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.ledger = ledger
        self.settings = settings
        self.average: dict[str, Tensor] = {}
        self.elapsed = 0.0
        self.since: float | None = None
        self.autocast_bf16 = False
        # losses, units, samples of the steps since the last log row, in one tensor each: flushed every n steps
        self.sums = torch.zeros(len(ledger.terms), dtype=torch.float64)
        self.units = np.zeros(len(ledger.terms), dtype=np.int64)
        self.samples = np.zeros(len(ledger.tasks), dtype=np.int64)
        self.rows = np.zeros(2, dtype=np.int64)

    # ------------------------------------------------------------------ progress

    def seconds(self) -> float:
        """Training time so far in seconds, earlier sessions of a resumed run included."""
        return self.elapsed + (0.0 if self.since is None else time.monotonic() - self.since)

    def progress_share(self) -> float:
        """How much of the run is done, 0 to 1: the larger of its shares of `steps` and `minutes`."""
        steps, minutes = self.settings.steps, self.settings.minutes
        by_steps = 0.0 if steps is None else self.global_step / steps
        by_time = 0.0 if minutes is None else self.seconds() / (60 * minutes)
        return max(by_steps, by_time)

    # ------------------------------------------------------------------ one step

    def transfer_batch_to_device(self, batch: Share, device: torch.device, dataloader_idx: int) -> Share:
        """The share as it is: packs move one at a time, right before they are needed."""
        return batch

    def training_step(self, share: Share, batch_idx: int) -> None:
        """One optimizer update from all packs of the step."""
        if self.since is None:
            self.since = time.monotonic()
        counts = self._global_counts(self.ledger.count(share.packs))
        optimizer = self.optimizers()
        for group in optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = learning_rate(self.settings, self.progress_share())
        optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        for number, pack in enumerate(share.packs):
            with self._synchronised(number == len(share.packs) - 1):
                self._backward(pack, counts, share.step, number)
        self._drop_absent(share)
        if self.settings.clip > 0:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        optimizer.step()  # type: ignore[union-attr]
        self._average()

    def _backward(self, pack: Batch, counts: StepCounts, step: int, number: int) -> None:
        rows_L, side = unit_weights(pack, self.ledger, counts, self.settings.accounting)
        # dropout draws follow from (seed, step, pack, rank): nothing of them is stored
        torch.manual_seed(_seed_of(self.settings.seed, step, number, self.global_rank))
        batch = to_device(pack, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast_bf16):
            losses = self.network(batch, self.settings.label_smoothing)
        weights_L = torch.from_numpy(rows_L).to(self.device)
        loss = (losses.token_L * weights_L).sum() + losses.touch
        for weight, scalar in zip(side, losses.side, strict=True):
            loss = loss + float(weight) * scalar
        if loss.requires_grad:
            # gradients are averaged over ranks, the counts are sums over them
            self.manual_backward(loss * self.trainer.world_size)
        self._note(pack, losses.token_L.detach(), [s.detach() for s in losses.side])

    def _global_counts(self, counts: StepCounts) -> StepCounts:
        if self.trainer.world_size == 1:
            return counts
        vector = torch.from_numpy(counts.vector()).to(self.device)
        summed = self.trainer.strategy.reduce(vector, reduce_op="sum")
        return self.ledger.split(np.asarray(torch.as_tensor(summed).cpu()))

    @contextlib.contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        """Gradients of ranks are exchanged with the last pack only."""
        block = getattr(self.trainer.strategy, "block_backward_sync", None)
        if last or block is None:
            yield
        else:
            with block():
                yield

    def _drop_absent(self, share: Share) -> None:
        """Adapters that no pack of the step used get no update: AdamW would move them on an all-zero gradient."""
        used = torch.tensor(
            [any(_uses(pack, name) for pack in share.packs) for name in self.network.adapters], dtype=torch.int64
        )
        if self.trainer.world_size > 1 and len(used):
            used = torch.as_tensor(self.trainer.strategy.reduce(used.to(self.device), reduce_op="sum")).cpu()
        for name, present in zip(self.network.adapters, used.tolist(), strict=True):
            if not present:
                for parameter in self.network.adapters[name].parameters():
                    parameter.grad = None

    def _note(self, pack: Batch, token_L: Tensor, side: list[Tensor]) -> None:
        index = self.ledger.term_index(pack)
        if len(pack.labels_L):
            term_L = torch.from_numpy(index[np.asarray(pack.terms_L)])
            self.sums.index_add_(0, term_L, token_L.double().cpu())
            np.add.at(self.units, index[np.asarray(pack.terms_L)], 1)
        for item, scalar in zip(pack.side, side, strict=True):
            self.sums[int(index[item.term])] += scalar.double().cpu()
            self.units[index[item.term]] += len(item.labels)
        for task, _ in pack.samples:
            self.samples[self.ledger.task_index(task)] += 1
        self.rows += (pack.source.count, len(pack.labels_L))

    # ------------------------------------------------------------------ optimizer, averages

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; decay on matrices only."""
        decayed = [p for n, p in self.network.named_parameters() if p.ndim > 1 and "embedding" not in n]
        plain = [p for n, p in self.network.named_parameters() if p.ndim <= 1 or "embedding" in n]
        groups = [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.settings.lr, betas=self.settings.betas, fused=True)

    def _average(self) -> None:
        decay = self.settings.ema
        if decay <= 0:
            return
        names, values = zip(*((n, p.detach()) for n, p in self.network.named_parameters()), strict=True)
        if not self.average:
            self.average = {n: v.clone() for n, v in zip(names, values, strict=True)}
            return
        # a young average follows the weights more closely
        weight = 1 - min(decay, (1 + self.global_step) / (10 + self.global_step))
        torch._foreach_lerp_([self.average[n] for n in names], list(values), weight)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with its averaged weights (if there are any) inside, its own again after."""
        if not self.average:
            yield
            return
        own = {n: p.detach().clone() for n, p in self.network.named_parameters()}
        self._load(self.average)
        try:
            yield
        finally:
            self._load(own)

    def _load(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(values[name])

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a resume needs beside weights and optimizer: the averages and the time spent."""
        checkpoint["ofasys"] = {"average": dict(self.average), "seconds": self.seconds()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the averages and the time spent."""
        state = checkpoint["ofasys"]
        self.average = dict(state["average"])
        self.elapsed = float(state["seconds"])


def _uses(pack: Batch, adapter: str) -> bool:
    return any(part.adapter == adapter for stream in (pack.source, pack.target) for part in stream.parts)
