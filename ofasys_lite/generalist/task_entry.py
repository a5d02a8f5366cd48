"""A task as a model knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.generalist.calls import decode_options
from ofasys_lite.plan import Plan
from ofasys_lite.plan.decoding import held_for


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as a model knows it: its card, and its plan with frozen closed sets."""

    card: TaskCard
    plan: Plan

    @property
    def decoding(self) -> dict[str, Any]:
        """What the line's `decode=` says, and over it what the card's `decoding` says."""
        return held_for(self.plan, self.plan.decoding(), self.card.decoding)

    def options(self, **given: Any) -> DecodeOptions:
        """The task's decoding, with what is given in its place; CardError if the line has no use for it."""
        found = decode_options(self.plan, self.card.decoding, given)
        return found or DecodeOptions.of(self.decoding, ways=self.plan.ways())
