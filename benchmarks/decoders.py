"""The sides of the decoding benchmark: ours, Hugging Face BART, CTranslate2, of equal size, each as it is fastest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from ragged import FIRST_ID, Sample
from torch import Tensor

from ofasys_lite.adapters.passes import Sources
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import decode
from ofasys_lite.generalist.network import Network, NetworkSession
from ofasys_lite.layout.pack import Part, Stream
from ofasys_lite.model import ModelConfig, autocast, products
from ofasys_lite.plan.constraints import Free
from ofasys_lite.preprocess.base import TOKEN_ADAPTER

START, PAD, CLOSE = 0, 1, 2
#: Most tokens that a line allows; what is written is shorter.
MOST = 128


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of all models."""

    width: int = 512
    layers: int = 6
    heads: int = 8
    ffn: int = 2048
    vocabulary: int = 32_000


class Side(Protocol):
    """Writes `lengths[i]` tokens for sample i; one number for all where every sample has the same."""

    def __call__(self, batch: Sequence[Sample], beam: int, lengths: Sequence[int]) -> list[list[int]]:
        """The tokens of each sample's best hypothesis."""


def network(sizes: Sizes) -> Network:
    """Our weights, drawn with seed 0."""
    torch.manual_seed(0)
    layers = {"encoder_layers": sizes.layers, "decoder_layers": sizes.layers}
    shape = {"width": sizes.width, "heads": sizes.heads, "ffn": sizes.ffn, **layers}
    config = ModelConfig(**shape, norm="layernorm", mlp="gelu")  # type: ignore[arg-type]
    return Network(config, sizes.vocabulary, {}).eval()


def ours(made: Network, precision: str, open_calls: ExitStack) -> Side:
    """What `predict` does once rows are ids, and until ids become values: one call, whose rows come batch by batch.

    Args:
        open_calls: Ends the call. Until then its weights stay laid out, as CTranslate2's do; nobody else sees them.
    """
    cpu, call = torch.device("cpu"), copy_context()
    laid_out = products(cpu, precision)
    call.run(laid_out.__enter__)
    open_calls.callback(call.run, laid_out.__exit__, None, None, None)

    def write(batch: Sequence[Sample], beam: int, lengths: Sequence[int]) -> list[list[int]]:
        # `predict` puts rows in order of length, too
        order = sorted(range(len(batch)), key=lambda n: len(batch[n].source))
        batch, lengths = [batch[n] for n in order], [lengths[n] for n in order]
        counts = tuple(len(s.source) for s in batch)
        ids_S = torch.tensor([i for s in batch for i in s.source])
        positions_S3 = torch.cat([torch.arange(n) for n in counts]).unsqueeze(1).expand(-1, 3)
        part = Part(TOKEN_ADAPTER, torch.arange(len(ids_S)), counts, {"ids": ids_S}, {}, (None,) * len(counts))
        stream = Stream(positions_S3, counts, (part,))
        line = compile(Free(FIRST_ID, len(made.embedding.weight), 0, MOST, CLOSE))
        # the token that closes is not counted, as their end of sequence is not
        options = [
            DecodeOptions("beam" if beam > 1 else "greedy", beam, min_length=n + 1, max_length=n + 1) for n in lengths
        ]
        with torch.inference_mode(), autocast(cpu, precision):
            sources = Sources(made.body, stream, made.encode(stream))
            session = NetworkSession(made, sources.stream, sources.states_SD)
            found = [list(h.ids[:-1]) for h in decode(session, [line] * len(batch), options)]
        return [found[order.index(n)] for n in range(len(order))]

    def side(batch: Sequence[Sample], beam: int, lengths: Sequence[int]) -> list[list[int]]:
        return call.run(write, batch, beam, lengths)

    return side


def bart(sizes: Sizes) -> Any:
    """BartForConditionalGeneration of equal size, its weights drawn with seed 0, in evaluation mode."""
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    both = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
            (("layers", sizes.layers), ("attention_heads", sizes.heads), ("ffn_dim", sizes.ffn))}  # fmt: skip
    ids = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": CLOSE, "decoder_start_token_id": START}
    # three that CTranslate2's converter asks for; they say what this BART does
    form = {"normalize_before": False, "normalize_embedding": True, "add_final_layer_norm": False}
    config = BartConfig(
        vocab_size=sizes.vocabulary, d_model=sizes.width, forced_eos_token_id=None, **both, **ids, **form
    )
    return BartForConditionalGeneration(config).eval()


def hugging_face(model: Any, cache: str) -> Side:
    """`generate` on a padded batch; `cache` is one of its implementations."""

    def side(batch: Sequence[Sample], beam: int, lengths: Sequence[int]) -> list[list[int]]:
        longest = max(len(s.source) for s in batch)
        source_NS = torch.tensor([[*s.source, *[PAD] * (longest - len(s.source))] for s in batch])
        limits = {"min_new_tokens": max(lengths), "max_new_tokens": max(lengths)}
        stops: list[Any] = []
        if len(set(lengths)) > 1:
            limits = {"max_new_tokens": max(lengths) + 1}
            stops = [_Stops(torch.tensor(lengths).repeat_interleave(beam))]
        with torch.inference_mode():
            found = model.generate(
                input_ids=source_NS, attention_mask=(source_NS != PAD).long(), num_beams=beam, do_sample=False,
                cache_implementation=cache, logits_processor=stops, **limits,
            )  # fmt: skip
        return [row[1 : 1 + n].tolist() for row, n in zip(found, lengths, strict=True)]

    return side


class _Stops:
    """Row i may end behind `lengths[i]` tokens, and must."""

    def __init__(self, lengths_B: Tensor) -> None:
        self.lengths_B = lengths_B

    def __call__(self, ids_BT: Tensor, scores_BV: Tensor) -> Tensor:
        """Scores (B, V) with the end alone, or without it."""
        over_B = ids_BT.shape[1] - 1 >= self.lengths_B
        last_B = scores_BV[:, CLOSE].clone()
        scores_BV = scores_BV.masked_fill(over_B.unsqueeze(1), float("-inf"))
        scores_BV[:, CLOSE] = torch.where(over_B, last_B.clamp(min=-1e4), float("-inf"))
        return scores_BV


def ctranslate(model: Any, compute_type: str) -> Side:
    """CTranslate2 with the weights of that BART: one thread, no scores returned, batches as they are given."""
    import ctranslate2
    from ctranslate2.converters.transformers import BartLoader

    names = [f"t{i}" for i in range(model.config.vocab_size)]
    tokenizer = SimpleNamespace(
        get_vocab=lambda: {name: i for i, name in enumerate(names)},
        bos_token=names[START], eos_token=names[CLOSE], unk_token=names[3],
        convert_ids_to_tokens=lambda i: names[i],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        spec = BartLoader()(model, tokenizer)
        spec.validate()
        spec.optimize(quantization=compute_type if compute_type != "float32" else None)
        spec.save(folder)
        held = ctranslate2.Translator(folder, "cpu", compute_type=compute_type, inter_threads=1, intra_threads=1)

    def side(batch: Sequence[Sample], beam: int, lengths: Sequence[int]) -> list[list[int]]:
        sources = [[names[i] for i in s.source] for s in batch]
        limits: dict[str, Any] = {"min_decoding_length": max(lengths), "max_decoding_length": max(lengths)}
        if len(set(lengths)) > 1:
            if beam > 1:
                raise ValueError("CTranslate2 stops single samples by a callback, which it has for greedy search alone")
            limits["callback"] = lambda step: step.step + 1 >= lengths[step.batch_id]
        found = held.translate_batch(
            sources, beam_size=beam, return_scores=False, max_batch_size=len(batch), batch_type="examples", **limits
        )
        return [[int(name[1:]) for name in each.hypotheses[0]] for each in found]

    return side


def sides(sizes: Sizes, names: Sequence[str], open_calls: ExitStack) -> dict[str, Side]:
    """The named sides; models are made once. `open_calls` ends ours."""
    made = network(sizes)
    theirs = bart(sizes) if any(not name.startswith("ours") for name in names) else None
    half = [name for name in names if name.startswith("HF bf16")]
    theirs_half = bart(sizes).to(torch.bfloat16) if half else None
    known: dict[str, Callable[[], Side]] = {
        "ours fp32": lambda: ours(made, "fp32", open_calls),
        "ours bf16": lambda: ours(made, "bf16", open_calls),
        "ours int8": lambda: ours(made, "int8", open_calls),
        "HF fp32": lambda: hugging_face(theirs, "dynamic"),
        "HF bf16": lambda: hugging_face(theirs_half, "dynamic"),
        "HF fp32 static": lambda: hugging_face(theirs, "static"),
        "HF bf16 static": lambda: hugging_face(theirs_half, "static"),
        "CTranslate2 fp32": lambda: ctranslate(theirs, "float32"),
        "CTranslate2 int8": lambda: ctranslate(theirs, "int8"),
    }
    return {name: known[name]() for name in names}


def parameters(sizes: Sizes, names: Sequence[str]) -> dict[str, int]:
    """Weights of the models on the named sides."""
    made = {"ours": network(sizes)}
    if any(not name.startswith("ours") for name in names):
        made["BART"] = bart(sizes)
    return {name: sum(p.numel() for p in model.parameters()) for name, model in made.items()}
