"""What a run begins with: a trained model, how much of its tasks is drawn again; or parts of others. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.splits import open_card
from ofasys_lite.errors import CardError, OfasysError, check_keys


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with: a trained model, or weights of others for its parts.

    Attributes:
        path: A run's folder or an export; in Python a repository's id, too. Empty: none.
        replay: Share of the samples that its tasks get together (0 to below 1), where their data are found.
        parts: By modality, its name in small letters: where weights of another house for its part of the model lie.
    """

    path: str = ""
    replay: float = 0.0
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        number = isinstance(self.replay, (int, float)) and not isinstance(self.replay, bool)
        if not number or not 0 <= self.replay < 1:
            raise CardError(f"start: replay is {self.replay!r}", help="a share from 0 to below 1, such as 0.2")
        for key, source in self.parts.items():
            if not isinstance(source, str) or not source:
                raise CardError(f"start: {key} is {source!r}", help=f"a folder or a file: start.{key}=PATH")
        if self.path and self.parts:
            first, source = next(iter(self.parts.items()))
            raise CardError(
                f"start: path ({self.path}) and {first} ({source}) are both given",
                help="a trained model has all its weights: keep `path`, or the parts of a fresh one",
            )

    @staticmethod
    def of(value: Any, cards: Mapping[str, ModalityCard] | None = None) -> Start | None:
        """The start that a path or a mapping (`path`, `replay`, parts) says; None where nothing does.

        Args:
            cards: Modality cards, by which names of parts are checked.

        Raises:
            CardError: Unknown keys (the near name is offered), a replay without a path, a wrong value, a modality whose
                card names no reader of weights of others.
        """
        if value is None:
            return None
        if not isinstance(value, Mapping):
            return Start(str(value))
        given = {str(key): each for key, each in value.items() if each is not None}
        if cards is not None:
            _check_names(value, cards)
        parts = {k: str(v) if isinstance(v, Path) else v for k, v in given.items() if k not in _MODEL}
        if given.get("path") is None:
            if given.get("replay"):
                raise CardError("start: there is nothing to replay", help="name a trained model, too: start=runs/x")
            return Start(parts=parts) if parts else None
        return Start(str(given["path"]), given.get("replay") or 0.0, parts)


#: Keys of a start that are no parts.
_MODEL = ("path", "replay")


def _check_names(value: Mapping[Any, Any], cards: Mapping[str, ModalityCard]) -> None:
    """CardError for keys that are neither of a model nor a modality that can begin with weights of others."""
    able = sorted({card.name.lower() for card in cards.values() if card.starts})
    names = {name.lower() for name in cards}
    check_keys("start", (key for key in value if key not in names), (*_MODEL, *able))
    for key in (str(key) for key, source in value.items() if source is not None):
        if key not in _MODEL and key not in able:
            raise CardError(
                f"start.{key}: {key.upper()} has no part that begins with weights of others",
                help=f"these have: {', '.join(able)}; a card says it: starts: my_module.read",
            )


def replayed(
    cards: Sequence[TaskCard], old: Mapping[str, TaskCard], share: float
) -> tuple[list[TaskCard], tuple[str, ...]]:
    """(the tasks, and those of `old` that get `share` of all samples together; what should be said of it).

    Args:
        cards: What is trained; a task that is among them keeps its weight.
        share: 0 to below 1.
    """
    names = {card.name for card in cards}
    rest = [card for name, card in old.items() if name not in names and card.data]
    if not share or not rest:
        return list(cards), ()
    found, notes = list[TaskCard](), list[str]()
    for card in rest:
        try:
            stored = [spec for spec in card.data.values() if isinstance(spec, str) and spec.startswith("<")]
            if stored:
                raise CardError(f"its rows were Python objects ({stored[0][1:-1]})")
            open_card(card)
            found.append(card)
        except OfasysError as error:
            notes.append(f"task {card.name} is not replayed: {error.message}")
    factor = share / (1 - share) * sum(map(_first, cards)) / max(1e-9, sum(map(_first, found)))
    again = [replace(card, weight=_times(card.weight, factor)) for card in found]
    if again:
        notes.append(f"{', '.join(card.name for card in again)}: drawn again, {share:.0%} of all samples together")
    return [*cards, *again], tuple(notes)


def unlearned(who: str, old: Iterable[str], cards: Sequence[TaskCard], way: str) -> tuple[str, ...]:
    """A note of learned tasks that are not drawn any more, and the way to have them drawn; nothing where all are."""
    left = [name for name in old if name not in {card.name for card in cards}]
    told = f"{who} learned {', '.join(left)}: not trained on here, they may be unlearned"
    return (f"{told}; {way}" if way else told,) if left else ()


def _first(card: TaskCard) -> float:
    """The weight at the begin."""
    return float(card.weight[0][1]) if isinstance(card.weight, (list, tuple)) else float(card.weight)


def _times(weight: Any, factor: float) -> Any:
    if isinstance(weight, (list, tuple)):
        return [[step, value * factor] for step, value in weight]
    return weight * factor
