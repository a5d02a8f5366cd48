"""STRUCT: JSON values, records with fixed keys and grids <-> token ids; a target is written by a grammar.

`schema=json` is the linear form of `ofasys_lite.preprocess.linear`. `schema=record(...)` writes the values only, key
after key: a closed value as one declared row (or pieces and close), text and its close, anything else in the linear
form; an optional key opens with `<present>` or `<absent>`. `schema=grid(...)` writes one declared row (`cell:1`) a
cell, at its (row, column); a blank is `<cell>`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.constraints import Constraint, Free, OneOf, Optional, Placed, Series
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import READ, Context, Piece, Preprocess, RowContext, Size
from ofasys_lite.preprocess.closed import closed_ids, closed_sequences
from ofasys_lite.preprocess.flat import (
    flat_ids,
    read_triplets,
    table,
    table_written,
    triplet_grammar,
    triplet_ids,
    triplets,
)
from ofasys_lite.preprocess.linear import as_struct, linear, read_struct, without_none
from ofasys_lite.preprocess.schemas import (
    Field,
    Grid,
    Record,
    Schema,
    Table,
    Triplets,
    read_schema,
    scalar_text,
)

Ids = npt.NDArray[np.int64]
#: Most ids of a number in a record.
_NUMBER = 64
#: Kinds of the linear form that a field's type allows.
_ONLY: dict[str, tuple[str, ...]] = {"number": ("number",), "list": ("list",), "record": ("record",), "json": ()}


def _schema(options: Options) -> Schema:
    value = option(options, "schema")
    return read_schema(value if isinstance(value, (CallValue, str)) else None)


class StructPreprocess(Preprocess):
    """Structures <-> ids. Settings: `max_length` (ids of the linear form, of a record's field), `depth` (nesting)."""

    kind: ClassVar[str] = kinds.STRUCT
    text: ClassVar[bool] = True
    cut_targets: ClassVar[bool] = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.linear = linear(context.vocabulary)

    def _most(self, options: Options) -> int:
        return int(str(option(options, "max_length") or self.settings.get("max_length") or 512))

    def _depth(self) -> int:
        return int(str(self.settings.get("depth") or 8))

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """Ids of the value, grids at (0, row, column); a source longer than `max_length` loses whole elements.

        Raises:
            DataError: The value is no structure, not one of the schema, or a target longer than `max_length`: a part
                of a structure is another structure, and must not be learned.
        """
        schema = _schema(options)
        found = read_struct(value, bool(option(options, "uncased")))
        target = known.side == "target"
        if isinstance(schema, Grid):
            return self._grid_piece(found, schema, target)
        if isinstance(schema, Record):
            return self._record_piece(found, schema, self._most(options), target)
        if isinstance(schema, (Triplets, Table)):
            return Piece.of_ids(self._flat_ids(found, schema, self._most(options), target))
        return Piece.of_ids(self._linear_ids(found, self._most(options), "", target))

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """The grammar of the schema."""
        schema = _schema(options)
        if isinstance(schema, Grid):
            cells = [self._cell(v) for v in schema.values]
            cells += [self.vocabulary.control("cell")] if schema.blank else []
            count = schema.rows * schema.columns
            return Placed(Series((OneOf(tuple((c,) for c in cells)),) * count), _places(schema))
        if isinstance(schema, Record):
            return Series(tuple(self._field_constraint(f, self._most(options)) for f in schema.fields))
        if isinstance(schema, Triplets):
            return triplet_grammar(self.vocabulary, self._most(options))
        if isinstance(schema, Table):
            raise table_written()
        return self.linear.constraint(self._most(options), self._depth())

    def decode(self, ids: Ids, options: Options, known: RowContext) -> Any:
        """The value: JSON; a grid as a list of rows, blanks None; a record as a dict without its absent keys."""
        schema = _schema(options)
        listed = [int(i) for i in ids]
        if isinstance(schema, Grid):
            return self._read_grid(listed, schema)
        if isinstance(schema, Triplets):
            return read_triplets(listed, self.vocabulary)
        if isinstance(schema, Record):
            found, place = self._read_record(listed, schema)
        else:
            found, place = self.linear.read(listed)
        if place != len(listed):
            raise DataError(f"STRUCT: {len(listed) - place} ids stand behind the value")
        return found

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError if the schema is wrong."""
        _schema(options)

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` is no structure or not of the schema; InstructionError if the schema is wrong."""
        schema = _schema(options)
        found = read_struct(value, bool(option(options, "uncased")))
        if isinstance(schema, Grid):
            values = {scalar_text(v) for v in schema.values}
            for cell in cells(found, schema):
                checked_cell(cell, values, schema)
        elif isinstance(schema, Record):
            record = checked_record(found, schema)
            for field in schema.fields:
                if field.key in record:
                    checked_field(record[field.key], field)
        elif isinstance(schema, Triplets):
            triplets(found)
        elif isinstance(schema, Table):
            table(found)
            if known.side == "target":
                raise table_written()

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> Any:
        """The JSON value, without keys that hold nothing."""
        return without_none(read_struct(value, True) if option(options, "uncased") else as_struct(value))

    @classmethod
    def texts(cls, value: Any) -> Iterable[str]:
        """All keys and texts in the value."""
        return _texts(read_struct(value))

    @classmethod
    def declare(cls, value: Any, options: Options, settings: Mapping[str, Any]) -> Iterable[str]:
        """The rows that the schema needs, whatever the value: `cell:1` per value of a grid, `=on` per closed value."""
        schema = _schema(options)
        if isinstance(schema, Grid):
            return [f"cell:{scalar_text(v)}" for v in schema.values]
        if isinstance(schema, Record):
            return [f"={scalar_text(v)}" for field in schema.fields for v in field.values]
        return ()

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows that a value of some bytes will fill: all cells of a grid, about a third of the bytes of text."""
        schema = _schema(options)
        if isinstance(schema, Grid):
            return schema.rows * schema.columns
        rows = 2 + size[0] // 3
        return rows if isinstance(schema, Record) else min(rows, self._most(options))

    def _cell(self, value: object) -> int:
        row = self.vocabulary.find(f"cell:{scalar_text(value)}")
        if row is None:
            names = [n[5:] for n in self.vocabulary.declared if n.startswith("cell:")]
            raise DataError(f"a cell cannot be `{value}` in this run", help=did_you_mean(str(value), names, "cells"))
        return row

    def _grid_piece(self, value: Any, grid: Grid, target: bool) -> Piece:
        known, ids = {scalar_text(v) for v in grid.values}, list[int]()
        for cell in cells(value, grid):
            if checked_cell(cell, known, grid) is not None:
                ids.append(self._cell(cell))
            elif target and not grid.blank:
                raise DataError("a cell of the target grid is blank", help="say so in the line: grid(...,blank=true)")
            else:
                ids.append(self.vocabulary.control("cell"))
        return Piece.of_ids(ids, np.array(_places(grid), dtype=np.int64))

    def _read_grid(self, ids: Sequence[int], grid: Grid) -> list[list[Any]]:
        if len(ids) != grid.rows * grid.columns:
            raise DataError(f"STRUCT: {len(ids)} ids for a grid of {grid.rows} x {grid.columns}")
        values: dict[int, Any] = {self._cell(v): v for v in grid.values}
        values[self.vocabulary.control("cell")] = None
        for id in ids:
            if id not in values:
                raise DataError(f"STRUCT: {self.vocabulary.name(id)} is no cell of the grid")
        return [[values[i] for i in ids[r : r + grid.columns]] for r in range(0, len(ids), grid.columns)]

    def _flat_ids(self, value: Any, schema: Triplets | Table, most: int, target: bool) -> list[int]:
        """The line of text that is read, as many whole triplets or rows as fit; a target is not cut."""
        if not target:
            return flat_ids(value, schema, self.vocabulary, most)
        if isinstance(schema, Table):
            raise table_written()
        ids = triplet_ids(triplets(value), self.vocabulary)
        _not_cut(len(ids), most, "")
        return ids

    def _linear_ids(self, value: Any, most: int, key: str, target: bool) -> list[int]:
        """The linear form in at most `most` ids: a source is cut, a target that is longer raises DataError."""
        if not target:
            return self.linear.write(value, most, self._depth())
        ids = self.linear.write(value, sys.maxsize, self._depth())
        _not_cut(len(ids), most, key)
        return ids

    def _record_piece(self, value: Any, schema: Record, most: int, target: bool) -> Piece:
        record = checked_record(value, schema)
        ids, learn = list[int](), list[bool]()
        for field in schema.fields:
            present = field.key in record
            if field.optional:
                ids.append(self.vocabulary.control("present" if present else "absent"))
                learn.append(True)
            if present:
                written = self._field_ids(record[field.key], field, most, target)
                ids += written
                # what the schema alone decides is forced in decoding and carries no loss
                forced = len(_ONLY.get(field.type, ())) == 1 or len(field.values) == 1
                learn += [not forced, *([len(field.values) != 1] * (len(written) - 1))]
        piece = Piece.of_ids(ids)
        return Piece(piece.adapter, piece.positions_P3, piece.arrays, np.array(learn, dtype=np.bool_))

    def _field_ids(self, value: Any, field: Field, most: int, target: bool) -> list[int]:
        value = checked_field(value, field)
        if field.type == "closed":
            return closed_ids(self.vocabulary, scalar_text(value), tuple(map(scalar_text, field.values)))
        if field.type == "text":
            ids = self.vocabulary.encode(value)
            if target:
                _not_cut(len(ids), most, field.key)
            return [*ids[:most], self.vocabulary.control("close")]
        ids = self._linear_ids(value, max(most, _NUMBER), field.key, target)
        if field.type == "number" and len(ids) > _NUMBER:
            raise DataError(f"`{field.key}` is a number of {len(ids) - 2} characters", help=f"at most {_NUMBER - 2}")
        return ids

    def _field_constraint(self, field: Field, most: int) -> Constraint:
        part: Constraint
        if field.type == "closed":
            part = OneOf(closed_sequences(self.vocabulary, tuple(map(scalar_text, field.values))))
        elif field.type == "text":
            part = Free(self.vocabulary.text_low, self.vocabulary.text_high, 0, most, self.vocabulary.control("close"))
        elif field.type == "flag":
            part = OneOf(((self.vocabulary.control("true"),), (self.vocabulary.control("false"),)))
        else:
            most = _NUMBER if field.type == "number" else max(most, _NUMBER)
            part = self.linear.constraint(most, self._depth(), _ONLY[field.type])
        return (
            Optional(part, self.vocabulary.control("present"), self.vocabulary.control("absent"))
            if field.optional
            else part
        )

    def _read_record(self, ids: Sequence[int], schema: Record) -> tuple[dict[str, Any], int]:
        record: dict[str, Any] = {}
        place = 0
        for field in schema.fields:
            if field.optional:
                place += 1
                if ids[place - 1 : place] == [self.vocabulary.control("absent")]:
                    continue
            record[field.key], place = self._read_field(ids, place, field)
        return record, place

    def _read_field(self, ids: Sequence[int], place: int, field: Field) -> tuple[Any, int]:
        if field.type == "closed":
            sequences = closed_sequences(self.vocabulary, tuple(map(scalar_text, field.values)))
            for value, sequence in zip(field.values, sequences, strict=True):
                if tuple(ids[place : place + len(sequence)]) == sequence:
                    return value, place + len(sequence)
            raise DataError(f"STRUCT: the ids spell no value of `{field.key}`")
        if field.type != "text":
            return self.linear.read(ids, place)
        close = self.vocabulary.control("close")
        end = next((i for i in range(place, len(ids)) if ids[i] == close), None)
        if end is None:
            raise DataError(f"STRUCT: the text of `{field.key}` has no end")
        return self.vocabulary.decode(ids[place:end]), end + 1


def _not_cut(count: int, most: int, key: str) -> None:
    """Raises DataError if a target of `count` ids would be cut."""
    if count > most:
        what = f"`{key}`" if key else "the value"
        raise DataError(
            f"{what} has {count} tokens, and max_length={most} is the most that a target may have",
            help="raise `max_length`, or leave the row out: a part of a structure would be learned as the whole",
        )


def _places(grid: Grid) -> tuple[tuple[int, int, int], ...]:
    return tuple((0, r, c) for r in range(grid.rows) for c in range(grid.columns))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


_BLANKS = ("", ".", "0", "None")


def cells(value: Any, grid: Grid) -> list[Any]:
    """All cells, row by row, of a list of rows, a flat list, or text (a character or a word a cell)."""
    rows, columns = grid.rows, grid.columns
    if isinstance(value, str):
        words = value.replace("/", " ").split()
        value = words if len(words) > 1 else list(value.strip())
    if not isinstance(value, list):
        raise DataError(f"a grid is a list of rows; found {type(value).__name__}")
    if value and all(isinstance(row, (list, str)) for row in value) and len(value) == rows:
        value = [list(row) for row in value]
        if all(len(row) == columns for row in value):
            return [cell for row in value for cell in row]
        raise DataError(f"a grid of {rows} x {columns} has a row of {max(len(r) for r in value)} cells")
    if len(value) != rows * columns or any(isinstance(cell, (list, dict)) for cell in value):
        raise DataError(f"a grid of {rows} x {columns} is {rows} rows of {columns} cells; found {len(value)} elements")
    return value


def checked_cell(cell: Any, known: set[str], grid: Grid) -> str | None:
    """The cell's text, None if it is blank; DataError if the grid does not know it."""
    text = scalar_text(cell)
    if text in known:
        return text
    if text in _BLANKS:
        return None
    raise DataError(f"a cell of the grid is {cell!r}", help=did_you_mean(text, map(scalar_text, grid.values), "cells"))


def checked_record(value: Any, schema: Record) -> dict[str, Any]:
    """The record without its keys that are None and optional; DataError for missing and unknown keys."""
    if not isinstance(value, dict):
        raise DataError(f"the schema is a record; found {type(value).__name__}")
    keys = [f.key for f in schema.fields]
    for key in value:
        if key not in keys:
            raise DataError(f"the record's key `{key}` is not in the schema", help=did_you_mean(key, keys, "keys"))
    found = dict(value)
    for field in schema.fields:
        if field.key not in found and not field.optional:
            have = did_you_mean(field.key, found, "it has")
            raise DataError(f"the record lacks the key `{field.key}`", help=f"{have}; or write optional=({field.key})")
        if field.optional and found.get(field.key) is None:
            found.pop(field.key, None)
    return found


def checked_field(value: Any, field: Field) -> Any:
    """The value of a field; DataError if it is of the wrong type."""
    if field.type == "closed":
        texts = [scalar_text(v) for v in field.values]
        if scalar_text(value) not in texts:
            raise DataError(f"`{field.key}` is {value!r}", help=did_you_mean(scalar_text(value), texts))
        return value
    if field.type == "text" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return scalar_text(value)
    wanted: dict[str, Any] = {
        "text": str,
        "flag": bool,
        "number": (int, float),
        "list": list,
        "record": dict,
        "json": object,
    }
    wrong = not isinstance(value, wanted[field.type]) or (field.type == "number" and isinstance(value, bool))
    if wrong:
        raise DataError(f"`{field.key}` is {value!r:.60}", help=f"the schema says {field.type}")
    return value
