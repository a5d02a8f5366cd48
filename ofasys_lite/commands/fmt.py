"""`ofasys-lite fmt`: instruction lines in their canonical form, typed by hand or inside cards and instructions/."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ofasys_lite.cards.card_fields import Fields
from ofasys_lite.cards.find import modalities
from ofasys_lite.cards.line_files import instruction_lines, instruction_text
from ofasys_lite.cards.yaml_nodes import read_yaml
from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.instruction import parse, unparse
from ofasys_lite.instruction.quotes import unquoted
from ofasys_lite.instruction.syntax_tree import Instruction
from ofasys_lite.writing import behind, write_atomic


@dataclass(frozen=True, slots=True)
class _Formatted:
    """The text of a file before and after."""

    path: Path
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def main(arguments: Sequence[str]) -> int:
    """0; with `--check` 1 if anything would change."""
    parser = FlagParser("ofasys-lite fmt", description=__doc__)
    parser.add_argument("what", nargs="+", help="a line, a card (.yaml), a file of lines (.txt), or a folder of them")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if something would change")
    parser.add_argument("--config-dir", action="append", default=[], help="a folder with modalities/ of your own")
    given = parser.parse_args(list(arguments))
    types = frozenset(modalities(given.config_dir))
    paths: list[Path] = []
    changed = 0
    for each in given.what:
        files = _files(each)
        if files is None:
            line = unparse(parse(unquoted(each), types=types))
            changed += line != each
            print(line)
        paths += files or []
    for path in paths:
        found = (formatted_card if path.suffix == ".yaml" else formatted_lines)(path, types)
        changed += found.changed
        if found.changed and not given.check:
            write_atomic(behind(path), found.after, sync=True)
        if found.changed:
            print(f"{path}: {'would change' if given.check else 'changed'}")
    if paths:
        print(f"{len(paths)} files, {changed} {'would change' if given.check else 'changed'}", file=sys.stderr)
    return 1 if given.check and changed else 0


def _files(text: str) -> list[Path] | None:
    """The files that an argument names; None if it is a line."""
    # what no file can be called is a line; asked about it, the system raises
    named = not {"\n", "\0"} & set(text) and all(len(os.fsencode(part)) < 256 for part in text.split("/"))
    path = Path(text) if named and len(text) < 4096 else Path()
    if text and path.is_dir() and "->" not in text:
        return sorted([*path.rglob("*.yaml"), *path.rglob("*.txt")])
    if path.suffix in (".yaml", ".txt") and "->" not in text:
        if not path.is_file():
            raise CardError(f"{path}: no such file")
        return [path]
    return None


def formatted_card(path: Path, types: frozenset[str]) -> _Formatted:
    """A card with its line in canonical form; everything else stays byte for byte.

    In a literal block each paraphrase has a line of its own, the second and later ones with `|||` before them.
    A YAML file without `instruction` is left as it is.
    """
    before = _text(path)
    item = read_yaml(path)
    line = item.get("instruction") if item.kind == "map" else None
    if line is None or line.place is None:
        return _Formatted(path, before, before)
    fields = Fields(item, f"task {path.stem}")
    text, origin = instruction_text(fields)
    fields.finish()
    tree = parse(text, types=types, origin=origin)
    canonical = unparse(tree)
    if line.style == "|" and len(tree.templates) > 1:
        canonical = "\n||| ".join(unparse(Instruction((template,))) for template in tree.templates)
    if canonical == text:
        return _Formatted(path, before, before)
    if line.style == ">" or (line.style and not origin.exact) or (line.style != "|" and "\n" in canonical):
        raise CardError(
            "fmt rewrites literal blocks and plain one-line scalars only", place=line.place, help="use a literal block"
        )
    rows = before.splitlines(keepends=True)
    first = origin.line - 1
    if line.style == "|":
        count = text.count("\n") + 1
        end = "\r\n" if rows[first].endswith("\r\n") else "\n"
        block = [" " * origin.indent + each + end if each else end for each in canonical.split("\n")]
        after = "".join([*rows[:first], *block, *rows[first + count :]])
        return _Formatted(path, before, after)
    start = origin.column - 1
    rows[first] = rows[first][:start] + canonical + rows[first][start + len(text) :]
    return _Formatted(path, before, "".join(rows))


def formatted_lines(path: Path, types: frozenset[str]) -> _Formatted:
    """A file of lines with each in canonical form; comments and empty lines stay."""
    before = _text(path)
    rows = before.splitlines(keepends=True)
    errors: list[OfasysError] = []
    for text, origin in instruction_lines(path):
        try:
            canonical = unparse(parse(text, types=types, origin=origin))
        except OfasysError as error:
            errors.append(error)
            continue
        rows[origin.line - 1] = rows[origin.line - 1].replace(text, canonical, 1)
    if errors:
        raise errors[0]
    return _Formatted(path, before, "".join(rows))


def _text(path: Path) -> str:
    """The text of a file, line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CardError(f"{path} is not UTF-8 (byte {error.start})", help="save it as UTF-8") from None
