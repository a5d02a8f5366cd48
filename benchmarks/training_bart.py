"""Useful tokens per second of a training step: flat packs against Hugging Face BART of equal size, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/training_bart.py            # the real thing, about 40 CPU minutes
    OMP_NUM_THREADS=1 python benchmarks/training_bart.py --smoke    # seconds, toy sizes: for tests, measures nothing

Both sides get the same ids, sizes, precision and fused AdamW, no dropout, one thread; A B A B interleaved, process CPU
time, behind WARM batches of each side: later steps find their memory where earlier ones left it. The peak of a product
is taken beside every repetition, since machines drift by a tenth within minutes. Ours in flat packs with the head on
target rows; theirs padded, in batches of 16: random, bucketed by source, and bucketed by source and then by target
within 128 samples. Bucketed batches are taken evenly from the shortest to the longest; ours get the same samples at
random.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import Spread, interleave, machine, peak_flops, spread, table, top_operators, write_row
from ragged import Sample, bucket, deal, draw, padding, shuffle, useful
from torch import Tensor, nn

from ofasys_lite.model import (
    EncoderDecoder,
    ModelConfig,
    flops,
    head_loss,
    keep_freed_memory,
    learned_products,
    onednn_from,
    probe_precision,
)

START, PAD, IGNORED = 0, 1, -100
PRECISIONS = ("fp32", "autocast", "bf16")
#: name of a row -> samples sorted by target within (see `ragged.bucket`)
BUCKETS = {"bucketed by source": 0, "bucketed by both": 128}
#: Batches that each side learns before anything is measured.
WARM = 8
Batches = list[list[Sample]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of both models, and how much is run."""

    width: int = 512
    layers: int = 6
    heads: int = 8
    ffn: int = 2048
    vocabulary: int = 32_000
    batches: int = 64
    per_repetition: int = 4
    repetitions: int = 6


class Flat(nn.Module):
    """Our side: one table of ids, the encoder-decoder on flat streams, the tied head on the rows that have a loss."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        layers = {"encoder_layers": sizes.layers, "decoder_layers": sizes.layers}
        shape = {"width": sizes.width, "heads": sizes.heads, "ffn": sizes.ffn, **layers}
        self.config = ModelConfig(**shape, norm="layernorm", mlp="gelu")  # type: ignore[arg-type]
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.model = EncoderDecoder(self.config)
        #: Rows that went through the encoder and the decoder so far: padding is what of them no sample has.
        self.rows = [0, 0]

    def forward(self, batch: Sequence[Sample]) -> Tensor:
        sources, targets = [len(s.source) for s in batch], [len(s.target) for s in batch]
        target_T = torch.tensor([i for s in batch for i in s.target])
        read = [i for s in batch for i in s.source] + [i for s in batch for i in (START, *s.target[:-1])]
        # one lookup for all ids: its gradient is as large as the table, whatever the number of ids
        x_SD, y_TD = self.embedding(torch.tensor(read)).split_with_sizes((sum(sources), sum(targets)))
        self.rows[0] += len(x_SD)
        self.rows[1] += len(y_TD)
        positions_S3, positions_T3 = _counted(sources), _counted(targets)
        states_SD = self.model.encode(x_SD, positions_S3, sources)
        cross = list(zip(targets, sources, strict=True))
        states_TD = self.model.decode(y_TD, positions_T3, states_SD, positions_S3, lengths=targets, cross_lengths=cross)
        return head_loss(states_TD, self.embedding.weight, target_T).mean()


def _counted(lengths: Sequence[int]) -> Tensor:
    return torch.cat([torch.arange(n) for n in lengths]).unsqueeze(1).expand(-1, 3)


class Padded(nn.Module):
    """Their side: BartForConditionalGeneration of equal size on padded batches."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from transformers import BartConfig, BartForConditionalGeneration

        both: dict[str, Any] = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
                (("layers", sizes.layers), ("attention_heads", sizes.heads), ("ffn_dim", sizes.ffn))}  # fmt: skip
        none: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
        ids: dict[str, Any] = {
            "pad_token_id": PAD,
            "bos_token_id": START,
            "eos_token_id": 2,
            "decoder_start_token_id": START,
        }
        self.model = BartForConditionalGeneration(
            BartConfig(vocab_size=sizes.vocabulary, d_model=sizes.width, use_cache=False, **both, **none, **ids)
        )

    def forward(self, batch: Sequence[Sample]) -> Tensor:
        source_NS, mask_NS = _grid([s.source for s in batch], PAD)
        labels_NT, _ = _grid([s.target for s in batch], IGNORED)
        shifted_NT, _ = _grid([(START, *s.target[:-1]) for s in batch], PAD)
        out = self.model(
            input_ids=source_NS, attention_mask=mask_NS, decoder_input_ids=shifted_NT, labels=labels_NT, use_cache=False
        )
        loss: Tensor = out.loss
        return loss


def _grid(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    grid = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
    return grid, (torch.arange(longest) < torch.tensor([len(row) for row in rows]).unsqueeze(1)).long()


class Trainer:
    """One model with fused AdamW, stepped over lists of batches in one precision."""

    def __init__(self, make: Callable[[Sizes], nn.Module], sizes: Sizes, precision: str) -> None:
        torch.manual_seed(0)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.module = make(sizes).to(dtype).train()
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-4, fused=True)
        self.autocast = precision == "autocast"
        self.losses: list[float] = []

    def context(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16) if self.autocast else nullcontext()

    def products(self) -> AbstractContextManager[Any]:
        """Ours as a training has them: oneDNN's where a probe finds them faster. Nobody's BART does that by itself."""
        return learned_products(onednn_from() if isinstance(self.module, Flat) else 0)

    def run(self, batches: Batches) -> None:
        for batch in batches:
            self.optimizer.zero_grad(set_to_none=True)
            with self.products():
                with self.context():
                    loss = self.module(batch)
                loss.backward()
            self.optimizer.step()
            self.losses.append(float(loss.detach()))


@torch.no_grad()
def layouts_agree(side: Trainer, batch: list[Sample]) -> tuple[float, float]:
    """Loss of one batch in its layout, and of the same samples one by one (a batch of one has no padding)."""
    with side.context():
        together = float(side.module(batch))
        alone = [float(side.module([s])) * len(s.target) for s in batch]
    return together, sum(alone) / sum(len(s.target) for s in batch)


def measure(sizes: Sizes, precision: str, peak: Callable[[], float]) -> dict[str, Any]:
    """All figures of one precision: tokens per second of both sides, their ratios, our use of the peak."""
    ours, theirs = Trainer(Flat, sizes, precision), Trainer(Padded, sizes, precision)
    drawn, repetitions = draw(sizes.batches, vocabulary=sizes.vocabulary), sizes.repetitions
    random_ = [drawn[r * sizes.per_repetition :][: sizes.per_repetition] for r in range(repetitions)]
    agreement = {}
    for name, side in (("ours", ours), ("hf", theirs)):
        agreement[name] = layouts_agree(side, drawn[-1])
        limit = 1e-4 if precision == "fp32" else 2e-2
        if abs(agreement[name][0] / agreement[name][1] - 1) > limit:
            raise SystemExit(f"{precision}: {name} loss differs between layouts: {agreement[name]}")
    for side in (ours, theirs):
        side.run(drawn[-WARM:])
    operators = top_operators(lambda: ours.run(drawn[-2:-1]))
    plans = {"random": (random_, random_)}
    for name, pool in BUCKETS.items():
        dealt = deal(bucket(drawn, pool), repetitions, sizes.per_repetition)
        plans[name] = ([shuffle(part, seed) for seed, part in enumerate(dealt)], dealt)
    result: dict[str, Any] = {"loss_packed_and_one_by_one": agreement, "operators": operators}
    for name, (own, other) in plans.items():
        flat = ours.module
        assert isinstance(flat, Flat)
        flat.rows = [0, 0]
        peaks: list[float] = []
        sides = {
            "peak": lambda r, peaks=peaks: peaks.append(peak()),
            "ours": lambda r, own=own: ours.run(own[r] if r >= 0 else drawn[-2:-1]),
            "hf": lambda r, other=other: theirs.run(other[r] if r >= 0 else drawn[-2:-1]),
        }
        seconds = interleave(sides, repetitions)
        result[name] = figures(seconds, own, other, sizes, peaks[1:])  # the first is of the warm-up
        seen = [s for batches in (drawn[-2:-1], *own) for batch in batches for s in batch]
        lengths = (sum(len(s.source) for s in seen), sum(len(s.target) for s in seen))
        result[name]["ours_padding"] = [1 - held / rows for held, rows in zip(lengths, flat.rows, strict=True)]
    return result


def figures(
    seconds: dict[str, list[float]], own: list[Batches], other: list[Batches], sizes: Sizes, peaks: list[float]
) -> dict[str, Any]:
    """Tokens per second, ratio, padding and use of the peak from the seconds of every repetition."""
    config = Flat(Sizes(**{**asdict(sizes), "vocabulary": 8})).config
    tokens = [useful(batches) for batches in own]
    rates = {side: [n / s for n, s in zip(tokens, seconds[side], strict=True)] for side in ("ours", "hf")}
    samples = [[s for batch in batches for s in batch] for batches in own]
    work = [
        3 * flops(config, [len(s.source) for s in part], [len(s.target) for s in part], sizes.vocabulary)
        for part in samples
    ]
    use = [w / s / peak for w, s, peak in zip(work, seconds["ours"], peaks, strict=True)]
    source, target = padding([batch for part in other for batch in part])
    return {
        "ours_tokens_per_s": spread(rates["ours"]).to_dict(),
        "hf_tokens_per_s": spread(rates["hf"]).to_dict(),
        "ratio": spread([a / b for a, b in zip(rates["ours"], rates["hf"], strict=True)]).to_dict(),
        "ours_use_of_peak": spread(use).to_dict(),
        "peak_gflops": spread([peak / 1e9 for peak in peaks]).to_dict(),
        "hf_padding": [source, target],
        "seconds": seconds,
    }


def report(row: dict[str, Any]) -> str:
    """The printed tables."""

    def show(values: dict[str, float], digits: int = 0) -> str:
        s = Spread(**values)
        return f"{s.median:.{digits}f} ({s.low:.{digits}f}-{s.high:.{digits}f})"

    rows = [["precision", "HF batches", "ours tokens/s", "HF tokens/s", "ratio", "of peak", "HF padding src / tgt"]]
    for precision, result in row["results"].items():
        for name in ("random", *BUCKETS):
            f = result[name]
            pad = " / ".join(f"{share:.2f}" for share in f["hf_padding"])
            rates = [show(f["ours_tokens_per_s"]), show(f["hf_tokens_per_s"]), show(f["ratio"], 2)]
            rows.append([precision, name, *rates, show(f["ours_use_of_peak"], 2), pad])
    return table(rows)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=Sizes().repetitions)
    parser.add_argument("--batches", type=int, default=Sizes().per_repetition, help="batches per repetition")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=(*PRECISIONS, "auto"),
        default=list(PRECISIONS),
        help="auto: fp32, and bf16 where the probe finds it faster",
    )
    parser.add_argument("--smoke", action="store_true", help="toy sizes, two repetitions, for tests")
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs, prints and stores the benchmark; returns the stored row."""
    args = arguments(argv)
    torch.set_num_threads(1)
    keep_freed_memory()  # as our trainings do; theirs has it here, too
    sizes = Sizes(per_repetition=args.batches, repetitions=args.repetitions)
    if args.smoke:
        sizes = Sizes(32, 1, 2, 64, 200, batches=8, per_repetition=1, repetitions=2)
    probe = probe_precision("cpu")
    side = 256 if args.smoke else 2048
    peaks = {n: lambda t=t: peak_flops(t, side, 2) for n, t in (("fp32", "float32"), ("bf16", "bfloat16"))}
    row: dict[str, Any] = {
        "smoke": args.smoke,
        "sizes": asdict(sizes),
        "machine": machine("torch", "transformers"),
        "peak_gflops": {name: peak() / 1e9 for name, peak in peaks.items()},
        "probe": {"dtype": probe},
        "parameters": {
            "ours": sum(p.numel() for p in Flat(sizes).parameters()),
            "hf": sum(p.numel() for p in Padded(sizes).parameters()),
        },
        "results": {},
    }
    print({k: v for k, v in row.items() if k != "results"}, flush=True)
    chosen = args.precisions
    if "auto" in chosen:
        chosen = ["fp32", "bf16"] if probe == "bf16" else ["fp32"]
    for precision in chosen:
        row["results"][precision] = measure(sizes, precision, peaks["fp32" if precision == "fp32" else "bf16"])
        print(report({"results": {precision: row["results"][precision]}}), flush=True)
    found = ((name, each) for name, result in row["results"].items() for each in result["operators"])
    row["profile"] = {
        "what": "a training step of ours on a random batch, torch's operators by their own time",
        "head": ["precision", "operator", "share", "calls"],
        "rows": [[name, *each] for name, each in found],
    }
    print(report(row))
    print("stored in", write_row("training_bart_smoke" if args.smoke else "training_bart", row, args.out))
    return row


if __name__ == "__main__":
    main()
