"""How values of an Arrow table are read: labels by their names, numbers and dates as people write them.

The names of a Hugging Face `ClassLabel` stand in the table's metadata, wherever the table came from: a Parquet file,
an Arrow file, a data set in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.doubled import column_names
from ofasys_lite.preprocess.plain import plain, plain_number

if TYPE_CHECKING:
    import pyarrow as pa

Reading = Callable[[Any], Any]

#: Longer lists of numbers are signals, of which nobody reads the digits.
_SIGNAL = 256


def readings(schema: pa.Schema) -> dict[str, Reading]:
    """Column -> what makes a plain value of its raw one; columns whose values are plain already are left out."""
    features = _features(schema)
    names = column_names(schema.names)
    found = {name: _reading(field.type, features.get(field.name)) for name, field in zip(names, schema, strict=True)}
    return {name: reading for name, reading in found.items() if reading is not None}


def table_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table in memory, read as those of a file are."""
    read = readings(table.schema)
    columns = {}
    for name, column in zip(column_names(table.column_names), table.columns, strict=True):
        values = column.to_pylist()
        columns[name] = list(map(read[name], values)) if name in read else values
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What the datasets library noted about the columns; empty where it wrote nothing."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _reading(kind: Any, feature: Any) -> Reading | None:
    """What makes a plain value of an Arrow one of type `kind`; None where there is nothing to do."""
    import pyarrow.types as types

    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return _labels(feature.get("names"))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _list(kind.value_type, _inner(feature))
    if types.is_struct(kind):
        return _record(kind, feature)
    if types.is_map(kind):
        return lambda value: value if value is None else plain(dict(value))
    if types.is_dictionary(kind):
        return _reading(kind.value_type, feature)
    if types.is_float16(kind) or types.is_float32(kind):
        return _half if types.is_float16(kind) else _single
    if types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind):
        return None
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return None if any(is_one(kind) for is_one in texts) else plain


def _labels(names: Any) -> Reading | None:
    """The name of a class by its number; -1 is how data sets write that a row has none."""
    if not isinstance(names, list) or not names:
        return None
    known = [str(name) for name in names]

    def read(value: Any) -> Any:
        if not isinstance(value, int) or value == -1:
            return None if value == -1 else value
        if not 0 <= value < len(known):
            raise DataError(
                f"the label {value} is none of the {len(known)} classes that the data names",
                help=f"0 is `{known[0]}`, {len(known) - 1} is `{known[-1]}`",
            )
        return known[value]

    return read


def _inner(feature: Any) -> Any:
    """The feature of a list's elements."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None


def _list(kind: Any, feature: Any) -> Reading | None:
    read = _reading(kind, feature)
    if read is None:
        return None
    if read in (_half, _single):
        return lambda values: values if values is None or len(values) > _SIGNAL else list(map(read, values))
    return lambda values: None if values is None else [read(one) for one in values]


def _record(kind: Any, feature: Any) -> Reading:
    """Records without keys that are null: an Arrow record has every key of its column, used or not."""
    fields = [kind.field(i) for i in range(kind.num_fields)]
    if {field.name for field in fields} == {"bytes", "path"}:
        return plain_media
    inner: dict[str, Reading] = {}
    for field in fields:
        read = _reading(field.type, _of_field(feature, field.name))
        if read is not None:
            inner[field.name] = read

    def read_record(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: inner[key](one) if key in inner else one for key, one in value.items() if one is not None}

    return read_record


def _of_field(feature: Any, name: str) -> Any:
    """The feature of a record's key; a sequence of records is stored as a record of sequences."""
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "Sequence" and isinstance(feature.get("feature"), dict):
        return {"_type": "Sequence", "feature": feature["feature"].get(name)}
    return feature.get(name)


def _single(value: Any) -> Any:
    """A number of 32 bits with the digits it is written with: 0.1, not 0.10000000149011612."""
    return value if value is None or value != value else plain_number(np.float32(value))


def _half(value: Any) -> Any:
    """A number of 16 bits with the digits it is written with."""
    return value if value is None or value != value else plain_number(np.float16(value))


def plain_media(value: Any) -> Any:
    """The bytes, else the path, of the record {bytes, path} by which media are stored; anything else as it is."""
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
        return value["bytes"] if value["bytes"] is not None else value["path"]
    if isinstance(value, list):
        return [plain_media(one) for one in value]
    return value
