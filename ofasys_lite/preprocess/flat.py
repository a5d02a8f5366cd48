"""Triplets and tables as one line of text, as OFASys and UnifiedSKG (arXiv 2201.05966) write them; triplets written.

    triplets   subject : relation : object | subject : relation : object
    by row     [table name] n [table head] a : b [table content] 1 : 2 | 3 : 4
    by column  [table name] n [table content] a : 1 : 3 | b : 2 : 4

A target of triplets is told apart by control tokens, since its texts may hold any mark: `<next>` subject `<close>`
relation `<close>` object `<close>`, and `<end>` behind the last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Grammar, Move
from ofasys_lite.preprocess.schemas import Table, Triplets, scalar_text
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: What the three parts of a triplet are called in records.
_PARTS = (("subject", "head", "s"), ("relation", "predicate", "property", "p"), ("object", "tail", "o"))
_TITLES = ("table_name", "page_title", "title", "caption", "name")
_HEADS = ("table_head", "header", "head", "columns")
_ROWS = ("table_content", "rows", "content")
#: Fewest ids behind `<next>`: three texts of one id, each with its `<close>`, and `<end>`.
_TRIPLET = 7

Triplet = tuple[str, str, str]


def triplets(value: Any) -> list[Triplet]:
    """The triplets in a structure (from `read_struct`): lists or records of three, or `a : b : c | d : e : f`.

    Raises:
        DataError: It holds something else, or an empty part.
    """
    if isinstance(value, str):
        value = [part.split(" : ") for part in value.split(" | ")] if value.strip() else []
    if not isinstance(value, list):
        raise DataError(
            f"triplets are a list; found {type(value).__name__}", help='write [["Rome", "capital of", "Italy"]]'
        )
    found = [_triplet(number, each) for number, each in enumerate(value, 1)]
    if not found:
        raise DataError("there are no triplets", help="leave the row out")
    return found


def _triplet(number: int, value: Any) -> Triplet:
    if isinstance(value, Mapping):
        value = [next((value[key] for key in names if key in value), None) for names in _PARTS]
    if not isinstance(value, list) or len(value) != 3:
        found = f"{len(value)} parts" if isinstance(value, list) else type(value).__name__
        raise DataError(f"triplet {number} has {found}", help="a triplet is [subject, relation, object]")
    parts = tuple(scalar_text(part).strip() if isinstance(part, (str, int, float)) else "" for part in value)
    if not all(parts):
        raise DataError(f"triplet {number} has an empty part: {value!r:.80}")
    return parts[0], parts[1], parts[2]


def triplets_text(found: Sequence[Sequence[str]]) -> str:
    """Triplets as text."""
    return " | ".join(" : ".join(parts) for parts in found)


@dataclass(frozen=True, slots=True)
class FlatTable:
    """A table of texts: its name, its head (empty where it has none), its rows."""

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self, by: str, rows: int | None = None) -> str:
        """The table in one line, row by row or column by column, with its first `rows` rows."""
        kept = self.rows if rows is None else self.rows[:rows]
        name = f"[table name] {self.name} " if self.name else ""
        if by == "column":
            width = max((len(self.head), *map(len, kept)))
            columns = [[*self.head[c : c + 1], *(row[c] for row in kept if c < len(row))] for c in range(width)]
            return f"{name}[table content] {triplets_text(columns)}"
        head = f"[table head] {' : '.join(self.head)} " if self.head else ""
        return f"{name}{head}[table content] {triplets_text(kept)}"


def table(value: Any) -> FlatTable:
    """The table in a structure (from `read_struct`): a head and rows (WikiSQL, OFASys), a list of records, of lists.

    Raises:
        DataError: It is no table, holds nothing, or a row is longer than the head.
    """
    name, head, rows = "", list[Any](), value
    if isinstance(value, Mapping):
        name = next((scalar_text(value[key]) for key in _TITLES if value.get(key)), "")
        head = _given(value, _HEADS) or []
        rows = _given(value, _ROWS)
    if not isinstance(rows, list) or not isinstance(head, list):
        help = 'write {"header": ["a", "b"], "rows": [[1, 2]]}, a list of records, or a list of lists'
        raise DataError(f"a table has a list of rows; found {type(value).__name__}", help=help)
    if rows and all(isinstance(row, Mapping) for row in rows):
        head = head or list(dict.fromkeys(key for row in rows for key in row))
        rows = [[row.get(key) for key in head] for row in rows]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list):
            raise DataError(f"row {number} of the table is {type(row).__name__}", help="a row is a list of cells")
        if head and len(row) > len(head):
            raise DataError(f"row {number} of the table has {len(row)} cells, its head {len(head)}")
    if not head and not any(rows):
        raise DataError("the table holds nothing", help="leave the row out")
    return FlatTable(name.strip(), tuple(map(_cell, head)), tuple(tuple(map(_cell, row)) for row in rows))


def _given(value: Mapping[str, Any], keys: Sequence[str]) -> Any:
    found = next((value[key] for key in keys if value.get(key) is not None), None)
    # OFASys' head is one text
    return [part.strip() for part in found.split(" : ")] if isinstance(found, str) else found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, Mapping)):
        raise DataError(f"a cell of the table is {type(value).__name__}", help="cells are text and numbers")
    return scalar_text(value).strip()


def flat_ids(value: Any, schema: Triplets | Table, vocabulary: Vocabulary, most: int) -> list[int]:
    """Ids of the text of a structure, at most `most`: as many whole triplets or rows as fit."""
    if isinstance(schema, Table):
        held = table(value)
        return _fitting(lambda rows: held.text(schema.by, rows), len(held.rows), vocabulary, most)
    found = triplets(value)
    return _fitting(lambda count: triplets_text(found[:count]), len(found), vocabulary, most)


def _fitting(text: Callable[[int], str], count: int, vocabulary: Vocabulary, most: int) -> list[int]:
    """Ids of the text of the most parts, of `count`, that has at most `most` of them; of none the first ids."""
    ids = vocabulary.encode(text(count))
    if len(ids) <= most:
        return ids
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if len(vocabulary.encode(text(middle))) <= most:
            low = middle
        else:
            high = middle - 1
    return vocabulary.encode(text(max(low, 1)))[:most]


def table_written() -> DataError:
    """The error of a table as a target."""
    return DataError("schema=table is read, not written", help="write schema=json for a table as a target")


def triplet_grammar(vocabulary: Vocabulary, most: int) -> TripletGrammar:
    """What triplets of at most `most` ids may be."""
    opener, close, end = (vocabulary.control(name) for name in ("next", "close", "end"))
    return TripletGrammar(vocabulary.text_low, vocabulary.text_high, opener, close, end, most)


def triplet_ids(found: Sequence[Triplet], vocabulary: Vocabulary) -> list[int]:
    """Ids of triplets that are written."""
    return [id for parts in found for id in _written(parts, vocabulary)] + [vocabulary.control("end")]


def _written(parts: Triplet, vocabulary: Vocabulary) -> Iterator[int]:
    yield vocabulary.control("next")
    for part in parts:
        yield from vocabulary.encode(part)
        yield vocabulary.control("close")


def read_triplets(ids: Sequence[int], vocabulary: Vocabulary) -> list[list[str]]:
    """The triplets that ids spell."""
    found: list[list[str]] = []
    text: list[int] = []
    for id in ids:
        if id == vocabulary.control("next"):
            found.append([])
        elif id == vocabulary.control("close"):
            found[-1].append(vocabulary.decode(text))
            text = []
        elif id != vocabulary.control("end"):
            text.append(id)
    return found


@dataclass(frozen=True)
class TripletGrammar(Grammar):
    """One or more triplets in at most `most` ids; text is of [low, high). A state: the part, whether it has begun.

    Attributes:
        opener: Opens a triplet.
        close: Ends each of its parts.
        end: Ends them all.
    """

    low: int
    high: int
    opener: int
    close: int
    end: int
    most: int

    start = (3, False)
    least = 1 + _TRIPLET

    def moves(self, state: Hashable) -> Sequence[Move]:
        """Text and its close within a part; another triplet or the end between them."""
        part, begun = state if isinstance(state, tuple) else self.start
        if part == 3:
            opened = Move(_one(self.opener), (0, False), _TRIPLET, self.most)
            return [opened, Move(_one(self.end), None)] if begun else [opened]
        left = 2 * (2 - part) + 1
        found = [Move(((self.low, self.high),), (part, True), left + 1, self.most)]
        if begun:
            to = (part + 1, part == 2)
            found.append(Move(_one(self.close), to, left, self.most))
        return found


def _one(id: int) -> tuple[tuple[int, int], ...]:
    return ((id, id + 1),)
