"""A task as a model knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.plan import Plan

__all__ = ["TaskEntry"]


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as a model knows it: its card, and its plan with frozen closed sets."""

    card: TaskCard
    plan: Plan

    @property
    def decoding(self) -> dict[str, Any]:
        """What the line's `decode=` says, and over it what the card's `decoding` says."""
        return {**self.plan.decoding(), **self.card.decoding}
