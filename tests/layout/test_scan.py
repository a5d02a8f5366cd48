"""What must be known of all training rows is read once: by one of several ranks, and by one of several runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ofasys_lite.cards.find import modalities
from ofasys_lite.cards.load import load_task_card
from ofasys_lite.layout import scan
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.preprocess.text import TextPreprocess

LINE = "[TEXT:q] how many [CATEGORY:kind]? -> [TEXT:a,closed_set]"
#: A process that prepares the task, and says how often it read rows and trained a tokenizer.
SCRIPT = """
import json, sys
from test_scan import counted
print(json.dumps(counted(sys.argv[1])))
"""


def write(path: Path, more: str = "") -> None:
    rows = [{"q": f"question {n} {more}", "kind": "xyz"[n % 3], "a": "abcd"[n % 4]} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ready(source: Any, **more: Any) -> Ready:
    card = load_task_card(
        {"instruction": LINE, "data": source if isinstance(source, dict) else {"train": source}}, name="t"
    )
    return make_ready([card], {**modalities(), **more.pop("types", {})}, DataSettings(**{"pieces": 300, **more}))


def counted(source: Any, **more: Any) -> list[Any]:
    """[passes over rows, tokenizers trained, hash of the vocabulary]."""
    done = {"read": 0, "train": 0}

    def noted(name: str, function: Any) -> Any:
        def call(*values: Any) -> Any:
            done[name] += 1
            return function(*values)

        return call

    with pytest.MonkeyPatch.context() as own:
        own.setattr(scan.Scan, "_read", noted("read", scan.Scan._read))
        own.setattr(scan, "train_pieces", noted("train", scan.train_pieces))
        found = ready(source, **more)
    return [done["read"], done["train"], found.vocabulary.hash]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "d.jsonl")
    return tmp_path / "d.jsonl"


def test_of_several_ranks_one_reads_the_rows_and_trains_the_tokenizer(data: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(data)],
            env={**os.environ, "PYTHONPATH": path, "RANK": str(rank), "OFASYS_CACHE": str(tmp_path / cache)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, cache in ((0, "one"), (1, "one"), (2, "other"))
    ]
    first, second, alone = (json.loads(each.communicate(timeout=300)[0].splitlines()[-1]) for each in started)
    assert [a + b for a, b in zip(first[:2], second[:2], strict=True)] == [1, 1]
    assert alone[:2] == [1, 1]  # a machine that shares no cache reads for itself, and finds the same
    assert first[2] == second[2] == alone[2]


def test_what_was_read_is_read_again_where_rows_line_or_settings_have_changed(data: Path) -> None:
    first = counted(str(data))
    assert first[:2] == [1, 1]
    assert counted(str(data)) == [0, 0, first[2]]
    assert counted(str(data), pieces=310)[:2] == [1, 1]  # texts are not kept, but read again
    write(data, "changed")
    assert counted(str(data))[:2] == [1, 1]


class Shouting(TextPreprocess):
    """A class of a user's: what it makes of a value may change."""

    shout = "a"

    @classmethod
    def texts(cls, value: Any) -> list[str]:
        return [f"{value} {cls.shout}" * 9]


def test_what_a_class_of_the_users_makes_of_rows_is_never_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    card = modalities()["TEXT"]
    types: Mapping[str, Any] = {"TEXT": replace(card, preprocess={"default": f"{__name__}.Shouting"})}
    first = counted(str(data), types=types)
    monkeypatch.setattr(Shouting, "shout", "zebra")
    second = counted(str(data), types=types)
    assert first[:2] == second[:2] == [1, 1]
    assert first[2] != second[2]


def test_rows_of_python_are_read_without_being_hashed(data: Path) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    splits = {"train": rows, "valid": rows[:9], "test": rows[:9]}
    first = counted(splits)
    assert first[:2] == [1, 1]
    assert counted(splits) == first
    assert counted({**splits, "train": str(data)})[2] == first[2]
