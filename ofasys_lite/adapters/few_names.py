"""States -> losses of names against those that were drawn for them (`layout/sampled.py`), and of a step's others.

Shapes: X rows of a stream, U values of the pack, G values of the step, K drawn names, C names at hand, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ofasys_lite.adapters.base import Encoded, Reading
from ofasys_lite.errors import CardError
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.sampled import SampledSoftmax
from ofasys_lite.model import head_loss, moved, sampled_loss


def sampled(rows: LossRows, encoded: Encoded, weight_VD: Tensor, scale: float) -> Reading:
    """Cross entropy over all names of the set, or over the drawn ones.

    Raises:
        CardError: Label smoothing, whose share of every name nobody computes.
    """
    names_C, labels_U = rows.arrays["names"], rows.arrays["labels"]
    if "drawn" not in rows.arrays:
        return Reading(
            lambda x_XD: head_loss(
                x_XD[rows.rows_R] * scale, F.embedding(names_C, weight_VD), labels_U, encoded.smoothing
            )
        )
    if encoded.smoothing:
        help = "set trainer.label_smoothing=0, or give it as many negatives as there are names"
        raise CardError("label smoothing gives every name a share, and sampled softmax looks at few", help=help)
    drawn_UK, expected_UK = rows.arrays["drawn"], rows.arrays["expected"]
    if rows.objective.whole_step:
        step_G, more_UG, expected_UK, expected_UG = _others(rows, encoded, weight_VD.device)
        names_C = torch.cat([names_C, step_G])
        drawn_UK = torch.cat([drawn_UK, more_UG + (len(names_C) - len(step_G))], 1)
        expected_UK = torch.cat([expected_UK, expected_UG], 1)
    if isinstance(rows.objective, SampledSoftmax) and not rows.objective.log_q:
        expected_UK = torch.where(expected_UK.isinf(), expected_UK, 1.0)
    log_UK = expected_UK.log()
    return Reading(
        lambda x_XD: sampled_loss(
            x_XD[rows.rows_R] * scale, F.embedding(names_C, weight_VD), labels_U, drawn_UK, log_UK
        )
    )


def _others(rows: LossRows, encoded: Encoded, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The other targets of the step: ids (G,), places in them (U, G), how often the drawn and these are expected.

    A name that may come in both ways is expected as often as both together (the balance heuristic).
    """
    step = encoded.step(rows)
    first, count = step.first, len(rows.terms_U)
    ids_G, share_G, drawn_G = (moved(step.host[name], device) for name in ("ids", "share", "expected"))
    others_UG = step.rivals(device)[first : first + count]
    number_U1 = others_UG.sum(1, keepdim=True)
    expected_UK = rows.arrays["expected"] + number_U1 * rows.arrays["shares"]
    told_UG = others_UG & (ids_G[first : first + count].unsqueeze(1) != ids_G)
    expected_UG = torch.where(told_UG, number_U1 * share_G + drawn_G, torch.inf)
    places_UG = torch.arange(len(ids_G), device=device).expand(count, -1)
    return ids_G, places_UG, expected_UK, expected_UG
