"""Presets for the Python API: the same files that the command line composes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.commands.compose import compose


@dataclass(frozen=True, slots=True)
class Presets:
    """What presets/ says about one model and one trainer.

    Attributes:
        data: Settings of data.
        steps: Steps of a run that names no end.
    """

    model: Mapping[str, Any]
    modalities: Mapping[str, Mapping[str, Any]]
    trainer: Mapping[str, Any]
    data: Mapping[str, Any]
    steps: int | None


def read_presets(model: str = "small", trainer: str = "cpu", folder: str | Path | None = None) -> Presets:
    """The presets of these names, the package's or those in a folder of your own.

    Raises:
        CardError: An unknown name; the nearest is offered.
    """
    found = compose("train", [f"model={model}", f"trainer={trainer}"], folder)
    return Presets(found["model"], found["modalities"], found["trainer"], found["data"], found["steps"])
