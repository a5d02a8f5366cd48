"""Instruction lines in files: the text, byte for byte, and the place where it stands."""

from __future__ import annotations

import re
from pathlib import Path

from ofasys_lite.cards.card_fields import Fields, kind_name
from ofasys_lite.cards.yaml_nodes import Item, literal_block
from ofasys_lite.errors import CardError
from ofasys_lite.instruction.places import Origin


def instruction_text(fields: Fields) -> tuple[str, Origin]:
    """The instruction of a card and its origin; mistakes are noted in `fields` and give an empty text.

    A literal block and a quoted scalar are taken as they are. An unquoted one is taken only if the file's text to the
    end of its line is exactly what YAML read: YAML drops what follows ` #` and folds lines.
    """
    item = fields.get("instruction")
    if item is None:
        fields.wrong(
            fields.item, f"{fields.owner} has no `instruction`", literal_block("[TEXT:question] -> [TEXT:answer]")
        )
        return "", Origin()
    if item.kind == "python":
        if not isinstance(item.value, str):
            fields.wrong(item, f"`instruction` is {kind_name(item)}", "it is one line of text")
            return "", Origin()
        return item.value, Origin()
    if item.kind != "scalar" or item.place is None:
        return _not_a_scalar(fields, item), Origin()
    if item.style == "|":
        return _block(item)
    if item.style == ">":
        return str(item.value).rstrip("\n"), Origin(item.place.file, item.place.line + 1, exact=False)
    if item.style:
        return _quoted(item)
    return _unquoted(fields, item)


def _not_a_scalar(fields: Fields, item: Item) -> str:
    """Notes that a line in square brackets was read as a list; the help shows what stands in the file."""
    text = item.place.text if item.place is not None else ""
    found = re.match(r"\s*['\"]?instruction['\"]?\s*:\s*(.+)$", text)
    help = literal_block(found[1]) if found else "it is one line of text"
    fields.wrong(item, f"YAML reads this as {kind_name(item)}, not as an instruction line", help)
    return ""


def _block(item: Item) -> tuple[str, Origin]:
    """Text of a literal block; its indentation is what the file has before the block's text."""
    text = str(item.value).rstrip("\n")
    start = item.place.line if item.place is not None else 0  # 0-based number of the line below the key
    indent = 0
    for offset, line in enumerate(text.split("\n")):
        if line and start + offset < len(item.source):
            indent = len(item.source[start + offset]) - len(line)
            break
    file = item.place.file if item.place is not None else None
    return text, Origin(file, start + 1, column=indent + 1, indent=indent)


def _quoted(item: Item) -> tuple[str, Origin]:
    """Text of a quoted scalar; its columns are exact where nothing in it is escaped or folded."""
    text = str(item.value)
    if item.place is None:
        return text, Origin()
    line, column = item.place.line, item.place.column
    inside = item.source[line - 1][column : item.end[1] - 1] if item.end[0] == line - 1 else None
    return text, Origin(item.place.file, line, column + 1, exact=inside == text)


def _unquoted(fields: Fields, item: Item) -> tuple[str, Origin]:
    if item.place is None:
        return "", Origin()
    line, column = item.place.line, item.place.column
    first = item.source[line - 1][column - 1 :].rstrip()
    if item.end[0] == line - 1 and first == item.value:
        return str(item.value), Origin(item.place.file, line, column)
    last = item.end[0] if item.end[1] else item.end[0] - 1
    rest = [each.strip() for each in item.source[line : last + 1]]
    whole = " ".join(filter(None, [first, *rest]))
    fields.wrong(item, "YAML does not read this unquoted line as it is written", literal_block(whole))
    return "", Origin()


def instruction_lines(path: Path) -> list[tuple[str, Origin]]:
    """The lines of a file of instructions/, without empty ones and comments (`#`); CardError if it is not UTF-8."""
    try:
        lines = re.split(r"\r\n|\r|\n", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CardError(f"{path} is not UTF-8 (byte {error.start})", help="save it as UTF-8") from None
    numbered = ((line, Origin(str(path), number)) for number, line in enumerate(lines, 1))
    return [(line, origin) for line, origin in numbered if line.strip() and not line.startswith("#")]
