"""The tiny worlds of the equality test: every objective, writer and modality once, alone and together in one step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import code_worlds
import numpy as np
import tiny_worlds
import torch

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, save_codec
from ofasys_lite.layout.ready import DataSettings

__all__ = ["OLD", "WORLDS", "World"]

#: Ways of decoding: text and what is made of its ids, codes from left to right, codes in rounds.
TEXT = (
    {"method": "greedy", "max_length": 12},
    {"method": "beam", "beam": 3, "n_best": 2, "max_length": 12},
    {"method": "sample", "seed": 1, "top_k": 20, "max_length": 12},
)
#: Every option of decoding that is not its default.
OPTIONS = (
    {"method": "beam", "beam": 4, "n_best": 3, "exact": True, "length_penalty": 0.5, "min_length": 3, "max_length": 10},
    {"method": "greedy", "no_repeat_ngram": 1, "max_length": 9},
    {"method": "sample", "temperature": 0.7, "top_p": 0.8, "seed": 3, "min_length": 2, "max_length": 9},
)
#: Targets beside each other have hypotheses of their own, so no `n_best`.
SEVERAL = (TEXT[0], {"method": "beam", "beam": 3, "max_length": 12}, TEXT[2])
CODES = ({"method": "greedy"}, {"method": "sample", "seed": 1, "temperature": 1.5})
GUIDED = ({"method": "greedy"}, {"method": "sample", "seed": 1, "temperature": 1.5, "cfg": 2.0})
ROUNDS = ({"method": "mask_predict", "steps": 3, "temperature": 1.5, "seed": 1},)
JUDGED = (*ROUNDS, {"method": "mask_predict", "steps": 4, "candidates": 2, "patience": 1, "temperature": 1.5})


@dataclass(frozen=True)
class World:
    """Tasks that are trained for two steps, decoded and judged.

    Attributes:
        cards: Makes the task cards; codecs go into the given folder.
        ways: Task -> ways of decoding; TEXT for tasks without an entry.
        model: What differs from `tiny_worlds.tiny`.
        settings: What differs from `tiny_worlds.run`.
        data: DataSettings, None for `tiny_worlds.small_data`.
        quick: Part of the unmarked test.
        evaluated: Judged on every metric and baseline, too, and the report's file compared.
        trains: A codec is trained before, whose hash is this machine's own.
    """

    cards: Callable[[Path], Sequence[TaskCard]]
    ways: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    quick: bool = False
    evaluated: bool = False
    trains: bool = False


# ---------------------------------------------------------------------- token ids

#: What `tiny_worlds.LINES` leaves out.
LINES = {
    "mass": "[TEXT:cap,mask_ratio=0.5,mask_style=mass] -> [TEXT:cap]",
    "token": "[TEXT:cap,mask_ratio=0.4,mask_style=token,uncased] -> [TEXT:cap,noise_ratio=0.3]",
    "letters": "how is [TEXT:text,spelled] spelled? -> [TEXT:text,spelled,min_length=2,max_length=9]",
    "kinds": "tell [TEXT:cap] -> ([TEXT:b] | [PHONE:p])*<over=kinds,by=kind,max=3>",
    "corner": "where is [TEXT:label,drop=0.3]? -> [BOX:box,format=xywh,size=32]",
    "choose": "[IMAGE:img] which of them? -> [TEXT:label,closed_set=@labels]",
    "entry": "read [TEXT:cap] -> [STRUCT:entry,schema=record(colour=(red,green,blue),name=text,count=number,"
    "optional=(count))]",
    "nothing": "-> [TEXT:label]",
    "shots": "([IMAGE:img] Q: [TEXT:q] A: [TEXT:a])*<over=shots,max=2> [IMAGE:img] Q: [TEXT:label] A: -> [TEXT:text]",
    "history": "[TEXT:text] does -> ([TEXT:title] [CATEGORY:action,closed_set]){1,3}<over=events,max=2>",
    "columns": "count [TEXT:text] -> ([BOX:boxes,size=32] [TEXT:names])*<max=2>",
    "parts": "guess from [TEXT:cap,drop=0.3] -> [TEXT:label,closed_set] ;; [TEXT:text] ;; [CATEGORY:item,closed_set]",
    "phones": "[AUDIO:wav,loss=ctc(phones,weight=0.5),speed=0.1] [AUDIO:echo,loss=ctc(text)] is -> [PHONE:phones]",
    "augmented": "[IMAGE:img,augment=strong,size=16] shows -> [CATEGORY:label,closed_set]",
    "words": "say [TEXT:text] -> it is [TEXT:label] and [TEXT:sub?]",
    "schema": "[STRUCT:record] and [PHONE:phones] of [CATEGORY:label] [BOX:box,size=32] -> [TEXT:text]",
}
_MORE: Mapping[str, Mapping[str, Any]] = {"words": {"loss_on_words": True, "weight": 0.5}}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of `tiny_worlds` with the columns of LINES."""
    rng = np.random.default_rng(seed + 1)
    found = tiny_worlds.rows(count, seed)
    for number, row in enumerate(found):
        kinds = [{"kind": "b", "b": row["text"]}, {"kind": "p", "p": row["phones"]}] * 2
        echo = rng.normal(0, 0.1, int(rng.integers(8000, 10000))).astype(np.float32)
        shot = {"img": rng.integers(0, 256, (16, 16, 3)).astype(np.uint8), "q": row["label"], "a": row["text"]}
        row |= {
            "kinds": kinds[: 1 + number % 4],
            "labels": list(tiny_worlds.LABELS)[: 2 + number % 2] + ([row["label"]] if number % 2 else ["blue"]),
            "entry": {"colour": row["label"], "name": row["text"], **({"count": number} if number % 2 else {})},
            "shots": [shot] * (number % 4),
            "boxes": [row["box"]] * (number % 3),
            "names": [row["label"]] * (number % 3),
            "echo": {"array": echo, "rate": 16000},
        }
        row["labels"] = list(dict.fromkeys(row["labels"])) if row["label"] in row["labels"] else [row["label"], "x"]
    return found


def _task(name: str) -> TaskCard:
    if name in LINES:
        held = rows(24, seed=sum(map(ord, name)))
        data = {"train": held, "valid": held[:4], "test": held[:4]}
        more = {"decoding": {"max_length": 12}, **_MORE.get(name, {})}
        return tiny_worlds.task(name, data, line=LINES[name], **more)
    return tiny_worlds.task(name, decoding={"max_length": 12})


def _text(*names: str, **more: Any) -> World:
    ways = {name: SEVERAL for name in names if name in ("both", "parts")}
    return World(lambda _: [_task(name) for name in names], more.pop("ways", ways), **more)


# ---------------------------------------------------------------------- codes

_FILL = "fill [IMAGE:img,mask_ratio=0.5,size=16{style}] -> [IMAGE:img,codec=dnd({codec}{more}),{way}]"
_TOGETHER = "decode=mask_predict(steps=3)"


def _fill(more: str = "", way: str = _TOGETHER, style: str = "") -> str:
    return _FILL.replace("{more}", more).replace("{way}", way).replace("{style}", style)


#: What `code_worlds.LINES` leaves out: name -> (line, ways).
CODE_LINES: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]] = {
    "filled": (_fill(), ROUNDS),
    "judged": (_fill(",judges=0.25", "weight=2," + _TOGETHER), JUDGED),
    "block": (_fill(way="decode=sample(temperature=2)", style=",mask_style=block"), CODES),
    "random": ("draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},order=random,anneal=100)]", CODES),
    "correct": ("draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},correct=0.5)]", CODES),
    "flat": ("draw [TEXT:cap,drop=0.2] -> [IMAGE:img,codec=dnd({codec},layers=flat)]", GUIDED),
    "even": ("draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},layers=even,feedback=true,weights=(1,0.5))]", CODES),
    "parallel": ("draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},layers=parallel)]", CODES),
}
_CODE_WAYS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    **{name: ways for name, (_, ways) in CODE_LINES.items()},
    **dict.fromkeys(("draw", "both"), GUIDED),
    **dict.fromkeys(("pages", "maybe", "twice"), CODES),
}


def _code_task(name: str, codec: Path) -> TaskCard:
    line = CODE_LINES[name][0] if name in CODE_LINES else code_worlds.LINES[name]
    source, target = line.split("->")
    for column in ("cap", "label"):
        # an untrained model does not come to an end by itself
        target = target.replace(f"[TEXT:{column}]", f"[TEXT:{column},max_length=5]")
    return code_worlds.task(name, codec, f"{source}->{target}")


def _coded(*names: str, sizes: Mapping[str, Any] | None = None, scalar: bool = False, **more: Any) -> World:
    """Tasks over one codec with random weights, or over one of finite scalar codes."""

    def cards(folder: Path) -> list[TaskCard]:
        if scalar:
            torch.manual_seed(0)
            place = save_codec(ImageCodec(CodecConfig(**code_worlds.SIZES, levels=(4, 2))).eval(), folder)
        else:
            place = code_worlds.codec(folder, **(sizes or {}))
        return [_code_task(name, place) for name in names]

    model = {"decoder_layers": 2, **more.pop("model", {})}
    ways = {name: _CODE_WAYS[name] for name in names if name in _CODE_WAYS}
    return World(cards, ways, model, data=code_worlds.DATA, **more)


def _trained_codec(folder: Path) -> list[TaskCard]:
    """A task whose codec is trained before the run."""
    line = "draw [TEXT:cap] -> [IMAGE:img,size=8,codec=dnd(depth=2,factor=2,codes=8,steps=3)]"
    return [code_worlds.task("own", folder, line)]


def _mixed(folder: Path) -> list[TaskCard]:
    """Ids, codes from left to right, codes in rounds with judges and CTC in one step."""
    place = code_worlds.codec(folder)
    return [
        *(_code_task(name, place) for name in ("draw", "judged")),
        *(_task(name) for name in ("speech", "caption", "both")),
    ]


# ---------------------------------------------------------------------- all of them

_TINY = tuple(tiny_worlds.LINES)
_CODED = (*code_worlds.LINES, *CODE_LINES)
#: Every choice of the encoder-decoder that the tiny model does not make.
_MODERN = {
    **{"norm": "rmsnorm", "mlp": "swiglu", "heads": 4, "kv_heads": 2, "bias": True, "qk_norm": True, "dropout": 0.1},
    **{"encoder_layers": 2, "decoder_layers": 2, "rotary_layout": "blocks"},
}
_ASKED = ("caption", "detect", "entry", "kinds")


def _image(**settings: Any) -> DataSettings:
    """As `tiny_worlds.small_data`, with other settings of IMAGE."""
    return DataSettings(pieces=400, bins=32, modalities={"IMAGE": {"patch": 4, **settings}})


WORLDS: Mapping[str, World] = {
    # everything together: several packs a step
    "tiny": _text(*_TINY, settings={"samples_per_step": 26, "source_budget": 500}, quick=True, evaluated=True),
    "more": _text(*LINES, settings={"samples_per_step": 34, "source_budget": 600}, quick=True),
    "codes": _coded(*_CODED, settings={"samples_per_step": 28, "target_budget": 160}, quick=True, evaluated=True),
    "mixed": World(
        _mixed,
        {"both": SEVERAL, **{name: _CODE_WAYS[name] for name in ("draw", "judged")}},
        {"decoder_layers": 2},
        {"samples_per_step": 20, "source_budget": 200, "accounting": "token", "clip": 1.0, "ema": 0.5},
        code_worlds.DATA,
        quick=True,
    ),
    # each alone
    **{name: _text(name) for name in (*_TINY, *LINES)},
    **{f"codes-{name}": _coded(name) for name in _CODED},
    # ways to train
    "modern": _text(
        *("caption", "speech", "detect", "parts"),
        model=_MODERN,
        settings={"label_smoothing": 0.1, "accounting": "sample", "source_budget": 150, "clip": 1.0, "ema": 0.9},
    ),
    "axial": _text("restore", "puzzle", model={"rotary_layout": "axial", "cross_rotary": False, "kv_heads": 1}),
    "linear": _text("caption", "find", data=_image(stem="linear", coordinates=False)),
    "blocks": _text("caption", "restore", data=_image(widths=[8, 8], blocks=1, max_pixels=400)),
    "decoded": _text(*_ASKED, ways=dict.fromkeys(_ASKED, OPTIONS)),
    "recomputed": _coded("draw", "judged", model={"gradient_checkpointing": True, "dropout": 0.1}),
    "codes-scalar": _coded("draw", "filled", scalar=True),
    "codes-shared": _coded("draw", "judged", sizes={"shared": True}),
    "codes-trained": World(_trained_codec, {"own": CODES}, {"decoder_layers": 2}, data=code_worlds.DATA, trains=True),
    "decoder-only": _text("nothing", model={"encoder_layers": 0}),
}


#: What an old export and an old run folder hold; the codec lies in the folder already.
OLD = World(
    lambda codec: [
        *(_code_task(n, codec) for n in ("draw", "judged")),
        *(_task(n) for n in ("speech", "find", "both")),
    ],
    {"both": SEVERAL, **{name: _CODE_WAYS[name] for name in ("draw", "judged")}},
    {"width": 8, "ffn": 8, "decoder_layers": 2},
)


def described() -> str:
    """The lines of all worlds as JSON, to see what is covered."""
    return json.dumps({**tiny_worlds.LINES, **LINES, **code_worlds.LINES, **CODE_LINES}, indent=1)
