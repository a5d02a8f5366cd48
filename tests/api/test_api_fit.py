"""fit, Trainer and evaluate: fresh and from weights that are there, resumed, under names and folders."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from api_worlds import COLOUR, QUICK, REVERSE, SMALL, colour_rows, picture, tiny, word_rows

from ofasys_lite import GeneralistModel, Task, Trainer, evaluate, fit
from ofasys_lite.errors import CardError, CheckpointError, DataError, ErrorGroup, OfasysError
from ofasys_lite.generalist.network import AdapterSpec
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.generalist.trained import TaskEntry
from ofasys_lite.layout.collate import collate
from ofasys_lite.training.module import TrainingModule


def reverse() -> Task:
    return Task("reverse", REVERSE, data=word_rows())


def test_a_run_leaves_a_folder_that_can_be_used_without_python_objects(model: GeneralistModel) -> None:
    import yaml

    assert model.run is not None
    config = yaml.safe_load((model.run / "config.yaml").read_text())
    assert config["tasks"]["reverse"]["instruction"] == REVERSE
    assert config["tasks"]["reverse"]["data"]["train"].startswith("<ListSource")
    assert (config["trainer"]["samples_per_step"], config["data"]["pieces"], config["model"]["width"]) == (8, 320, 32)
    stored = json.loads((model.run / "export" / "config.json").read_text())
    assert stored["tasks"]["reverse"]["card"]["data"]["train"].startswith("<ListSource")


def test_samples_of_a_step_are_shared_as_micro_batch_sizes_say(model: GeneralistModel) -> None:
    assert model.run is not None
    rows = [json.loads(line) for line in (model.run / "metrics.jsonl").read_text().splitlines()]
    drawn = {name: sum(r["samples"] for r in rows if r.get("task") == name) for name in model.tasks}
    assert drawn == {"reverse": 12, "colour": 6, "find": 6}


def test_a_loss_falls() -> None:
    model = fit(
        tiny(), Task("say", "say -> [TEXT:a]", data=[{"a": "yes"}] * 20), steps=40, lr=0.01, ema=0.0, **SMALL, **QUICK
    )
    assert model("say").text == "yes"
    assert model.run == Path("runs/say")


def test_a_run_without_a_name_takes_a_free_folder_and_a_named_one_is_never_overwritten() -> None:
    Path("runs/reverse/checkpoints").mkdir(parents=True)
    Path("runs/reverse/checkpoints/last.ckpt").touch()
    assert fit(tiny(), reverse(), steps=1, **SMALL, **QUICK).run == Path("runs/reverse-2")
    with pytest.raises(CheckpointError, match="resume=True goes on with it"):
        fit(tiny(), reverse(), steps=1, name="reverse", **SMALL, **QUICK)


@pytest.mark.parametrize(("number", "left"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_leaves_a_run_that_fit_goes_on_with(
    number: signal.Signals,
    left: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = TrainingModule._update

    def updated(self: TrainingModule, step: int, through: list[int]) -> None:
        os.kill(os.getpid(), number)
        real(self, step, through)

    monkeypatch.setattr(TrainingModule, "_update", updated)
    name = f"left-{number}"
    with pytest.raises(left):
        fit(tiny(), reverse(), steps=4, name=name, **SMALL, **QUICK)
    monkeypatch.setattr(TrainingModule, "_update", real)
    assert f"stopped by {number.name}; to go on: fit(..., folder='runs/{name}', resume=True)" in capsys.readouterr().err
    fit(tiny(), reverse(), steps=4, folder=f"runs/{name}", resume=True, **SMALL, **QUICK)


def test_what_fresh_weights_are_drawn_by_does_not_hinder_a_start() -> None:
    sizes, options = {"width": 32, "heads": 2, "bias": True}, {**QUICK, "steps": 1}
    old = fit(GeneralistModel("tiny", **sizes), reverse(), name="old", **SMALL, **options)
    near = fit(GeneralistModel("tiny", **sizes, near_bias=8.0), reverse(), start=old.run, name="near", **options)
    assert near.config.near_bias == 0.0
    with pytest.raises(CheckpointError, match="qkv_bias is False there, and True in this model"):
        fit(GeneralistModel("tiny", **sizes, qkv_bias=True), reverse(), start=old.run, name="other", **options)


def test_a_run_that_is_resumed_goes_on_from_its_checkpoint() -> None:
    first = fit(tiny(), reverse(), steps=2, name="parts", **SMALL, **QUICK)
    again = fit(tiny(), reverse(), steps=2, name="parts", resume=True, **SMALL, **QUICK)
    assert first.run == again.run
    for one, other in zip(first.generalist.network.parameters(), again.generalist.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_a_model_knows_is_unchanged_when_it_is_made_ready_for_more(model: GeneralistModel) -> None:
    old = model.generalist
    vocabulary = old.vocabulary.extended(["=violet", "=sepia"])
    adapters = {"audio": AdapterSpec("ofasys_lite.adapters.audio.AudioAdapter", old.modalities["AUDIO"].settings)}
    new = old.extended(vocabulary, adapters, {}, old.modalities, old.data)
    rows = len(old.vocabulary)
    assert len(new.vocabulary) == rows + 2
    assert [new.vocabulary.name(i) for i in range(rows)] == [old.vocabulary.name(i) for i in range(rows)]
    assert torch.equal(new.network.embedding.weight[:rows], old.network.embedding.weight)
    assert set(new.network.adapters) == {"audio", "image", "text"}
    batch = to_device(collate([old.maker("colour").example(colour_rows()[0], "0", None, False)]), old.device)
    with torch.inference_mode():
        states = [g.network.eval().decode(batch, g.network.encode(batch.source)) for g in (old, new)]
        assert torch.equal(states[0], states[1])
        # a product with two more rows may be cut into other blocks: equal to rounding, not bit for bit
        before, after = old.network.text.scores(states[0]), new.network.text.scores(states[1])[:, :rows]
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    new.tasks["again"] = TaskEntry(old.tasks["colour"].card, old.tasks["colour"].plan)
    assert new.tasks.keys() - old.tasks.keys() == {"again"}


def test_a_trained_model_learns_a_further_task_and_keeps_the_old(tmp_path: Path, model: GeneralistModel) -> None:
    assert model.run is not None
    loaded = GeneralistModel.from_pretrained(model.run)
    before = loaded.generalist
    shade = Task("shade", "[IMAGE:img] shade? -> [TEXT:shade,closed_set]")
    shade.add_dataset([{"img": picture(), "shade": s} for s in ("dark", "light") * 10])
    fit(loaded, [shade], steps=1, lr=1e-6, ema=0.0, folder=tmp_path / "more", **QUICK)
    assert loaded.tasks == ("reverse", "colour", "find", "shade")
    assert len(loaded.generalist.vocabulary) == len(before.vocabulary) + 2
    assert loaded("shade", img=picture()).text in ("dark", "light")
    now, then = loaded("colour", img=picture()), model("colour", img=picture())
    assert now.text == then.text
    assert now.score == pytest.approx(then.score, abs=1e-3)
    again = GeneralistModel.from_pretrained(tmp_path / "more")
    assert again("shade", img=picture()) == loaded("shade", img=picture())


def test_a_trained_model_has_its_own_tokenizer(model: GeneralistModel) -> None:
    with pytest.raises(CardError, match="pieces cannot change, because this model is trained already"):
        fit(model, reverse(), steps=1, pieces=500)


def test_a_trainer_keeps_settings_and_each_fit_may_change_them() -> None:
    trainer = Trainer(steps=1, name="first", **SMALL, **QUICK)
    model = trainer.fit(model=tiny(), tasks=[reverse()], name="second", steps=2)
    assert model.run == Path("runs/second")
    assert trainer.options["steps"] == 1


def test_validation_runs_while_training(tmp_path: Path) -> None:
    options = {**QUICK, "valid_every": 1e-4}
    fit(tiny(), reverse(), steps=2, folder=tmp_path, **SMALL, **options)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {r["task"] for r in rows if r.get("kind") == "valid"} == {"reverse"}


def test_every_task_is_evaluated_on_its_own_rows(model: GeneralistModel) -> None:
    results = evaluate(model, limit=4)
    assert [one.task for one in results.tasks] == ["reverse", "colour", "find"]
    assert results.tasks[1].metric.name == "accuracy"
    again = evaluate(model, "colour", split="train", limit=3)
    assert [(t.task, t.metric.items) for t in again.tasks] == [("colour", 3)]
    assert evaluate(model, "colour", split="train", limit=np.int64(3)).tasks[0].metric.items == 3  # type: ignore[arg-type]


def test_a_loaded_model_is_evaluated_on_rows_that_are_given(model: GeneralistModel) -> None:
    assert model.run is not None
    loaded = GeneralistModel.from_pretrained(model.run)
    task = Task("colour", COLOUR, data={"train": colour_rows(), "valid": colour_rows(), "test": colour_rows()[:5]})
    with pytest.raises(DataError, match="were trained on"):
        evaluate(loaded, [task])
    results = evaluate(loaded, [task], seen="keep")
    assert results.tasks[0].metric.items == 5
    assert evaluate(model.run, [task], seen="keep").tasks[0].metric.value == results.tasks[0].metric.value
    with pytest.raises(OfasysError, match="ListSource"):
        evaluate(loaded, "colour")


Use = Callable[[], Any]
MISTAKES: dict[str, tuple[Use, type[OfasysError], str]] = {
    "option": (lambda: fit(tiny(), reverse(), lerning_rate=1), CardError, "fit: unknown option `lerning_rate`"),
    "near": (lambda: fit(tiny(), reverse(), sample_per_step=1), CardError, "did you mean `samples_per_step`"),
    "value": (lambda: fit(tiny(), reverse(), lr=-1.0), CardError, "lr is above 0"),
    "preset": (lambda: fit(tiny(), reverse(), preset="gpuu"), CardError, "did you mean `gpu`"),
    "model": (lambda: fit("tiny", reverse()), CardError, "fit trains a GeneralistModel"),  # type: ignore[arg-type]
    "none": (lambda: fit(tiny(), []), CardError, "there is no task to train"),
    "same": (lambda: fit(tiny(), [reverse(), reverse()]), CardError, "two tasks are called reverse"),
    "data": (lambda: fit(tiny(), Task("a", REVERSE)), CardError, "task.add_dataset(rows, 'train')"),
    "card": (lambda: fit(tiny(), ["vqaa"]), CardError, "did you mean `vqa`"),
    "resume": (lambda: fit(tiny(), reverse(), resume="yes"), CardError, "resume is 'yes'"),  # type: ignore[arg-type]
    "dot": (lambda: fit(tiny(), reverse(), name="."), CardError, "it names a folder below runs/"),
    "up": (lambda: fit(tiny(), reverse(), name="a/../b"), CardError, "elsewhere: folder=..."),
    "rooted": (lambda: fit(tiny(), reverse(), name="/tmp/a"), CardError, "elsewhere: folder=..."),
    "where": (lambda: fit(tiny(), reverse(), name="a", folder="b"), CardError, "keep one of them"),
    "pieces": (lambda: fit(tiny(), reverse(), steps=1, pieces=60, **QUICK), CardError, "pieces is at least"),
    "bins": (lambda: fit(tiny(), reverse(), steps=1, bins=0, **QUICK), CardError, "data: bins is 0"),
    "trainer": (lambda: Trainer(stepps=1), CardError, "did you mean `steps`"),
    "settings": (lambda: Trainer({"lr": 1}), CardError, "Trainer takes settings by name"),  # type: ignore[arg-type]
    "yaml": (lambda: Trainer.from_yaml("a.yaml"), CardError, "Trainer(lr=1e-3, steps=1000)"),
    "fresh": (lambda: evaluate(tiny()), CheckpointError, "not trained yet"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_says_what_to_do(kind: str) -> None:
    use, error, words = MISTAKES[kind]
    with pytest.raises(error) as raised:
        use()
    assert words in str(raised.value)


@pytest.mark.parametrize("tasks", [None, 3, {"reverse": "reverse"}])
def test_what_is_no_list_of_tasks_is_told(tasks: Any) -> None:
    with pytest.raises(CardError, match="not a list of tasks"):
        fit(tiny(), tasks, steps=1, **QUICK)


@pytest.mark.parametrize("limit", ["2", 1.5, True, 0])
def test_a_limit_that_is_no_number_of_rows_is_told(model: GeneralistModel, limit: Any) -> None:
    with pytest.raises(DataError, match="limit is"):
        evaluate(model, limit=limit)


def test_every_mistake_in_the_rows_is_told_before_anything_is_built() -> None:
    wrong = [
        Task("one", "[TEXT:wrod] -> [TEXT:answer]", data=word_rows()),
        Task("two", "[TEXT:word] -> [TEXT:anwser]", data=word_rows()),
    ]
    with pytest.raises(ErrorGroup) as raised:
        fit(tiny(), wrong, steps=1, **SMALL, **QUICK)
    assert "did you mean `word`" in str(raised.value)
    assert "did you mean `answer`" in str(raised.value)
    assert not Path("runs").exists()


def test_an_unknown_split_or_task_of_an_evaluation_is_told(model: GeneralistModel) -> None:
    with pytest.raises(DataError, match="did you mean `test`"):
        evaluate(model, split="tset")
    with pytest.raises(CheckpointError, match="did you mean `colour`"):
        evaluate(model, "color")
