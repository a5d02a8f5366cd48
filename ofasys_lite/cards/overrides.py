"""Settings of modalities as a run or a model changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import CardError, did_you_mean

__all__ = ["with_settings"]


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
            raise CardError(f"unknown modality {name}", help=did_you_mean(str(name), sorted(cards)))
        card = cards[name]
        if not isinstance(values, Mapping):
            raise CardError(f"modalities.{name} is `{values}`", help=f"write modalities.{name}.KEY=VALUE")
        for key in values:
            if key not in card.settings:
                raise CardError(
                    f"modality {card.name} has no setting `{key}`",
                    help=f"{did_you_mean(str(key), card.settings, 'settings')}; a setting stands in its card first",
                )
        changed[card.name] = replace(card, settings={**card.settings, **values})
    return {name: changed.get(card.name, card) for name, card in cards.items()}
