"""CPU seconds per image of drawing codes with depth: our steps against a plain loop with the same weights, in one run.

    OMP_NUM_THREADS=2 python benchmarks/sampling_dnd.py             # the real thing, some 10 CPU minutes a thread
    OMP_NUM_THREADS=1 python benchmarks/sampling_dnd.py --smoke     # seconds, toy sizes: for tests, measures nothing

8 images of 16 x 16 positions x 2 codes; decoder of 12 layers, width 256; fp32; draws among the best 100 of 1,024 codes.
What the plain loop does is written in plain_sampler.py. Three of it take part: `plain` (no needless copy, keys of the
source kept), `plain, sliced cache` (the strongest) and `plain, as published` (copies the cache at each step). With a
source (16 rows, 2 encoder layers) all encode once. A B A B interleaved; greedy codes of all sides are compared first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import Spread, interleave, machine, spread, table, top_operators, write_row
from plain_sampler import Draw, PlainSampler
from torch import Tensor

from ofasys_lite.adapters.depth_heads import DepthHeads
from ofasys_lite.decoding.depth_sampling import guided
from ofasys_lite.decoding.ranking import draw
from ofasys_lite.model import EncoderDecoder, ModelConfig

GUIDANCE = 3.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """One case: sizes of the model, of the images, of the source, and the guidance (None for none)."""

    width: int = 256
    layers: int = 12
    heads: int = 8
    kv_heads: int | None = None
    encoder_layers: int = 2
    codes: int = 1024
    depth: int = 2
    side: int = 16
    batch: int = 8
    top_k: int = 100
    source: int = 0
    guidance: float | None = None

    @property
    def name(self) -> str:
        source = f"{self.source} source rows" if self.source else "decoder only"
        return f"{source}, guidance {self.guidance or 'off'}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Chooses the code of one depth for live rows that are all alike, as `Draw` says to the plain loop."""

    temperature: float
    top_k: int
    guidance: float | None

    def __call__(self, depth: int, logits_BV: Tensor) -> Tensor:
        logits_PV = logits_BV.float()
        if self.guidance is not None:
            logits_PV = guided(logits_PV, self.guidance)
        if self.temperature == 0:
            codes_P = logits_PV.argmax(-1)
        else:
            draws_P = torch.rand(len(logits_PV), dtype=torch.float64)
            codes_P = draw(logits_PV / self.temperature, self.top_k, 1.0, draws_P)
        return codes_P if self.guidance is None else codes_P.repeat_interleave(2)


class Pair:
    """Both samplers over the same random weights, conditions and sources."""

    def __init__(self, sizes: Sizes) -> None:
        torch.manual_seed(0)
        self.sizes = sizes
        channels = sizes.width // sizes.heads
        self.body = EncoderDecoder(
            ModelConfig(
                width=sizes.width,
                encoder_layers=sizes.encoder_layers if sizes.source else 0,
                decoder_layers=sizes.layers,
                heads=sizes.heads,
                kv_heads=sizes.kv_heads,
                rotary_sections=(0, channels // 4, channels // 4),
                rotary_layout="axial",
            )
        ).eval()
        layers = range(sizes.layers - sizes.depth, sizes.layers)
        self.heads = DepthHeads(sizes.width, sizes.codes, list(layers), sizes.layers)
        cells = torch.arange(sizes.side**2) - 1
        self.positions = torch.stack([torch.zeros_like(cells), cells // sizes.side, cells % sizes.side], 1)
        self.rows = sizes.batch * (1 if sizes.guidance is None else 2)
        #: conditional rows, then unconditional ones
        self.start = torch.randn(self.rows, sizes.width)
        self.words = torch.randn(self.rows, sizes.source, sizes.width)
        if sizes.guidance is not None:
            self.start[sizes.batch :] = self.start[sizes.batch]
            self.words[sizes.batch :] = self.words[sizes.batch]
        self.source_positions = torch.arange(sizes.source).unsqueeze(1).expand(-1, 3)

    @torch.inference_mode()
    def ours(self, temperature: float = 1.0) -> Tensor:
        """(N, T, K) codes by `EncoderDecoder.step`, `DepthHeads.write` and our draws."""
        sizes, places = self.sizes, len(self.positions)
        x_BD, source = self.start[self._order()], [sizes.source] * self.rows
        if sizes.source:
            positions_S3 = self.source_positions.repeat(self.rows, 1)
            states_SD = self.body.encode(self.words[self._order()].flatten(0, 1), positions_S3, source)
            cache = self.body.start(states_SD, positions_S3, source, room=places)
        else:
            cache = self.body.start(source_lengths=source, room=places)
        writer = self.heads.write(Choice(temperature, sizes.top_k, sizes.guidance), scorers=self.heads.scorers(places))
        written = []
        for place in range(places):
            self.body.step(x_BD, self.positions[place].expand(self.rows, 3), cache, writer.taps, normed=False)
            written.append(writer.codes())
            x_BD = self.heads.inputs(written[-1])
        codes_BTK = torch.stack(written, 1)
        return codes_BTK if sizes.guidance is None else codes_BTK[0::2]

    @torch.inference_mode()
    def plain(self, temperature: float = 1.0, sliced: bool = False, copies: bool = False) -> Tensor:
        """(N, T, K) codes by the plain loop."""
        sizes = self.sizes
        source = None
        if sizes.source:
            rows = [sizes.source] * self.rows
            positions_S3 = self.source_positions.repeat(self.rows, 1)
            states_SD = self.body.encode(self.words.flatten(0, 1), positions_S3, rows)
            source = (states_SD.view(self.words.shape), self.source_positions)
        draw = Draw(temperature, sizes.top_k, sizes.guidance)
        return PlainSampler(self.body, self.heads, sliced, copies).sample(self.start, self.positions, draw, source)

    def _order(self) -> Tensor:
        """Halves of a pair beside each other."""
        half = torch.arange(self.rows)
        return half if self.sizes.guidance is None else half.view(2, -1).t().flatten()


def measure(sizes: Sizes, repetitions: int) -> dict[str, Any]:
    """CPU seconds per image of both sides, ratios per repetition, and how many greedy codes agree."""
    pair = Pair(sizes)
    ours = pair.ours(0.0)
    equal = min(float((ours == pair.plain(0.0, sliced=sliced)).float().mean()) for sliced in (False, True))
    sides: dict[str, Callable[[int], object]] = {
        "plain": lambda _: pair.plain(),
        "ours": lambda _: pair.ours(),
        "plain, sliced cache": lambda _: pair.plain(sliced=True),
        "plain, as published": lambda _: pair.plain(copies=True),
    }
    seconds = {name: [s / sizes.batch for s in found] for name, found in interleave(sides, repetitions).items()}
    ratios = {
        name: spread([a / b for a, b in zip(found, seconds["ours"], strict=True)]).to_dict()
        for name, found in seconds.items()
        if name != "ours"
    }
    return {
        "case": sizes.name,
        "threads": torch.get_num_threads(),
        "codes_equal": equal,
        "seconds_per_image": {name: spread(found).to_dict() for name, found in seconds.items()},
        "ratio": ratios,
        "seconds": seconds,
        "operators": top_operators(pair.ours),
    }


def report(cases: Sequence[dict[str, Any]]) -> str:
    """The printed table."""

    def show(values: dict[str, float], digits: int) -> str:
        s = Spread(**values)
        return f"{s.median:.{digits}f} ({s.low:.{digits}f}-{s.high:.{digits}f})"

    rows = [["case", "threads", "side", "CPU s an image", "plain over ours", "greedy codes equal"]]
    for case in cases:
        for side, values in case["seconds_per_image"].items():
            ratio = show(case["ratio"][side], 2) if side in case["ratio"] else ""
            equal = f"{case['codes_equal']:.4f}"
            rows.append([case["case"], str(case["threads"]), side, show(values, 3), ratio, equal])
    return table(rows)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=Sizes().batch, help="images drawn together")
    parser.add_argument("--codes", type=int, default=Sizes().codes, help="size of the codebook")
    parser.add_argument("--heads", type=int, default=Sizes().heads)
    parser.add_argument("--sources", type=int, nargs="+", default=[0, 16], help="source rows, 0 for decoder only")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, for tests")
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs, prints and stores the benchmark; returns the stored row."""
    args = arguments(argv)
    base = Sizes(batch=args.batch, codes=args.codes, heads=args.heads)
    if args.smoke:
        base, args.threads = Sizes(width=32, layers=2, heads=2, codes=16, side=3, batch=2, top_k=4), [1]
    given = " ".join(
        f"--{name} {value}" for name, value in vars(args).items() if name != "out" and value not in (None, False)
    )
    row: dict[str, Any] = {
        "smoke": args.smoke,
        "arguments": given,
        "sizes": asdict(base),
        "machine": machine("torch"),
        "cases": [],
    }
    before = torch.get_num_threads()
    for threads in args.threads:
        torch.set_num_threads(threads)
        for source in args.sources:
            for guidance in (None, GUIDANCE):
                row["cases"].append(measure(replace(base, source=source, guidance=guidance), args.repetitions))
                print(report(row["cases"][-1:]), flush=True)
    torch.set_num_threads(before)
    least = min(row["cases"], key=lambda case: case["ratio"]["plain"]["median"])
    row["profile"] = {
        "what": f"8 images of ours, torch's operators by their own time ({least['case']})",
        "head": ["operator", "share", "calls"],
        "rows": least["operators"],
    }
    print(report(row["cases"]))
    print("stored in", write_row("sampling_dnd_smoke" if args.smoke else "sampling_dnd", row, args.out))
    return row


if __name__ == "__main__":
    main()
