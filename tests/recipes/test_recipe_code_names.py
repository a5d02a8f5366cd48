"""Names in source code: what is a name, which are the items, how files are split. A made-up wheel, no network."""

from __future__ import annotations

import zipfile

import pytest

from ofasys_lite.recipes import code_names
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.prepared_folders import content_hash
from ofasys_lite.recipes.recipe import SPLITS, Limits, split_of

LIMITS = Limits(train=200, valid=50, test=50)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    path = tmp_path_factory.mktemp("wheel") / "django.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(60):
            lines = [f"def f{number}(self, x): return self.g{number % 7}(x, only{number})" for _ in range(4)]
            archive.writestr(f"django/m{number}.py", "\n".join([*lines, f"q{number} = x"]))
        archive.writestr("django/broken.py", "def (")
        archive.writestr("django/locale/x.py", "a = b = c = d = e = f")
        archive.writestr("django/notes.txt", "a b c d e f g")
    return Wheels({"django": path}, path.parent)


def test_names_are_identifiers_without_keywords_strings_and_comments() -> None:
    assert code_names.names_of("import os  # os.path\nfor x in os.walk('a b'):\n    print(x, True)\n") == [
        *("os", "x", "os", "walk", "print", "x")
    ]
    assert code_names.names_of("x = (") == []


def test_files_are_split_whole_and_rows_hold_what_stood_before(wheels: Wheels) -> None:
    built = code_names.build(wheels, LIMITS)
    assert content_hash(built) == content_hash(code_names.build(wheels, LIMITS))
    files = code_names.read_files(wheels)
    assert "django/locale/x.py" not in files
    trained = {(*row["history"], row["name"]) for row in built.splits["train"]}
    for split in SPLITS:
        assert built.splits[split]
        for row in built.splits[split]:
            assert split_of(row["group"]) == split
            assert code_names.FEWEST <= len(row["history"]) <= code_names.LONGEST
            names = files[row["group"]]
            wanted = [*row["history"], row["name"]]
            shown = [names[i : i + len(wanted)] for i in range(len(names))]
            same = [all(a in (b, code_names.RARE) for a, b in zip(wanted, each, strict=False)) for each in shown]
            assert any(same)
            if split != "train":
                assert (*row["history"], row["name"]) not in trained
    assert len(built.splits["train"]) == LIMITS.train


def test_every_item_is_asked_for_in_training_and_no_other_anywhere(wheels: Wheels) -> None:
    files = code_names.read_files(wheels)
    train = [names for path, names in files.items() if split_of(path) == "train"]
    items = code_names.frequent(train, 20)
    assert len(items) == 20
    assert {"self", "x"} <= items
    rows = list(code_names.rows_of({p: n for p, n in files.items() if split_of(p) == "train"}, items, None))
    kept = code_names.chosen(rows, 25)
    assert {row["name"] for row in kept} == items
    assert len(kept) == 25
    assert {name for row in kept for name in row["history"]} <= items | {code_names.RARE}
