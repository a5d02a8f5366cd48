"""Sentence templates as Home Assistant writes them, expanded by chance into sentences with slot values.

`(a|b)` one of them, `[a]` maybe, `(a;b)` all in any order, `<rule>` a named template, `{list}` or `{list:slot}` a
value.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.recipe import pick

Value = Callable[[str, random.Random], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of a template: kind is text, rule, slot (with a value in `text`), all, any, maybe or order."""

    kind: str
    text: str = ""
    parts: tuple[Node, ...] = ()


_TOKEN = re.compile(r"[()\[\]|;]|<[^>]*>|\{[^}]*\}|[^()\[\]|;<{]+")


def parse(template: str) -> Node:
    """The tree of a template; DataError: brackets that do not pair."""
    tokens = _TOKEN.findall(template)
    node, end = _sequence(tokens, 0, template)
    if end != len(tokens):
        raise DataError(f"template `{template}`: unpaired `{tokens[end]}`")
    return node


def _sequence(tokens: list[str], at: int, template: str) -> tuple[Node, int]:
    """Alternatives up to the closing bracket or the end."""
    parts: list[list[Node]] = [[]]
    marks = set()
    while at < len(tokens) and tokens[at] not in ")]":
        token = tokens[at]
        at += 1
        if token in "|;":
            marks.add(token)
            parts.append([])
        elif token in "([":
            inner, at = _sequence(tokens, at, template)
            if at >= len(tokens) or tokens[at] != {"(": ")", "[": "]"}[token]:
                raise DataError(f"template `{template}`: `{token}` is not closed")
            at += 1
            parts[-1].append(inner if token == "(" else Node("maybe", parts=(inner,)))
        elif token[0] == "<":
            parts[-1].append(Node("rule", token[1:-1]))
        elif token[0] == "{":
            parts[-1].append(Node("slot", token[1:-1]))
        else:
            parts[-1].append(Node("text", token))
    pieces = tuple(Node("all", parts=tuple(part)) for part in parts)
    if not marks:
        return pieces[0], at
    return Node("order" if marks == {";"} else "any", parts=pieces), at


def expand(node: Node, rules: Mapping[str, Node], value: Value, generator: random.Random, slots: dict[str, str]) -> str:
    """One sentence of a template; the slot values it used are put into `slots`."""
    if node.kind == "text":
        return node.text
    if node.kind == "rule":
        return expand(rules[node.text], rules, value, generator, slots)
    if node.kind == "slot":
        name, _, slot = node.text.partition(":")
        spoken, meant = value(name, generator)
        slots[slot or name] = meant
        return spoken
    if node.kind == "any":
        return expand(pick(node.parts, generator), rules, value, generator, slots)
    if node.kind == "maybe":
        return expand(node.parts[0], rules, value, generator, slots) if generator.random() < 0.5 else ""
    parts = list(node.parts)
    if node.kind == "order":
        parts.sort(key=lambda _: generator.random())
    joint = " " if node.kind == "order" else ""
    return joint.join(expand(part, rules, value, generator, slots) for part in parts)
