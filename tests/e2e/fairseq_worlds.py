"""Small random models of fairseq, and what fairseq says of them: needs the extra `fairseq`.

`python tests/e2e/fairseq_worlds.py` writes tests/fixtures/fairseq anew, which tests read without fairseq.
"""

from __future__ import annotations

import logging
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

STORED = Path(__file__).resolve().parents[1] / "fixtures" / "fairseq"
SYMBOLS = 40
#: Name -> (which of fairseq's models, what its arguments are beside the sizes).
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "transformer": ("transformer", {}),
    "transformer, norms before, learned places": (
        "transformer",
        {
            "encoder_normalize_before": True,
            "decoder_normalize_before": True,
            "encoder_learned_pos": True,
            "decoder_learned_pos": True,
            "activation_fn": "gelu",
        },
    ),
    "transformer, a head of its own": (
        "transformer",
        {"share_all_embeddings": False, "share_decoder_input_output_embed": False, "max_source_positions": 20},
    ),
    "transformer without places": ("transformer", {"no_token_positional_embeddings": True}),
    "bart": ("bart", {}),
}
_SIZES = {
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_embed_dim": 16,
    "decoder_ffn_embed_dim": 24,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "share_all_embeddings": True,
    "max_source_positions": 24,
    "max_target_positions": 24,
    "dropout": 0.0,
}
_SEARCHES = {
    "greedy": {"beam": 1, "max_len": 8, "min_len": 1},
    "beam4": {"beam": 4, "max_len": 8, "min_len": 1, "return_n_best": 4},
    "beam4_norm_ngram": {
        "beam": 4,
        "max_len": 10,
        "min_len": 2,
        "normalize_scores": True,
        "lenpen": 1.2,
        "no_repeat_ngram_size": 2,
        "return_n_best": 4,
    },
}


def dictionary() -> Any:
    """fairseq's dictionary of 4 controls and `w0`, `w1` ..."""
    from fairseq.data import Dictionary

    found = Dictionary()
    for number in range(SYMBOLS):
        found.add_symbol(f"w{number}", n=SYMBOLS - number)
    return found


def built(name: str, symbols: Any) -> tuple[Any, Namespace]:
    """A random model of fairseq, drawn wide enough to be seen, and its arguments."""
    logging.getLogger("fairseq").setLevel(logging.ERROR)
    from fairseq.models.bart import BARTModel, bart_large_architecture
    from fairseq.models.transformer import TransformerModel, base_architecture

    kind, more = MODELS[name]
    args = Namespace(arch="bart_large" if kind == "bart" else "transformer", **{**_SIZES, **more})
    (bart_large_architecture if kind == "bart" else base_architecture)(args)

    class Task:
        source_dictionary = symbols
        target_dictionary = symbols

    torch.manual_seed(len(name))
    model = (BARTModel if kind == "bart" else TransformerModel).build_model(args, Task()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
        if not args.share_all_embeddings:  # ours has one table to read by
            model.decoder.embed_tokens.weight = model.encoder.embed_tokens.weight
    return model, args


def saved(folder: Path, name: str) -> tuple[Path, Any]:
    """(checkpoint, model): model.pt and dict.txt as a training of fairseq leaves them."""
    symbols = dictionary()
    model, args = built(name, symbols)
    folder.mkdir(parents=True, exist_ok=True)
    symbols.save(str(folder / "dict.txt"))
    path = folder / "model.pt"
    torch.save({"args": args, "model": model.state_dict(), "extra_state": {"epoch": 1}}, path)
    return path, model


class Blocking(torch.nn.Module):
    """fairseq's own blocking of n-grams, shown what was written so far.

    Its search shows it the whole buffer, at whose end stands padding: on a CPU it then blocks nothing (0.12.3), while
    its kernel for CUDA looks at the newest ids.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: torch.Tensor, lprobs: torch.Tensor, bsz: int, beam_size: int, step: int) -> torch.Tensor:
        """The scores (rows, V) without what would repeat an n-gram."""
        blocked: torch.Tensor = self.block(tokens[:, : step + 1], lprobs, bsz, beam_size, step)
        return blocked


def case(model: Any, symbols: Any) -> dict[str, Any]:
    """What fairseq says of three rows: states, logits, losses, norms of gradients, hypotheses and their scores."""
    from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
    from fairseq.sequence_generator import SequenceGenerator

    rng = torch.Generator().manual_seed(5)
    bos, pad, eos = symbols.bos(), symbols.pad(), symbols.eos()
    lengths = ((7, 5), (3, 8), (9, 2))
    sources = torch.full((3, 10), pad)
    targets = torch.full((3, 9), pad)
    for row, (source, target) in enumerate(lengths):
        drawn = torch.randint(4, len(symbols), (source + target,), generator=rng)
        sources[row, : source + 1] = torch.cat([drawn[:source], torch.tensor([eos])])
        targets[row, : target + 1] = torch.cat([drawn[source:], torch.tensor([eos])])
    sources[0, 0] = bos
    fed = torch.cat([torch.full((3, 1), eos), targets[:, :-1]], 1).masked_fill_(targets.eq(pad), pad)
    counts = sources.ne(pad).sum(1)
    model.zero_grad()
    encoded = model.encoder(sources, src_lengths=counts)
    logits, _ = model.decoder(fed, encoder_out=encoded)
    lprobs = model.get_normalized_probs((logits, None), log_probs=True).flatten(0, 1)
    smoothed, plain = label_smoothed_nll_loss(lprobs, targets.flatten().unsqueeze(1), 0.1, ignore_index=pad)
    plain.backward()
    norms = {n: float(p.grad.norm()) for n, p in model.named_parameters() if p.grad is not None}
    found: dict[str, Any] = {
        "src_slots": [("TEXT", sources)],
        "tgt_slots": [("TEXT", targets)],
        "target": targets,
        "logits": logits.detach(),
        "enc_out_TBC": encoded["encoder_out"][0].detach(),
        "enc_pad_mask": sources.eq(pad),
        "ce_sum": float(plain),
        "label_smoothed_0.1_sum": float(smoothed),
        "grad_norm_of_ce_sum": norms,
        "generation": {},
    }
    for name, said in _SEARCHES.items():
        search = SequenceGenerator(
            [model],
            symbols,
            beam_size=said["beam"],
            max_len_b=said["max_len"],
            min_len=said["min_len"],
            normalize_scores=bool(said.get("normalize_scores", False)),
            len_penalty=float(said.get("lenpen", 1.0)),
            no_repeat_ngram_size=int(said.get("no_repeat_ngram_size", 0)),
        )
        if search.repeat_ngram_blocker is not None:
            search.repeat_ngram_blocker = Blocking(search.repeat_ngram_blocker)
        with torch.no_grad():
            hypotheses = search.generate([model], {"net_input": {"src_tokens": sources, "src_lengths": counts}})
        kept = [[{"tokens": h["tokens"], "score": h["score"]} for h in row] for row in hypotheses]
        found["generation"][name] = {"args": said, "hyps": kept}
    return found


def main() -> None:
    """Writes the stored models and what fairseq says of them."""
    warnings.simplefilter("ignore")
    for name in ("transformer", "bart"):
        folder = STORED / name
        _, model = saved(folder, name)
        torch.save(case(model, dictionary()), folder / "case.pt")


if __name__ == "__main__":
    main()
