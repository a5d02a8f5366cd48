"""Presets for the Python API: the same files that the command line composes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.commands.compose import compose
from ofasys_lite.errors import CardError, did_you_mean

__all__ = ["Presets", "read_presets", "with_settings"]


@dataclass(frozen=True, slots=True)
class Presets:
    """What presets/ says about one model and one trainer.

    Attributes:
        model: Fields of ModelConfig.
        modalities: Settings by modality.
        trainer: Settings of training.
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


def with_settings(
    cards: Mapping[str, ModalityCard], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, ModalityCard]:
    """Modality cards by name and alias, single settings changed.

    Raises:
        CardError: An unknown modality or setting; the nearest is offered.
    """
    changed: dict[str, ModalityCard] = {}
    for name, values in settings.items():
        if name not in cards:
            raise CardError(f"unknown modality {name}", help=did_you_mean(name, sorted(cards)))
        card = cards[name]
        for key in values:
            if key not in card.settings:
                raise CardError(
                    f"modality {card.name} has no setting `{key}`",
                    help=did_you_mean(str(key), card.settings, "settings"),
                )
        changed[card.name] = replace(card, settings={**card.settings, **values})
    return {name: changed.get(card.name, card) for name, card in cards.items()}
