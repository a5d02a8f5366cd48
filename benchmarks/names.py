"""Where code asks for the name of a modality or an adapter outside of that modality's own files, read with `ast`.

Own files are the modules that modality cards name, and what in `preprocess/`, `adapters/` and `codec/` begins with a
modality's name (`image_stem.py`). `recipes/` is left out: it writes the columns of raw data and knows no modality.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Known", "Place", "by_file", "known_names", "places"]

#: Rooms with files of modalities, and those that are not read.
OWNERS = ("preprocess", "adapters", "codec")
LEFT_OUT = ("recipes", "data/recipes")
#: Contracts: whoever asks for these asks for no modality.
CONTRACTS = ("Adapter", "Preprocess")
_PATH = re.compile(r"[a-z_.]*\.[A-Z]\w*(?:Adapter|Preprocess)")


@dataclass(frozen=True)
class Known:
    """Names that modality cards give: of modalities (capitals), adapters and codecs (small letters), and own files."""

    modalities: frozenset[str]
    adapters: frozenset[str]
    files: frozenset[str]


@dataclass(frozen=True, order=True)
class Place:
    """One place that asks for a name.

    Attributes:
        file: Path within the package.
        line: Line.
        kind: `compared` (==, in, case, isinstance with a class of a modality), `listed` (key of a table, argument, any
            other constant that is a modality's name) or `path` (the dotted path of such a class).
        text: The expression.
    """

    file: str
    line: int
    kind: str
    text: str


def known_names(checkout: Path) -> Known:
    """What the cards in `modalities/` name."""
    modalities, adapters, modules = set[str](), set[str](), set[str]()
    for path in sorted((checkout / "modalities").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"^name: *(\w+)", text, re.M) + [
            name for names in re.findall(r"^aliases: *\[(.*?)\]", text, re.M) for name in re.split(r"[ ,]+", names)
        ]
        modalities |= set(found)
        adapters |= {name.lower() for name in found}
        for block in re.findall(r"^(?:adapter|codecs):\n((?:  .*\n|#.*\n)+)", text, re.M):
            adapters |= set(re.findall(r"^  (\w+):", block, re.M)) - {"default"}
        modules |= {m.replace(".", "/") + ".py" for m in re.findall(r"ofasys_lite\.([a-z_.]+)\.[A-Z]\w+", text)}
    own = {path.relative_to(checkout / "ofasys_lite") for room in OWNERS for path in _files(checkout, room)}
    begins = tuple(name.lower() for name in modalities)
    files = modules | {str(path) for path in own if path.name.startswith(begins)}
    return Known(frozenset(modalities), frozenset(adapters), frozenset(files))


def _files(checkout: Path, room: str) -> list[Path]:
    return sorted((checkout / "ofasys_lite" / room).rglob("*.py"))


@functools.cache
def places(checkout: Path) -> tuple[Place, ...]:
    """Every place of a checkout's package, by file and line; read once a process."""
    known = known_names(checkout)
    found = []
    for path in _files(checkout, "."):
        name = str(path.relative_to(checkout / "ofasys_lite"))
        if name not in known.files and not name.startswith(tuple(f"{room}/" for room in LEFT_OUT)):
            found += [Place(name, *each) for each in _of_tree(ast.parse(path.read_text(encoding="utf-8")), known)]
    return tuple(sorted(found))


def _of_tree(tree: ast.Module, known: Known) -> Iterator[tuple[int, str, str]]:
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    both = known.modalities | known.adapters
    told, asked = set[ast.AST](), set[ast.AST]()
    for node in ast.walk(tree):
        sides: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            sides = [node.value]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            classes = re.findall(r"\w+", ast.unparse(node.args[1]))
            if any(c.endswith(CONTRACTS) and c not in CONTRACTS for c in classes):
                yield node.lineno, "compared", _text(node)
        names = [constant for side in sides for constant in _constants(side) if constant.value in both]
        if names:
            asked.update(names)
            yield names[0].lineno, "compared", _text(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in asked:
            if _PATH.fullmatch(node.value):
                yield node.lineno, "path", repr(node.value)
            elif node.value in known.modalities and parents[node] not in told:
                told.add(parents[node])
                yield node.lineno, "listed", _text(parents[node])
        elif isinstance(node, ast.Dict) and len(_small(node, known)) > 1:
            yield node.lineno, "listed", _text(node)


def _small(node: ast.Dict, known: Known) -> list[str]:
    """Names in small letters that are keys of a table; one alone is more often a column."""
    return [str(k.value) for k in node.keys if isinstance(k, ast.Constant) and k.value in known.adapters]


def _constants(node: ast.expr) -> list[ast.Constant]:
    """The string constants that a side of a comparison consists of."""
    if isinstance(node, ast.Constant):
        return [node] if isinstance(node.value, str) else []
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return [each for element in node.elts for each in _constants(element)]
    if isinstance(node, ast.Dict):
        return [each for key in node.keys if key is not None for each in _constants(key)]
    return [each for argument in node.args for each in _constants(argument)] if isinstance(node, ast.Call) else []


def _text(node: ast.AST) -> str:
    """The expression on one line, cut."""
    if isinstance(node, ast.Dict):
        return f"{{{', '.join(ast.unparse(key) for key in node.keys if key is not None)}}}"
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def by_file(found: Iterable[Place]) -> Mapping[str, int]:
    """Number of places per file, most first."""
    counts: dict[str, int] = {}
    for place in found:
        counts[place.file] = counts.get(place.file, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
