"""Tiny pictures, codecs and models that write them: what tests of image targets share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiny_worlds as worlds
import torch

from ofasys_lite.adapters.image_codes import ImageCodesAdapter
from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, fill_codecs, save_codec
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.generalist.trained import TaskEntry
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.model import ModelConfig

#: 8 x 8 pixels, 4 x 4 positions of two codes.
SIZES: dict[str, Any] = {"size": 8, "factor": 2, "depth": 2, "codes": 8, "channels": 4, "width": 8}
COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
DATA = DataSettings(
    pieces=300,
    bins=16,
    modalities={"IMAGE": {"patch": 2, "widths": [8], "codec": {"width": 8, "channels": 4}}},
)
#: {codec} stands for the folder of the codec.
LINES = {
    "draw": "draw [TEXT:cap,drop=0.2] -> [IMAGE:img,codec=dnd({codec})]",
    "name": "[IMAGE:img] which colour? -> [TEXT:cap]",
    "both": "draw [TEXT:cap,drop=0.2] too -> it is [TEXT:label,closed_set=(red,green,blue)] and "
    "[IMAGE:img,codec=dnd({codec})] called [TEXT:cap]",
    "pages": "tell of [TEXT:cap] -> ([IMAGE:img,codec=dnd({codec})] [TEXT:label]){1,3}<over=pages>",
    "maybe": "perhaps [TEXT:cap] -> [IMAGE:sub?,codec=dnd({codec})] [TEXT:label]",
    "twice": "two of [TEXT:cap] -> [IMAGE:img,codec=dnd({codec})] ;; [TEXT:label]",
}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with a column for every slot of LINES: a square of one of three colours somewhere on black."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        pages = [_picture(rng) for _ in range(1 + number % 2)]
        label, pixels = _picture(rng)
        text = f"a {label} square"
        record = [{"img": image, "label": name} for name, image in pages]
        sub = None if number % 2 else pixels
        found.append({"id": f"r{number}", "img": pixels, "cap": text, "label": label, "pages": record, "sub": sub})
    return found


def _picture(rng: np.random.Generator) -> tuple[str, np.ndarray[Any, Any]]:
    label = list(COLOURS)[int(rng.integers(3))]
    pixels = np.zeros((8, 8, 3), np.uint8)
    top, left = rng.integers(0, 5, 2)
    pixels[top : top + 4, left : left + 4] = COLOURS[label]
    return label, pixels


def codec(folder: Path, seed: int = 0, **sizes: Any) -> Path:
    """The folder of a codec with random weights, whose codes differ all over a picture."""
    torch.manual_seed(seed)
    made = ImageCodec(CodecConfig(**{**SIZES, **sizes}))
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack([row["img"] for row in rows(32)]))
        side = made.config.size
        pixels = pixels.repeat_interleave(-(-side // 8), 1).repeat_interleave(-(-side // 8), 2)[:, :side, :side]
        latents = made.latents(pixels).flatten(0, 2)
        # the codes lie where the pictures are
        for depth in range(made.config.depth):
            book = made.quantizer.book(depth)
            at = torch.randint(len(latents), (made.config.codes,))
            book.weight_VC.copy_(latents[at] * 0.7**depth + 0.05 * torch.randn(made.config.codes, latents.shape[1]))
            if made.config.shared:
                break
    return save_codec(made, folder)


def task(name: str, folder: Path, line: str | None = None, count: int = 24, **more: Any) -> TaskCard:
    """The card of one of LINES (or of `line`), its codec in `folder`."""
    held = rows(count, seed=sum(map(ord, name)))
    text = (LINES[name] if line is None else line).replace("{codec}", str(folder))
    data = more.pop("data", {"train": held, "valid": held[:4], "test": held[:4]})
    return load_task_card({"instruction": text, "data": data, **more}, name=name)


def tiny(**more: Any) -> ModelConfig:
    """Two layers on each side, width 32."""
    return worlds.tiny(**{"encoder_layers": 2, "decoder_layers": 2, **more})


def ready(cards: Sequence[TaskCard], data: DataSettings = DATA, **more: Any) -> Ready:
    """The tasks, ready to be drawn from."""
    return make_ready(cards, more.pop("cards_of_modalities", modalities()), data, **more)


def generalist(prepared: Ready, seed: int = 0, **more: Any) -> Generalist:
    """An untrained model for the tasks, its codecs in place; it listens to its source enough that choices differ."""
    torch.manual_seed(seed)
    specs = {name: AdapterSpec(path, dict(values)) for name, (path, values) in prepared.adapters.items()}
    network = Network(tiny(**more), len(prepared.vocabulary), specs)
    fill_codecs(network.coder, prepared.codecs)
    with torch.no_grad():
        for block in network.body.decoder:
            block.cross.out.weight.mul_(6)  # type: ignore[union-attr]
    entries = {t.card.name: TaskEntry(t.card, t.plan) for t in prepared.tasks}
    network.eval()
    return Generalist(network, prepared.vocabulary, entries, modalities(), DATA)


def world(folder: Path, *names: str, seed: int = 0, **more: Any) -> tuple[Ready, Generalist]:
    """Tasks by name over one codec, and a model for them."""
    place = codec(folder)
    prepared = ready([task(name, place) for name in names])
    return prepared, generalist(prepared, seed, **more)


def coder(model: Generalist) -> ImageCodesAdapter:
    """The only adapter that writes codes."""
    (found,) = (a for a in model.network.adapters.values() if isinstance(a, ImageCodesAdapter))
    return found


def examples(prepared: Ready, name: str, count: int, first: int = 0) -> list[Example]:
    """Examples of a task as they are evaluated."""
    found = next(t for t in prepared.tasks if t.card.name == name)
    source = found.sources["train"]
    return [found.maker.example(source.row(i), source.ids(i), None, False) for i in range(first, first + count)]


def pack(found: Sequence[Example]) -> Batch:
    """One pack of tensors."""
    return to_device(collate(found), torch.device("cpu"))


def coded_row(prepared: Ready, name: str, number: int = 0) -> Mapping[str, Any]:
    """A row of a task."""
    return next(t for t in prepared.tasks if t.card.name == name).sources["train"].row(number)


def small_run(cards: Sequence[TaskCard], folder: Path, **more: Any) -> Generalist:
    """A short training, quiet, two decoder layers."""
    return worlds.run(cards, folder, data=more.pop("data", DATA), model={"decoder_layers": 2}, **more)
