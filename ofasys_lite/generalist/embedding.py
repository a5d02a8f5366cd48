"""Sides of `<->` as vectors, and what follows from them: the similarity of a pair, the class, the nearest candidates.

Shapes: N rows, C candidates, E width of a vector. Vectors are of unit length: their product is the cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ofasys_lite.adapters.align import AlignAdapter
from ofasys_lite.data.fields import MISSING, field
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.errors import DataError, ErrorGroup, did_you_mean
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.prediction import Prediction, Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example
from ofasys_lite.model import autocast, products, tensor_cores
from ofasys_lite.plan import Plan
from ofasys_lite.plan.language import ALIGN_ADAPTER
from ofasys_lite.plan.segments import SlotSegment, walk

#: Names of the sides, by their number.
SIDES = ("left", "right")
#: Name of what a pair is predicted to have.
SIMILARITY = "similarity"

#: Source rows embedded at once, and most sequences.
_BUDGET = 16_384
_MOST = 512

Vectors = NDArray[np.float32]


def side_number(plan: Plan, side: str | int | None, row: Mapping[str, Any] | None = None) -> int:
    """0 for the left and 1 for the right side of the line's `<->`.

    Args:
        side: `left`, `right`, or None: the side whose columns the row has.

    Raises:
        DataError: A line without sides, an unknown one, or none that is named or given.
    """
    if plan.alignment is None:
        raise DataError(f"task {plan.task} has no sides: {plan.line}", help="vectors are made by a line with `<->`")
    if side is not None:
        if side not in SIDES:
            raise DataError(f"unknown side `{side}`", help=did_you_mean(str(side), SIDES))
        return SIDES.index(str(side))
    given = sides_given(plan, row or {})
    if len(given) != 1:
        what = "both sides are given" if given else f"no side is given whole: {plan.line}"
        raise DataError(what, help="say which is meant: side='left' or side='right'")
    return given[0]


def sides_given(plan: Plan, row: Mapping[str, Any]) -> list[int]:
    """The sides of which a row has every column that is not optional, and one at least."""
    found = []
    for number, side in enumerate(plan.templates[0].read):
        slots = walk(side)
        has = [field(row, slot.column, slot.exact) is not MISSING for slot in slots]
        if any(has) and all(there or slot.optional for there, slot in zip(has, slots, strict=True)):
            found.append(number)
    return found


def embed(
    model: Generalist,
    requests: Sequence[Request],
    side: int,
    progress: Callable[[int], None] | None = None,
    reasons: dict[int, str] | None = None,
) -> Vectors:
    """(N, E) the vector of one side of each row; rows of zeros where `reasons` says why there is none.

    Args:
        requests: Rows by task; the other side's columns need not be there.
        side: 0 (left) or 1 (right).
        progress: Called with the number of rows done.
        reasons: Takes the number of each row that cannot be read, and what is wrong with it.

    Raises:
        DataError: Rows that cannot be read, all of them at once, where no `reasons` are taken.
    """
    head = cast(AlignAdapter, model.network.adapter(ALIGN_ADAPTER))
    read: list[tuple[int, Example]] = []
    errors: list[DataError] = []
    for number, each in enumerate(requests):
        rng = sample_rng(0, each.task, each.id, 0)
        try:
            example = model.maker(each.task, each.folder).source(each.row, each.id, rng, side=side)
            read.append((number, example))
        except DataError as error:
            errors.append(error)
            if reasons is not None:
                reasons[number] = error.message
    if errors and reasons is None:
        raise errors[0] if len(errors) == 1 else ErrorGroup(errors)
    read.sort(key=lambda pair: pair[1].sources[0].count)
    found_NE = np.zeros((len(requests), head.width), np.float32)
    model.network.eval()
    done = 0
    for chunk in _chunks(read):
        found_NE[[number for number, _ in chunk]] = _vectors(model, head, [e for _, e in chunk])
        done += len(chunk)
        if progress is not None:
            progress(done)
    return found_NE


def _chunks(read: Sequence[tuple[int, Example]]) -> Iterator[list[tuple[int, Example]]]:
    chunk: list[tuple[int, Example]] = []
    rows = 0
    for each in read:
        count = each[1].sources[0].count
        if chunk and (rows + count > _BUDGET or len(chunk) >= _MOST):
            yield chunk
            chunk, rows = [], 0
        chunk.append(each)
        rows += count
    if chunk:
        yield chunk


@torch.inference_mode()
def _vectors(model: Generalist, head: AlignAdapter, examples: Sequence[Example]) -> Vectors:
    batch = to_device(collate(examples), model.device)
    # the last row of each sequence is the side's own
    ends = torch.tensor(np.cumsum(batch.source.lengths) - 1, device=model.device)
    device, precision = model.device, model.precision
    with products(device, precision), autocast(device, precision), tensor_cores(device):
        found: Vectors = head.vectors(model.network.encode(batch.source)[ends]).cpu().numpy()
    return found


def class_vectors(model: Generalist, task: str) -> tuple[int, SlotSegment, tuple[str, ...], Vectors]:
    """(side, slot, values, their vectors (C, E)) of the closed set of a task's line."""
    plan = model.entry(task).plan
    named = plan.named_slot()
    if named is None or named[1].closed is None:
        raise DataError(f"task {task}: no side of its line takes one of a closed set: {plan.line}")
    number, slot = named
    values = named[1].closed.values
    requests = [Request(task, {slot.column: value}, value) for value in values]
    return number, slot, values, embed(model, requests, number)


def predict_pairs(
    model: Generalist,
    requests: Sequence[Request],
    reasons: dict[int, str] | None = None,
) -> list[Prediction | None]:
    """Of rows of one aligned task, the similarity of the two sides; with a closed set the value that is nearest.

    The score is the cosine of two vectors. None for rows that `reasons` tells of. Arguments and errors as in `embed`.
    """
    if not requests:
        return []
    missed: dict[int, str] | None = None if reasons is None else {}
    if model.entry(requests[0].task).plan.named_slot() is not None:
        found = _classified(model, requests, missed)
    else:
        left_NE, right_NE = (embed(model, requests, side, reasons=missed) for side in (0, 1))
        scores = (left_NE * right_NE).sum(1).tolist()
        pairs = zip(requests, scores, strict=True)
        found = [Prediction(each.task, each.id, {SIMILARITY: round(score, 6)}, score) for each, score in pairs]
    if reasons is not None and missed is not None:
        reasons.update(missed)
    return [None if number in (missed or {}) else each for number, each in enumerate(found)]


def _classified(model: Generalist, requests: Sequence[Request], missed: dict[int, str] | None) -> list[Prediction]:
    side, slot, values, class_CE = class_vectors(model, requests[0].task)
    scores_NC = embed(model, requests, 1 - side, reasons=missed) @ class_CE.T
    about = {slot.column: slot.modality}, {slot.column: model.maker(requests[0].task).preprocess[slot.tool_key]}
    found = []
    for each, scores_C in zip(requests, scores_NC, strict=True):
        best = int(scores_C.argmax())
        one = Prediction(each.task, each.id, {slot.column: values[best]}, float(scores_C[best]), about[0])
        found.append(replace(one, tools=about[1]))
    return found


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate that a row finds: its id, its row, the cosine of the two vectors."""

    id: str
    row: Mapping[str, Any]
    score: float


class Index:
    """Candidates by their vectors, made once.

    Args:
        candidates: Rows of a task with the columns of one side of its line.
        side: The other side, which asks: 0 (left) or 1 (right).

    Raises:
        DataError: A candidate that cannot be read, or no candidates.
    """

    def __init__(self, model: Generalist, candidates: Sequence[Request], side: int) -> None:
        if not candidates:
            raise DataError("there are no candidates to find", help="give rows with the columns of the other side")
        self.model, self.candidates, self.side = model, tuple(candidates), side
        self.vectors_CE = embed(model, candidates, 1 - side)

    def nearest(
        self, requests: Sequence[Request], top: int = 10, reasons: dict[int, str] | None = None
    ) -> list[list[Match]]:
        """Per row the candidates that are nearest, nearest first; arguments and errors as in `embed`."""
        places, cosines = ranked(embed(self.model, requests, self.side, reasons=reasons), self.vectors_CE, top)
        held = self.candidates
        return [
            [Match(held[k].id, held[k].row, score) for k, score in zip(found, scores, strict=True)]
            for found, scores in zip(places.tolist(), cosines.tolist(), strict=True)
        ]


def ranked(queries_NE: Vectors, candidates_CE: Vectors, top: int) -> tuple[NDArray[np.int64], Vectors]:
    """((N, K) numbers of the nearest candidates, (N, K) cosines), nearest first, of equals the first; K <= top."""
    kept = min(top, len(candidates_CE))
    places, cosines = np.zeros((len(queries_NE), kept), np.int64), np.zeros((len(queries_NE), kept), np.float32)
    for start in range(0, len(queries_NE), _MOST):
        scores_BC = queries_NE[start : start + _MOST] @ candidates_CE.T
        best = np.argsort(-scores_BC, axis=1, kind="stable")[:, :kept]
        places[start : start + _MOST] = best
        cosines[start : start + _MOST] = np.take_along_axis(scores_BC, best, axis=1)
    return places, cosines
