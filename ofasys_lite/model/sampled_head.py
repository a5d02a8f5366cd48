"""Loss of a head that compares each row with a few classes of many, each with a weight of its own.

Shape suffixes: L rows with loss, D width, C classes at hand, K classes beside the right one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.fast_linear import product


def sampled_loss(
    states_LD: Tensor, weight_CD: Tensor, labels_L: Tensor, beside_LK: Tensor, log_expected_LK: Tensor
) -> Tensor:
    """(L,) log(exp(own) + sum of exp(others) / expected) - own, in nats, fp32.

    With `expected` the number of times that a class was to be drawn, the sum is in expectation the sum over all other
    classes. A class with an infinite number counts for nothing.

    Args:
        weight_CD: Rows of the head, each of them once: a product of all rows with all of them is shared by the rows.
        labels_L: Which of them is right.
        beside_LK: Which of them stand beside it, repetitions allowed.
        log_expected_LK: Logs of the numbers.

    Raises:
        ShapeError: There is not one label and one list of others per row.
    """
    rows = states_LD.shape[0]
    if labels_L.shape != (rows,) or beside_LK.shape[:1] != (rows,) or beside_LK.shape != log_expected_LK.shape:
        raise ShapeError(
            f"head: {rows} rows, labels of shape {tuple(labels_L.shape)}, others of shape {tuple(beside_LK.shape)} "
            f"and their numbers of shape {tuple(log_expected_LK.shape)}"
        )
    logits_LC = product(states_LD, weight_CD).float()
    own_L1 = logits_LC.gather(1, labels_L.unsqueeze(1))
    beside = logits_LC.gather(1, beside_LK) - log_expected_LK
    return (torch.cat([own_L1, beside], 1).logsumexp(1) - own_L1.squeeze(1)).float()
