"""A decoder here beside the library that it comes from: logits and greedy output on drawn ids, needs `hf`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.search import decode
from ofasys_lite.generalist.network import NetworkSession
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.imported import Imported
from ofasys_lite.interop.stored_cases import LIMIT, Difference
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side, Target
from ofasys_lite.plan.constraints import Free
from ofasys_lite.preprocess.base import Piece

#: Rows of the source and of the target; a line may read nothing.
_LENGTHS = ((17, 9), (0, 12), (1, 3), (11, 1))
_WRITTEN = 10


def compare_decoder(imported: Imported, theirs: Any) -> list[Difference]:
    """Differences on four drawn rows, as one pack and one by one, and whether greedy output is the same.

    Their model reads the source, the row that opens a target, and the target, as one text.
    """
    vocabulary, rng = imported.generalist.vocabulary, torch.Generator().manual_seed(0)
    low, high, start = vocabulary.text_low, vocabulary.text_high, vocabulary.control("start")
    rows: list[tuple[list[int], list[int]]] = []
    for source, target in _LENGTHS:
        drawn = torch.randint(low, high, (source + target,), generator=rng).tolist()
        rows.append((drawn[:source], drawn[source:]))
    examples = [example(str(i), source, target, start) for i, (source, target) in enumerate(rows)]
    wanted = [_logits(theirs, [*source, start, *target[:-1]], len(target)) for source, target in rows]
    found = [_difference(imported, [examples], wanted, "packed")]
    found.append(_difference(imported, [[each] for each in examples], wanted, "one by one"))
    found += _greedy(imported, theirs, examples, [source for source, _ in rows])
    return found


def example(id: str, source: Sequence[int], target: Sequence[int], start: int) -> Example:
    """Ids as a row of one source and one target; nothing of it is learned."""
    return Example("live", id, (Side((Piece.of_ids(source),)),), (Target((Piece.of_ids(target),), (), True, start),))


@torch.no_grad()
def _logits(model: Any, ids: Sequence[int], last: int) -> Tensor:
    """(T, V) logits behind the last T ids."""
    logits: Tensor = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -last:]
    return logits


@torch.no_grad()
def own_logits(imported: Imported, pack: Sequence[Example]) -> list[Tensor]:
    """(T, V) of each example of a pack."""
    network = imported.generalist.network
    batch = to_device(collate(pack), torch.device("cpu"))
    scores = network.text.scores(network.decode(batch, network.encode(batch.source)))
    return list(scores.split_with_sizes(list(batch.target.lengths)))


def _difference(
    imported: Imported, packs: Sequence[Sequence[Example]], wanted: Sequence[Tensor], how: str
) -> Difference:
    own = [each for pack in packs for each in own_logits(imported, pack)]
    same = all(a.shape == b.shape for a, b in zip(own, wanted, strict=True))
    most = max(float((a - b).abs().max()) for a, b in zip(own, wanted, strict=True)) if same else float("inf")
    return Difference(f"logits, {how}", most, LIMIT, f"{len(own)} rows")


def _greedy(
    imported: Imported, theirs: Any, examples: Sequence[Example], sources: Sequence[Sequence[int]]
) -> Iterator[Difference]:
    """How many of the rows are written otherwise, by the larger logit at each place."""
    network, vocabulary = imported.generalist.network, imported.generalist.vocabulary
    start, close = vocabulary.control("start"), vocabulary.control("close")
    others = tuple(id for id in range(len(vocabulary)) if id != close)
    automaton = compile(Free(0, 0, 0, _WRITTEN, close, others))
    with torch.inference_mode():
        batch = to_device(collate([Example(e.task, e.id, e.sources, ()) for e in examples]), torch.device("cpu"))
        session = NetworkSession(network, batch.source, network.encode(batch.source))
        own = decode(session, [automaton] * len(examples), start=start)
        count = 0
        for hypothesis, source in zip(own, sources, strict=True):
            read = torch.tensor([[*source, start]])
            out = theirs.generate(
                read,
                attention_mask=torch.ones_like(read),
                max_new_tokens=_WRITTEN,
                do_sample=False,
                num_beams=1,
                eos_token_id=close,
                pad_token_id=close,
            )
            written = out[0].tolist()[read.shape[1] :]
            count += list(hypothesis.ids)[: len(written)] != written
    yield Difference("greedy: other outputs", float(count), 0.0, f"of {len(examples)}")
