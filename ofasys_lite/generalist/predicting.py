"""Rows in, predictions out: batched over samples of different tasks, each under its own automaton."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ofasys_lite.adapters.passes import Sources, ToWrite
from ofasys_lite.data.fields import MISSING, field
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import decode
from ofasys_lite.errors import CardError, DataError, ErrorGroup
from ofasys_lite.generalist.embedding import predict_pairs
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import Network, NetworkSession
from ofasys_lite.generalist.prediction import Prediction, Request
from ofasys_lite.generalist.rendering import Rendering, codes_in, give, given_elements
from ofasys_lite.generalist.shown import ShownRows, taken
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.generalist.value_files import tools_of
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Rendered
from ofasys_lite.model import autocast, products, tensor_cores
from ofasys_lite.plan.codecs import codec_slots
from ofasys_lite.plan.constraints import Codes, Constraint, Whole, whole_in
from ofasys_lite.plan.decoding import wrong_for
from ofasys_lite.plan.segments import option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.writing import as_utf8

#: Source rows decoded at once.
_BUDGET = 16_384
_MOST = 256


def predict(
    model: Generalist,
    requests: Sequence[Request],
    progress: Callable[[int], None] | None = None,
    skip_unreadable: bool = False,
    precision: str | None = None,
    reasons: dict[int, str] | None = None,
) -> list[Prediction | None]:
    """A prediction per request, in order.

    Of a line with `<->`, which writes nothing, it is the similarity of the sides, or the class (embedding.py).

    Args:
        progress: Called with the number of samples done.
        skip_unreadable: Give None for rows that cannot be read, instead of raising.
        precision: Of matrix products, in place of the model's: `fp32`, `bf16`, `int8`, `auto`.
        reasons: Takes, per request that cannot be read, its number and what is wrong with it.

    Raises:
        DataError: Rows that cannot be read (all of them at once).
        CardError: Decoding options that the line has no use for.
    """
    with model.in_precision(precision):
        return _predict(model, requests, progress, skip_unreadable, reasons)


def _predict(
    model: Generalist,
    requests: Sequence[Request],
    progress: Callable[[int], None] | None,
    skip_unreadable: bool,
    reasons: dict[int, str] | None,
) -> list[Prediction | None]:
    prepared: list[_Prepared] = []
    # most requests are decoded alike
    asked = {key: _options(model, *key) for key in dict.fromkeys((r.task, r.options) for r in requests)}
    aligned = _aligned(model, requests, skip_unreadable, reasons)
    errors: list[DataError] = []
    for number, request in enumerate(requests):
        if number in aligned:
            continue
        try:
            prepared.append(_prepared(model, number, request, asked[request.task, request.options]))
        except DataError as error:
            errors.append(error)
            if reasons is not None:
                reasons[number] = error.message
    if errors and not skip_unreadable:
        raise errors[0] if len(errors) == 1 else ErrorGroup(errors)
    results: list[Prediction | None] = [aligned.get(number) for number in range(len(requests))]
    done = len(aligned)
    # samples of like length run together, so that rows finish together
    prepared.sort(key=lambda p: (p.request.task, p.examples[0].sources[0].count))
    with products(model.device, model.precision):
        for chunk in _chunks(prepared):
            for each, prediction in zip(chunk, _predict_chunk(model, chunk), strict=True):
                results[each.number] = prediction
            done += len(chunk)
            if progress is not None:
                progress(done)
    return results


def _aligned(
    model: Generalist, requests: Sequence[Request], skip: bool, reasons: dict[int, str] | None
) -> dict[int, Prediction | None]:
    """Predictions of the requests whose lines align, by their numbers."""
    tasks = dict.fromkeys(r.task for r in requests if model.entry(r.task).plan.alignment is not None)
    found: dict[int, Prediction | None] = {}
    for task in tasks:
        numbers = [number for number, request in enumerate(requests) if request.task == task]
        told: dict[int, str] | None = {} if skip else None
        found.update(zip(numbers, predict_pairs(model, [requests[n] for n in numbers], told), strict=True))
        if reasons is not None and told:
            reasons.update({numbers[place]: reason for place, reason in told.items()})
    return found


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request whose row was read.

    Attributes:
        examples: What the encoder reads; with guidance also the emptied source.
        shown: Per target, the values that it shows and that are no ids.
    """

    number: int
    request: Request
    options: DecodeOptions
    examples: tuple[Example, ...]
    constraints: tuple[Constraint, ...]
    shown: tuple[tuple[Piece, ...], ...]


def _prepared(model: Generalist, number: int, request: Request, options: DecodeOptions) -> _Prepared:
    """The request with its row read; DataError also for what the row must say of the target."""
    maker = model.maker(request.task, request.folder)
    # masking that defines a task (`mask_ratio`) is drawn by sample id, alike in every evaluation
    rng, holes = sample_rng(0, request.task, request.id, 0), request.own_holes
    example = maker.source(request.row, request.id, rng, own_holes=holes)
    targets = range(len(model.entry(request.task).plan.templates[0].written))
    try:
        whole = [maker.constraint(target, request.row, example.masked) for target in targets]
    except DataError as error:
        raise DataError(f"task {request.task}, id {request.id}: {error.message}", help=error.help) from error
    shown: list[list[Piece]] = [[] for _ in whole]
    constraints = tuple(taken(each, own) for each, own in zip(whole, shown, strict=True))
    examples = [example]
    if options.guided:
        rng = sample_rng(0, request.task, request.id, 0)
        away = options.negative
        examples.append(maker.source(request.row, request.id, rng, emptied=True, own_holes=holes, negative=away))
    return _Prepared(number, request, options, tuple(examples), constraints, tuple(map(tuple, shown)))


def _options(model: Generalist, task: str, given: DecodeOptions | None) -> DecodeOptions:
    """What is given, or the task's decoding; CardError if the line has no use for it."""
    entry = model.entry(task)
    found = given or entry.options()
    wrong = wrong_for(entry.plan, found.values, dict(found.settings or ()))
    if wrong is not None:
        raise CardError(wrong[0], help=wrong[1])
    return found


def _chunks(prepared: Sequence[_Prepared]) -> Iterator[list[_Prepared]]:
    chunk: list[_Prepared] = []
    rows = 0
    for item in prepared:
        count = sum(example.sources[0].count for example in item.examples)
        if chunk and (rows + count > _BUDGET or len(chunk) >= _MOST):
            yield chunk
            chunk, rows = [], 0
        chunk.append(item)
        rows += count
    if chunk:
        yield chunk


@torch.inference_mode()
def _predict_chunk(model: Generalist, prepared: Sequence[_Prepared]) -> list[Prediction]:
    requests, examples = [p.request for p in prepared], [p.examples for p in prepared]
    network = model.network
    network.eval()
    batch = to_device(collate([example for each in examples for example in each]), model.device)
    # guided samples have two sources beside each other
    first = np.cumsum([0, *(len(each) for each in examples)])
    makers = [model.maker(r.task, r.folder) for r in requests]
    options = [p.options for p in prepared]
    keys = [int.from_bytes(hashlib.sha256(as_utf8(f"{r.task}\n{r.id}")).digest()[:6], "big") for r in requests]
    targets = [len(p.constraints) for p in prepared]
    values: list[dict[str, Any]] = [{} for _ in requests]
    scores = [0.0] * len(requests)
    best: list[list[tuple[dict[str, Any], float]]] = [[] for _ in requests]
    codes: list[dict[str, Any]] = [{} for _ in requests]
    # text-only tasks have nothing to do with codes
    coded = {r.task: codec_slots(model.entry(r.task).plan) for r in requests}
    with autocast(model.device, model.precision):
        # codes of what is given are made outside: they must be those of training
        with tensor_cores(model.device):
            start = model.vocabulary.control("start")
            sources = Sources(network.body, batch.source, network.encode(batch.source), network.text, start)
        for target in range(max(targets, default=0)):
            live = [i for i, count in enumerate(targets) if count > target]
            constraints = {i: prepared[i].constraints[target] for i in live}
            drawing = [i for i in live if coded[requests[i].task]]
            if drawing:
                pieces = [makers[i].known(target, requests[i].row, examples[i][0].masked) for i in drawing]
                for i, known in zip(drawing, given_elements(network, pieces), strict=True):
                    constraints[i] = give(constraints[i], known)
            # how long a picture is, is known beforehand
            steps = max((len(c.positions) for i in drawing for _, c in codes_in(constraints[i])), default=None)
            asked = {
                i: _Asked(
                    constraints[i],
                    options[i],
                    keys[i],
                    range(first[i], first[i + 1]),
                    prepared[i].shown[target],
                    tuple(each.opening for each in examples[i]),
                )
                for i in live
            }
            with tensor_cores(model.device):
                found = _written(network, sources, asked, steps if model.precision == "fp32" else None)
            if drawing:
                rendering = Rendering(network)
                for i in drawing:
                    splits = [split for split, _ in found[i]]
                    codes[i].update(rendering.add(splits, constraints[i], coded[requests[i].task]))
                rendering.run()
            for i in live:
                (own, score), *others = (
                    (makers[i].values(target, split, requests[i].row), score) for split, score in found[i]
                )
                values[i].update(own)
                scores[i] += score
                best[i] = others
    made = zip(requests, values, scores, best, codes, strict=True)
    return [_prediction(model, *each) for each in made]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One target of a sample: what it may be, how it is decoded, its key, its source sequences, what it shows, and what
    opens it behind each of the sequences."""

    constraint: Constraint
    options: DecodeOptions
    key: int
    sequences: range
    shown: tuple[Piece, ...]
    openings: tuple[int, ...]


#: What was written of a sample, by slot, and its score: the best one, then those of `n_best`.
_Found = list[tuple[dict[str, Any], float]]


def _written(network: Network, sources: Sources, asked: Mapping[int, _Asked], steps: int | None) -> dict[int, _Found]:
    """What is written of every sample: from left to right, or all at once by the adapter that its constraint names.

    Args:
        asked: The samples, in the order of their sources.
    """
    found: dict[int, _Found] = {}
    walked = list[int]()
    together: dict[tuple[str, Whole | Codes, DecodeOptions], list[int]] = {}
    for i, each in asked.items():
        whole = whole_in(each.constraint)
        if whole is None:
            walked.append(i)
            continue
        key, what = whole
        # what is given, and what is drawn, is each sample's own
        alike = replace(what, given=()) if isinstance(what, Codes) else what
        together.setdefault((key, alike, replace(each.options, seed=0)), []).append(i)
    if walked:
        found.update(zip(walked, _walked(network, sources, [asked[i] for i in walked], steps), strict=True))
    for (key, what, _), members in together.items():
        given = [whole for i in members if (whole := whole_in(asked[i].constraint)) is not None]
        wanted = [
            ToWrite(own, asked[i].options, asked[i].key, asked[i].sequences)
            for i, (_, own) in zip(members, given, strict=True)
        ]
        for i, written in zip(members, network.adapter(what.adapter).write(sources, wanted), strict=True):
            if isinstance(what, Codes):
                split = compile(asked[i].constraint).split(written.value)
            else:
                split = {key: Rendered(written.value)}
            found[i] = [(split, written.score)]
    return found


def _walked(
    network: Network, sources: Sources, asked: Sequence[_Asked], steps: int | None
) -> list[list[tuple[dict[str, Any], float]]]:
    """What is written from left to right, each sample under its automaton."""
    rows = [row for each in asked for row in each.sequences]
    shown = ShownRows.of_pieces(network.embed, [each.shown for each in asked], sources.states_SD.device)
    session = NetworkSession(network, sources.stream, sources.states_SD, steps, shown)
    if len(rows) < len(sources.stream.lengths):
        session.select(torch.tensor(rows))
    automata = [compile(each.constraint) for each in asked]
    options, keys = [each.options for each in asked], [each.key for each in asked]
    done = decode(session, automata, options, keys, sources.states_SD.device, [each.openings for each in asked])
    return [
        # with `n_best` the first of them is the hypothesis itself
        [(automaton.split(h.ids), h.score) for h in (hypothesis, *hypothesis.n_best)]
        for automaton, hypothesis in zip(automata, done, strict=True)
    ]


def _prediction(
    model: Generalist,
    request: Request,
    values: dict[str, Any],
    score: float,
    best: list[tuple[dict[str, Any], float]],
    codes: dict[str, Any],
) -> Prediction:
    plan = model.entry(request.task).plan
    preprocess = model.maker(request.task, request.folder).preprocess
    modalities = {s.column: s.modality for s in plan.target_slots()}
    tools = {k: tool for side in plan.templates[0].written for k, tool in tools_of(side, preprocess).items()}
    image = None
    for slot in plan.read_slots():
        if preprocess[slot.tool_key].kind == kinds.PICTURE and image is None:
            found = field(request.row, slot.column, slot.exact)
            image = None if found is MISSING else _in_folder(found, request.folder)
    sized = frozenset(s.column for s in plan.target_slots() if option(s.options, "format") == "xywh")
    about = (modalities, image, (), sized, codes, tools)
    one = Prediction(request.task, request.id, values, score, *about)
    return replace(one, n_best=tuple(replace(one, values=v, score=s) for v, s in best)) if len(best) > 1 else one


def _in_folder(value: Any, folder: str | None) -> Any:
    """A relative path as it is found from here; anything else as it is."""
    if folder is None or not isinstance(value, (str, os.PathLike)):
        return value
    path = Path(folder, value)
    return path if len(str(value)) < 256 and path.is_file() else value
