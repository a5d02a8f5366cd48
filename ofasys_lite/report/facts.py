"""What is said above a table of scores: the model, where it was judged, and how its answers were decoded."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from ofasys_lite.generalist.generalist import Generalist


def facts_of(model: Generalist, limit: int | None, seconds: float) -> dict[str, str]:
    """The model, the share of rows, the time and the software of an evaluation, as texts by name."""
    import torch

    config = model.network.config
    return {
        "model": f"{config.encoder_layers} + {config.decoder_layers} layers, width {config.width}",
        "parameters": f"{model.parameters():,}",
        "vocabulary": f"{len(model.vocabulary):,} rows",
        "tasks learned": str(len(model.tasks)),
        "rows evaluated": "all of the split" if limit is None else f"at most {limit:,} a task, evenly spread",
        "evaluation": f"{seconds:.0f} s, {model.precision}, {model.device}",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def decoding_of(model: Generalist, tasks: Sequence[str], given: Mapping[str, Any] | None) -> dict[str, str]:
    """How answers were decoded where it is not the plain way: as was asked for here, or as lines and cards say."""
    if given:
        return {"decoding given": _listed(given)}
    ways: dict[str, list[str]] = {}
    for task in tasks:
        held = model.entry(task).decoding
        if held:
            ways.setdefault(_listed(held), []).append(task)
    return {"decoding": "; ".join(f"{way} in {', '.join(found)}" for way, found in ways.items())} if ways else {}


def _listed(decoding: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in decoding.items())
