"""One LightningModule step is one step of the mixture: packs forward and backward, one optimizer update."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ofasys_lite.adapters.whole_step import WholeStep
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.sections import sections_of, used
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.learned import LossKey
from ofasys_lite.layout.loader import Share
from ofasys_lite.layout.pack import Batch
from ofasys_lite.model import learned_products, moved
from ofasys_lite.signals import SIGNALS, Interrupted, Patient
from ofasys_lite.training.accounting import RunTerms, StepCounts, unit_weights
from ofasys_lite.training.optimizers import Optimization, clip, fill, followed
from ofasys_lite.training.parameter_groups import groups_of
from ofasys_lite.training.ranks import Ranks, asking, looked
from ofasys_lite.training.reference import Reference
from ofasys_lite.training.run_state import RunState
from ofasys_lite.training.settings import TrainSettings, learning_rate, progress


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the steps since the last log row were.

    Attributes:
        sums: Summed loss per term of the run.
        rows: Source rows, target rows with loss.
        tokens: Source and target rows per task of the run.
    """

    sums: npt.NDArray[np.floating[Any]]
    units: npt.NDArray[Any]
    samples: npt.NDArray[Any]
    rows: npt.NDArray[Any]
    tokens: npt.NDArray[Any]


class TrainingModule(L.LightningModule):
    """Trains a Network; knows Lightning, and nothing of tasks but their terms.

    Raises:
        CardError: A rule for parameters matches none, or an optimizer cannot be built.
    """

    def __init__(self, network: Network, ledger: RunTerms, settings: TrainSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.ledger = ledger
        self.settings = settings
        #: Whether a user gave the steps; else they are what the tasks' epochs hold.
        self.given = True
        self.sections = sections_of(network)
        #: By name. Walking through the network's modules anew in each step would cost more than their update.
        self.weights: dict[str, nn.Parameter] = dict(network.named_parameters())
        self.optimization = Optimization(groups_of(network, settings), settings)
        self.average: dict[str, Tensor] = {}
        #: What a resume must find unchanged; goes into checkpoints.
        self.facts: dict[str, Any] = {}
        self.state = RunState()
        self.autocast_bf16 = False
        #: Least width of weights whose products in fp32 on a CPU are oneDNN's; 0: none.
        self.onednn = 0
        # losses, units, samples of the steps since the last log row: flushed every n steps
        self.sums = torch.zeros(len(ledger.terms))
        self.units = np.zeros(len(ledger.terms), dtype=np.int64)
        self.samples = np.zeros(len(ledger.tasks), dtype=np.int64)
        self.rows = np.zeros(2, dtype=np.int64)
        self.tokens = np.zeros(len(ledger.tasks), dtype=np.int64)
        #: What preference pairs are compared with; no part of this module.
        self.reference: Reference | None = None
        #: Notes the signals that ask this rank to end.
        self.stop = Patient()
        self.ranks = Ranks()

    # ------------------------------------------------------------------ progress

    def progress_share(self) -> float:
        """How much of the run is done (0 to 1), alike on all ranks: the larger share of `steps` and `minutes`."""
        return progress(self.settings, self.global_step, self.state.clock)

    # ------------------------------------------------------------------ ranks

    def on_fit_start(self) -> None:
        """Meets the other ranks; rank 0's precision and products are those of all."""
        self.ranks = Ranks(self.trainer)
        self.ranks.agree({key: value for key, value in self.facts.items() if key not in ("precision", "products")})
        first = self.ranks.number == 0
        bf16, onednn = self.ranks.total([int(self.autocast_bf16 and first), self.onednn * first])
        self.autocast_bf16, self.onednn = bool(bf16), int(onednn)

    def interrupt(self, asked: npt.ArrayLike) -> None:
        """Raises Interrupted on all ranks alike if one of them was asked; `asked` is a sum over ranks."""
        for number, count in zip(SIGNALS, np.asarray(asked), strict=True):
            if count:
                raise Interrupted(number, self.ranks.code(128 + number))

    # ------------------------------------------------------------------ one step

    def training_step(self, share: Share, batch_idx: int) -> None:
        """One optimizer update from all packs of the step; none where a rank has failed, or every task has ended."""
        with learned_products(self.onednn):
            state = self.state
            if state.since is None:
                state.since = time.monotonic()
            own = self.ledger.count(share.packs)
            counts, through, looking = self._agree(share, own)
            if state.failed:
                # the quarantine tells why and ends the run
                return
            if share.over:
                state.over = True
                return
            state.whole = False
            step = self.global_step
            lone = self.trainer.world_size == 1
            for parameter in self.weights.values():
                parameter.grad = None
            self.optimization.begin(step, learning_rate(self.settings, step, state.clock, self.given), lone)
            # the first step, which may compile for minutes, has nothing to lose: a run of one leaves it at once
            with self.stop.interruptible() if state.first and lone else contextlib.nullcontext():
                steps = self._look(share) if looking else ()
                alone = contextlib.nullcontext
                apart = getattr(self.trainer.strategy, "block_backward_sync", alone)
                for number, pack in enumerate(share.packs):
                    # gradients of ranks are exchanged with the last pack only
                    with apart() if number < len(share.packs) - 1 else alone():
                        self._backward(pack, counts, share.step, number, steps[number] if steps else {})
            # in place: attributes of a module that are set anew cost more than these sums
            np.add(self.units, own.units, out=self.units)
            np.add(self.samples, own.samples, out=self.samples)
            for pack in share.packs:
                written = sum(len(rows.terms_U) for rows in pack.losses if rows.side == "target")
                self.rows[:] += (sum(pack.source.lengths), written)
            for task, count in share.tokens.items():
                self.tokens[self.ledger.task_number[task]] += count
            state.first = False
            self._update(step, through)
            state.streams = share.streams

    def _update(self, step: int, through: list[int]) -> None:
        """Moves the weights by the gradients of step number `step`."""
        for section, count in zip(self.sections, through, strict=True):
            if not count:
                # what nothing of the step went through gets no update: AdamW would move it on an all-zero gradient
                for parameter in section.parameters:
                    parameter.grad = None
        self.optimization.drop_frozen(step)
        if self.settings.clip > 0:
            clip(self.weights.values(), self.settings.clip)
        for optimizer in self.optimization.optimizers:
            optimizer.step()
        with torch.no_grad():
            for converter in self.network.converters:
                converter.after_step(self.network, step)
        if self.settings.ema > 0:
            average = followed(self.average, self.weights, self.settings.ema, step + 1)
            if average is not self.average:
                self.average = average

    def _drawing(self, step: int, number: int) -> contextlib.AbstractContextManager[Any]:
        """What a forward pass over a pack runs in: every pass over it has the same dropout and the same draws."""
        # they follow from (seed, step, pack, rank): nothing of them is stored
        place = repr((self.settings.seed, step, number, self.global_rank)).encode()
        seed = int.from_bytes(hashlib.sha256(place).digest()[:8], "big") >> 1
        # as torch.manual_seed does, which also keeps a trace of all frames for each kind of device that is not there
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        # autocast that is off costs as much as one that is on
        return torch.autocast(self.device.type, torch.bfloat16) if self.autocast_bf16 else contextlib.nullcontext()

    def _look(self, share: Share) -> tuple[dict[LossKey, WholeStep], ...]:
        """What objectives over the whole step are to know, per pack."""

        def look(pack: Batch, number: int) -> dict[LossKey, Tensor]:
            frozen = self._frozen(pack)
            with self._drawing(share.step, number):
                return self.network.look(to_device(pack, self.device), frozen)

        return looked(share.packs, look, self.ledger.term_index, self.ranks)

    def _frozen(self, pack: Batch) -> dict[LossKey, Tensor]:
        """What frozen weights say of the pack's answers."""
        if self.reference is None:
            return {}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast_bf16):
            return self.reference(pack, self.device)

    def _backward(
        self, pack: Batch, counts: StepCounts, step: int, number: int, steps: Mapping[LossKey, WholeStep]
    ) -> None:
        weights, terms = unit_weights(pack, self.ledger, counts, self.settings.accounting)
        weights_U, terms_U = moved(weights, self.device), moved(terms, self.device)
        batch = to_device(pack, self.device)
        frozen = self._frozen(pack) if self.reference else {}
        with self._drawing(step, number):
            losses = self.network(batch, self.settings.label_smoothing, steps, frozen)
        loss = torch.dot(losses.values_U, weights_U) + losses.touch
        if loss.requires_grad:
            # gradients are averaged over ranks, the counts are sums over them
            ranks = self.trainer.world_size
            self.manual_backward(loss if ranks == 1 else loss * ranks)
        # nothing here waits for the device
        if self.sums.device != losses.values_U.device:
            self.sums = self.sums.to(losses.values_U.device)
        self.sums.index_add_(0, terms_U, losses.values_U.detach())

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, without the hooks of a precision plugin: DDP is told of the graph, and that is all."""
        self.trainer.strategy.pre_backward(loss)
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _agree(self, share: Share, counts: StepCounts) -> tuple[StepCounts, list[int], bool]:
        """Counts of the step, how much goes through each section, and whether all packs are to be looked at first.

        Over all ranks: one small all-reduce a step.

        Args:
            counts: Those of this rank.

        Raises:
            Interrupted: A signal has asked a rank to end: all of them end here, before the step.
        """
        packs = [used(self.sections, pack) for pack in share.packs]
        through = [sum(counts) for counts in zip(*packs, strict=True)] or [0] * len(self.sections)
        clock = int(1000 * self.state.seconds()) if self.ranks.number == 0 else 0
        # a lone pack sees the whole step anyway
        alone = self.ranks.count == len(share.packs) == 1
        told = [*(int(self.stop.number == number) for number in SIGNALS), 0 if alone else asking(share.packs)]
        told += [len(share.refused), share.failure is not None, clock]
        if self.ranks.count > 1:
            own = (counts.units, counts.samples, np.array(through, np.int64), np.array(told))
            parts = np.split(self.ranks.total(np.concatenate(own)), np.cumsum([len(part) for part in own[:-1]]))
            counts, through, told = StepCounts(parts[0], parts[1]), parts[2].tolist(), parts[3].tolist()
        *asked, looking, refused, failed, milliseconds = told
        if any(asked):
            self.interrupt(asked)
        self.state.refused, self.state.failed, self.state.clock = refused, failed, milliseconds / 1000
        return counts, through, bool(looking)

    def gathered(self) -> Gathered:
        """Losses, units, samples and rows since the last call, summed over ranks; begins anew."""
        found = self._gathered()
        self.sums.zero_()
        for array in (self.units, self.samples, self.rows, self.tokens):
            array[:] = 0
        return found

    def _gathered(self) -> Gathered:
        parts = (self.sums.double().cpu().numpy(), self.units, self.samples, self.rows, self.tokens)
        summed = self.ranks.total(np.concatenate(parts))
        return Gathered(*np.split(summed, np.cumsum([len(part) for part in parts])[:-1]))

    # ------------------------------------------------------------------ optimizer, averages

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of all groups, for the parameters where they are now."""
        return self.optimization.build()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with its averaged weights (if there are any) inside, its own again after."""
        if not self.average:
            yield
            return
        own = {n: p.detach().clone() for n, p in self.network.named_parameters()}
        fill(self.network, self.average)
        try:
            yield
        finally:
            fill(self.network, own)

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a resume needs beside weights and optimizer: averages, time spent, what is not logged yet."""
        found = self._gathered()
        log = {name: getattr(found, name).tolist() for name in ("sums", "units", "samples", "rows", "tokens")}
        checkpoint["ofasys"] = {
            "average": dict(self.average),
            "seconds": self.state.seconds(),
            "log": log,
            "facts": self.facts,
            "rate": self.optimization.rate,
            "streams": {task: dict(state) for task, state in self.state.streams.items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the averages, the time spent and what is not logged yet."""
        kept = checkpoint["ofasys"]
        self.average = dict(kept["average"])
        self.state.elapsed = self.state.clock = float(kept["seconds"])
        self.state.streams = kept.get("streams", {})
        log = kept["log"]
        if self.global_rank > 0:
            return  # they are sums over all ranks, and the first goes on with them
        if len(log["sums"]) == len(self.sums) and len(log["samples"]) == len(self.samples):
            self.sums = torch.tensor(log["sums"])
            self.units, self.samples, self.rows = (np.array(log[k], np.int64) for k in ("units", "samples", "rows"))
            self.tokens = np.array(log.get("tokens", [0] * len(self.tokens)), np.int64)
