"""Prepared folders: <split>.parquet and manifest.json, written at once or not at all.

Media travel inside the parquet files as PNG or FLAC bytes. The content hash is taken over the values, not over the
files, so it does not depend on the parquet writer's version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.errors import DataError, WriteError, needed
from ofasys_lite.recipes.recipe import SPLITS, Built, Column, RecipeInfo, Row
from ofasys_lite.writing import claim_folder, finish, staged

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a prepared folder holds and where it came from; the content of manifest.json.

    Attributes:
        generated: Which part is generated; empty if none.
        note: How it was split.
        group: What the column `group` holds.
        sources: Package, version, file, sha256 and licence of each wheel read.
        splits: Rows per split.
        groups: Distinct groups per split.
        columns: Kind of each column by name.
        files: Bytes of each file by name.
        content_sha256: Hash of all values of all rows and of the files beside them.
    """

    recipe: str
    title: str
    version: int
    licence: str
    generated: str
    note: str
    group: str
    sources: tuple[Mapping[str, str], ...]
    splits: Mapping[str, int]
    groups: Mapping[str, int]
    columns: Mapping[str, str]
    files: Mapping[str, int]
    content_sha256: str


def load_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder; DataError if there is none or it cannot be read."""
    path = folder / "manifest.json"
    prepare = f"prepare it: ofasys-lite data prepare {folder.name}"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["sources"] = tuple(values["sources"])
        return Manifest(**values)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder} is not a prepared data set (no manifest.json)", help=prepare) from None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}", help=f"delete {folder} and {prepare}") from None


def _found(folder: Path) -> Manifest | None:
    """The folder's manifest, after what a killed writer left complete is in place; None without a readable one."""
    with suppress(OSError):  # what cannot be moved into place is not there
        finish(folder)
    try:
        return load_manifest(folder)
    except DataError:
        return None


def is_prepared(folder: Path) -> bool:
    """Whether the folder holds all files of the data set it is named after, of any version."""
    manifest = _found(folder)
    if manifest is None:
        return False
    return manifest.recipe == folder.name and all((folder / name).is_file() for name in manifest.files)


def matches(folder: Path, info: RecipeInfo) -> bool:
    """Whether the folder is complete and came from the same recipe version and the same wheels."""
    manifest = _found(folder)
    if manifest is None:
        return False
    pinned = {source.package: source.wheels for source in info.sources}
    used = {each["package"]: each for each in manifest.sources}
    same = pinned.keys() == used.keys() and all(
        pinned[package].get(each["file"]) == each["sha256"] for package, each in used.items()
    )
    files = all(_size(folder / name) == size for name, size in manifest.files.items())
    return same and files and (manifest.recipe, manifest.version) == (info.name, info.version)


def claim(folder: Path, info: RecipeInfo) -> None:
    """Returns if the data set may be written into `folder`: absent, empty, or prepared before and not changed since.

    Raises:
        WriteError: The folder holds files of somebody else, another data set, or files that were changed; or it cannot
            be written.
    """
    elsewhere = f"move {folder} away, or prepare into another folder: --root FOLDER, or OFASYS_DATA=FOLDER"
    what = f"the data set {info.name} as `data prepare` writes it"
    claim_folder(folder, lambda place: (place / "manifest.json").exists(), what, elsewhere)
    if not (folder / "manifest.json").exists():
        return
    try:
        before = load_manifest(folder)
    except DataError as error:
        raise WriteError(f"{error.message}; so {folder} may hold files of yours", help=elsewhere) from None
    if before.recipe != info.name:
        raise WriteError(f"{folder} holds another data set: {before.recipe}", help=elsewhere)
    changed = [name for name, size in before.files.items() if _size(folder / name) not in (None, size)]
    if changed:
        raise WriteError(
            f"{folder} was changed since it was prepared: {', '.join(changed)}",
            help=f"to have it made again, delete the changed files; to keep them, {elsewhere}",
        )


def _size(path: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    return path.stat().st_size if path.exists() else None


def write(folder: Path, info: RecipeInfo, built: Built, wheels: Mapping[str, Path]) -> Manifest:
    """Writes the prepared folder, all files or none; returns its manifest. Other files in the folder stay.

    Raises:
        WriteError: What `claim` refuses.
    """
    needed("pyarrow", "prepared data", "data")
    claim(folder, info)
    before = load_manifest(folder).files if (folder / "manifest.json").exists() else {}
    with staged(folder) as partial:
        columns = (Column("id", "text", "row id"), Column("group", "text", info.group), *info.columns)
        schema = _schema(columns, built)
        for split in SPLITS:
            _write_parquet(partial / f"{split}.parquet", built.splits[split], schema)
        for name, content in built.files.items():
            (partial / name).write_bytes(content)
        manifest = _manifest(info, built, wheels, columns, partial)
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n"
        (partial / "manifest.json").write_text(text, encoding="utf-8")
    for name in before.keys() - manifest.files.keys() - {"..", "."}:
        (folder / Path(name).name).unlink(missing_ok=True)  # of an older version of the recipe
    return manifest


def _manifest(
    info: RecipeInfo, built: Built, wheels: Mapping[str, Path], columns: tuple[Column, ...], partial: Path
) -> Manifest:
    sources = tuple(
        {
            "package": source.package,
            "version": source.version,
            "file": wheels[source.package].name,
            "sha256": source.wheels[wheels[source.package].name],
            "licence": source.licence,
        }
        for source in info.sources
    )
    return Manifest(
        recipe=info.name,
        title=info.title,
        version=info.version,
        licence=info.licence,
        generated=info.generated,
        note=info.note,
        group=info.group,
        sources=sources,
        splits={split: len(built.splits[split]) for split in SPLITS},
        groups={split: len({row["group"] for row in built.splits[split]}) for split in SPLITS},
        columns={column.name: column.kind for column in columns},
        files={path.name: path.stat().st_size for path in sorted(partial.iterdir())},
        content_sha256=content_hash(built),
    )


def content_hash(built: Built) -> str:
    """Hexadecimal sha256 over all values of all rows in order, and over the files beside them."""
    state = hashlib.sha256()
    for split in SPLITS:
        for row in built.splits[split]:
            state.update(json.dumps([split, row], sort_keys=True, default=_plain).encode())
    for name in sorted(built.files):
        state.update(name.encode() + hashlib.sha256(built.files[name]).digest())
    return state.hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    raise TypeError(f"a prepared row holds {type(value).__name__}")


def _schema(columns: Iterable[Column], built: Built) -> pa.Schema:
    import pyarrow as pa

    boxes = pa.list_(pa.float32())
    kinds = {
        "text": pa.string(),
        "image": pa.binary(),
        "video": pa.binary(),
        "audio": pa.binary(),
        "box": boxes,
        "objects": pa.list_(pa.struct([("box", boxes), ("label", pa.string())])),
        "motion": pa.list_(pa.list_(pa.float32())),
        "grid": pa.list_(pa.list_(pa.int8())),
        "list": pa.list_(pa.string()),
        "turns": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    }
    fields = []
    for column in columns:
        if column.kind == "record":
            values = [row[column.name] for split in SPLITS for row in built.splits[split]]
            kind = pa.array(values).type
        else:
            kind = kinds[column.kind]
        fields.append(pa.field(column.name, kind, metadata={"kind": column.kind, "help": column.help}))
    return pa.schema(fields)


def _write_parquet(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows, schema=schema)
    # small row groups keep random access cheap; dictionaries store an image once for all its questions
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="zstd", compression_level=9)


def read_split(folder: Path, split: str, rows: int | None = None) -> list[Row]:
    """The first `rows` rows (all if None) of a split as dictionaries; records without their null keys.

    Raises:
        DataError: Not a prepared folder, or no such split.
    """
    manifest = load_manifest(folder)
    if split not in manifest.splits:
        raise DataError(f"{folder.name} has no split `{split}`", help=f"allowed: {', '.join(manifest.splits)}")
    needed("pyarrow", "prepared data", "data")
    import pyarrow.parquet as pq

    table = pq.read_table(folder / f"{split}.parquet")
    records = [name for name, kind in manifest.columns.items() if kind == "record"]
    found: list[dict[str, Any]] = table.slice(0, rows).to_pylist()
    for row in found:
        for name in records:
            row[name] = {key: value for key, value in row[name].items() if value is not None}
    return found
