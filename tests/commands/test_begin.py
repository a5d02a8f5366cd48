"""A run that begins with a trained model: what it takes over, what it refuses, what becomes of the old tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.cards import modalities
from ofasys_lite.commands.begin import begin_with
from ofasys_lite.commands.run_cost import composed
from ofasys_lite.commands.train import main
from ofasys_lite.errors import CardError, CheckpointError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.model import ModelConfig
from ofasys_lite.training.start import Start, replayed

OLD = "[TEXT:q] what? -> [TEXT:a,closed_set]"
NEW = "[TEXT:q] how many letters? -> [TEXT:n,closed_set]"
SMALL = ["model=tiny", "trainer.workers=0", "trainer.valid_every=0", "data.pieces=300"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of two tasks and a run of the first."""
    folder = tmp_path_factory.mktemp("begin")
    rows = [f"i saw a {word} {n},{kind},{len(word)}" for n in range(40) for word, kind in (("plum", "b"), ("bus", "c"))]
    (folder / "d.csv").write_text("q,a,n\n" + "\n".join(rows) + "\n", encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    try:
        main(
            [
                "name=old",
                "steps=2",
                "evaluate=false",
                *SMALL,
                f"+tasks.old.instruction={OLD}",
                "+tasks.old.data.train=d.csv",
            ]
        )
    finally:
        patch.undo()
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def begin(name: str, *more: str) -> None:
    small = [each for each in SMALL if not each.startswith(("model", "data"))]
    task = [f"+tasks.new.instruction={NEW}", "+tasks.new.data.train=d.csv"]
    main([f"name={name}", "start=runs/old", "steps=2", *small, *task, *more])


def test_a_run_begins_with_the_weights_the_tokenizer_and_the_sizes_of_another(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin("plain", "trainer.lr=1e-12", "trainer.weight_decay=0", "trainer.ema=0")
    old, new = (Generalist.from_pretrained(here / "runs" / name) for name in ("old", "plain"))
    assert new.network.config == old.network.config
    assert set(new.tasks) == {"old", "new"}
    before, after = (dict(model.network.named_parameters()) for model in (old, new))
    count = len(old.vocabulary)
    assert new.vocabulary.hash != old.vocabulary.hash
    for name, value in before.items():
        kept = after[name][:count] if name == "embedding.weight" else after[name]
        assert kept.sub(value).abs().max() < 1e-9, name
    said = capfd.readouterr()
    told = " ".join((said.out + said.err).split())
    assert "runs/old learned old: not trained on here, they may be unlearned; start.replay=0.2 draws them" in told
    start = json.loads((here / "runs" / "plain" / "start.json").read_text(encoding="utf-8"))
    assert start["before"]["old"]["score"] == pytest.approx(start["after"]["old"]["score"])
    assert "old: accuracy" in told
    metrics = json.loads((here / "runs" / "plain" / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["tasks"]) == {"old", "new"}
    assert metrics["facts"]["began with"].startswith("runs/old; old: accuracy ")


def test_replay_draws_the_old_tasks_with_their_share(here: Path) -> None:
    begin("replay", "start.replay=0.25", "evaluate=false", "trainer.samples_per_step=40", "trainer.log_every=1")
    rows = [json.loads(line) for line in (here / "runs" / "replay" / "metrics.jsonl").read_text().splitlines()]
    drawn = {row["task"]: row["samples"] for row in rows if row["kind"] == "train" and row["step"] == 1}
    assert drawn == {"old": 10, "new": 30}
    begin_again = ["resume=runs/replay", "steps=3", "evaluate=false"]
    main(begin_again)
    saved = yaml.safe_load((here / "runs" / "replay" / "config.yaml").read_text())
    assert {k: v for k, v in saved["start"].items() if v} == {"path": "runs/old", "replay": 0.25}
    assert saved["model"]["width"] == Generalist.from_pretrained("runs/old").network.config.width


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model=small"], r"start=runs/old: model.\w+ is .* there, and .* is asked for"),
        (["model.width=32"], "start=runs/old: model.width is 128 there, and 32 is asked for"),
        (["data.bins=20"], "start=runs/old: data.bins cannot be chosen"),
        (["data.tokenizer=runs/old"], "start=runs/old: data.tokenizer cannot be chosen"),
        (["start=runs/odl"], r"runs/odl: there is no such run"),
        (["start.replay=1"], "start: replay is 1"),
        (["name=old"], "runs/old already holds a run"),
    ],
)
def test_what_does_not_go_with_a_start_is_refused(here: Path, more: list[str], message: str) -> None:
    with pytest.raises(OfasysError, match=message):
        begin("wrong", *more)
    assert not (here / "runs" / "wrong" / "checkpoints").exists()


def test_what_an_older_export_does_not_name_is_what_was_usual_whatever_a_preset_says(here: Path) -> None:
    config = here / "runs" / "old" / "export" / "config.json"
    text = config.read_text(encoding="utf-8")
    content = json.loads(text)
    del content["model"]["near_bias"]
    config.write_text(json.dumps(content), encoding="utf-8")
    try:
        # as a preset would say it
        asked = composed(["experiment=quickstart", "+model.qkv_bias=true", "+model.near_bias=8.0"], ())
        assert asked.settings.model.near_bias == 8.0
        run, _ = begin_with(
            replace(asked, start={"path": "runs/old"}), ["experiment=quickstart", "start.path=runs/old"]
        )
        assert run.settings.model == Generalist.from_pretrained(here / "runs" / "old").network.config
        with pytest.raises(CheckpointError, match=r"model.near_bias is 0.0 there, and 8.0 is asked for"):
            begin_with(replace(asked, start={"path": "runs/old"}), ["model.near_bias=8"])
        # a model by its name says how weights are drawn, and there is nothing to draw
        content["model"] |= {"qkv_bias": True, "near_bias": 8.0}
        config.write_text(json.dumps(content), encoding="utf-8")
        model = ModelConfig.from_dict({**asked.settings.model.to_dict(), **content["model"], "near_bias": 0.0})
        asked = replace(asked, start={"path": "runs/old"}, settings=replace(asked.settings, model=model))
        run, _ = begin_with(asked, ["model=quick"])
        assert run.settings.model.near_bias == 8.0
    finally:
        config.write_text(text, encoding="utf-8")


def test_tasks_whose_data_are_gone_are_told_and_neither_replayed_nor_evaluated(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = here / "runs" / "old" / "export" / "config.json"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("d.csv", "gone.csv"), encoding="utf-8")
    try:
        begin("gone", "start.replay=0.5")
    finally:
        config.write_text(text, encoding="utf-8")
    said = capfd.readouterr()
    told = " ".join((said.out + said.err).split())
    assert "task old is not replayed: no file gone.csv" in told
    assert "old: not measured (task old: no file gone.csv)" in told
    metrics = json.loads((here / "runs" / "gone" / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["tasks"]) == {"new"}


def test_fit_begins_with_a_model_and_measures_its_tasks(here: Path) -> None:
    rows = [{"q": f"a {n}", "n": str(n % 2)} for n in range(30)]
    more: dict[str, Any] = {"steps": 1, "workers": 0, "progress": False, "valid_every": 0}
    model = fit(GeneralistModel("tiny"), Task("new", NEW, data=rows), name="py", start="runs/old", replay=0.2, **more)
    assert set(model.tasks) == {"old", "new"}
    told = json.loads((here / "runs" / "py" / "start.json").read_text(encoding="utf-8"))
    assert told["path"] == "runs/old"
    assert told["before"]["old"]["rows"] == told["after"]["old"]["rows"] > 0
    for wrong, message in (
        (GeneralistModel("tiny", width=32), "width is 128 there, and 32"),
        (model, "has weights already"),
    ):
        with pytest.raises(CheckpointError, match=message):
            fit(wrong, Task("new", NEW, data=rows), name="other", start={"path": "runs/old"}, **more)


def test_a_start_is_a_path_or_a_mapping() -> None:
    assert Start.of(None) is None
    assert Start.of({"path": None, "replay": 0}) is None
    assert Start.of("runs/x") == Start.of({"path": "runs/x"}) == Start("runs/x")
    with pytest.raises(CardError, match="unknown key `reply`"):
        Start.of({"path": "x", "reply": 0.1}, modalities())
    with pytest.raises(CardError, match="nothing to replay"):
        Start.of({"path": None, "replay": 0.2})


def test_a_schedule_of_weights_is_scaled_as_a_whole() -> None:
    def card(name: str, weight: Any) -> Any:
        return Task(name, OLD, data=[{"q": "a", "a": "b"}] * 40, weight=weight).card

    cards, notes = replayed([card("new", 3.0)], {"a": card("a", [[0, 1.0], [9, 0.0]]), "b": card("b", 2.0)}, 0.25)
    assert [each.weight for each in cards] == [3.0, [[0, pytest.approx(1 / 3)], [9, 0.0]], pytest.approx(2 / 3)]
    assert notes == ("a, b: drawn again, 25% of all samples together",)
