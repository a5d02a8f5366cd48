"""What learned biases by distance cost a training step: T5's stack beside the same sizes with rotary positions.

    OMP_NUM_THREADS=1 python benchmarks/relative_biases.py

Both run in turn on the same packs of one process; printed are medians of CPU time and of their ratio. Biases go through
explicit products of each sequence on every device, rotary positions through the fastest back-end there is.
"""

from __future__ import annotations

import statistics
import time

import torch

from ofasys_lite.model import EncoderDecoder, ModelConfig

SIZES = {"width": 256, "encoder_layers": 4, "decoder_layers": 4, "heads": 4, "mlp": "geglu", "norm": "rmsnorm"}
STACKS = {
    "rotary": {},
    "relative: t5": {
        "positions": "none",
        "relative": "t5",
        "relative_buckets": 32,
        "relative_span": 128,
        "query_gain": 8.0,
    },
}
#: Length of a source and of its target, and how many of them a pack holds: about 4,096 + 2,048 rows.
PACKS = ((64, 32, 64), (256, 128, 16), (1024, 512, 4))
TRIES = 5


def step(model: EncoderDecoder, source: int, target: int, count: int) -> float:
    """CPU seconds of one forward and backward pass."""
    x_SD, y_TD = torch.randn(source * count, model.config.width), torch.randn(target * count, model.config.width)
    at_S, at_T = (torch.arange(n).repeat(count).unsqueeze(1).expand(-1, 3).contiguous() for n in (source, target))
    start = time.process_time()
    states_SD = model.encode(x_SD, at_S, [source] * count)
    out_TD = model.decode(
        y_TD, at_T, states_SD, at_S, lengths=[target] * count, cross_lengths=[(target, source)] * count
    )
    out_TD.square().mean().backward()
    return time.process_time() - start


def main() -> None:
    """Prints a row per length."""
    torch.manual_seed(0)
    models = {name: EncoderDecoder(ModelConfig(**SIZES, **more)).train() for name, more in STACKS.items()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, width 256, 4 + 4 layers, median of {TRIES}")
    for source, target, count in PACKS:
        times: dict[str, list[float]] = {name: [] for name in models}
        for number in range(TRIES + 1):
            for name, model in models.items():
                seconds = step(model, source, target, count)
                if number:  # the first makes what later ones keep
                    times[name].append(seconds)
        medians = {name: statistics.median(each) for name, each in times.items()}
        ratios = [b / a for a, b in zip(*times.values(), strict=True)]
        told = ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{count} x ({source} + {target}): {told}; ratio {spread}")


if __name__ == "__main__":
    main()
