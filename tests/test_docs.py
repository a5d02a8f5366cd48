"""What the documentation says is true: its code runs, its lines parse, its links lead somewhere, its verbs exist."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ofasys_lite.cards.find import modalities, task_names
from ofasys_lite.cards.load import load_modality_card, load_task_card
from ofasys_lite.commands.app import VERBS
from ofasys_lite.errors import InstructionError
from ofasys_lite.instruction import parse

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
#: Python blocks that prepare data, train, or import torch: seconds each.
HEAVY = ("recipes import", "ofasys_lite.model import", "fit(")


def blocks(page: Path, kind: str) -> list[str]:
    """Fenced blocks of one kind."""
    return [m["text"] for m in BLOCK.finditer(page.read_text(encoding="utf-8")) if m["kind"].strip() == kind]


def python_blocks(heavy: bool) -> list[object]:
    """Blocks marked `python`; those whose first line is `# name.py` are files, not scripts."""
    found = []
    for page in PAGES:
        for number, text in enumerate(blocks(page, "python")):
            if not re.match(r"# \S+\.py\n", text) and heavy == any(mark in text for mark in HEAVY):
                found.append(pytest.param(text, id=f"{page.stem}-{number}"))
    return found


def run(text: str, folder: Path) -> None:
    """Runs a script in `folder`; its output is shown if it fails."""
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("text", python_blocks(heavy=False))
def test_python_in_the_documentation_runs(text: str, tmp_path: Path) -> None:
    run(text, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("text", python_blocks(heavy=True))
def test_long_python_in_the_documentation_runs(text: str, tmp_path: Path) -> None:
    run(text, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    kinds = [m["kind"].strip() for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    odd = [k for k in kinds if k.startswith("python") and not re.fullmatch(r"python( no-run: \S.+)?", k)]
    assert odd == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_resolve(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", page.read_text(encoding="utf-8")))
    links = re.findall(r"\[[^\]]*\]\((?!https?:)([^)#\s]+)[^)]*\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def defined(path: Path) -> set[str]:
    """Functions, classes and `Class.method` of a file."""
    found = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_name_that_links_to_a_file_is_defined_there(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    links = re.findall(r"\[`([\w.]+)`\]\(([^)#\s]+\.py)\)", text)
    assert [(name, link) for name, link in links if name not in defined(page.parent / link)] == []
    if page.stem == "architecture":
        assert len(links) > 40
        way = text.partition("\n## The way of one picture")[2].partition("\n## ")[0]
        numbers = re.findall(r"^(\d+)\. ", way, re.M)
        assert list(map(int, numbers)) == list(range(1, 26))


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []


def shown_lines(page: Path) -> list[str]:
    """Indented lines and shell arguments that are instruction lines; quoted messages are not."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = [m[1] for m in re.finditer(r"^    (\S*\[[A-Z]+[:,\]].*(?:->|<->).*)$", text, re.MULTILINE)]
    commands = [m[0] for m in re.finditer(r"^    \$? ?(?:ofasys-lite)(?: .*)$", text, re.MULTILINE)]
    for command in commands:
        found += re.findall(r"(?:^|=|\s)['\"]+([^'\"]*\[[A-Z]+:[^'\"]*->[^'\"]*)['\"]", command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_instruction_lines_parse(page: Path) -> None:
    types = (*modalities(), "SERIES")
    wrong = []
    for line in shown_lines(page):
        try:
            parse(line, types=types)
        except InstructionError as error:
            wrong.append(str(error))
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    verbs = set(re.findall(r"ofasys-lite ([a-z]+)\b", text))
    assert verbs - set(VERBS) == set()


def test_the_page_of_commands_shows_the_helps_of_today() -> None:
    # in a process of its own: fairseq, once imported by a test, stays in Hydra's store, which `train --help` lists
    done = subprocess.run([sys.executable, str(DOCS / "make_commands.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_files_has_the_files_of_today() -> None:
    made: str = runpy.run_path(str(DOCS / "make_files.py"))["page"]()
    assert made == (DOCS / "files.md").read_text(encoding="utf-8"), "python docs/make_files.py"


def test_tasks_and_presets_that_are_named_exist() -> None:
    presets = DOCS.parent / "presets"
    own = {"desk", "trend", "hotel", "mini", "mine", "asr"}
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for names in re.findall(r"ofasys-lite [^\n]*\btasks=\[([\w,]+)\]", text):
            missing += [n for n in names.split(",") if n not in (*task_names(), *own)]
        for group, names in re.findall(r"ofasys-lite [^\n]*\b(model|trainer|experiment)=([\w,]+)", text):
            missing += [n for n in names.split(",") if n not in own and not (presets / group / f"{n}.yaml").exists()]
    assert missing == []


def written_files(page: Path) -> dict[str, str]:
    """Blocks whose first line is a comment with their path: path -> content."""
    found = {}
    for kind in ("python", "yaml"):
        for text in blocks(page, kind):
            name = re.match(r"# (\S+\.(?:py|yaml))\n", text)
            if name is not None:
                found[name[1]] = text
    return found


def test_cards_in_the_documentation_load(tmp_path: Path) -> None:
    for page in PAGES:
        for text in blocks(page, "yaml"):
            card = tmp_path / "card.yaml"
            card.write_text(text, encoding="utf-8")
            if text.startswith("# cards/modalities") or "\nreads:" in text:
                load_modality_card(card)
            elif "instruction:" in text:
                load_task_card(card)


@pytest.mark.slow
def test_the_modality_from_outside_trains_as_the_page_says(tmp_path: Path) -> None:
    for name, text in written_files(DOCS / "generalist.md").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    run((tmp_path / "data.py").read_text(encoding="utf-8"), tmp_path)
    command = [sys.executable, "-m", "ofasys_lite"]
    subprocess.run([*command, "check", "trend", "--config-dir", "cards"], cwd=tmp_path, check=True)
    options = ["tasks=[trend]", "model=tiny", "steps=60", "trainer.workers=0", "trainer.threads=1", "evaluate=false"]
    subprocess.run([*command, "train", "--config-dir", "cards", *options], cwd=tmp_path, check=True)
    asked = [*command, "predict", "runs/trend", "trend", "values=[0, 0.5, 1, 1.4, 2, 2.4, 3, 3.5, 4, 4.6, 5, 5.5]"]
    answer = subprocess.run(asked, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert answer.strip() == "rises"
