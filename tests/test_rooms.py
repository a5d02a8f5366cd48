"""The table of rooms, read from the imports themselves: a room imports only rooms above it, heavy libraries lazily."""

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ofasys_lite"
CONTENT = ("instructions", "tasks", "modalities", "presets")

#: Top to bottom. What shares a line has no say over the other.
ROOMS = (
    "version",
    "errors",
    "signals",
    "writing",
    "recipes",
    "instruction",
    "cards",
    "run",
    "plan",
    "preprocess",
    "data",
    "layout",
    "model",
    "codec",
    "decoding",
    "adapters",
    "generalist",
    "metrics",
    "training",
    "interop",
    "report",
    "commands",
    "api",
)

#: Rooms that leave these out of their module level (and of what they import there).
LIGHT = {
    "version": (),
    "errors": (),
    "signals": (),
    "writing": (),
    "recipes": ("numpy",),
    "instruction": (),
    "cards": ("yaml",),
    "run": ("yaml",),
    "plan": ("numpy",),
    "preprocess": ("numpy", "PIL"),
}
#: Libraries that are never imported at module level anywhere but in the rooms named.
HEAVY = {
    "torch": ("model", "codec", "adapters", "decoding", "generalist", "training", "interop"),
    "lightning": ("training",),
    "hydra": ("commands",),
    "omegaconf": ("commands",),
    "yaml": ("cards", "run", "commands"),
    "pyarrow": (),
    "datasets": (),
    "fsspec": (),
    "timm": (),
    "torchvision": (),
    "torchaudio": (),
    "transformers": (),
    "fairseq": (),
    "av": (),
    "matplotlib": ("report",),
    "jinja2": ("report",),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, everywhere: bool) -> Iterator[tuple[str, int]]:
    """(module, line) of imports: all of them, or those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            if everywhere:
                yield from imports(node, everywhere)
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(node, everywhere)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in ROOMS, f"{room} is not in the table of rooms"
    for name, line in imports(ast.parse(path.read_text(encoding="utf-8")), everywhere=True):
        parts = name.split(".")
        if parts[0] == "ofasys_lite" and len(parts) > 1 and parts[1] in ROOMS:
            above = ROOMS.index(parts[1]) <= ROOMS.index(room)
            assert above, f"{path.relative_to(ROOT)}:{line}: {room} imports {parts[1]}, which stands below it"


def test_a_name_with_an_underscore_stays_in_its_module() -> None:
    """That alone says what is private; only packages list names, those that they hand on."""
    for path in modules():
        for name, line in imports(ast.parse(path.read_text(encoding="utf-8")), everywhere=True):
            last = name.rpartition(".")[2]
            own = name.startswith("ofasys_lite.") and last.startswith("_") and not last.startswith("__")
            assert not own, f"{path.relative_to(ROOT)}:{line}: {name}"


def test_no_modules_import_each_other() -> None:
    """Whether at the top, inside a function or for types alone: a circle means that two modules are one thing."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in modules()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {member if member in names else node.module or "" for member in members} & set(names)
    TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    room = room_of(path)
    for name, line in imports(ast.parse(path.read_text(encoding="utf-8")), everywhere=False):
        library = name.split(".")[0]
        where = f"{path.relative_to(ROOT)}:{line}"
        if library in HEAVY:
            assert room in HEAVY[library], f"{where}: {library} at module level; import it inside the function"
        if room in LIGHT and library not in sys.stdlib_module_names and library != "ofasys_lite":
            assert library in LIGHT[room], f"{where}: {room} uses {library}"


def test_what_needs_no_torch_imports_none() -> None:
    light = [p for p in modules() if room_of(p) in (*LIGHT, "__init__")]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in light]
    names += ["ofasys_lite.commands.app", "ofasys_lite.commands.fmt", "ofasys_lite.commands.data"]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'lightning', 'pyarrow', 'datasets', 'hydra'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_of_a_size_one_can_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_content_folders_hold_no_code() -> None:
    for folder in CONTENT:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert path.name == "__init__.py"
            assert [type(node) for node in tree.body] == [ast.Expr], f"{path} holds more than a docstring"


def test_setup_names_every_package_and_no_other() -> None:
    config = configparser.RawConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    named = {line.strip() for line in config["options"]["packages"].splitlines() if line.strip()}
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert named == found | {f"ofasys_lite.{folder}" for folder in CONTENT}
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_tree_in_the_readme_has_every_room_in_order() -> None:
    tree = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("ofasys_lite/       all Python")[2]
        .partition("\n\n")[0]
    )
    names = [line.split()[0].removesuffix(".py").rstrip("/") for line in tree.splitlines() if line.startswith("      ")]
    assert names == [room for room in ROOMS if room != "version"]
