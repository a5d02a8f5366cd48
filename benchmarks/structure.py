"""How the code hangs together, in counts: names of modalities, the way from a row to the loss, circles, rooms.

    python benchmarks/structure.py                        this checkout
    python benchmarks/structure.py ../before .            several, side by side
    python benchmarks/structure.py --list names           the places themselves (or: circles, walk, files)
    python benchmarks/structure.py ../before . --store    write results/structure.json; the last checkout is the limit
    python benchmarks/structure.py --exceptions           write tests/name_exceptions.txt anew, reasons kept

A test holds the code to the limit, and to the list of places that may ask for a name. Checkouts are walked in processes
that see only them, in this Python environment.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, commit, table, write_row
from names import by_file, places
from two_checkouts import HERE, linked
from walk import Walk

__all__ = ["EXCEPTIONS", "FORM", "Form", "circles", "exceptions", "form", "repeated", "room_of"]

EXCEPTIONS = HERE / "tests" / "name_exceptions.txt"
#: Stands between the parts of a line of EXCEPTIONS.
BETWEEN = " :: "
#: Counts as they are printed: key -> what it says.
FORM = {
    "compared": "comparisons with names of modalities or adapters outside their files",
    "listed": "other places with such a name: tables, arguments, dotted paths",
    "circles": "circles of imports",
    "in_circles": "modules in circles",
    "lines": "lines of the package",
    "modules": "modules",
    "repeated": "file names that occur in more than one room",
    "largest": "share of the largest room's lines",
    "to_pack": "calls from a row to its pack",
    "to_loss": "calls from the pack to its loss",
    "functions": "distinct functions from row to loss",
    "files": "distinct files from row to loss",
    "file_changes": "changes of file from row to loss",
    "room_changes": "changes of room from row to loss",
    "per_token": "Python calls for one more written token, one layer",
    "of_answer": "Python calls of an answer of 512 tokens, per token",
}


@dataclass(frozen=True)
class Form:
    """Counts that need nothing but the files; `largest` is a share, its room stands in `largest_room`."""

    compared: int
    listed: int
    circles: int
    in_circles: int
    lines: int
    modules: int
    repeated: int
    largest: float
    largest_room: str


def room_of(path: Path, package: Path) -> str:
    """First folder below the package, or the module's own name."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def form(checkout: Path) -> Form:
    """What can be counted without running anything."""
    package = checkout / "ofasys_lite"
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in package.rglob("*.py")}
    rooms = Counter[str]()
    for path, count in lines.items():
        rooms[room_of(path, package)] += count
    room, most = rooms.most_common(1)[0]
    named = Counter("compared" if place.kind == "compared" else "listed" for place in places(checkout))
    found = circles(package)
    return Form(
        named["compared"],
        named["listed"],
        len(found),
        sum(map(len, found)),
        sum(lines.values()),
        len(lines),
        len(repeated(package)),
        round(most / sum(lines.values()), 3),
        room,
    )


def repeated(package: Path) -> dict[str, list[str]]:
    """File name -> rooms, of names that several rooms have."""
    rooms: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        if not path.stem.startswith("__"):
            rooms.setdefault(path.name, set()).add(room_of(path, package))
    found = {name: sorted(inside) for name, inside in rooms.items() if len(inside) > 1}
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def circles(package: Path) -> list[list[str]]:
    """Groups of modules that import each other: at the top, inside functions, or for types alone."""
    graph = _imports(package)
    reached = {name: _reach(name, graph) for name in graph}
    found, seen = list[list[str]](), set[str]()
    for name in sorted(graph):
        group = sorted({other for other in reached[name] if name in reached[other]} | {name})
        if len(group) > 1 and name not in seen:
            found.append(group)
        seen.update(group)
    return found


def _imports(package: Path) -> dict[str, set[str]]:
    names = {}
    for path in package.rglob("*.py"):
        names[".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")] = path
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = graph.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                members = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {member if member in names else node.module or "" for member in members} & set(names)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & set(names)
    return graph


def _reach(name: str, graph: Mapping[str, set[str]]) -> set[str]:
    found, left = set[str](), list(graph[name])
    while left:
        module = left.pop()
        if module not in found:
            found.add(module)
            left += graph[module]
    return found


def walked(checkout: Path) -> tuple[Walk, list[tuple[str, str]], dict[str, float]]:
    """The counts of a checkout's walk, its calls, those of a token, from a process that sees only that checkout."""
    with tempfile.TemporaryDirectory() as place:
        code, out = linked(checkout, Path(place) / "code"), Path(place) / "walk.json"
        keys = {"OMP_NUM_THREADS": "1", "OFASYS_CACHE": f"{place}/cache", "PYTHONPATH": f"{code}"}
        command = [sys.executable, str(Path(__file__).with_name("walk.py")), str(out)]
        subprocess.run(command, check=True, cwd=place, env={**os.environ, **keys}, stdout=subprocess.DEVNULL)
        content = json.loads(out.read_text(encoding="utf-8"))
    return Walk(**content["counts"]), [(file, name) for file, name in content["calls"]], content["token"]


def listed(what: str, checkout: Path) -> str:
    """The places behind a count, as text."""
    package = checkout / "ofasys_lite"
    if what == "names":
        found = places(checkout)
        head = [f"{count:3} {file}" for file, count in by_file(found).items()]
        return "\n".join([*head, "", *(f"{p.file}:{p.line}: {p.kind}: {p.text}" for p in found)])
    if what == "circles":
        return "\n".join(" <-> ".join(group) for group in circles(package)) or "none"
    if what == "files":
        return "\n".join(f"{name}: {', '.join(rooms)}" for name, rooms in repeated(package).items())
    return "\n".join(f"{file} {name}" for file, name in walked(checkout)[1])


def exceptions(path: Path = EXCEPTIONS) -> list[tuple[str, str, str]]:
    """(file, expression, reason) of every place that may ask for a name; lines that begin with `#` are comments."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            file, text, reason = (part.strip() for part in line.split(BETWEEN))
            found.append((file, text, reason))
    return found


def write_exceptions(checkout: Path) -> None:
    """Writes the places of today; a place that is new gets `?` for its reason, which the test refuses."""
    reasons: dict[str, list[str]] = {}
    for _, text, reason in exceptions():
        reasons.setdefault(text, []).append(reason)
    lines = [line for line in EXCEPTIONS.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for place in places(checkout):
        left = reasons.get(place.text, [])
        lines.append(BETWEEN.join((place.file, place.text, left.pop(0) if left else "?")))
    EXCEPTIONS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table; stores it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[HERE])
    parser.add_argument("--list", choices=("names", "circles", "walk", "files"), default=None)
    parser.add_argument("--store", action="store_true", help="write results/structure.json")
    parser.add_argument("--exceptions", action="store_true", help="write tests/name_exceptions.txt anew")
    given = parser.parse_args(argv)
    if given.exceptions:
        write_exceptions(HERE)
        return
    checkouts = [path.resolve() for path in given.checkouts]
    if given.list is not None:
        for checkout in checkouts:
            print(listed(given.list, checkout))
        return
    rows: list[dict[str, Any]] = []
    for checkout in checkouts:
        rows.append({"commit": commit(checkout), **asdict(form(checkout)), **asdict(walked(checkout)[0])})
    shown = [["count", *(row["commit"] or "this checkout" for row in rows)]]
    for key, said in FORM.items():
        cells = [f"{row[key]:.1%} ({row['largest_room']})" if key == "largest" else f"{row[key]:,}" for row in rows]
        shown.append([said, *cells])
    print(table(shown))
    if given.store:
        limits = {key: rows[-1][key] for key in FORM}
        print("stored in", write_row("structure", {"checkouts": rows, "limits": limits}, RESULTS))


if __name__ == "__main__":
    main()
