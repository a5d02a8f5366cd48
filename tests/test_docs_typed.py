"""Whatever the tutorial and the README tell a reader to type can be typed, in their order, on today's code."""

from __future__ import annotations

import ast
import configparser
import csv
import importlib
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ofasys_lite.cards.find import modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.commands import app, evaluate, predict, train
from ofasys_lite.commands.evaluate import EvaluateOptions
from ofasys_lite.commands.run_config import RunConfig
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.data.rows import open_source
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import OfasysError
from ofasys_lite.generalist.calls import columns_of
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.plan import build_plan
from ofasys_lite.recipes import describe, recipe_names
from ofasys_lite.run.find_run import Found

ROOT = Path(__file__).parents[1]
PAGES = {"tutorial": ROOT / "docs" / "tutorial.md", "README": ROOT / "README.md"}
#: Programs that the pages call beside this one; they change nothing that the commands behind them need.
OTHERS = ("mkdir", "cd", ".", "head", "python3", "pip", ".venv/bin/pip", ".venv/bin/pytest")
#: Verbs whose output is compared with what the page shows under them.
CHEAP = ("check", "explain", "fmt", "data")


class Reached(OfasysError):
    """Everything before the model was right."""


@dataclass(frozen=True)
class Typed:
    """A command of a page, and what the page shows under it."""

    line: int
    text: str
    shown: tuple[str, ...] = ()


def typed(page: Path) -> list[Typed]:
    """The commands of a page: lines after `$`, indented ones that begin with a program, `ofasys-lite train` in prose.

    In a block with a `$` what follows a command is its output; a block without one that begins with no program shows
    something (a line, a file, a message).
    """
    text = page.read_text(encoding="utf-8")
    found: list[tuple[int, str, list[str]]] = []
    lines = re.sub(r"^```.*?^```$", lambda m: "\n" * m[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL).split("\n")
    plain = page.name != "tutorial.md"
    for number, row in enumerate(lines, 1):
        inner = row[4:] if row.startswith("    ") else None
        continued = bool(found) and found[-1][1].endswith("\\") and not found[-1][2]
        if inner is None:
            wanted = r"`(ofasys-lite (?:train|check|explain|data) [^`]*)`"
            found += [
                (number, each, []) for each in re.findall(wanted, row) if not re.search(r"\.\.\.|\||[A-Z]{4}", each)
            ]
        elif continued:
            found[-1] = (found[-1][0], found[-1][1][:-1] + inner.strip(), [])
        elif inner.startswith("$ "):
            found.append((number, inner[2:], []))
        elif plain and re.match(r"ofasys-lite |\.venv/bin/|python3 ", inner):
            found.append((number, inner, []))
        elif found and not plain:
            found[-1][2].append(inner)
    return [Typed(number, command, tuple(shown)) for number, command, shown in found]


@dataclass
class Reader:
    """Someone who types a page from top to bottom; training and prediction stop where the model would be made."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    runs: dict[str, RunConfig] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def types(self, command: Typed) -> None:
        """Types one line, which may be several commands with `&&` between them."""
        words: list[str] = []
        for word in [*shlex.split(command.text), "&&"]:
            if word != "&&":
                words.append(word)
                continue
            try:
                self.one(words, command)
            except (OfasysError, AssertionError, SystemExit) as error:
                self.wrong.append(f"line {command.line}: {shlex.join(words)}: {error}")
            words = []

    def one(self, words: list[str], command: Typed) -> None:
        """Types one command."""
        program, *rest = words
        if program == "python":
            runpy.run_path(str(ROOT / rest[0].removeprefix("../ofasys_lite/")), run_name="__main__")
            self.same(command)
        elif program == "head":
            lines = Path(rest[1]).read_text(encoding="utf-8").splitlines()[: -int(rest[0])]
            assert lines == list(command.shown), "the file begins otherwise"
        elif program.endswith("ofasys-lite"):
            self.verb(rest[0], rest[1:], command)
        else:
            assert program in OTHERS, f"say in this test how `{program}` is tried"
            extras = re.findall(r"\.\[(\w+)\]", " ".join(rest))
            known = configparser.ConfigParser()
            known.read(ROOT / "setup.cfg")
            assert set(extras) <= set(known["options.extras_require"]), "there is no such extra"

    def verb(self, verb: str, arguments: list[str], command: Typed) -> None:
        """Types a command of this program."""
        if verb in CHEAP:
            code = app.main([verb, *arguments])
            assert code == int(any(line.startswith("error[") for line in command.shown)), f"it ends with {code}"
            self.same(command)
        elif verb == "train":
            assert app.main([verb, *arguments]) == 0, self.capsys.readouterr().err
        else:
            assert verb in ("evaluate", "predict"), f"say in this test how `{verb}` is tried"
            module = evaluate if verb == "evaluate" else predict
            with pytest.raises(Reached):
                module.main(arguments)

    def same(self, command: Typed) -> None:
        """Holds what was printed against what the page shows."""
        printed = self.capsys.readouterr()
        assert (printed.out + printed.err).split() == " ".join(command.shown).split(), f"it prints\n{printed}"

    def trained(self, config: RunConfig, *_: Any) -> None:
        """What `train` begins with, in place of the training: the lines and the rows that are there are looked at."""
        self.runs[f"runs/{config.name}"] = config
        train._check_lines(config)
        own = [
            card
            for card in config.tasks
            if not any(set(re.findall(r"^\w+", str(s))) & set(recipe_names()) for s in card.data.values())
        ]
        check_tasks(own, config.modalities, rows=50).raise_errors()

    def found(self, run: str) -> Found:
        """A run that the page trained before."""
        assert run in self.runs, f"{run} was not trained before"
        config = self.runs[run]
        tasks = {card.name: {"card": _stored(card)} for card in config.tasks}
        return Found(Path(run), Path(run) / "export", tasks, config.modalities)


def _stored(card: TaskCard) -> dict[str, Any]:
    return {"instruction": card.instruction, "columns": dict(card.columns), "decoding": {}, "sets": {}}


class Prepared:
    """The columns of a prepared data set, without its rows."""

    notes = ()

    def __init__(self, name: str, split: str) -> None:
        self.name, self.columns = f"{name}:{split}", [column.name for column in describe(name).columns]


def _opened(spec: Any, **how: Any) -> RowSource | Prepared:
    name, _, split = str(spec).partition(":")
    if name not in recipe_names():
        return open_source(spec, **how)
    assert split in ("train", "valid", "test")
    return Prepared(name, split)


def _stop(*_: Any, **__: Any) -> None:
    raise Reached("the model is next")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Reader:
    made = Reader(tmp_path, capsys)

    def evaluated(run: str, options: EvaluateOptions) -> None:
        made.found(run)
        raise Reached("the model is next")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["script"])
    monkeypatch.setattr(train, "_started", made.trained)
    monkeypatch.setattr(evaluate, "evaluate_run", evaluated)
    monkeypatch.setattr(predict, "find_run", made.found)
    monkeypatch.setattr("ofasys_lite.data.rows.open_source", _opened)
    monkeypatch.setattr(Generalist, "from_pretrained", _stop)
    return made


def written_cards(page: Path) -> dict[str, str]:
    """YAML blocks behind a sentence that ends with their path: path -> content."""
    text = page.read_text(encoding="utf-8")
    return dict(re.findall(r"`([\w/]+\.yaml)`:\n\n```yaml\n(.*?)```", text, re.DOTALL))


def _of_the_reader(folder: Path) -> None:
    """The files that the README says a reader has."""
    tables = {"my.csv": ("q", "a"), "reviews.csv": ("review", "summary"), "pics/labels.csv": ("file", "colour")}
    Image.new("RGB", (64, 64), "red").save(folder / "shape.png")
    (folder / "pics").mkdir()
    for i in range(40):
        Image.new("RGB", (64, 64), ("red", "blue")[i % 2]).save(folder / "pics" / f"{i}.png")
    for name, columns in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerow(columns)
            for i in range(40):
                csv.writer(out).writerow((f"{i}.png" if "pics" in name else f"{i} is it", ("red", "blue")[i % 2]))
    rows = [{"picture": f"pics/{i}.png", "what": "the square", "where": [1, 2, 40, 50]} for i in range(40)]
    (folder / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _cards(page: Path) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, text in written_cards(page).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")

    return write


@pytest.mark.parametrize(
    ("page", "begin"), [("tutorial", _cards(PAGES["tutorial"])), ("README", _of_the_reader)], ids=["tutorial", "README"]
)
def test_every_command_of_the_page_can_be_typed(page: str, begin: Callable[[Path], None], reader: Reader) -> None:
    commands = typed(PAGES[page])
    assert len(commands) >= 8
    begin(reader.folder)
    for command in commands:
        reader.types(command)
    assert reader.wrong == [], "\n".join(reader.wrong)


def test_a_command_that_cannot_be_typed_would_be_seen(reader: Reader) -> None:
    _of_the_reader(reader.folder)
    line = "+tasks.a.instruction='[TEXT:q] -> [TEXT:a]' +tasks.a.data.train=my.csv"
    reader.types(Typed(1, f"ofasys-lite train {line} model=tiny steps=9"))
    reader.types(Typed(2, "ofasys-lite predict runs/a a q=x --json"))
    reader.types(Typed(3, "ofasys-lite evaluate runs/a split=valid"))
    assert reader.wrong == []
    for number, wrong in enumerate(
        (
            f"ofasys-lite train {line} model=tinny",
            f"ofasys-lite train {line} steps=9 devices=2",
            "ofasys-lite train +tasks.a.instruction='[TEXT:q] -> [TEXT:a]' +tasks.a.data.train=none.csv steps=9",
            "ofasys-lite predict runs/b a q=x",
            "ofasys-lite predict runs/a a x=q",
            "ofasys-lite predict runs/a a q=x --josn",
            "ofasys-lite evaluate runs/a split=vlid",
            "ofasys-lite check '[TEXT:qq] -> [TEXT:a]' my.csv",
            "pip install -e '.[quikstart]'",
            "cat my.csv",
        )
    ):
        reader.types(Typed(number, wrong))
        assert len(reader.wrong) == number + 1, wrong


def python_blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```python[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_names_and_lines_of_python_blocks_exist(page: str) -> None:
    found = [wrong_names(text) for text in python_blocks(PAGES[page])]
    assert found == [[]]


def test_a_python_block_with_a_wrong_name_would_be_seen() -> None:
    assert wrong_names("from ofasys_lite import GeneralistModle") == ["GeneralistModle"]
    assert wrong_names("from ofasys_lite import GeneralistModel as G\nG.from_pretraind('x')") == ["G.from_pretraind"]
    assert wrong_names("m('[TEXT:a] -> [TEXT:b]', c=1)") == ["c"]


def wrong_names(text: str) -> list[str]:
    """What a block imports or asks of an import and is not there; values that its lines do not read."""
    tree = ast.parse(text)
    wrong: list[str] = []
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            wrong += [each.name for each in node.names if not hasattr(module, each.name)]
            names |= {each.asname or each.name: getattr(module, each.name, None) for each in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = names.get(node.value.id)
            wrong += [f"{node.value.id}.{node.attr}"] if owner is not None and not hasattr(owner, node.attr) else []
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            line = str(node.args[0].value)
            if "->" in line:
                plan = build_plan(TaskCard(name="line", instruction=line), modalities())
                read = {column.name for column in columns_of(plan).values()}
                wrong += [key.arg for key in node.keywords if key.arg is not None and key.arg not in read]
    return wrong
