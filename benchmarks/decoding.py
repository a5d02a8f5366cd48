"""Tokens per CPU second of decoding against Hugging Face generate and CTranslate2 of equal size, in the same run.

    pip install transformers ctranslate2
    OMP_NUM_THREADS=1 python benchmarks/decoding.py            # about 15 CPU minutes
    OMP_NUM_THREADS=1 python benchmarks/decoding.py --smoke    # seconds, toy sizes: for tests, measures nothing

Batches of 16 of the ragged mixture's sources, 32 tokens each, or (`stops`) 1 to 60, which differ from sample to sample.
`drawn`: batches in drawn order; `sorted`: by source length, evenly from the shortest to the longest. Every side gets
the same ids and writes as many tokens; weights are random, so nobody stops by himself. One thread, A B A B interleaved,
process CPU time. Ours is what `predict` does between ids and ids, with the limits of length that a user would give.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import Spread, interleave, machine, peak_flops, spread, table, top_operators, write_row
from decoders import Side, Sizes, parameters, sides
from ragged import Sample, bucket, deal, draw

SIDES = ("ours fp32", "ours bf16", "ours int8", "HF fp32", "HF bf16", "CTranslate2 fp32", "CTranslate2 int8")
FORCED, LONGEST = 32, 60
PLANS = ("drawn", "sorted", "stops")


def work(plan: str, batches: int, repetitions: int, vocabulary: int) -> list[tuple[list[Sample], list[int]]]:
    """A batch and its lengths for each repetition, then one of the warm-up."""
    drawn = draw(batches, vocabulary=vocabulary)
    rng = random.Random(1)
    chosen = [part[0] for part in deal(bucket(drawn), repetitions, 1)] if plan == "sorted" else drawn[:repetitions]
    lengths = [[rng.randint(1, LONGEST) if plan == "stops" else FORCED for _ in batch] for batch in chosen]
    warm = drawn[-1][:4]
    return [*zip(chosen, lengths, strict=True), (warm, [4] * len(warm))]


def measure(plan: str, beam: int, held: dict[str, Any], repetitions: int, vocabulary: int) -> dict[str, Any]:
    """Seconds and tokens per second of every side."""
    done = work(plan, 64, repetitions, vocabulary)

    def run(name: str, repetition: int) -> None:
        batch, lengths = done[repetition]
        found = held[name](batch, beam, lengths)
        if [len(ids) for ids in found] != lengths:
            raise SystemExit(f"{name} wrote {[len(ids) for ids in found]} tokens in place of {lengths}")

    seconds = interleave({name: lambda r, name=name: run(name, r) for name in held}, repetitions)  # type: ignore[misc]
    tokens = [sum(lengths) for _, lengths in done[:-1]]
    rates = {name: [n / s for n, s in zip(tokens, times, strict=True)] for name, times in seconds.items()}
    return {"tokens_per_s": {n: spread(r).to_dict() for n, r in rates.items()}, "rates": rates, "tokens": tokens}


def ratios(rates: dict[str, list[float]]) -> dict[str, Spread]:
    """Each of ours over each of theirs of the same batch."""
    return {
        f"{own} / {other}": spread([a / b for a, b in zip(rates[own], rates[other], strict=True)])
        for own in rates
        for other in rates
        if own.startswith("ours") and not other.startswith("ours")
    }


def report(results: dict[str, Any]) -> str:
    """The printed tables: tokens per second, and every ratio."""
    names = list(dict.fromkeys(name for result in results.values() for name in result["tokens_per_s"]))
    rows = [["tokens per CPU second", *results]]
    for name in names:
        shown = [result["tokens_per_s"].get(name) for result in results.values()]
        rows.append(
            [name, *("-" if s is None else f"{s['median']:.0f} ({s['low']:.0f}-{s['high']:.0f})" for s in shown)]
        )
    pairs = list(dict.fromkeys(pair for result in results.values() for pair in result["ratios"]))
    for pair in pairs:
        shown = [result["ratios"].get(pair) for result in results.values()]
        rows.append(
            [pair, *("-" if s is None else f"{s['median']:.2f} ({s['low']:.2f}-{s['high']:.2f})" for s in shown)]
        )
    return table(rows)


def _named(plan: str, beam: int) -> str:
    return f"{plan}, {'greedy' if beam == 1 else f'beam {beam}'}"


def profile(own: dict[str, Side], beams: Sequence[int], vocabulary: int) -> dict[str, Any]:
    """Where ours spend their time on a batch of the plan `drawn`."""
    batch, lengths = work("drawn", 64, 1, vocabulary)[0]
    rows: list[list[Any]] = []
    for name, side in own.items():
        for beam in beams:
            found = top_operators(partial(side, batch, beam, lengths), 6)
            rows += [[name, _named("drawn", beam), *each] for each in found]
    what = "a batch of ours, encoding included, torch's operators by their own time"
    return {"what": what, "head": ["side", "plan", "operator", "share", "calls"], "rows": rows}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), help="names as printed; also `HF fp32 static`")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, two repetitions, for tests")
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs, prints and stores the benchmark; returns the stored row."""
    args = arguments(argv)
    torch.set_num_threads(1)
    sizes = Sizes(32, 1, 2, 64, 300) if args.smoke else Sizes()
    repetitions = 2 if args.smoke else args.repetitions
    packages = [p for p in ("torch", "transformers", "ctranslate2") if find_spec(p)]
    row: dict[str, Any] = {
        "smoke": args.smoke,
        "sizes": asdict(sizes),
        "machine": machine(*packages),
        "peak_gflops": {n: peak_flops(n, 256 if args.smoke else 2048) / 1e9 for n in ("float32", "bfloat16")},
        "parameters": parameters(sizes, args.sides),
        "results": {},
    }
    print({k: v for k, v in row.items() if k != "results"}, flush=True)
    with ExitStack() as open_calls:
        held = sides(sizes, args.sides, open_calls)
        for plan in args.plans:
            for beam in args.beams:
                # CTranslate2 cannot end single samples of a beam search
                able = {n: s for n, s in held.items() if not (n.startswith("CT") and plan == "stops" and beam > 1)}
                result = measure(plan, beam, able, repetitions, sizes.vocabulary)
                result["ratios"] = {pair: found.to_dict() for pair, found in ratios(result["rates"]).items()}
                row["results"][_named(plan, beam)] = result
                print(report({_named(plan, beam): result}), flush=True)
        row["profile"] = profile({n: s for n, s in held.items() if n.startswith("ours")}, args.beams, sizes.vocabulary)
    print(report(row["results"]))
    print("stored in", write_row("decoding_smoke" if args.smoke else "decoding", row, args.out))
    return row


if __name__ == "__main__":
    main()
