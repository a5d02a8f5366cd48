"""A model here beside the library that it comes from, on drawn ids: what a stored reference holds, asked of it.

States, logits, loss and gradients of what is forced, hypotheses of greedy and beam search; needs `hf`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ofasys_lite.errors import CheckpointError, needed
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.imported import Imported
from ofasys_lite.interop.live_decoder import compare_decoder
from ofasys_lite.interop.stored_cases import LIMIT, Difference, compare
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: Ids of the source and the target of each row.
_LENGTHS = ((17, 9), (5, 12), (1, 3), (11, 1))
_SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"beam": 1, "max_len": 10, "min_len": 1},
    "beam4": {"beam": 4, "max_len": 10, "min_len": 1, "return_n_best": 4},
    "beam4_ngram": {"beam": 4, "max_len": 10, "min_len": 2, "no_repeat_ngram_size": 2, "return_n_best": 4},
}


def compare_live(imported: Imported, folder: Path) -> list[Difference]:
    """Differences on four drawn rows, as one pack and one by one."""
    transformers = needed("transformers", f"the comparison with {imported.house}", "hf", kind=CheckpointError)
    if not imported.generalist.network.config.decoder_layers:
        return list(_encoder(imported, transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()))
    if imported.generalist.network.config.source == "prefix":
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return compare_decoder(imported, theirs)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    return compare(imported, _case(theirs, imported, transformers))


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


def _case(theirs: Any, imported: Imported, transformers: Any) -> dict[str, Any]:
    """What the library says of the rows, each by itself: padding would change sums by rounding."""
    vocabulary = imported.generalist.vocabulary
    rng = torch.Generator().manual_seed(0)
    low, high, start = vocabulary.text_low, vocabulary.text_high, vocabulary.row_of("start")
    drawn = [torch.randint(low, high, (sum(sizes),), generator=rng).tensor_split([sizes[0]]) for sizes in _LENGTHS]
    for part in theirs.modules():
        if isinstance(part, torch.nn.Embedding):  # it would give no gradient to a row that Marian's targets begin with
            part.padding_idx = None
    theirs.zero_grad()
    states, logits, total = list[Tensor](), list[Tensor](), 0.0
    for source, target in drawn:
        fed = torch.cat([torch.tensor([start]), target[:-1]])
        out = theirs(input_ids=source[None], decoder_input_ids=fed[None], use_cache=False)
        states.append(out.encoder_last_hidden_state[0].detach())
        logits.append(out.logits[0].detach())
        loss = torch.nn.functional.cross_entropy(out.logits[0], target, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    norms = {n.removeprefix("model."): float(p.grad.norm()) for n, p in theirs.named_parameters() if p.grad is not None}
    # waves that a formula makes are parameters there
    norms = {name: norm for name, norm in norms.items() if name in imported.origins or "embed_positions" not in name}
    padded, pad = torch.nn.utils.rnn.pad_sequence(states), vocabulary.row_of("pad")
    counts = torch.tensor([len(each) for each in states])
    generation = {
        name: {"args": said, "hyps": [_written(theirs, source, said, vocabulary, transformers) for source, _ in drawn]}
        for name, said in _SEARCHES.items()
    }
    return {
        "src_slots": [("ids", _padded([source for source, _ in drawn], pad))],
        "tgt_slots": [],
        "target": _padded([target for _, target in drawn], pad),
        "logits": torch.nn.utils.rnn.pad_sequence(logits, batch_first=True),
        "enc_out_TBC": padded,
        "enc_pad_mask": torch.arange(len(padded)) >= counts.unsqueeze(1),
        "ce_sum": total,
        "grad_norm_of_ce_sum": norms,
        "generation": generation,
    }


def _padded(rows: Sequence[Tensor], pad: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad)


@torch.no_grad()
def _written(
    theirs: Any, source: Tensor, said: Mapping[str, Any], vocabulary: Vocabulary, transformers: Any
) -> list[dict[str, Any]]:
    """Hypotheses of one row with the sums of their log probabilities.

    What may be written, and that a hypothesis of the greatest length pays for its end, is put into the library's
    search; its own forced end costs nothing.
    """
    close, pad = vocabulary.row_of("close"), vocabulary.row_of("pad")
    most, least = int(said["max_len"]), int(said["min_len"])
    if pad > close:  # ours counts rows above the end as text
        pad = -1

    class Legal(transformers.LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            place = input_ids.shape[1] - 1
            banned = torch.zeros(scores.shape[1], dtype=torch.bool)
            banned[[close] if place < least else []] = True
            banned[[pad] if pad >= 0 else []] = True
            if place >= most:
                banned[:] = True
                banned[close] = False
            return scores.masked_fill(banned, float("-inf"))

    # without their cache, which expects as many layers on both sides (transformers 5.24)
    plain: dict[str, Any] = {"use_cache": False, "do_sample": False, "num_beams": said["beam"]}
    plain |= {"forced_bos_token_id": None, "forced_eos_token_id": None, "length_penalty": 0.0}
    plain |= {"no_repeat_ngram_size": said.get("no_repeat_ngram_size", 0)}
    best = int(said.get("return_n_best", 1))
    if said["beam"] > 1:
        plain |= {"early_stopping": True, "num_return_sequences": best}
    legal = transformers.LogitsProcessorList([Legal()])
    found = theirs.generate(source[None], max_new_tokens=most + 1, logits_processor=legal, **plain)
    hypotheses = []
    for row in found.tolist():
        ids = row[1:]
        ids = ids[: ids.index(close) + 1] if close in ids else ids
        fed = torch.tensor([[row[0], *ids[:-1]]])
        logits = theirs(input_ids=source[None], decoder_input_ids=fed, use_cache=False).logits[0]
        score = logits.log_softmax(-1).gather(1, torch.tensor(ids).unsqueeze(1)).sum()
        hypotheses.append({"tokens": torch.tensor(ids), "score": float(score)})
    return hypotheses
