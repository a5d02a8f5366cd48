"""A metric, a baseline and a reader from a user's folder, in one task card and through the commands: no edit inside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ofasys_lite.commands.app import main
from ofasys_lite.errors import CardError
from ofasys_lite.metrics import fit_predict
from ofasys_lite.report import load_results

MODULE = '''
"""Notes: blocks of `key: value` lines with a blank line between them."""


def read(path):
    with open(path, encoding="utf-8") as file:
        blocks = file.read().strip().split("\\n\\n")
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


class Notes:
    """The same by number."""

    def __init__(self, path):
        self.rows = read(path)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def same_letters(predictions, references):
    return [float(sorted(a) == sorted(b)) for a, b in zip(predictions, references)]


same_letters.higher_is_better = True


def as_asked(problem):
    """The question itself."""
    return [row[problem.inputs[0]] for row in problem.test_rows]


def commonest(problem):
    targets = problem.targets()
    return [max(targets, key=targets.count)] * len(problem.test_rows)


def too_few(problem):
    return []
'''
WORDS = ("cat", "dog", "sun", "sea", "ant", "bee", "owl", "fox", "hen", "cow", "pig", "rat", "elk", "emu")
CARD: dict[str, Any] = {
    "instruction": "[TEXT:asked,spelled] backwards -> [TEXT:said,spelled]",
    "data": {"path": "notes.txt", "format": "notes.Notes", "split": {"train": 70, "valid": 10, "test": 20}},
    "metrics": [{"name": "notes.same_letters", "baselines": ["notes.as_asked"], "references": ["notes.commonest"]}],
}
TRAIN = [
    *("train", "name=r", "model=tiny", "tasks=[backwards]", "--config-dir", ".", "steps=4", "evaluate=false"),
    *("trainer.workers=0", "trainer.threads=1", "trainer.samples_per_step=8", "trainer.log_every=2"),
    *("trainer.valid_every=0.001", "+trainer.progress=false", "data.pieces=300"),
]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's folder, in which he works: a module, notes, a card."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "notes.py").write_text(MODULE)
    notes = (f"id: {n}\nasked: {one}{two}\nsaid: {(one + two)[::-1]}" for n, (one, two) in enumerate(pairs()))
    (folder / "notes.txt").write_text("\n\n".join(notes) + "\n")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "backwards.yaml").write_text(yaml.safe_dump(CARD))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OFASYS_CACHE", str(folder / "cache"))
        patch.setattr(sys, "path", list(sys.path))
        yield folder
    sys.modules.pop("notes", None)


def pairs() -> list[tuple[str, str]]:
    return [(one, two) for one in WORDS for two in WORDS]


def test_a_task_is_read_judged_and_held_against_functions_of_the_users(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "tasks/backwards.yaml"]) == 0
    assert main(TRAIN) == 0
    history = [json.loads(line) for line in (outside / "runs/r/metrics.jsonl").read_text().splitlines()]
    assert {r["metric"] for r in history if r["kind"] == "valid"} == {"notes.same_letters"}
    assert main(["evaluate", "run=runs/r", "bootstrap=20", "samples=2"]) == 0
    (task,) = load_results(outside / "runs/r/evaluation.json").tasks
    assert task.metric.name == "notes.same_letters"
    held = {b.name: (b.kind, b.score.value) for b in task.baselines}
    assert held["notes.as_asked"] == ("trivial", 1.0)  # the same letters, in another order
    assert held["notes.commonest"][0] == "reference"
    assert "notes.as_asked" in (outside / "runs/r/report.html").read_text()
    capsys.readouterr()
    rows = "{path: notes.txt, format: notes.read}"
    assert main(["predict", "runs/r", "backwards", "--data", rows, "--limit", "3", "--out", "said.jsonl"]) == 0
    said = [json.loads(line) for line in (outside / "said.jsonl").read_text().splitlines()]
    wanted = [(str(n), (one + two)[::-1]) for n, (one, two) in enumerate(pairs()[:3])]
    assert [(row["id"], row["reference"]["said"]) for row in said] == wanted


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": {"path": "notes.txt", "format": "notes.Note"}}, "did you mean `Notes`"),
        ({"data": {"path": "notes.txt", "format": "jsnl"}}, "or the dotted path of a reader of yours"),
        ({"data": {"path": "notes.py", "format": "notes.read"}}, "notes.py: ValueError: "),
        ({"data": {"path": "notes.txt", "format": "notes.same_letters"}}, "notes.txt: TypeError: "),
        ({"metrics": [{"name": "notes.same_leters"}]}, "did you mean `same_letters`"),
        ({"metrics": [{"name": "notes.same_letters", "baselines": ["notes.as_aksed"]}]}, "did you mean `as_asked`"),
        ({"metrics": [{"name": "accuracy", "baselines": ["majorty"]}]}, "did you mean `majority`"),
    ],
)
def test_a_function_that_is_not_there_or_cannot_do_it_is_told_by_check(
    outside: Path, tmp_path: Path, change: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {**CARD, "data": {**CARD["data"], "path": str(outside / "notes.txt")}, **change}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(card))
    assert main(["check", str(path)]) == 1
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_baseline_that_does_not_answer_every_row_is_told(outside: Path) -> None:
    with pytest.raises(CardError, match=r"baseline notes\.too_few gives 0 answers for 1 rows"):
        fit_predict("notes.too_few", [{"a": "b"}], [{"a": "b"}], ["a"], "b", "text")
