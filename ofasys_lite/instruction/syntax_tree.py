"""The syntax tree of an instruction line. Every node has its span; equality ignores spans.

Text, files and torch play no part here: a tree is what the line says, before any card gives it a meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of character offsets in the text that was parsed."""

    start: int
    end: int


NOWHERE = Span(0, 0)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was spelt (`007` stays `007`)."""

    text: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Bare:
    """A bareword: letters, digits and `_ . / : @ + -`."""

    text: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quoted value, escapes resolved."""

    text: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class ListValue:
    """`(a,b,c)`."""

    items: tuple[Value, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call, with or without a key."""

    key: str | None
    value: Value
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arg, key=arg)`."""

    name: str
    arguments: tuple[Argument, ...]
    span: Span = field(default=NOWHERE, compare=False)


Value = Number | Bare | Quoted | ListValue | Call


@dataclass(frozen=True, slots=True)
class Attribute:
    """`key` or `key=value`; `value` is None for a bare key."""

    key: str
    value: Value | None
    span: Span = field(default=NOWHERE, compare=False)
    key_span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Words:
    """Prompt text, escapes resolved, white space at both ends dropped and kept byte for byte inside."""

    text: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Slot:
    """`[TYPE:column?,attributes]` or `[TYPE:column>rejected,...]`.

    Attributes:
        type: The type as written, in capitals (`BOUNDING_BOX` stays so; cards resolve aliases).
        column: Column name, dots included; None for an unnamed slot.
        exact: True when the column was quoted: then it is one exact name, never a nested path.
        optional: True for `column?`.
        rejected: The second column of a preference pair, or None.
        rejected_exact: True when that column was quoted.
        attributes: In written order, duplicates kept (the plan refuses them with their place).
    """

    type: str
    column: str | None
    exact: bool = False
    optional: bool = False
    rejected: str | None = None
    rejected_exact: bool = False
    attributes: tuple[Attribute, ...] = ()
    span: Span = field(default=NOWHERE, compare=False)
    type_span: Span = field(default=NOWHERE, compare=False)
    column_span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Quantifier:
    """`*` is (0, None); `{m}` is (m, m); `{m,}` is (m, None); `{m,n}` is (m, n). Attributes stand in `<...>`."""

    least: int
    most: int | None
    attributes: tuple[Attribute, ...] = ()
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Group:
    """`( a | b )*<...>`; brackets as the outer mark (`[[BOX] [TEXT]]*`) and a bare `[TEXT:a]*` make the same node."""

    alternatives: tuple[Sentence, ...]
    quantifier: Quantifier
    span: Span = field(default=NOWHERE, compare=False)


Node = Words | Slot | Group


@dataclass(frozen=True, slots=True)
class Sentence:
    """One side of an arrow, or one alternative of a group."""

    nodes: tuple[Node, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Template:
    """One paraphrase: `source -> target ;; target` (align False) or `left <-> right` (align True, one target)."""

    source: Sentence
    targets: tuple[Sentence, ...]
    align: bool = False
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A whole line: its paraphrases and the text it came from."""

    templates: tuple[Template, ...]
    text: str = field(default="", compare=False)
