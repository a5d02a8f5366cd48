"""A model here beside the library that it comes from: states, logits and greedy output on drawn ids, needs `hf`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.search import decode
from ofasys_lite.errors import CheckpointError, needed
from ofasys_lite.generalist.network import NetworkSession
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.imported import Imported
from ofasys_lite.interop.live_decoder import compare_decoder
from ofasys_lite.interop.stored_cases import LIMIT, Difference
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side, Target
from ofasys_lite.plan.constraints import Free
from ofasys_lite.preprocess.base import Piece

_LENGTHS = ((17, 9), (5, 12), (1, 3), (11, 1))
_WRITTEN = 10


def compare_live(imported: Imported, folder: Path) -> list[Difference]:
    """Differences on four drawn rows, as one pack and one by one, and whether greedy output is the same."""
    transformers = needed("transformers", f"the comparison with {imported.house}", "hf", kind=CheckpointError)
    if not imported.generalist.network.config.decoder_layers:
        return list(_encoder(imported, transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()))
    if imported.generalist.network.config.source == "prefix":
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return compare_decoder(imported, theirs)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    vocabulary = imported.generalist.vocabulary
    rng = torch.Generator().manual_seed(0)
    start = vocabulary.control("start")
    rows: list[tuple[list[int], list[int]]] = []
    for source, target in _LENGTHS:
        low, high = vocabulary.text_low, vocabulary.text_high
        drawn = torch.randint(low, high, (source + target,), generator=rng).tolist()
        rows.append((drawn[:source], drawn[source:]))
    examples = [
        Example("live", str(i), (Side((Piece.of_ids(s),)),), (Target((Piece.of_ids(t),), (), True, start),))
        for i, (s, t) in enumerate(rows)
    ]
    wanted = [_theirs(theirs, source, [start, *target[:-1]]) for source, target in rows]
    found = list(_states(imported, [examples], wanted, "packed"))
    found += _states(imported, [[each] for each in examples], wanted, "one by one")
    found += _greedy(imported, theirs, examples, rows)
    return found


@torch.no_grad()
def _encoder(imported: Imported, theirs: Any) -> Iterator[Difference]:
    """Of an encoder alone the states of drawn rows, as one pack and one by one."""
    network, vocabulary = imported.generalist.network, imported.generalist.vocabulary
    rng = torch.Generator().manual_seed(0)
    low, high = vocabulary.text_low, vocabulary.text_high
    rows = [torch.randint(low, high, (length,), generator=rng).tolist() for length, _ in _LENGTHS]
    wanted = [theirs(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]
    examples = [Example("live", str(i), (Side((Piece.of_ids(row),)),), ()) for i, row in enumerate(rows)]
    for how, packs in (("packed", [examples]), ("one by one", [[each] for each in examples])):
        own = list[Tensor]()
        for pack in packs:
            batch = to_device(collate(pack), torch.device("cpu"))
            own += network.encode(batch.source).split_with_sizes(list(batch.source.lengths))
        most = max(float((a - b).abs().max()) for a, b in zip(own, wanted, strict=True))
        yield Difference(f"encoder states, {how}", most, LIMIT, f"{len(rows)} rows")


@torch.no_grad()
def _theirs(model: Any, source: Sequence[int], fed: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(states (S, D), logits (T, V)) of one row, without padding."""
    out = model(input_ids=torch.tensor([list(source)]), decoder_input_ids=torch.tensor([list(fed)]), use_cache=False)
    return out.encoder_last_hidden_state[0], out.logits[0]


@torch.no_grad()
def _states(
    imported: Imported, packs: Sequence[Sequence[Example]], wanted: Sequence[tuple[Tensor, Tensor]], how: str
) -> Iterator[Difference]:
    network, own = imported.generalist.network, list[tuple[Tensor, Tensor]]()
    for pack in packs:
        batch = to_device(collate(pack), torch.device("cpu"))
        states_SD = network.encode(batch.source)
        logits_TV = network.text.scores(network.decode(batch, states_SD))
        parts = (
            states_SD.split_with_sizes(list(batch.source.lengths)),
            logits_TV.split_with_sizes(list(batch.target.lengths)),
        )
        own += zip(*parts, strict=True)
    for place, what in enumerate(("encoder states", "logits")):
        pairs = [(one[place], two[place]) for one, two in zip(own, wanted, strict=True)]
        same = all(a.shape == b.shape for a, b in pairs)
        most = max(float((a - b).abs().max()) for a, b in pairs) if same else float("inf")
        yield Difference(f"{what}, {how}", most, LIMIT, f"{len(pairs)} rows")


def _greedy(
    imported: Imported, theirs: Any, examples: Sequence[Example], rows: Sequence[tuple[list[int], list[int]]]
) -> Iterator[Difference]:
    """How many of the rows are written otherwise, by the larger logit at each place."""
    network, vocabulary = imported.generalist.network, imported.generalist.vocabulary
    close = vocabulary.control("close")
    automaton = compile(Free(close + 1, len(vocabulary), 0, _WRITTEN, close, tuple(range(close))))
    with torch.inference_mode():
        batch = to_device(collate([Example(e.task, e.id, e.sources, ()) for e in examples]), torch.device("cpu"))
        session = NetworkSession(network, batch.source, network.encode(batch.source))
        own = decode(session, [automaton] * len(examples), start=vocabulary.control("start"))
        others = 0
        # without their cache, which expects as many layers on both sides (transformers 5.24)
        plain: dict[str, Any] = {"use_cache": False, "do_sample": False, "num_beams": 1}
        plain |= {"forced_bos_token_id": None, "forced_eos_token_id": None}
        for hypothesis, (source, _) in zip(own, rows, strict=True):
            written = theirs.generate(torch.tensor([source]), max_new_tokens=_WRITTEN, **plain)[0].tolist()[1:]
            others += list(hypothesis.ids)[: len(written)] != written
    yield Difference("greedy: other outputs", float(others), 0.0, f"of {len(rows)}")
