"""What is found while one line is planned: mistakes with their places, notes, and what has to wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.errors import InstructionError, Place
from ofasys_lite.instruction.places import place_of
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.segments import LossSpec


@dataclass(slots=True)
class Planning:
    """What is known and found while one line is planned.

    Attributes:
        later: Reasons why the line cannot be trained yet.
        align: The template at hand is one of `<->`.
        alignments: What `loss=` of its slots says of the whole line, and where.
    """

    card: TaskCard
    modalities: Mapping[str, ModalityCard]
    errors: list[InstructionError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    align: bool = False
    alignments: list[tuple[LossSpec, Span]] = field(default_factory=list)

    def place(self, span: Span) -> Place:
        """The place of `span` in the card's line."""
        return place_of(self.card.instruction, span, self.card.origin)

    def error(self, code: str, message: str, span: Span, help: str = "") -> None:
        """Notes a mistake."""
        self.errors.append(InstructionError(message, code=code, place=self.place(span), help=help))

    def note(self, text: str) -> None:
        """Notes a remark, once."""
        if text not in self.notes:
            self.notes.append(text)

    def not_yet(self, reason: str) -> None:
        """Notes why the line cannot be trained yet, once."""
        if reason not in self.later:
            self.later.append(reason)
