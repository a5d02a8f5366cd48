"""What judges are told of rows: answers, or what a model pays for their texts, in bits, reading them as in training.

Shapes: U loss values, P rows of a piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.errors import DataError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example
from ofasys_lite.metrics import FORETELLING_METRICS
from ofasys_lite.model import autocast, products
from ofasys_lite.plan.segments import SlotSegment
from ofasys_lite.report.judge import Judge

#: Rows of a pack.
_PACK = 64


def told(
    model: Generalist,
    judges: Sequence[Judge],
    requests: Sequence[Request],
    tell: Callable[[int], None],
    reasons: dict[int, str],
) -> list[list[Any] | None]:
    """Per row what each judge is told of it: the answer, or what the model pays for the reference; None: unreadable.

    `reasons` takes what is wrong with a row, by its number. Nothing is written where nobody judges an answer.
    """
    foretelling = [judge.metric.name in FORETELLING_METRICS for judge in judges]
    found: list[list[Any] | None] = [[] for _ in requests]
    answers = None if all(foretelling) else predict(model, requests, tell, skip_unreadable=True, reasons=reasons)
    for judge, foretells in zip(judges, foretelling, strict=True):
        if foretells and isinstance(judge.segment, SlotSegment):
            values: Sequence[Any] = foretold(model, requests, judge.segment)
        else:
            values = [None if p is None else judge.answer(p) for p in answers or ()]
        for number, value in enumerate(values):
            own = found[number]
            if isinstance(value, DataError):
                reasons[number] = value.message
            if isinstance(value, DataError) or (answers is not None and answers[number] is None):
                found[number] = None
            elif own is not None:
                own.append(value)
    return found


def foretold(model: Generalist, requests: Sequence[Request], slot: SlotSegment) -> list[float | DataError]:
    """Bits that the model pays for each row's text of a slot, its end included; or why a row cannot be read.

    Where what is written goes on from what the row has (the turns of a conversation), the last text counts: the answer.
    """
    import torch

    found: list[float | DataError] = []
    kept = list[tuple[int, Example, npt.NDArray[np.bool_]]]()
    for number, request in enumerate(requests):
        maker = model.maker(request.task, request.folder)
        rng = sample_rng(0, request.task, request.id, 0)
        try:
            example = maker.example(request.row, request.id, rng, False)
        except DataError as error:
            found.append(error)
            continue
        found.append(math.nan)
        kept.append((number, example, _counted(example, slot, maker.preprocess[slot.tool_key].goes_on)))
    model.network.eval()
    with products(model.device, model.precision), torch.inference_mode():
        for start in range(0, len(kept), _PACK):
            held = kept[start : start + _PACK]
            batch = collate([example for _, example, _ in held])
            with autocast(model.device, model.precision):
                values_U = model.network(to_device(batch, model.device)).values_U.float().cpu().numpy()
            terms_U, samples_U = batch.terms_U, batch.samples_U
            own_U = np.array([term.slot == slot.key for term in batch.terms])[terms_U]
            for place, (number, _, counts_U) in enumerate(held):
                paid_U = values_U[own_U & (samples_U == place)]
                found[number] = float(paid_U[counts_U].sum()) / math.log(2)
    return found


def _counted(example: Example, slot: SlotSegment, last: bool) -> npt.NDArray[np.bool_]:
    """Which of a slot's loss values count: all, or those of the last rows that are learned without a gap."""
    found = [np.zeros(0, dtype=np.bool_)]
    for target in example.targets:
        for item in target.learned:
            if item.terms[0].slot == slot.key:
                piece = target.pieces[item.piece]
                learn_P = np.ones(piece.count, dtype=np.bool_) if piece.learn_P is None else piece.learn_P
                gap = int(np.flatnonzero(~learn_P).max(initial=-1)) if last else -1
                found.append(np.flatnonzero(learn_P) > gap)
    return np.concatenate(found)
