"""Fetching, writing and finding prepared folders, with a tiny recipe and tiny wheels: no network."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ofasys_lite.cards.find import content_folder, find_task
from ofasys_lite.errors import DataError, WriteError
from ofasys_lite.recipes import describe, fetch, load_manifest, prepare, prepared_folders, read_split, recipe_names
from ofasys_lite.recipes.fetch import Source, Wheels
from ofasys_lite.recipes.preparation import data_root, prepare_recipe
from ofasys_lite.recipes.recipe import SPLITS, Built, Column, Limits, Recipe, RecipeInfo, assemble, split_of
from ofasys_lite.writing import cache_folder


def make_wheel(folder: Path, name: str, members: dict[str, bytes]) -> str:
    """Writes a wheel and returns its sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


def build_words(wheels: Wheels, limits: Limits) -> Built:
    words = wheels.read("tiny", "tiny/words.txt").decode().split()
    rows = [{"group": word, "text": word, "extra": {"n": str(len(word))}} for word in words]
    return Built(assemble("words", rows, limits), {"beside.txt": b"hello"})


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    words = " ".join(f"word{n}" for n in range(60)).encode()
    name = "tiny-1.0-py3-none-any.whl"
    sha = make_wheel(tmp_path / "cache" / "wheels", name, {"tiny/words.txt": words})
    info = RecipeInfo(
        name="words",
        title="words",
        sources=(Source("tiny", "1.0", {name: sha}, "MIT"),),
        licence="MIT",
        columns=(Column("text", "text", "a word"), Column("extra", "record", "its length")),
        group="the word",
        limits=Limits(train=40, valid=5, test=6),
        counts={},
        size_mb=0.0,
    )
    return Recipe(info, build_words)


def run(recipe: Recipe, tmp_path: Path, source_folder: Path | None = None) -> Path:
    return prepare_recipe(recipe, tmp_path / "data", source_folder, cache=tmp_path / "cache")


def test_a_prepared_folder_holds_three_splits_and_a_manifest(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path)
    manifest = load_manifest(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*manifest.files, "manifest.json"])
    assert manifest.splits == {"train": 40, "valid": 2, "test": 6}
    assert manifest.columns == {"id": "text", "group": "text", "text": "text", "extra": "record"}
    assert manifest.sources[0]["sha256"] == next(iter(recipe.info.sources[0].wheels.values()))
    assert (folder / "beside.txt").read_bytes() == b"hello"


def test_rows_carry_ids_and_groups_and_no_group_is_in_two_splits(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path)
    groups = {split: {row["group"] for row in read_split(folder, split)} for split in SPLITS}
    assert read_split(folder, "train", 1)[0]["id"] == "words-train-00000"
    assert not groups["train"] & groups["test"]
    assert all(split_of(group) == split for split in SPLITS for group in groups[split])


def test_the_content_hash_is_equal_on_two_runs(recipe: Recipe, tmp_path: Path) -> None:
    first = load_manifest(run(recipe, tmp_path))
    second = load_manifest(prepare_recipe(recipe, tmp_path / "other", cache=tmp_path / "cache"))
    assert first == second


def test_a_complete_folder_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path)
    before = (folder / "train.parquet").stat().st_mtime_ns
    run(replace(recipe, build=lambda wheels, limits: pytest.fail("built twice")), tmp_path)
    assert (folder / "train.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize("harm", ["delete", "version"])
def test_an_incomplete_or_older_folder_is_made_again(recipe: Recipe, tmp_path: Path, harm: str) -> None:
    folder = run(recipe, tmp_path)
    (folder / "mine.csv").write_text("precious")
    if harm == "delete":
        (folder / "beside.txt").unlink()
    else:
        recipe = replace(recipe, info=replace(recipe.info, version=2))
    run(recipe, tmp_path)
    assert load_manifest(folder).version == recipe.info.version
    assert prepared_folders.matches(folder, recipe.info)
    assert (folder / "mine.csv").read_text() == "precious"


def test_files_of_an_older_version_go_and_others_stay(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path)
    newer = replace(recipe.info, version=2)
    run(Recipe(newer, lambda wheels, limits: replace(build_words(wheels, limits), files={})), tmp_path)
    assert not (folder / "beside.txt").exists()
    assert prepared_folders.matches(folder, newer)


@pytest.mark.parametrize("mine", ["mine.csv", "train.parquet", "sub/mine.csv"])
def test_a_folder_of_one_s_own_is_refused_before_anything_is_fetched(recipe: Recipe, tmp_path: Path, mine: str) -> None:
    path = tmp_path / "data" / "words" / mine
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(WriteError, match=f"not of the data set words.*{mine.partition('/')[0]}") as caught:
        run(replace(recipe, build=lambda wheels, limits: pytest.fail("built")), tmp_path)
    assert "--root" in caught.value.help
    assert path.read_text() == "precious"


def test_another_data_set_or_what_was_changed_by_hand_is_not_replaced(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"recipe": "words"', '"recipe": "verbs"'))
    with pytest.raises(WriteError, match="holds another data set: verbs"):
        run(recipe, tmp_path)
    (folder / "manifest.json").write_text(manifest[:50])
    with pytest.raises(WriteError, match=r"manifest\.json cannot be read.*may hold files of yours"):
        run(recipe, tmp_path)
    (folder / "manifest.json").write_text(manifest)
    (folder / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(WriteError, match=r"was changed since it was prepared: test\.parquet"):
        run(recipe, tmp_path)
    (folder / "test.parquet").unlink()
    assert prepared_folders.matches(run(recipe, tmp_path), recipe.info)


def test_a_file_in_the_place_of_the_folder_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words").write_text("precious")
    with pytest.raises(WriteError, match="it is a file"):
        run(recipe, tmp_path)
    with pytest.raises(WriteError, match="is a file, not a folder"):
        prepare_recipe(recipe, tmp_path / "data" / "words", cache=tmp_path / "cache")
    assert (tmp_path / "data" / "words").read_text() == "precious"


def test_a_failure_leaves_the_old_folder_and_no_litter(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path)
    broken = replace(recipe.info, version=2, columns=(Column("missing", "record", "in no row"),))
    with pytest.raises(KeyError):
        run(replace(recipe, info=broken), tmp_path)
    assert prepared_folders.matches(folder, recipe.info)
    assert [path.name for path in folder.parent.iterdir()] == ["words"]


def test_what_a_killed_run_left_long_ago_is_removed(recipe: Recipe, tmp_path: Path) -> None:
    left, recent = (tmp_path / "data" / "words" / f".part-0123456{n}-files" for n in "ab")
    left.mkdir(parents=True)
    recent.mkdir()
    old = time.time() - 24 * 3600
    os.utime(left, (old, old))
    run(recipe, tmp_path)
    assert not left.exists()
    assert recent.exists()


def test_records_are_read_without_the_keys_a_row_lacks(recipe: Recipe, tmp_path: Path) -> None:
    def build(wheels: Wheels, limits: Limits) -> Built:
        rows = [{"group": f"{n}", "text": "x", "extra": {"a": "1"} if n % 2 else {"b": "2"}} for n in range(60)]
        return Built(assemble("words", rows, limits))

    folder = run(replace(recipe, build=build), tmp_path)
    assert {tuple(row["extra"]) for row in read_split(folder, "train")} == {("a",), ("b",)}


def test_a_wheel_is_taken_from_the_named_folder(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    for path in (tmp_path / "cache" / "wheels").iterdir():
        path.rename(folder / path.name)
    assert run(recipe, tmp_path, folder).is_dir()


def test_a_folder_without_the_wheel_is_refused_with_the_command(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tiny-1\.0.*\n.*pip download --no-deps") as caught:
        run(recipe, tmp_path, tmp_path)
    assert "tiny==1.0" in caught.value.help


def test_a_wheel_with_another_hash_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    make_wheel(tmp_path / "usb", "tiny-1.0-py3-none-any.whl", {"tiny/words.txt": b"other"})
    with pytest.raises(DataError, match=r"has sha256 .*, pinned is"):
        run(recipe, tmp_path, tmp_path / "usb")


def fake_pip(monkeypatch: pytest.MonkeyPatch, code: int, error: str, content: Path | None = None) -> list[list[str]]:
    calls: list[list[str]] = []

    def fake(command: list[str], **options: object) -> SimpleNamespace:
        calls.append(command)
        if content is not None:
            target = Path(command[command.index("--dest") + 1]) / content.name
            target.write_bytes(content.read_bytes())
        return SimpleNamespace(returncode=code, stdout="", stderr=error)

    monkeypatch.setattr(fetch, "subprocess", SimpleNamespace(run=fake))
    return calls


def test_a_failing_network_says_what_to_run_elsewhere(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(monkeypatch, 1, "WARNING: retrying\nERROR: No matching distribution found for tiny==1.0\n")
    with pytest.raises(DataError) as caught:
        prepare_recipe(recipe, tmp_path / "data", cache=tmp_path / "empty")
    assert caught.value.message == "cannot fetch tiny==1.0: ERROR: No matching distribution found for tiny==1.0"
    assert "pip download --no-deps --only-binary :all: --dest wheels tiny==1.0" in caught.value.help
    assert "--from wheels" in caught.value.help
    assert list((tmp_path / "empty" / "wheels").iterdir()) == []


def test_a_fetched_wheel_is_checked_and_kept(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "cache" / "wheels" / "tiny-1.0-py3-none-any.whl"
    calls = fake_pip(monkeypatch, 0, "", wheel)
    prepare_recipe(recipe, tmp_path / "data", cache=tmp_path / "fresh")
    prepare_recipe(recipe, tmp_path / "again", cache=tmp_path / "fresh")
    assert len(calls) == 1
    assert calls[0][:2] == [sys.executable, "-m"]
    assert [path.name for path in (tmp_path / "fresh" / "wheels").iterdir()] == [wheel.name]


def test_a_wheel_of_another_machine_is_never_used(recipe: Recipe, tmp_path: Path) -> None:
    name = "tiny-1.0-py3-none-plan9_mips.whl"
    sha = make_wheel(tmp_path / "usb", name, {"tiny/words.txt": b"x"})
    info = replace(recipe.info, sources=(Source("tiny", "1.0", {name: sha}, "MIT"),))
    with pytest.raises(DataError, match="a wheel for this machine"):
        run(Recipe(info, recipe.build), tmp_path, tmp_path / "usb")


def test_a_wheel_that_is_no_archive_and_a_missing_member_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.whl"
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match="is not a wheel"):
        Wheels({"tiny": path}, tmp_path).read("tiny", "x")
    make_wheel(tmp_path, "tiny.whl", {"a/b.txt": b"1"})
    wheels = Wheels({"tiny": path}, tmp_path)
    assert wheels.names("tiny") == ["a/b.txt"]
    with pytest.raises(DataError, match="holds no file `x`"):
        wheels.read("tiny", "x")


def test_a_misspelt_recipe_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean `digits`"):
        prepare(["digts"], tmp_path)


def test_every_recipe_describes_itself() -> None:
    assert len(set(recipe_names())) == len(recipe_names()) >= 13
    for name in recipe_names():
        info = describe(name)
        assert info.name == name
        assert set(info.counts) == set(SPLITS)
        # of recorded motions there are no more
        assert info.counts["test"] >= (40 if name in ("basic_motions", "mocap") else 300)
        assert info.sources or info.generated
        assert all(len(sha) == 64 for source in info.sources for sha in source.wheels.values())


@pytest.mark.parametrize("experiment", ["quickstart", "showcase", "generation"])
def test_data_of_an_experiment_are_small_enough_to_travel(experiment: str) -> None:
    preset = yaml.safe_load((content_folder("presets") / "experiment" / f"{experiment}.yaml").read_text("utf-8"))
    (tasks,) = (each["override /tasks"] for each in preset["defaults"] if "override /tasks" in each)
    names = {str(source).partition(":")[0] for task in tasks for source in find_task(task).data.values()}
    used = names & set(recipe_names())
    assert len(used) >= 3
    assert sum(describe(name).size_mb for name in used) < 60


def test_a_folder_that_is_not_prepared_says_how_to_prepare_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json.*\n.*data prepare digits"):
        load_manifest(tmp_path / "digits")


def test_a_manifest_with_wrong_keys_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path)
    (folder / "manifest.json").write_text(json.dumps({"recipe": "words", "sources": []}))
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        load_manifest(folder)


def test_an_unknown_split_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="allowed: train, valid, test"):
        read_split(run(recipe, tmp_path), "dev")


def test_progress_tells_every_recipe_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr("ofasys_lite.recipes.preparation.prepare_recipe", lambda recipe, root, folder: root)
    prepare(["digits", "g2p"], tmp_path, progress=lambda *step: told.append(step))
    assert told == [("digits: preparing", 0, 2), ("g2p: preparing", 1, 2), ("data ready", 2, 2)]


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFASYS_DATA", str(tmp_path))
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "c"))
    assert (data_root(), cache_folder()) == (tmp_path, tmp_path / "c")
    monkeypatch.delenv("OFASYS_DATA")
    monkeypatch.delenv("OFASYS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert (data_root(), cache_folder()) == (Path("data"), tmp_path / "ofasys_lite")


def test_listing_recipes_imports_neither_torch_nor_pyarrow() -> None:
    code = (
        "import sys; from ofasys_lite.recipes import describe, recipe_names; list(map(describe, recipe_names()));"
        "print([m for m in ('torch', 'pyarrow', 'PIL', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
