"""Frozen weights that preference pairs are compared with: those that a training began with.

They are no part of the module that is trained: no optimizer, average or export knows of them. Shapes: J answers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.export import load_weights, save_weights
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.learned import LossKey, LossRows
from ofasys_lite.layout.pack import Batch
from ofasys_lite.layout.ready import ReadyTask

#: Log probabilities that are kept by content: 100 MB.
_KEPT = 1_000_000


def compares(tasks: Sequence[ReadyTask]) -> bool:
    """Whether a task has an objective that compares with frozen weights."""
    return any(objective.base is not None for task in tasks for objective in task.maker.objectives.values())


class Reference:
    """Frozen weights, and what they said of answers that were met before.

    Args:
        network: As the training begins with it, without converters; copied.
    """

    def __init__(self, network: Network) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.known: dict[tuple[LossKey, int], float] = {}
        #: Passes of the frozen weights.
        self.passes = 0

    def keep(self, path: Path, resumed: bool, writes: bool) -> None:
        """Writes the weights, so that a resumed run goes on against the same; `resumed`: takes those that are there.

        Raises:
            CheckpointError: A run is resumed, and they are not there.
        """
        if resumed:
            if not path.is_file():
                raise CheckpointError(
                    f"{path} is gone: preference pairs are compared with the weights that the run began with",
                    help="put it back, or begin again from the run: start=...",
                )
            load_weights(self.network, path)
        elif writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_weights(self.network, path)

    def __call__(self, pack: Batch, device: torch.device) -> dict[LossKey, Tensor]:
        """(J,) log probabilities of the pack's answers, in nats, on the host; asked once for each content."""
        pairs = [rows for rows in pack.losses if rows.objective.base is not None]
        if not all((rows.key, content) in self.known for rows in pairs for content in _contents(rows)):
            if len(self.known) > _KEPT:
                self.known.clear()
            self.passes += 1
            found = self.network.to(device).likelihoods(to_device(pack, device))
            for rows in pairs:
                kept = zip(_contents(rows), found[rows.key].cpu().tolist(), strict=True)
                self.known.update({(rows.key, content): value for content, value in kept})
        return {
            rows.key: torch.tensor([self.known[rows.key, content] for content in _contents(rows)]) for rows in pairs
        }


def _contents(rows: LossRows) -> list[int]:
    return [int(content) for content in np.asarray(rows.host["content"]).reshape(-1)]
