"""An explanation in the terminal: of a line, or of a type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ofasys_lite.cards.classes import load_object
from ofasys_lite.cards.types import AttributeSpec, ModalityCard
from ofasys_lite.cards.ways import Way, ways_of
from ofasys_lite.plan.explanation import VOCABULARY, Explanation, Line
from ofasys_lite.plan.language import LANGUAGE
from ofasys_lite.plan.narrow import keep_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def show(explanation: Explanation, console: Console) -> None:
    """Prints an explanation: canonical form, a table per paraphrase, cost, notes, and what cannot be trained yet."""
    from rich.text import Text

    console.print(Text(explanation.canonical, style="bold"))
    many = len(explanation.templates) > 1
    for number, lines in enumerate(explanation.templates, 1):
        table = _table(lines, f"paraphrase {number}" if many else None)
        keep_words(table, console)
        console.print(table)
    console.print(Text(f"a sample: about {explanation.source} source and {explanation.target} target rows"))
    if explanation.costs:
        shown = ", ".join(f"{cost.preset} {cost.training / 1e9:.2f}" for cost in explanation.costs)
        console.print(Text(f"GFLOPs to train on it (adapters apart, {VOCABULARY:,} rows of vocabulary): {shown}"))
    for note in explanation.notes:
        console.print(Text(f"note: {note}"))
    for reason in explanation.cannot_train:
        console.print(Text(f"cannot be trained yet: {reason}", style="red"))
    console.print(Text(f"plan {explanation.plan.hash}", style="dim"))


def show_type(card: ModalityCard, console: Console) -> None:
    """Prints what a slot of a type takes: its own attributes and those of the language, with what is allowed."""
    from rich.table import Table
    from rich.text import Text

    said = {"now": "yes", "later": "not yet", "never": "no"}
    console.print(Text(f"{card.name}: read {said[card.reads]}, written {said[card.writes]}", style="bold"))
    if card.aliases:
        console.print(Text(f"also written {', '.join(card.aliases)}"))
    table = Table("attribute", "side", "allowed", "meaning")
    for number, spec in enumerate((*card.attributes, *LANGUAGE)):
        allowed = _allowed(spec, card)
        if allowed:
            table.add_row(*(Text(cell) for cell in (spec.key, spec.side, allowed, spec.help)))
        if number == len(card.attributes) - 1:
            table.add_section()
    keep_words(table, console)
    console.print(table)
    if card.metric:
        console.print(Text(f"metric of a target that names none: {card.metric}"))


def _allowed(spec: AttributeSpec, card: ModalityCard) -> str:
    """What an attribute may be; empty where the type has no use for it."""
    if spec.side == "target" and card.writes != "now":
        return ""
    if spec.key == "codec":
        return " ".join(f"{name}(...)" for name in card.codecs)
    if spec.key == "decode":
        return ", ".join(_way(way, card) for way in ways_of(card) if _writes(way, card))
    named = {"preprocess": card.preprocess, "adapter": card.adapter}.get(spec.key)
    if named is not None:
        return ", ".join(named)
    if spec.key == "loss":
        return ", ".join(f"{name} (not yet)" if state == "later" else name for name, state in card.losses.items())
    if spec.choices:
        return ", ".join(spec.choices)
    if spec.low is None and spec.high is None:
        return {"flag": "stands alone", "int": "a whole number", "float": "a number", "str": "text"}.get(
            spec.type, spec.type
        )
    low = "" if spec.low is None else f"{spec.low:g}"
    bounds = f"{low} to {spec.high:g}" if spec.high is not None else f"from {low}"
    return f"whole numbers {bounds}" if spec.type == "int" else bounds


def _writes(way: Way, card: ModalityCard) -> bool:
    """Whether a way is for the type: ids that depend on each other are not written in rounds."""
    if not way.together or way.what != "token ids":
        return True
    return any(getattr(load_object(path, "preprocess"), "in_rounds", False) for path in card.preprocess.values())


def _way(way: Way, card: ModalityCard) -> str:
    """`sample`; a writer of the card with what it takes, and the defaults: `flow(steps=8, noise=1.0)`."""
    options = ", ".join(f"{spec.key}={spec.default}" for spec in card.writers.get(way.name, ()))
    return f"{way.name}({options})" if options else way.name


def _table(lines: tuple[Line, ...], title: str | None) -> Table:
    """The table of one paraphrase; columns without content are left out."""
    from rich.table import Table
    from rich.text import Text

    columns = {
        "side": [line.side for line in lines],
        "segment": ["  " * line.depth + _segment(line) for line in lines],
        "preprocess": [line.preprocess for line in lines],
        "adapter": [line.adapter for line in lines],
        "tokens": [_tokens(line) for line in lines],
        "loss": [line.loss for line in lines],
        "in decoding": [line.constraint for line in lines],
        "attributes": [line.attributes for line in lines],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table(title=title, title_justify="left")
    for name in kept:
        table.add_column(name, overflow="fold", justify="right" if name == "tokens" else "left")
    for row in zip(*kept.values(), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _segment(line: Line) -> str:
    return f"{line.modality} {line.what}" if line.segment == "slot" else f"{line.segment}: {line.what}"


def _tokens(line: Line) -> str:
    if line.tokens is None:
        return "" if line.segment == "alternative" else "?"
    return ("" if line.tokens.how == "exact" else "~") + str(line.tokens.count)
