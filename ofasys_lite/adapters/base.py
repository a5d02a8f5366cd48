"""The contract of a modality's model side: `Adapter` fills rows of a stream from a `Part`, and makes losses of states.

Shapes: P rows of the part, X rows of a stream, S source rows, U loss values, D width.
What training costs is counted by torch on tensors without values (its `meta` device): nothing is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from ofasys_lite.adapters.passes import Sources, ToWrite, Written
from ofasys_lite.adapters.whole_step import WholeStep
from ofasys_lite.layout.learned import LossKey, LossRows
from ofasys_lite.layout.pack import Batch, Part
from ofasys_lite.model import EncoderDecoder, Taps, Work

# Deviation of a fresh token table. Rows read are divided by it, logits too (adapters/text.py tells why it matters).
TABLE_STD = 0.25


@dataclass(frozen=True, slots=True)
class Shared:
    """What the generalist hands to every adapter.

    Attributes:
        embedding: The token table, shared by handing over the same module.
    """

    width: int
    embedding: nn.Embedding
    dropout: float = 0.0
    decoder_layers: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """A pack whose source is read and whose target is not: where its losses begin.

    Attributes:
        source_SD: What the encoder made of the source.
        steps: What was seen of the whole step, for the objectives that ask for it.
        reference: (J,) log probabilities of answers under frozen weights, for the objectives that compare with them.
    """

    batch: Batch
    body: EncoderDecoder
    source_SD: Tensor
    smoothing: float = 0.0
    steps: Mapping[LossKey, WholeStep] = field(default_factory=dict)
    reference: Mapping[LossKey, Tensor] = field(default_factory=dict)

    def step(self, rows: LossRows) -> WholeStep:
        """The step that `rows` are a part of: this pack alone where nothing else was looked at."""
        return self.steps.get(rows.key) or WholeStep(rows.terms_U, rows.host)


@dataclass(frozen=True, slots=True)
class Reading:
    """An objective on one pack: it may look on while the decoder runs, and then gives the losses.

    Attributes:
        loss: States (X, D) of its side's stream, behind the last layer -> losses (U,) in nats or the like, fp32.
        taps: Called behind layers of the decoder on the way (`EncoderDecoder.decode`).
        look: States likewise -> (U, F) what other packs of the step are to know (`Objective.whole_step`).
    """

    loss: Callable[[Tensor], Tensor]
    taps: Taps = field(default_factory=dict)
    look: Callable[[Tensor], Tensor] | None = None


#: How an adapter begins an objective on a pack.
Begin = Callable[[LossRows, Encoded], Reading]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pack asks of one adapter, in counts that are known on the host.

    Attributes:
        parts: Its parts of the source stream and of the target stream.
        losses: What its heads learn.
    """

    parts: tuple[Part, ...]
    losses: tuple[LossRows, ...] = ()

    def learned(self, objective: str) -> int:
        """Loss values of one of its objectives."""
        return sum(len(rows.terms_U) for rows in self.losses if rows.objective.likelihood == objective)

    def marked(self, array: str) -> int:
        """How much of the pieces' `array`, a mask, is set."""
        return sum(int(np.asarray(part.arrays[array]).sum()) for part in self.parts if array in part.arrays)


@dataclass(frozen=True, slots=True)
class Section:
    """Weights of an adapter that not every one of its pieces needs; in a step without such pieces they do not move.

    Attributes:
        count: How many pieces or rows of a pack need them.
    """

    parameters: tuple[nn.Parameter, ...]
    count: Callable[[Asked], int]


class Adapter(nn.Module):
    """Base of all adapters; subclasses are named by dotted path in a modality card.

    Args:
        settings: The modality card's settings, with the preset's overrides merged in. Where lines have objectives on
            what it reads (`mae`), `objectives` names them: heads that only these need are built for no others.
    """

    #: Its rows are codes with depth, which heads of its own learn and write (`adapters/codes.py`).
    coded: ClassVar[bool] = False

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.width = shared.width

    @classmethod
    def stored(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings with which an exported adapter is built again, just before its own weights are read.

        Override where the constructor fetches weights from elsewhere: an export needs nothing but itself.
        """
        return settings

    def embed(self, part: Part) -> Tensor:
        """(P, D) embeddings of all pieces of the part, in order. Arrays are tensors on the model's device.

        Pieces must not see each other: the result for a piece may not depend on what else is in the pack.
        """
        raise TypeError(f"{type(self).__name__} does not say how to embed")

    def objectives(self) -> Mapping[str, Begin]:
        """What it learns by heads of its own, by the names of cards; the rows come from the Objective of that name."""
        return {}

    def classes(self, rows: LossRows, batch: Batch) -> tuple[Tensor, tuple[float, ...]] | None:
        """((R, K) what is to be chosen at each row, the weight of each of K choices); None if nothing is chosen.

        The entropy of these is what guessing costs.
        """
        return None

    def write(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
        """Targets of samples, written all at once: what its Preprocess calls `Whole` (or codes in rounds).

        Called without gradient, in evaluation mode. All samples have equal `what` and equal options but for the seed;
        what is written of one may not depend on the others. `sources.passes(asked)` is the decoder over their rows.
        """
        raise TypeError(f"{type(self).__name__} does not write all rows of a target at once")

    def touch(self) -> Tensor:
        """A zero-valued scalar that touches all parameters, for packs without this adapter's pieces.

        Every rank then has the same graph. Override only where summing empty slices of the parameters will not do.
        """
        parts = [parameter.reshape(-1)[:0].sum() for parameter in self.parameters()]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def work(self, parts: Sequence[Part]) -> tuple[Work, Work]:
        """What training costs: of a row that is embedded, and of a row that heads learn.

        Here `embed` as torch counts it, and once every matrix that it does not use. Where that raises, because `embed`
        depends on values, an estimate takes every matrix once a row that is embedded, and says so (`roughly`). Override
        where neither is so.

        Args:
            parts: Some of a pack; their arrays are tensors without values (on torch's `meta` device).
        """
        rows = sum(sum(part.counts) for part in parts)
        return counted(self, lambda copy: [copy.embed(part) for part in parts], rows)

    def sections(self) -> tuple[Section, ...]:
        """Weights that only some pieces need (a mask's vector, heads, judges). The others move with any piece."""
        return ()


_Module = TypeVar("_Module", bound=nn.Module)


def counted(module: _Module, run: Callable[[_Module], Sequence[Tensor]], rows: int) -> tuple[Work, Work]:
    """Per row: what `run` costs forward and backward, and what the matrices that it does not use would.

    Args:
        module: On any device; a copy without values is run.
        rows: Rows that it fills.

    Raises:
        Exception: Whatever code that asks for values raises where there are none.
    """
    bare = copy.deepcopy(module).to("meta")
    kept: dict[int, int] = {}
    own = {id(p.untyped_storage()._cdata) for p in bare.parameters()}
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        held.append(tensor)  # so that no other storage takes its place
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found = [x for x in run(bare) if x.requires_grad]
        forward = counter.get_total_flops()
        if found:
            torch.autograd.backward(found, [torch.empty_like(x) for x in found])
    numbers = sum(size for key, size in kept.items() if key not in own) / 4
    # torch's counter takes the way back through a convolution of groups for one of all channels with all
    grouped = any(isinstance(each, _ConvNd) and each.groups > 1 for each in bare.modules())
    flops = 3 * forward if grouped else counter.get_total_flops()
    embedded = Work(float(flops), numbers) * (1 / max(1, rows))
    return embedded, _once([p for p in _matrices(bare) if p.grad is None])


def roughly(module: nn.Module) -> tuple[Work, Work]:
    """The same where nothing can be counted: every matrix is taken to be used once by each row that is embedded."""
    return _once(_matrices(module)), Work()


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weights that are trained and take part in products: no tables that are looked up."""
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    return [p for p in module.parameters() if p.ndim > 1 and p.requires_grad and id(p) not in tables]


def _once(weights: Sequence[nn.Parameter]) -> Work:
    """Products of one row with each of the weights, and twice that backward; what they read and made is kept."""
    return Work(6.0 * sum(p.numel() for p in weights), sum(p[0].numel() + len(p) for p in weights))
