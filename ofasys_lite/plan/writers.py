"""Writers of a modality's own: `decode=name(...)` of a slot, held against the table of options of its card."""

from __future__ import annotations

from dataclasses import replace

from ofasys_lite.cards.types import AttributeSpec, ModalityCard
from ofasys_lite.errors import did_you_mean, listed
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.constraints import Constraint, Whole
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import Options, option

__all__ = ["options_in_words", "with_options", "writer_of"]

_KINDS: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "flag": bool,
    "str": str,
    "choice": str,
    "list": tuple,
}


def writer_of(planning: Planning, span: Span, decode: CallValue | None, modality: ModalityCard) -> CallValue:
    """The writer that a slot names, or the card's first one, with a value for each of its options.

    Args:
        planning: Takes the mistakes (E106, E107, E108, E113).
        span: Place of the attribute, or of the slot.
        decode: What the line says; None if it says nothing.
        modality: Has writers.
    """
    name = next(iter(modality.writers)) if decode is None else decode.name
    table = {spec.key: spec for spec in modality.writers.get(name, ())}
    found = {key: spec.default for key, spec in table.items()}
    if decode is not None and decode.positional:
        planning.error("E106", f"`decode={name}(...)` takes arguments by name", span, listed(f"{name} takes", table))
    given = () if decode is None else decode.keyed
    for key in sorted({key for key, _ in given if [k for k, _ in given].count(key) > 1}):
        planning.error("E108", f"decode: `{key}` is given twice", span, "keep one of them")
    for key, value in {} if decode is None else decode.options().items():
        if key not in table:
            help = did_you_mean(key, table, f"{name} takes")
            planning.error("E113", f"the writer {name} of {modality.name} has no `{key}`", span, help)
        elif not _typed(value, table[key]):
            planning.error("E106", f"decode: `{key}={value}` is of another kind", span, _help(table[key]))
        elif not _holds(value, table[key]):
            planning.error("E107", f"decode: `{key}={value}` is out of range", span, _help(table[key]))
        else:
            found[key] = value
    return CallValue(name, (), tuple(sorted(found.items())))


def with_options(part: Constraint, options: Options) -> Constraint:
    """What a slot may hold, with the options of the writer that the slot names, if it is written all at once."""
    decode = option(options, "decode")
    if isinstance(part, Whole) and isinstance(decode, CallValue):
        return replace(part, options=(("writer", decode.name), *decode.options().items()))
    return part


def options_in_words(name: str, options: tuple[AttributeSpec, ...]) -> str:
    """`flow(steps=8, noise=1.0)`: a writer with its defaults."""
    return f"{name}({', '.join(f'{spec.key}={spec.default}' for spec in options)})"


def _typed(value: object, spec: AttributeSpec) -> bool:
    kinds = _KINDS.get(spec.type, object)
    return isinstance(value, kinds) and (spec.type == "flag" or not isinstance(value, bool))


def _holds(value: object, spec: AttributeSpec) -> bool:
    if isinstance(value, (int, float)) and spec.type in ("int", "float"):
        return (spec.low is None or value >= spec.low) and (spec.high is None or value <= spec.high)
    return spec.type != "choice" or value in spec.choices


def _help(spec: AttributeSpec) -> str:
    if spec.type == "choice":
        return listed("allowed", spec.choices)
    words = {"int": "a whole number", "float": "a number", "flag": "true or false", "list": "a list such as (a,b)"}
    low = "" if spec.low is None else f" from {spec.low:g}"
    high = "" if spec.high is None else f" to {spec.high:g}"
    return f"allowed: {words.get(spec.type, 'a word')}{low}{high}; {spec.help}"
