"""Codes with depth as targets of any modality: embeds them, learns them, writes them (arXiv 2410.01912).

A subclass says how its pieces become codes and codes become values. Rows of a piece read what the row before wrote.
Options of the line: rows in random order in training (RAR, arXiv 2411.00776); codes are corrupted where they are
fed back, and the deeper ones made anew for what is then left (after Infinity, arXiv 2412.04431).
Shapes: N pieces of a pack, L positions of a piece, P rows fed, R positions learned, K depth, V codes, D width,
C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.base import TABLE_STD, Adapter, Asked, Begin, Encoded, Reading, Section, Shared
from ofasys_lite.adapters.depth_heads import Choose, DepthHeads, DepthLogits, DepthWriter, Score
from ofasys_lite.adapters.in_rounds import in_rounds
from ofasys_lite.adapters.judging import Judges, show_judged, verdict_losses
from ofasys_lite.adapters.passes import Sources, ToWrite, Written
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Part

#: Codes of this many pieces are kept by content on CPU, where making them anew costs as much as learning them.
_KEPT = 200_000


class CodesAdapter(Adapter):
    """Base of adapters for codes with depth.

    Args:
        settings: `codec`: facts of the codec, and what the line says of the model's side: `layers` (`last`, `even` or
            `parallel`), `feedback`, `weights`, `order`, `correct`, `judges`.
        codes: V.
        depth: K.
        positions: L.

    Raises:
        CardError: The codes are deeper than the decoder.
    """

    coded: ClassVar[bool] = True
    #: A codec is trained before the run for a line that names none.
    trained: ClassVar[bool] = False

    shares_K: Tensor

    def __init__(self, settings: Mapping[str, Any], shared: Shared, codes: int, depth: int, positions: int) -> None:
        super().__init__(settings, shared)
        said = settings["codec"]
        parallel = said.get("layers") == "parallel"
        #: Codes of a position as rows of their own: the one-dimensional control.
        self.flat = depth if said.get("layers") == "flat" else 0
        depth, positions = (1, positions * depth) if self.flat else (depth, positions)
        self.heads = DepthHeads(
            shared.width,
            codes,
            head_layers(str(said.get("layers", "last")), depth, shared.decoder_layers),
            shared.decoder_layers,
            feedback=not parallel and said.get("feedback", "true") != "false",
            table_std=TABLE_STD,
        )
        self.positions = positions
        weights = said.get("weights")
        if weights is not None and (len(weights) != depth or not sum(weights) > 0):
            raise CardError(f"codec: weights {tuple(weights)} for codes of depth {depth}", help="give one a depth")
        given = [1.0] * depth if weights is None else [float(w) for w in weights]
        self.shares = tuple(w / sum(given) for w in given)
        self.register_buffer("shares_K", torch.tensor(self.shares), persistent=False)
        self.correct = float(said.get("correct", 0.0))
        #: What a row writes when it is written together with others.
        self.mask_D = nn.Parameter(torch.randn(shared.width))
        #: Places of what is fed, which a random order does not tell by itself.
        self.places = nn.Embedding(positions, shared.width) if said.get("order") == "random" else None
        if self.places is not None:
            nn.init.normal_(self.places.weight, std=0.02)
        #: Choose among candidates of pictures that are written in rounds.
        self.judges = Judges(shared.width) if "judges" in said else None
        self._shown: tuple[Part, Tensor, Tensor] | None = None
        self._kept: dict[int, Tensor] = {}
        self._last: tuple[Part, Tensor, Tensor] | None = None
        # codes are those of the codec's weights
        self.register_load_state_dict_post_hook(lambda *_: self.forget())  # type: ignore[no-untyped-call]

    def forget(self) -> None:
        """Drops the codes that were kept; the codec has other weights now."""
        self._kept.clear()
        self._last = self._shown = None

    def train(self, mode: bool = True) -> CodesAdapter:
        """Training or evaluation mode; codes are fed as they are in evaluation."""
        self._last = None
        super().train(mode)
        return self

    def sections(self) -> tuple[Section, ...]:
        """Heads (one of weight 0 learns nothing), the table that is fed, the mask's vector, the judges."""
        heads = self.heads
        of_depth = [(*heads.heads[k].parameters(), *heads.norms[k].parameters()) for k in range(heads.depth)]
        learning = tuple(p for k, own in enumerate(of_depth) if self.shares[k] > 0 for p in own)
        idle = tuple(p for k, own in enumerate(of_depth) if not self.shares[k] > 0 for p in own)
        back = any(heads.fed_back(k) for k in range(heads.depth))
        return (
            Section(learning, _learned),
            Section(idle, lambda asked: 0),
            Section(
                tuple(heads.table.parameters()),
                lambda asked: sum(sum(part.counts) for part in asked.parts) + (_learned(asked) if back else 0),
            ),
            Section((self.mask_D,), lambda asked: asked.marked("hidden")),
            Section(
                () if self.judges is None else tuple(self.judges.parameters()), lambda asked: asked.learned("judges")
            ),
        )

    # ------------------------------------------------------------------ what a subclass says

    def latents(self, part: Part, chosen: list[int] | None = None) -> Tensor:
        """(N, L, C) vectors of the pieces, or of the `chosen` ones, of which `quantize` makes codes."""
        raise TypeError(f"{type(self).__name__} does not say how pieces become vectors")

    def quantize(self, latents_NLC: Tensor) -> Tensor:
        """(N, L, K) codes of vectors."""
        raise TypeError(f"{type(self).__name__} does not say how vectors become codes")

    def render(self, codes_NLK: Tensor) -> Tensor:
        """Arrays, one per piece, that the modality's Preprocess makes values of."""
        raise TypeError(f"{type(self).__name__} does not say what codes look like")

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the weights of a trained codec, by name, as its folder holds them; nothing where there are none."""
        if tensors:
            raise CardError(f"{type(self).__name__} does not say how it takes a codec's weights")

    # ------------------------------------------------------------------ codes of a pack

    def codes(self, part: Part) -> tuple[Tensor, Tensor]:
        """((N, L, K) codes to be learned, (N, L, K) codes to be fed) of a pack's pieces, in the order of their rows."""
        if self._last is not None and self._last[0] is part:
            return self._last[1], self._last[2]
        found = self._corrupted(part) if self.training and self.correct > 0 else (self._codes(part),) * 2
        learned, fed = (self._ordered(part, codes) for codes in found)
        self._last = (part, learned, fed)
        return learned, fed

    def _codes(self, part: Part) -> Tensor:
        keys = part.arrays["key"]
        if keys.device.type != "cpu":
            return self._rows(self.quantize(self.latents(part)))
        names = keys.tolist()
        missing = [i for i, key in enumerate(names) if key not in self._kept]
        if missing:
            if len(self._kept) + len(missing) > _KEPT:
                self._kept.clear()
                missing = list(range(len(names)))
            fresh = self.quantize(self.latents(part, missing))
            self._kept.update(zip([names[i] for i in missing], fresh.to(torch.int32), strict=True))
        return self._rows(torch.stack([self._kept[key] for key in names]).long())

    def _rows(self, codes_NLK: Tensor) -> Tensor:
        """Codes as rows of the sequence: with depth as they are, flat ones (N, L * K, 1)."""
        return codes_NLK.flatten(1).unsqueeze(-1) if self.flat else codes_NLK

    def pictures(self, codes_NLK: Tensor) -> Tensor:
        """What `render` makes of the codes that rows wrote."""
        return self.render(codes_NLK.reshape(len(codes_NLK), -1, self.flat) if self.flat else codes_NLK)

    def _corrupted(self, part: Part) -> tuple[Tensor, Tensor]:
        """(N, L, K) codes to learn and to feed: some shallow codes are fed wrong, deeper ones learn to mend that.

        After the self-correction of Infinity (arXiv 2412.04431): code k is learned as the one nearest to what is left
        after the codes that were fed before it; with probability `correct` another one is fed in its place.
        """
        raise CardError(f"{type(self).__name__} has no self-correction", help="leave `correct` out of the codec")

    def _ordered(self, part: Part, codes_NLK: Tensor) -> Tensor:
        sizes = part.sizes["order"]
        if not any(sizes):
            return codes_NLK
        if not all(sizes):
            raise ShapeError("pieces in random order and line by line in one pack")
        order_NL = part.arrays["order"].view(len(sizes), -1)
        return codes_NLK.gather(1, order_NL.unsqueeze(-1).expand_as(codes_NLK))

    # ------------------------------------------------------------------ rows and losses

    def embed(self, part: Part) -> Tensor:
        """(P, D): rows that read the codes of the position before; masked rows where they are written together."""
        _, fed_NLK = self.codes(part)
        shown = None if self._shown is None or self._shown[0] is not part else self._shown
        if shown is not None:
            fed_NLK = fed_NLK.index_copy(0, shown[1], shown[2])
        x_NLD = self.inputs(fed_NLK)
        if self.places is not None:
            rows = torch.arange(self.positions, device=x_NLD.device).expand(len(x_NLD), -1)
            x_NLD = x_NLD + self.places(self._ordered(part, rows.unsqueeze(-1)).squeeze(-1))
        if any(part.sizes["hidden"]):
            hidden_NL = part.arrays["hidden"].view(len(x_NLD), -1)
            # judges see whole pictures
            hidden_NL = hidden_NL if shown is None else hidden_NL.index_fill(0, shown[1], False)
            x_NLD = self._hide(x_NLD, hidden_NL)
        if all(count == self.positions for count in part.counts):
            return x_NLD.flatten(0, 1)
        return torch.cat([x[:count] for x, count in zip(x_NLD, part.counts, strict=True)])

    def show(self, part: Part, pieces_J: Tensor, codes_JLK: Tensor) -> None:
        """Has the next `embed` of the part show these codes, whole, in place of those of some of its pieces."""
        self._shown = (part, pieces_J, codes_JLK)

    def verdicts(self, part: Part, states_JLD: Tensor, kinds: Sequence[int]) -> Tensor:
        """(U,) losses of the judges on the pieces that were shown (`Judges.loss`)."""
        if self.judges is None or self._shown is None or self._shown[0] is not part:
            raise ShapeError("judged pieces were not shown", help="call `show` before the pack is embedded")
        _, pieces_J, codes_JLK = self._shown
        self._shown = None
        real_JL = (codes_JLK == self.codes(part)[0][pieces_J]).all(-1)
        asked_JL = part.arrays["hidden"].view(-1, self.positions)[pieces_J]
        return self.judges.loss(states_JLD, real_JL, asked_JL, kinds)

    def _hide(self, x_NLD: Tensor, hidden_NL: Tensor) -> Tensor:
        return torch.where(hidden_NL.unsqueeze(-1), self.mask_D.to(x_NLD.dtype), x_NLD)

    def masked(self, codes_NLK: Tensor, hidden_NL: Tensor) -> Tensor:
        """(N, L, D): rows that are written together read their own codes, or the mask where they are hidden."""
        x_NLD = self.inputs(codes_NLK)
        return self._hide(x_NLD if self.places is None else x_NLD + self.places.weight, hidden_NL)

    def inputs(self, codes: Tensor) -> Tensor:
        """(..., D): what a row reads of the codes (..., K) of a position."""
        return self.heads.inputs(codes)

    def fed(self, codes_RK: Tensor, places_R: Tensor) -> Tensor:
        """(R, D): what rows in decoding read of the codes of the positions before, which stand at `places_R`."""
        x_RD = self.inputs(codes_RK)
        return x_RD if self.places is None else x_RD + self.places(places_R)

    def objectives(self) -> Mapping[str, Begin]:
        """Cross entropy of all codes of a position; verdicts of judges."""
        return {"depth_cross_entropy": self._depth_cross_entropy, "judges": self._verdicts}

    def classes(self, rows: LossRows, batch: Batch) -> tuple[Tensor, tuple[float, ...]] | None:
        """The codes."""
        if "picked" not in rows.arrays:
            return None
        return self._picked(self.codes(batch.part_of(rows))[0], rows), self.shares

    def _depth_cross_entropy(self, rows: LossRows, encoded: Encoded) -> Reading:
        read = self.reading(encoded.batch.part_of(rows), rows)
        return Reading(lambda _: self.loss(read, encoded.smoothing), read.taps)

    def _verdicts(self, rows: LossRows, encoded: Encoded) -> Reading:
        show_judged(self, rows, encoded)
        return Reading(lambda states_TD: verdict_losses(self, rows, encoded, states_TD))

    def write(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
        """Codes of all positions, in rounds (`decoding/mask_predict.py`)."""
        return in_rounds(self, sources, asked)

    def reading(self, part: Part, rows: LossRows) -> DepthLogits:
        """A teacher-forced pass over the pack's pieces: its taps go to the decoder, then `loss`."""
        learned, fed = (self._picked(codes, rows) for codes in self.codes(part))
        return self.heads.read(rows.rows_R, learned, fed)

    def _picked(self, codes_NLK: Tensor, rows: LossRows) -> Tensor:
        """(R, K) codes of the positions that are learned."""
        codes, picked_R = codes_NLK.flatten(0, 1), rows.arrays["picked"]
        return codes if len(picked_R) == len(codes) else codes[picked_R]

    def loss(self, reading: DepthLogits, smoothing: float = 0.0) -> Tensor:
        """(R,) cross entropy of each position in nats: the weighted mean over its depths."""
        loss_RK = reading.loss(smoothing)
        return (loss_RK * self.shares_K.to(loss_RK.dtype)).sum(-1)

    def writer(self, rows_R: Tensor | None, choose: Choose, scorers: Sequence[Score] | None = None) -> DepthWriter:
        """A step of decoding in which the live rows `rows_R` (None: all) write the codes of one position each;
        `scorers` from `DepthHeads.scorers` where the generation is long."""
        return self.heads.write(choose, rows_R, scorers)


def _learned(asked: Asked) -> int:
    return asked.learned("depth_cross_entropy")


def head_layers(name: str, depth: int, layers: int) -> tuple[int, ...]:
    """Layers (from 0) behind which the heads of K depths stand; CardError where there are too few."""
    if depth > layers and name not in ("parallel", "flat"):
        raise CardError(
            f"codes of depth {depth}, and the decoder has {layers} layers",
            help=f"depth is at most the number of decoder layers: write depth={layers}, or take a deeper model",
        )
    if name == "parallel":
        return (layers - 1,) * depth
    if name == "flat":
        return (layers - 1,)
    if name == "even":
        return tuple(round((k + 1) * layers / depth) - 1 for k in range(depth))
    return tuple(range(layers - depth, layers))
