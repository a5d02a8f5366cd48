"""Losses of preference pairs from the likelihoods of their two answers, beside those under frozen weights.

Direct preference optimisation (DPO, arXiv 2305.18290), its squared form (IPO, arXiv 2310.12036), and the prospect
theoretic one (KTO, arXiv 2402.01306). Shapes: R rows of all answers, J answers (A U), U samples, G samples of the
step, A answers of a sample: the preferred one, the other, and in training for KTO one of another row.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ofasys_lite.adapters.base import Begin, Encoded, Reading
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.preference import Preference


def likelihoods(reading: Reading, rows: LossRows, states_TD: Tensor) -> Tensor:
    """(J,) log of the probability of each answer: the sum over its rows, in nats."""
    loss_R = reading.loss(states_TD).float()
    return -torch.stack([own.sum() for own in torch.split(loss_R, list(rows.counts))])


def compared(base: Begin, objective: Preference, rows: LossRows, encoded: Encoded) -> Reading:
    """The pairs of a pack. `encoded.reference` has what frozen weights say; without it, as in validation, that is zero.

    What is smoothed is no likelihood: label smoothing is left out.
    """
    reading = base(replace(rows, objective=objective.answered), replace(encoded, smoothing=0.0))
    frozen_J = encoded.reference.get(rows.key)
    beta, sft = objective.number("beta"), objective.number("sft")
    samples = len(rows.terms_U)
    first = rows.counts[:: len(rows.counts) // samples]

    def look(states_TD: Tensor) -> Tensor:
        """(U, A) log of each answer's ratio to the frozen weights."""
        own_J = likelihoods(reading, rows, states_TD)
        return (own_J if frozen_J is None else own_J - frozen_J.to(own_J.device)).view(samples, -1)

    def loss(states_TD: Tensor) -> Tensor:
        ratios_UA = look(states_TD)
        found_U = encoded.step(rows).losses(ratios_UA, lambda seen: losses(objective.name, seen, beta))
        if sft:
            # per row, as cross entropy is; what frozen weights say of it is a constant
            rows_U = torch.tensor(first, device=found_U.device)
            constant_U = 0.0 if frozen_J is None else frozen_J.to(found_U.device).view(samples, -1)[:, 0]
            found_U = found_U - sft * (ratios_UA[:, 0] + constant_U) / rows_U
        return found_U

    return Reading(loss, reading.taps, look if objective.whole_step else None)


def losses(name: str, ratios_GA: Tensor, beta: float) -> Tensor:
    """(G,) losses of samples from (G, A) log ratios of their answers to the frozen weights, preferred one first.

    `dpo`: -log sigmoid(beta (a - b)); `ipo`: (a - b - 1 / (2 beta)) ** 2; `kto`: the mean of 1 - sigmoid(beta (a - z))
    and 1 - sigmoid(beta (z - b)), where z is the mean over the step of the ratios of answers to other sources, at least
    0, without gradient; 0 where there are none.
    """
    a_G, b_G = ratios_GA[:, 0], ratios_GA[:, 1]
    if name == "dpo":
        return -F.logsigmoid(beta * (a_G - b_G))
    if name == "ipo":
        return (a_G - b_G - 1 / (2 * beta)).square()
    z = ratios_GA[:, 2].detach().mean().clamp(min=0) if ratios_GA.shape[1] > 2 else 0.0
    return 1 - (torch.sigmoid(beta * (a_G - z)) + torch.sigmoid(beta * (z - b_G))) / 2
