"""Token ids -> embeddings by one lookup for the whole pack; states -> loss by the tied head.

Shapes: P rows of a part, L rows with loss, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import TABLE_STD, Adapter, Begin, Encoded, Reading, Shared
from ofasys_lite.adapters.few_names import sampled
from ofasys_lite.adapters.named_rows import NamedRows
from ofasys_lite.errors import CardError
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Ints, Part
from ofasys_lite.model import Work, ctc_losses, head_loss, product
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS


class TextAdapter(Adapter):
    """One table for reading and writing, scaled so that rows read have deviation 1 and first logits too.

    AdamW moves every number of the table by about the learning rate a step, whatever its size. The table's deviation
    (`TABLE_STD`) says how much that is to a row that is read: with width ** -0.5 = 0.06 rows moved so fast that
    pronunciation and grids learned late (after 600 steps of the quickstart 2.2 nats a phone, with 0.25 it was 1.4).

    Settings, for weights of others: `scale` of rows read (default 1 / TABLE_STD), `logit_scale` of states that are
    scored (1 / (TABLE_STD sqrt(width))), `deviation` of fresh rows (TABLE_STD), `bias` (false): scores have one a row,
    `tied` (true): the table is the head, too, `blank`: the row of CTC's blank.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.embedding = shared.embedding
        self.scale = float(settings.get("scale", 1 / TABLE_STD))
        self.logit_scale = float(settings.get("logit_scale", 1 / (TABLE_STD * shared.width**0.5)))
        self.deviation = float(settings.get("deviation", TABLE_STD))
        self.blank = int(settings.get("blank", CONTROL_IDS["blank"]))
        rows = shared.embedding.num_embeddings
        self.bias = nn.Parameter(torch.zeros(rows)) if settings.get("bias", False) else None
        self.head: nn.Parameter | None = None
        if not settings.get("tied", True):
            self.head = nn.Parameter(torch.empty(rows, shared.width).normal_(std=self.deviation))
        self.names: NamedRows | None = None
        if settings.get("names") is not None:
            self.know(settings["names"])

    def know(self, names: Mapping[str, Any]) -> None:
        """From here on vectors of names know their words (`Vocabulary.words_of_names`)."""
        self.settings["names"] = dict(names)
        self.names = NamedRows(names["first"], names["pieces"]).to(self.embedding.weight.device)

    @property
    def table(self) -> Tensor:
        """(V, D) the vectors of all ids, as they are read and written."""
        weight = self.embedding.weight
        if self.names is None:
            return weight
        found: Tensor = self.names(weight)
        return found

    def grow(self, rows: int) -> None:
        """Further rows of a head of its own and of biases; the table's are the network's."""
        for name, fill in (("bias", 0.0), ("head", self.deviation)):
            old = getattr(self, name)
            if old is not None and rows > len(old):
                fresh = torch.empty(rows - len(old), *old.shape[1:], device=old.device, dtype=old.dtype)
                fresh.normal_(std=fill) if fill else fresh.zero_()
                setattr(self, name, nn.Parameter(torch.cat([old.detach(), fresh])))

    def judged(self, states_RD: Tensor) -> tuple[Tensor, Tensor]:
        """States and the table that scores them; a bias is one channel more of both."""
        weight_VD = self.table if self.head is None else self.head
        states_RD = states_RD * self.logit_scale
        if self.bias is None:
            return states_RD, weight_VD
        ones_R1 = states_RD.new_ones(len(states_RD), 1)
        return torch.cat([states_RD, ones_R1], 1), torch.cat([weight_VD, self.bias.unsqueeze(1)], 1)

    def embed(self, part: Part) -> Tensor:
        """(P, D) rows of the table."""
        return self.lookup(part.arrays["ids"])

    def lookup(self, ids_P: Tensor) -> Tensor:
        """(P, D) rows of the table for ids."""
        rows: Tensor = self.embedding(ids_P) if self.names is None else F.embedding(ids_P, self.table)
        scaled: Tensor = rows * self.scale
        return scaled

    def scores(self, states_BD: Tensor, ids_W: Tensor | None = None) -> Tensor:
        """Logits (B, V), or (B, W) of some ids only."""
        if self.bias is None and self.head is None and self.names is None:  # asked for every written token
            states_BX, weight_VX = states_BD * self.logit_scale, self.embedding.weight
        else:
            states_BX, weight_VX = self.judged(states_BD)
        return product(states_BX, weight_VX if ids_W is None else weight_VX[ids_W])

    def objectives(self) -> Mapping[str, Begin]:
        """Cross entropy of ids, written one by one or together, hidden in the source, or of few names; CTC."""
        every = dict.fromkeys(("cross_entropy", "masked_ids", "mlm"), self._cross_entropy)
        return {**every, "ctc": self._ctc, "sampled_softmax": self._sampled}

    def work(self, parts: Sequence[Part]) -> tuple[Work, Work]:
        """A lookup costs nothing; the head's logits are kept, and the states that they are made of."""
        rows, width = self.embedding.weight.shape
        return Work(0.0, width), Work(6.0 * width * rows, width + rows)

    def classes(self, rows: LossRows, batch: Batch) -> tuple[Tensor, tuple[float, ...]] | None:
        """The ids."""
        labels_L = rows.arrays.get("labels")
        return None if labels_L is None else (labels_L[:, None], (1.0,))

    def _cross_entropy(self, rows: LossRows, encoded: Encoded) -> Reading:
        labels_L = rows.arrays["labels"]
        if self.bias is None and self.head is None:
            weight, scale = self.embedding.weight if self.names is None else self.table, self.logit_scale
            return Reading(lambda x_XD: head_loss(x_XD[rows.rows_R] * scale, weight, labels_L, encoded.smoothing))
        return Reading(lambda x_XD: head_loss(*self.judged(x_XD[rows.rows_R]), labels_L, encoded.smoothing))

    def _sampled(self, rows: LossRows, encoded: Encoded) -> Reading:
        if self.bias is not None or self.head is not None:
            raise CardError(
                "loss=sampled_softmax: the head of these weights is not the table of ids", help="take cross_entropy"
            )
        return sampled(rows, encoded, self.table, self.logit_scale)

    def _ctc(self, rows: LossRows, encoded: Encoded) -> Reading:
        labels = np.split(rows.host["labels"], np.cumsum(rows.units_U)[:-1])
        return Reading(lambda states_XD: self.ctc(states_XD[rows.rows_R], rows.counts, labels))

    def ctc(self, states_RD: Tensor, lengths: Sequence[int], labels: Sequence[Ints]) -> Tensor:
        """(N,) CTC losses in nats of sequences laid end to end.

        The blank is a control row of the same head, so encoder and decoder speak of the same pieces.
        """
        return ctc_losses(*self.judged(states_RD), lengths, labels, self.blank)
