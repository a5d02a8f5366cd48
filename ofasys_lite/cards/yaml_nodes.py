"""YAML and plain Python values as one tree of items that remember where they stand.

YAML is composed, never constructed: `yes`, `007` and `1e3` keep their spelling until a reader asks for a type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ofasys_lite.errors import CardError, Place

_INSTRUCTION = re.compile(r"^(?P<indent>\s*)(?P<key>[\"']?instruction[\"']?)\s*:\s+(?P<text>[^\s|>\"'#].*)$")
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a mapping, and its place."""

    text: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One value.

    Attributes:
        kind: `scalar`, `list` or `map` for YAML (and Python lists and mappings), `python` for a Python scalar.
        value: Text of a scalar, items of a list, (key, item) pairs of a mapping, or the Python value.
        style: YAML style of a scalar: empty for a plain one, `'`, `"`, `|` or `>`.
        place: Where it stands; None for a value from Python or the command line.
        end: 0-based line and column where the scalar ends.
        source: All lines of the file, for scalars whose spelling matters.
    """

    kind: str
    value: Any
    style: str = ""
    place: Place | None = None
    end: tuple[int, int] = (0, 0)
    source: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def pairs(self) -> Iterator[tuple[Key, Item]]:
        """(key, item) pairs of a mapping."""
        yield from self.value

    def get(self, key: str) -> Item | None:
        """The item under `key`, or None."""
        return next((item for each, item in self.pairs() if each.text == key), None)


def read_yaml(path: Path) -> Item:
    """The tree of a YAML file, an empty mapping for an empty one.

    Raises:
        CardError: The file is missing, not UTF-8, not YAML (with line and column) or says a key twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CardError(f"{path}: no such file") from None
    except OSError as error:
        raise CardError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise CardError(f"{path} is not UTF-8 (byte {error.start})", help="save it as UTF-8") from None
    lines = tuple(re.split(r"\r\n|\r|\n", text))
    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, lines, error) from None
    except yaml.YAMLError as error:
        raise CardError(f"{path} is not YAML: {error}") from None
    if root is None:
        return Item("map", (), place=Place(str(path), 1))
    return _from_node(root, str(path), lines, 0)


def _compose(text: str) -> yaml.Node | None:
    """The nodes of a document: by libyaml where PyYAML has it (ten times as fast), whose errors say less."""
    if yaml.__with_libyaml__:
        with suppress(yaml.YAMLError):
            return yaml.compose(text, Loader=yaml.CSafeLoader)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _syntax_error(path: Path, lines: tuple[str, ...], error: yaml.MarkedYAMLError) -> CardError:
    """The error with its place; an unquoted instruction line is what it nearly always comes from."""
    mark = error.problem_mark or error.context_mark
    last = mark.line if mark is not None else len(lines) - 1
    for number in range(min(last, len(lines) - 1), -1, -1):
        found = _INSTRUCTION.match(lines[number])
        if found is not None:
            place = Place(str(path), number + 1, found.start("text") + 1, lines[number], len(found["text"].rstrip()))
            return CardError("YAML cannot read this instruction line", place=place, help=literal_block(found["text"]))
    if mark is None:
        return CardError(f"{path} is not YAML: {error.problem}")
    for number in range(last - 1, -1, -1):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if re.match(r"instruction\s*:\s*\|", lines[number]) and below.strip() and not below[0].isspace():
            place = Place(str(path), number + 2, 1, below, len(below.rstrip()))
            return CardError("the line below `instruction: |` is not indented", place=place, help=f"write `  {below}`")
    shown = lines[mark.line] if mark.line < len(lines) else ""
    tab = "\t" in shown[: mark.column + 1]
    problem = (error.problem or "syntax error").replace("\n", " ")
    deeper = shown[:1] == " " and "mapping values" in problem
    help = "indent with spaces, not tabs" if tab else "indent it as the key above it" if deeper else ""
    if not help and "mapping values" in problem:
        help = "a value that holds `: ` stands in quotes"
    elif not help and "another document" in problem:
        help = "one card a file: leave the line `---` out, or divide the file"
    return CardError(f"not YAML: {problem}", place=_place(str(path), lines, mark.line, mark.column), help=help)


def literal_block(text: str) -> str:
    """Help that shows an instruction line as a card should hold it."""
    return f"write it in a literal block, the line below the key:\n        instruction: |\n          {text.strip()}"


def _place(file: str, lines: Sequence[str], line: int, column: int, width: int = 1) -> Place:
    shown = lines[line] if line < len(lines) else ""
    return Place(file, line + 1, column + 1, shown.replace("\t", " "), max(1, min(width, len(shown) - column)))


def _node_place(node: yaml.Node, file: str, lines: Sequence[str]) -> Place:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return _place(file, lines, start.line, start.column, width)


def _from_node(node: yaml.Node, file: str, lines: tuple[str, ...], depth: int) -> Item:
    place = _node_place(node, file, lines)
    if depth > _DEEPEST:
        raise CardError("nested too deeply", place=place, help=f"at most {_DEEPEST} levels, and no value inside itself")
    if isinstance(node, yaml.ScalarNode):
        end = (node.end_mark.line, node.end_mark.column)
        return Item("scalar", node.value, node.style or "", place, end, lines)
    if isinstance(node, yaml.SequenceNode):
        return Item("list", tuple(_from_node(n, file, lines, depth + 1) for n in node.value), place=place)
    pairs: dict[str, tuple[Key, Item]] = {}
    for key_node, value_node in node.value:
        key_place = _node_place(key_node, file, lines)
        if not isinstance(key_node, yaml.ScalarNode):
            raise CardError("a key must be a word", place=key_place)
        if key_node.value in pairs:
            raise CardError(f"key `{key_node.value}` stands twice", place=key_place, help="keep one of them")
        pairs[key_node.value] = (Key(key_node.value, key_place), _from_node(value_node, file, lines, depth + 1))
    return Item("map", tuple(pairs.values()), place=place)


def item_of(value: Any) -> Item:
    """The tree of plain Python values (mappings, lists, scalars), without places."""
    if isinstance(value, Mapping):
        return Item("map", tuple((Key(str(k)), item_of(v)) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return Item("list", tuple(item_of(v) for v in value))
    return Item("python", value)


def overlay(base: Item, value: Any) -> Item:
    """`base` where `value` says the same (places kept), `value` where it differs; keys that `value` lacks are gone.

    Commands use it to lay a composed configuration over the file it came from.
    """
    if base.kind == "map" and isinstance(value, Mapping):
        kept = tuple((key, overlay(item, value[key.text])) for key, item in base.pairs() if key.text in value)
        fresh = tuple((Key(str(k)), item_of(v)) for k, v in value.items() if base.get(str(k)) is None)
        return Item("map", kept + fresh, place=base.place)
    return base if _says(base, value) else item_of(value)


def _says(item: Item, value: Any) -> bool:
    """Whether a list or scalar of a file means `value`, typed or as it is spelt."""
    if item.kind == "list":
        alike = isinstance(value, (list, tuple)) and len(value) == len(item.value)
        return alike and all(_says(each, v) for each, v in zip(item.value, value, strict=True))
    if item.kind == "map":
        return isinstance(value, Mapping) and bool(plain(item) == value)
    found = plain(item)
    typed: bool = type(found) is type(value) and found == value
    return typed or spelling(item) == value


def spelling(item: Item) -> str | None:
    """A scalar as text, as the file spells it; None for lists and mappings."""
    if item.kind == "scalar":
        return str(item.value)
    if item.kind != "python" or item.value is None:
        return None
    if isinstance(item.value, bool):
        return "true" if item.value else "false"
    return str(item.value)


def plain(item: Item) -> Any:
    """Plain Python values by YAML's core rules: `true`, `false`, `null`, numbers; everything else is text.

    `yes`, `no`, `on` and `off` are text here, as in YAML 1.2.
    """
    if item.kind == "map":
        return {key.text: plain(value) for key, value in item.pairs()}
    if item.kind == "list":
        return [plain(value) for value in item.value]
    if item.kind == "python" or item.style:
        return item.value
    return _scalar(str(item.value))


def _scalar(text: str) -> Any:
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", text):
        return int(text)
    if re.fullmatch(r"[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text) and not re.fullmatch(
        r"[-+]?0[0-9]+", text
    ):
        return float(text)
    return {".inf": float("inf"), "-.inf": float("-inf")}.get(text, text)
