r"""Tree -> text: the canonical form of a line, which parses to an equal tree.

One space between nodes, none inside slots, escapes only where the words would otherwise be read as a mark.
"""

from __future__ import annotations

import re

from ofasys_lite.instruction.parse_values import is_bareword
from ofasys_lite.instruction.slots import QUANTIFIER_START, attempted_name
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
    Sentence,
    Slot,
    Template,
    Value,
    Words,
)

_SPECIAL = re.compile(r"\\|\|\|\||<->|->|;;|[\[\]()|*{]")
#: A backslash before one of these would be read as an escape.
_AFTER_BACKSLASH = re.compile(r"[\[\](){}|*<\\]|->|;;|\Z")
_CLOSES = {")": "(", "]": "["}


def unparse(tree: Instruction) -> str:
    """The canonical text of a tree: `parse(unparse(tree)) == tree`, and unparsing that again changes nothing.

    Example:
        >>> from ofasys_lite.instruction import parse
        >>> unparse(parse("( [ BOX ] [TEXT : label, max_length = 3] ){0,}->"))
        '([BOX] [TEXT:label,max_length=3])* ->'
    """
    return " ||| ".join(_template(template) for template in tree.templates)


def _template(template: Template) -> str:
    arrow = "<->" if template.align else "->"
    targets = " ;; ".join(_sentence(target) for target in template.targets)
    return f"{_sentence(template.source)} {arrow} {targets}".strip()


def _sentence(sentence: Sentence, grouped: bool = False) -> str:
    return " ".join(_node(node, grouped) for node in sentence.nodes)


def _node(node: Node, grouped: bool) -> str:
    if isinstance(node, Words):
        return _words(node.text, grouped)
    if isinstance(node, Slot):
        return _slot(node)
    return _group(node)


def _group(group: Group) -> str:
    first = group.alternatives[0]
    if len(group.alternatives) == 1 and len(first.nodes) == 1 and isinstance(first.nodes[0], Slot):
        inner = _slot(first.nodes[0])
    else:
        inner = f"({' | '.join(_sentence(alternative, True) for alternative in group.alternatives)})"
    return inner + _quantifier(group.quantifier)


def _quantifier(quantifier: Quantifier) -> str:
    least, most = quantifier.least, quantifier.most
    if most is None:
        bounds = f"{{{least},}}" if least else "*"
    else:
        bounds = f"{{{least}}}" if least == most else f"{{{least},{most}}}"
    return f"{bounds}<{_attributes(quantifier.attributes)}>" if quantifier.attributes else bounds


def _slot(slot: Slot) -> str:
    text = slot.type
    if slot.column is not None:
        text += ":" + _column(slot.column, slot.exact) + ("?" if slot.optional else "")
    if slot.rejected is not None:
        text += ">" + _column(slot.rejected, slot.rejected_exact)
    return f"[{text},{_attributes(slot.attributes)}]" if slot.attributes else f"[{text}]"


def _column(column: str, exact: bool) -> str:
    return _quote(column) if exact else column


def _attributes(attributes: tuple[Attribute, ...]) -> str:
    return ",".join(a.key if a.value is None else f"{a.key}={_value(a.value)}" for a in attributes)


def _value(value: Value) -> str:
    if isinstance(value, (Number, Bare)):
        return value.text
    if isinstance(value, ListValue):
        return f"({','.join(_value(item) for item in value.items)})"
    if isinstance(value, Call):
        return f"{value.name}({','.join(_argument(argument) for argument in value.arguments)})"
    return _quote(value.text)


def _argument(argument: Argument) -> str:
    if argument.key is None:
        return _value(argument.value)
    key = argument.key if is_bareword(argument.key) else _quote(argument.key)
    return f"{key}={_value(argument.value)}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _words(text: str, grouped: bool) -> str:
    """Prompt text with the escapes it needs."""
    lone = _lone_marks(text) if _SPECIAL.search(text) else frozenset()

    def escape(found: re.Match[str]) -> str:
        mark, start, end = found.group(), found.start(), found.end()
        if mark == "\\":
            return "\\\\" if _AFTER_BACKSLASH.match(text, end) else mark
        if mark in "*{":
            # only at once after a closing mark that may pair with one of the words before
            after_lone = start - 1 in lone and not grouped and QUANTIFIER_START.match(text, start)
            return "\\" + mark if after_lone else mark
        if mark == "|":
            return "\\|" if grouped else mark
        if mark == "[" and _is_attempt(text, start):
            return "\\["
        if mark in "[]()":
            return "\\" + mark if grouped and start in lone else mark
        return "\\" + mark

    return _SPECIAL.sub(escape, text)


def _is_attempt(text: str, position: int) -> bool:
    """Whether a bracket would be read as a slot; in capitals always, for any card may declare that type."""
    attempt = attempted_name(text, position)
    if attempt is None:
        return False
    span, after = attempt
    return text[span.start : span.end].isupper() or text[after : after + 1] in ("]", ":", ",")


def _lone_marks(text: str) -> frozenset[int]:
    """Offsets of the parentheses and brackets that find no partner within these words (paired innermost first)."""
    lone: set[int] = set()
    openings: list[int] = []
    open_marks = {"(": 0, "[": 0}
    for offset, char in enumerate(text):
        if char in "([":
            if not (char == "[" and _is_attempt(text, offset)):
                openings.append(offset)
                open_marks[char] += 1
        elif char in ")]":
            partner = _CLOSES[char]
            if not open_marks[partner]:
                lone.add(offset)
                continue
            while True:
                opening = openings.pop()
                open_marks[text[opening]] -= 1
                if text[opening] == partner:
                    break
                lone.add(opening)
    return frozenset(lone.union(openings))
