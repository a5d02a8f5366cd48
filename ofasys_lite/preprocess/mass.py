"""MASS (arXiv 1905.02450): the encoder reads a text without one span, the decoder learns that span and nothing else."""

from __future__ import annotations

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.base import Piece


def hidden_span(target: Piece, source: Piece, mask: int) -> Piece:
    """`target` with loss on the ids that `source` hides, and fed with masks wherever `source` shows the text.

    As in the paper, what the encoder can read is hidden from the decoder, which must look at the encoder for it. The
    closing control is learned where the span reaches the end of the text.

    Args:
        target: Ids of the whole text and `<close>`.
        source: Ids of the same text, a mask in place of each id of the span.
        mask: Id of the mask.

    Raises:
        DataError: The two are not the same text.
    """
    ids = target.arrays["ids"]
    shown = source.arrays["ids"]
    hidden = shown == mask
    if len(shown) + 1 != len(ids) or not np.array_equal(ids[:-1][~hidden], shown[~hidden]):
        raise DataError("`mask_style=mass` hides a span of a text that the target reads in another way")
    learn_P = np.append(hidden, hidden[-1:])
    fed = np.where(learn_P, target.arrays.get("inputs", ids), mask)
    return Piece(target.adapter, target.positions_P3, {"ids": ids, "inputs": fed}, learn_P)
