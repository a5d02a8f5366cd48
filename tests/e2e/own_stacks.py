"""Models of ours with the stacks of others: what tests of exports share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tiny_worlds as worlds
import torch

from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side, Target
from ofasys_lite.preprocess.base import Piece

LINE = "say [TEXT:text] -> [TEXT:cap]"
BART: dict[str, Any] = {
    "positions": "learned",
    "places": 64,
    "entry": "norm",
    "norm_epsilon": 1e-5,
    "norm_place": "after",
    "final_norm": False,
    "bias": True,
}
#: Stacks of each architecture, as a training of ours would choose them.
STACKS: dict[str, dict[str, Any]] = {
    "BART": BART,
    "mBART": {**BART, "norm_place": "before", "final_norm": True, "mlp": "relu"},
    "Marian": {**BART, "positions": "sinusoidal", "entry": "plain", "mlp": "silu"},
    "T5": {
        "positions": "none",
        "relative": "t5",
        "relative_buckets": 8,
        "relative_span": 20,
        "norm": "rmsnorm",
        "mlp": "geglu",
        "query_gain": 4.0,
    },
}


def wide(model: Generalist) -> Generalist:
    """The model with weights drawn wide enough to be seen."""
    model.network.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def own(house: str, **more: Any) -> Generalist:
    """A model of ours with the stack of a house."""
    return wide(worlds.generalist(worlds.ready([worlds.task("say", line=LINE)]), **{**STACKS[house], **more}))


def logits(model: Generalist, source: Sequence[int], target: Sequence[int]) -> torch.Tensor:
    """(T, V) what the model says of each id of a target, behind the start."""
    start = model.vocabulary.row_of("start")
    sides = (Side((Piece.of_ids(source),)),), (Target((Piece.of_ids(target),), (), True, start),)
    batch = to_device(collate([Example("row", "0", *sides)]), torch.device("cpu"))
    with torch.no_grad():
        return model.network.text.scores(model.network.decode(batch, model.network.encode(batch.source)))


def same_weights(one: Generalist, two: Generalist) -> bool:
    """Whether two models hold the same numbers under the same names."""
    a, b = one.network.plain_weights(), two.network.plain_weights()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
