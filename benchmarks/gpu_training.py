"""What a user does on a device, in small: trains, resumes, evaluates, draws, exports; and how fast steps are."""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ofasys_lite import GeneralistModel, Task, evaluate, fit
from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, save_codec
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.model import ModelConfig, flops
from ofasys_lite.training.settings import TrainSettings
from ofasys_lite.training.steps import StepsModule, unpacked

__all__ = ["SIZES", "Load", "measure", "peak", "prepare", "use"]

WORDS = ("red", "green", "blue", "round", "square", "large", "small", "bright", "dark", "old")


# ---------------------------------------------------------------------- what a user does


@dataclass(frozen=True, slots=True)
class Done:
    """Seconds of each thing that was done, and what came out."""

    seconds: Mapping[str, float]
    said: Mapping[str, str]


def use(folder: Path, compiled: bool, steps: int, accelerator: str) -> Done:
    """Trains three tiny tasks, goes on with the run, evaluates, draws pictures, exports and loads the export."""
    torch.manual_seed(0)
    codec = save_codec(
        ImageCodec(CodecConfig(size=8, factor=2, depth=2, codes=8, channels=4, width=8)), folder / "codec"
    )
    rows = [_row(np.random.default_rng(i), i) for i in range(48)]
    data = {"train": rows, "valid": rows[:8], "test": rows[:8]}
    lines = {
        "caption": "[IMAGE:img] what is shown? -> [TEXT:cap]",
        "draw": f"draw [TEXT:cap,drop=0.1] -> [IMAGE:img,codec=dnd({codec})]",
        "speech": "[AUDIO:wav,loss=ctc(cap,weight=0.3)] what is said? -> [TEXT:cap]",
    }
    tasks = [Task(name, line, data=data) for name, line in lines.items()]
    seconds: dict[str, float] = {}
    more: dict[str, Any] = {"samples_per_step": 16, "workers": 1, "progress": False, "compile": compiled, "pieces": 300}
    more |= {"accelerator": accelerator, "console": Console(file=io.StringIO()), "folder": folder / "run"}
    with _timed(seconds, "train"):
        fit(_fresh(), tasks, steps=steps, **more)
    with _timed(seconds, "resume"):
        model = fit(_fresh(), tasks, steps=2 * steps, resume=True, **more)
    with _timed(seconds, "evaluate"):
        results = evaluate(model, tasks, limit=8, baselines=False)
    with _timed(seconds, "draw"):
        drawn = model.predict("draw", rows[:4])
    with _timed(seconds, "export"):
        loaded = GeneralistModel.from_pretrained(model.save_pretrained(folder / "export"))
        again = loaded.predict("caption", rows[:4])
    texts = [p.text for p in model.predict("caption", rows[:4])]
    said = {"device": str(next(model.generalist.network.parameters()).device), "caption": str(texts[0])}
    said |= {
        "export says the same": str(texts == [p.text for p in again]),
        "tasks evaluated": str(len(results.tasks)),
        "picture": str(np.asarray(drawn[0].values["img"]).shape),
    }
    return Done(seconds, said)


def _fresh() -> GeneralistModel:
    return GeneralistModel("tiny", modalities={"IMAGE": {"patch": 2}}, qk_norm=True)


def _row(rng: np.random.Generator, number: int) -> dict[str, Any]:
    label = WORDS[int(rng.integers(3))]
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:6, 2:6, ("red", "green", "blue").index(label)] = 220
    sound = {"array": rng.normal(0, 0.1, int(rng.integers(6000, 12000))).astype(np.float32), "rate": 16000}
    return {"id": f"r{number}", "img": pixels, "cap": f"a {label} square", "wav": sound}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin


# ---------------------------------------------------------------------- how fast steps are


@dataclass(frozen=True, slots=True)
class Load:
    """How much is trained at one size.

    Attributes:
        config: The model.
        samples: Samples of a step.
        budget: Source rows of a pack.
        steps: Steps that are counted, after as many warm-up steps as `warm`.
        warm: Steps before.
        workers: Loader workers.
    """

    config: ModelConfig
    samples: int
    budget: int
    steps: int
    warm: int
    workers: int


#: The two sizes of a GPU, as the presets `base` and `large` have them.
SIZES = {
    "base": Load(ModelConfig(768, 6, 6, 12, ffn=2048), 512, 16_384, 12, 4, 8),
    "large": Load(ModelConfig(1024, 12, 12, 16, ffn=2752, qk_norm=True), 512, 16_384, 8, 4, 8),
}
TOY = {
    "toy": Load(ModelConfig(64, 1, 1, 2, ffn=128), 12, 512, 3, 1, 1),
    "toy, wider": Load(ModelConfig(128, 2, 2, 4, ffn=256, qk_norm=True), 12, 512, 3, 1, 1),
}


def prepare(toy: bool) -> Ready:
    """The ragged mixture of the training benchmarks as real tasks: texts, pictures and sounds, a text as target."""
    rng = np.random.default_rng(0)
    count, cell = (12, 8) if toy else (96, 28)

    def text(low: int, high: int) -> str:
        return " ".join(WORDS[int(i)] for i in rng.integers(len(WORDS), size=int(rng.integers(low, high + 1))))

    rows = []
    for number in range(count):
        high, wide = (cell * int(n) for n in (rng.integers(2, 5, 2) if toy else rng.integers(8, 17, 2)))
        length = int(16_000 * rng.uniform(*((1, 2) if toy else (4, 16))))
        rows.append(
            {
                "id": str(number),
                "img": rng.integers(0, 256, (high, wide, 3)).astype(np.uint8),
                "wav": {"array": rng.normal(0, 0.1, length).astype(np.float32), "rate": 16000},
                "q": text(10, 30),
                "a": text(1, 60),
            }
        )
    weights = {"words": 0.40, "picture": 0.35, "sound": 0.25}
    lines = {
        "words": "[TEXT:q] -> [TEXT:a]",
        "picture": "[IMAGE:img] [TEXT:q] -> [TEXT:a]",
        "sound": "[AUDIO:wav] -> [TEXT:a]",
    }
    cards = [
        load_task_card({"instruction": lines[n], "data": {"train": rows}, "weight": weights[n]}, name=n) for n in lines
    ]
    media = {"IMAGE": {"patch": cell // 2, **({} if not toy else {"widths": [8, 8]})}}
    return make_ready(cards, modalities(), DataSettings(pieces=300, modalities=media))


def measure(ready: Ready, load: Load, device: torch.device, compiled: bool, peak_flops: float) -> dict[str, float]:
    """Useful tokens per second, use of the peak, memory and the loader's share, over real packs of the mixture.

    FLOPs of adapters are not counted, so the use of the peak is a lower bound.
    """
    torch.manual_seed(0)
    vocabulary = max(32_000 if device.type == "cuda" else 0, len(ready.vocabulary))
    specs = {name: AdapterSpec(path, dict(values)) for name, (path, values) in ready.adapters.items()}
    config = replace(load.config, compile_blocks=compiled)
    network = Network(config, vocabulary, specs).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    tasks = [
        MixtureTask(t.card.name, len(t.sources["train"]), t.card.weight, t.card.epochs, t.plan.block)
        for t in ready.tasks
    ]
    settings = TrainSettings(
        steps=load.steps + load.warm,
        samples_per_step=load.samples,
        source_budget=load.budget,
        target_budget=load.budget // 2,
        workers=load.workers,
    )
    data = StepsModule(ready, Mixture(tasks, 0, load.samples), settings, 0)
    shares = iter(data.train_dataloader())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    waited = tokens = packs = 0.0
    work = 0
    begin = time.perf_counter()
    for step in range(load.warm + load.steps):
        if step == load.warm:
            _settle(device)
            waited, tokens, work, packs, begin = 0.0, 0.0, 0, 0.0, time.perf_counter()
        asked = time.perf_counter()
        share = unpacked(next(shares))
        waited += time.perf_counter() - asked
        optimizer.zero_grad(set_to_none=True)
        for pack in share.packs:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                losses = network(to_device(pack, device))
            (losses.values_U.mean() + losses.touch).backward()
            tokens += sum(pack.source.lengths) + len(pack.terms_U)
            packs += 1
            targets, sources = zip(*pack.cross, strict=True)
            work += 3 * flops(config, sources, targets, vocabulary)
        optimizer.step()
    _settle(device)
    seconds = time.perf_counter() - begin
    return {
        "tokens_per_s": tokens / seconds,
        "mfu": work / seconds / peak_flops,
        "memory_GiB": _memory(device),
        "loader_wait": waited / seconds,
        "ms_per_step": 1000 * seconds / load.steps,
        "packs_per_step": packs / load.steps,
        "parameters_M": sum(p.numel() for p in network.parameters()) / 1e6,
    }


def peak(device: torch.device) -> float:
    """Operations per second of the best of a few products: bf16 and 8192-cubed on a GPU, else fp32 and 1024-cubed."""
    side, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        _settle(device)
        begin = time.perf_counter()
        torch.mm(a, b)
        _settle(device)
        best = min(best, time.perf_counter() - begin)
    return 2.0 * side**3 / best


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> float:
    """The most memory that was in use: of the device, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
