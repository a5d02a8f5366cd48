"""An export is self-contained, gives the same predictions, holds no pickle, and says what is wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds

from ofasys_lite.adapters.image import ImageAdapter
from ofasys_lite.cards.find import find_task
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CheckpointError, WriteError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.run.run_folder import EXPORT


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """A model trained a few steps on everything, and its run folder."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return worlds.run(worlds.tasks(), folder, samples_per_step=13, ema=0.5), folder


def predictions(model: Generalist) -> list[Any]:
    """What a model says about a sample of every task."""
    row = worlds.rows(3, seed=5)[2]
    asked = [Request(name, row, "7", DecodeOptions(max_length=12)) for name in worlds.LINES]
    return [(p.task, dict(p.values), p.score) for p in predict(model, asked) if p is not None]


def test_an_export_gives_the_predictions_of_the_trained_model(trained: tuple[Generalist, Path]) -> None:
    model, folder = trained
    wanted = predictions(model)
    assert len(wanted) == len(worlds.LINES)
    for place in (folder, folder / "export", str(folder)):
        assert predictions(Generalist.from_pretrained(place)) == wanted


def test_adapters_are_built_from_what_an_export_needs(
    trained: tuple[Generalist, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored(cls: type[ImageAdapter], settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**settings, "begun": "not again"}

    monkeypatch.setattr(ImageAdapter, "stored", classmethod(stored))
    specs = Generalist.from_pretrained(trained[1]).network.specs
    assert [spec.settings.get("begun") for spec in specs.values()].count("not again") == 1


def test_how_a_model_was_trained_is_not_in_its_export_and_not_taken_from_an_older_one(tmp_path: Path) -> None:
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1, model={"gradient_checkpointing": True})
    place = tmp_path / "run" / "export" / "config.json"
    config = json.loads(place.read_text(encoding="utf-8"))
    assert not {"gradient_checkpointing", "compile_blocks"} & set(config["model"])
    config["model"] |= {"gradient_checkpointing": True, "compile_blocks": True}
    place.write_text(json.dumps(config), encoding="utf-8")
    found = Generalist.from_pretrained(tmp_path / "run").network.config
    assert (found.gradient_checkpointing, found.compile_blocks) == (False, False)


def test_a_name_that_no_repository_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a repository"):
        Generalist.from_pretrained("my runs/first one")


def test_saving_again_writes_the_same_export(trained: tuple[Generalist, Path], tmp_path: Path) -> None:
    again = Generalist.from_pretrained(trained[1]).save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "vocabulary.json", "tokenizer.model"):
        assert (again / name).read_bytes() == (trained[1] / "export" / name).read_bytes(), name


def test_saving_into_a_folder_leaves_other_files_alone(trained: tuple[Generalist, Path], tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "old").mkdir(parents=True)
    for name in ("precious.txt", "old/precious.txt", ".hidden"):
        (models / name).write_text("precious")
    model = Generalist.from_pretrained(trained[1])
    (tmp_path / "link").symlink_to(models)
    model.save_pretrained(tmp_path / "link" / ".." / "link")
    for name in ("precious.txt", "old/precious.txt", ".hidden"):
        assert (models / name).read_text() == "precious"
    Generalist.from_pretrained(models)
    files = {"README.md", *EXPORT}
    assert {p.name for p in models.iterdir()} == files | {"precious.txt", "old", ".hidden"}


def test_a_model_is_saved_over_another_only_when_told(trained: tuple[Generalist, Path], tmp_path: Path) -> None:
    model = Generalist.from_pretrained(trained[1])
    model.save_pretrained(tmp_path)
    with pytest.raises(WriteError, match="already holds a model"):
        model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, overwrite=True)


def test_a_model_is_saved_neither_over_a_file_nor_over_another_s_config(
    trained: tuple[Generalist, Path], tmp_path: Path
) -> None:
    model = Generalist.from_pretrained(trained[1])
    mine = tmp_path / "d.csv"
    mine.write_text("precious")
    for place in (mine, mine / "model", tmp_path / "x" / ".." / "d.csv"):
        with pytest.raises(WriteError, match="file"):
            model.save_pretrained(place)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WriteError, match=r"not of a model of ours: config\.json"):
        model.save_pretrained(tmp_path / "bert")
    assert mine.read_text() == "precious"
    assert [p.name for p in (tmp_path / "bert").iterdir()] == ["config.json"]


def test_an_export_killed_while_it_is_put_in_place_loads(trained: tuple[Generalist, Path], tmp_path: Path) -> None:
    model = Generalist.from_pretrained(trained[1])
    model.save_pretrained(tmp_path)
    wanted = predictions(Generalist.from_pretrained(tmp_path))
    (tmp_path / ".new").mkdir()
    for name in ("vocabulary.json", "model.safetensors"):  # the others have their places already
        (tmp_path / name).rename(tmp_path / ".new" / name)
    assert predictions(Generalist.from_pretrained(tmp_path)) == wanted
    model.save_pretrained(tmp_path, overwrite=True)
    assert not (tmp_path / ".new").exists()


def test_plans_of_an_export_are_those_of_the_training(trained: tuple[Generalist, Path]) -> None:
    loaded = Generalist.from_pretrained(trained[1])
    stored = json.loads((trained[1] / "export" / "config.json").read_text())["tasks"]
    assert {n: e.plan.hash for n, e in loaded.tasks.items()} == {n: v["plan"] for n, v in stored.items()}


def test_rows_in_memory_do_not_travel_with_an_export(trained: tuple[Generalist, Path]) -> None:
    assert (trained[1] / "export" / "config.json").stat().st_size < 60_000


def test_an_export_says_nothing_of_where_the_project_lies(tmp_path: Path) -> None:
    own = find_task("digits")
    card = replace(worlds.task("spell"), path=own.path)
    model = worlds.run([card], tmp_path / "run", steps=1)
    text = (tmp_path / "run" / "export" / "config.json").read_text()
    assert str(Path(own.path).parents[1]) not in text
    assert model.tasks["spell"].card.path == own.path
    assert Generalist.from_pretrained(tmp_path / "run").tasks["spell"].card.path == own.path


def test_an_export_loads_where_pickle_and_hydra_are_forbidden(trained: tuple[Generalist, Path]) -> None:
    code = (
        "import sys, pickle\n"
        "sys.modules['hydra'] = sys.modules['omegaconf'] = sys.modules['lightning'] = None\n"
        "from ofasys_lite.generalist.generalist import Generalist\n"
        "def no(*_, **__): raise SystemExit('pickle was used')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = no\n"
        f"model = Generalist.from_pretrained({str(trained[1])!r})\n"
        "print(len(model.tasks))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(len(worlds.LINES)), done.stderr
    files = {p.name for p in (trained[1] / "export").iterdir()}
    assert files == {"README.md", *EXPORT}


def drop_key(text: bytes, key: str) -> bytes:
    """config.json without a key."""
    return json.dumps({k: v for k, v in json.loads(text).items() if k != key}).encode()


DAMAGE: dict[str, tuple[str, Any]] = {
    "config is no json": ("config.json", lambda b: b[: len(b) // 2]),
    "config is empty": ("config.json", lambda b: b""),
    "config is a list": ("config.json", lambda b: b"[1, 2]"),
    "config is no text": ("config.json", lambda b: b"\xff\xfe\x00\x01" * 8),
    "config of another format": ("config.json", lambda b: json.dumps({**json.loads(b), "format": 99}).encode()),
    "config of somebody else": ("config.json", lambda b: b'{"architectures": ["T5"]}'),
    "config without model": ("config.json", lambda b: drop_key(b, "model")),
    "config without tasks": ("config.json", lambda b: drop_key(b, "tasks")),
    "config without vocabulary": ("config.json", lambda b: drop_key(b, "vocabulary")),
    "config with a task of a wrong kind": ("config.json", lambda b: json.dumps({**json.loads(b), "tasks": 3}).encode()),
    "weights are cut": ("model.safetensors", lambda b: b[: len(b) // 2]),
    "weights are empty": ("model.safetensors", lambda b: b""),
    "weights are text": ("model.safetensors", lambda b: b"version https://git-lfs.github.com/spec/v1"),
    "weights are gone": ("model.safetensors", None),
    "tokenizer is cut": ("tokenizer.model", lambda b: b[: len(b) // 2]),
    "tokenizer is gone": ("tokenizer.model", None),
    "vocabulary is no json": ("vocabulary.json", lambda b: b"{"),
    "vocabulary is a list": ("vocabulary.json", lambda b: b"[]"),
    "vocabulary without bins": ("vocabulary.json", lambda b: drop_key(b, "bins")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_export_is_told_as_such(trained: tuple[Generalist, Path], tmp_path: Path, kind: str) -> None:
    name, change = DAMAGE[kind]
    folder = tmp_path / "export"
    shutil.copytree(trained[1] / "export", folder)
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(CheckpointError) as caught:
        Generalist.from_pretrained(folder)
    assert str(folder) in caught.value.message


def test_weights_of_another_model_are_refused(trained: tuple[Generalist, Path], tmp_path: Path) -> None:
    other = worlds.generalist(worlds.ready(worlds.tasks()), encoder_layers=2)
    folder = tmp_path / "export"
    shutil.copytree(trained[1] / "export", folder)
    other.save_weights(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit config\.json"):
        Generalist.from_pretrained(folder)


@pytest.mark.parametrize("place", ["nowhere", "runs/nowhere", "/nowhere/at/all"])
def test_a_folder_that_is_not_there_is_told(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        Generalist.from_pretrained(place)


def test_a_model_that_learns_on_keeps_its_rows_and_its_other_tasks(
    trained: tuple[Generalist, Path], tmp_path: Path
) -> None:
    start = Generalist.from_pretrained(trained[1])
    rows = [{"q": f"number {n}", "a": f"new-{n % 3}"} for n in range(20)]
    card = worlds.task("extra", {"train": rows, "valid": rows, "test": rows}, line="[TEXT:q] -> [TEXT:a,closed_set]")
    after = worlds.run([card], tmp_path / "more", steps=2, start=start)
    assert set(after.tasks) == {*worlds.LINES, "extra"}
    assert len(after.vocabulary) > len(start.vocabulary)
    assert {
        len(p.values) for p in predict(after, [Request("extra", rows[0]), Request("spell", worlds.rows(1)[0])]) if p
    }
    assert len(predictions(Generalist.from_pretrained(tmp_path / "more"))) == len(worlds.LINES)
