"""Hypothesis strategies for syntax trees as the parser makes them."""

from __future__ import annotations

from hypothesis import strategies as st

from ofasys_lite.instruction import BUILTIN_TYPES
from ofasys_lite.instruction.parse_values import is_number
from ofasys_lite.instruction.syntax_tree import (
    Argument,
    Attribute,
    Bare,
    Call,
    Group,
    Instruction,
    ListValue,
    Node,
    Number,
    Quantifier,
    Quoted,
    Sentence,
    Slot,
    Template,
    Words,
)

MARKS = [*"ab []()|*{}<>-;\\:,?03X\"'=\n_é中", "->", "<->", "|||", ";;", "[TEXT", "[a]", ")*", "]{2", "\\", " "]

# sampled rather than generated from expressions: faster to draw, and just these are the hard cases
texts = st.lists(st.sampled_from([*MARKS, "🙂", "\u0301", "\u3000", "x", "1"]), max_size=8).map("".join)
words = texts.map(str.strip).filter(bool).map(Words)
names = st.sampled_from(["a", "max_length", "_x1", "B2", "नाम", "größe", "列", "é"])
parts = names | st.sampled_from(["0", "007", "3-4", "a-b", "x-1-y", "नाम-0"])
nested = st.lists(parts, min_size=1, max_size=3).map(".".join)
columns = st.tuples(nested, st.just(False)) | st.tuples(texts.filter(bool), st.just(True))
barewords = st.sampled_from(
    ["a", "x0", "labels.txt", "@choices", "a/b:c", "-", "+", "1e", "--", ".", "1.2.3", "7", "-0", "é"]
)
numbers = st.sampled_from(["0", "007", "-1", "+2.5", ".5", "1e-4", "3."])


def _arguments(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[Argument, ...]]:
    argument = st.builds(Argument, st.none() | barewords | texts, values)
    return st.lists(argument, max_size=3).map(tuple)


values = st.recursive(
    numbers.map(Number) | barewords.filter(lambda text: not is_number(text)).map(Bare) | texts.map(Quoted),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2).map(tuple).map(ListValue)
        | st.builds(Call, barewords, _arguments(inner))
    ),
    max_leaves=3,
)
attributes = st.lists(st.builds(Attribute, names, st.none() | values), max_size=3).map(tuple)
types = st.sampled_from(BUILTIN_TYPES)


@st.composite
def slots(draw: st.DrawFn) -> Slot:
    kind = draw(st.sampled_from(["plain", "optional", "pair", "unnamed"]))
    if kind == "unnamed":
        return Slot(draw(types), None, attributes=draw(attributes))
    column, exact = draw(columns)
    rejected, rejected_exact = draw(columns) if kind == "pair" else (None, False)
    return Slot(draw(types), column, exact, kind == "optional", rejected, rejected_exact, draw(attributes))


@st.composite
def quantifiers(draw: st.DrawFn) -> Quantifier:
    least = draw(st.integers(0, 4))
    most = draw(st.none() | st.integers(max(1, least), 6))
    return Quantifier(least, most, draw(attributes))


def apart(nodes: list[Node]) -> tuple[Node, ...]:
    """The nodes without words directly after words, which no text can say."""
    kept: list[Node] = []
    for node in nodes:
        if not (kept and isinstance(node, Words) and isinstance(kept[-1], Words)):
            kept.append(node)
    return tuple(kept)


def sentences(nodes: st.SearchStrategy[Node], least: int = 0) -> st.SearchStrategy[Sentence]:
    return st.lists(nodes, min_size=least, max_size=3).map(apart).map(Sentence)


def has_slot(sentence: Sentence) -> bool:
    return any(not isinstance(node, Words) for node in sentence.nodes)


def groups(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Group]:
    alternatives = st.lists(sentences(nodes), min_size=1, max_size=3).map(tuple)
    return st.builds(Group, alternatives.filter(lambda those: any(map(has_slot, those))), quantifiers())


nodes = st.recursive(words | slots(), lambda inner: inner | groups(inner), max_leaves=3)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    if draw(st.integers(0, 3)) == 0:
        sides = sentences(nodes, 1).filter(has_slot)
        return Template(draw(sides), (draw(sides),), True)
    source = draw(sentences(nodes))
    several = draw(st.booleans())
    if several:
        return Template(source, tuple(draw(st.lists(sentences(nodes, 1), min_size=2, max_size=2))))
    return Template(source, (draw(sentences(nodes, 0 if source.nodes else 1)),))


trees = st.lists(templates(), min_size=1, max_size=2).map(tuple).map(Instruction)
