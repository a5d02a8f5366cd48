"""Token ids -> embeddings by one lookup for the whole pack; states -> loss by the tied head.

Shapes: P rows of a part, L rows with loss, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ofasys_lite.adapters.base import TABLE_STD, Adapter, Begin, Encoded, Reading, Shared
from ofasys_lite.adapters.few_names import sampled
from ofasys_lite.adapters.named_rows import NamedRows
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Ints, Part
from ofasys_lite.model import Work, ctc_losses, head_loss, product
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

_BLANK = CONTROL_IDS["blank"]


class TextAdapter(Adapter):
    """One table for reading and writing, scaled so that rows read have deviation 1 and first logits too.

    AdamW moves every number of the table by about the learning rate a step, whatever its size. The table's deviation
    (`TABLE_STD`) says how much that is to a row that is read: with width ** -0.5 = 0.06 rows moved so fast that
    pronunciation and grids learned late (after 600 steps of the quickstart 2.2 nats a phone, with 0.25 it was 1.4).
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.embedding = shared.embedding
        self.scale = 1 / TABLE_STD
        self.logit_scale = 1 / (TABLE_STD * shared.width**0.5)
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
        weight = self.table
        return product(states_BD * self.logit_scale, weight if ids_W is None else weight[ids_W])

    def objectives(self) -> Mapping[str, Begin]:
        """Cross entropy of ids, those that are written and those that the source hides, or of few names; CTC."""
        return {
            "cross_entropy": self._cross_entropy,
            "mlm": self._cross_entropy,
            "ctc": self._ctc,
            "sampled_softmax": self._sampled,
        }

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
        weight, scale = self.table, self.logit_scale
        return Reading(lambda x_XD: head_loss(x_XD[rows.rows_R] * scale, weight, labels_L, encoded.smoothing))

    def _sampled(self, rows: LossRows, encoded: Encoded) -> Reading:
        return sampled(rows, encoded, self.table, self.logit_scale)

    def _ctc(self, rows: LossRows, encoded: Encoded) -> Reading:
        labels = np.split(rows.host["labels"], np.cumsum(rows.units_U)[:-1])
        return Reading(lambda states_XD: self.ctc(states_XD[rows.rows_R], rows.counts, labels))

    def ctc(self, states_RD: Tensor, lengths: Sequence[int], labels: Sequence[Ints]) -> Tensor:
        """(N,) CTC losses in nats of sequences laid end to end.

        The blank is a control row of the same head, so encoder and decoder speak of the same pieces.
        """
        return ctc_losses(states_RD * self.logit_scale, self.table, lengths, labels, _BLANK)
