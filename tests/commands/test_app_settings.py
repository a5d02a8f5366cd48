"""Keys and values of a run beside its tasks: none is passed over, each is told in one message of the project's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_configs import load_run_config

from ofasys_lite.api.training import Trainer
from ofasys_lite.commands import app
from ofasys_lite.commands.compose import compose, run_hydra
from ofasys_lite.commands.run_config import RunConfig
from ofasys_lite.commands.run_keys import refuse_unknown, unknown_key
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.training.loop import check_devices
from ofasys_lite.training.settings import TrainSettings

GIVEN = ("model=tiny", "tasks.mine.instruction=[TEXT:q] -> [TEXT:a]", "tasks.mine.data.train=d.csv")
#: Words of libraries that no user should meet.
INNER = ("Traceback", "omegaconf", "ConfigAttributeError", "QuotedString", "ChoiceSweep", "DictConfig", "full_key")


def loaded(*arguments: str) -> RunConfig:
    return load_run_config([*GIVEN, *arguments])


def refused(*arguments: str) -> str:
    with pytest.raises(OfasysError) as caught:
        loaded(*arguments)
    text = str(caught.value)
    assert not any(word in text for word in INNER), text
    return text


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("minuts=1", "did you mean `minutes`?"),
        ("decoding.beam=4", "tasks.NAME.decoding.beam=4"),
        ("quarantine=0.2", "it is a key of trainer: trainer.quarantine=..."),
        ("weights=runs/mine", "start=runs/x"),
        ("trainer.lrr=1", "did you mean `lr`?"),
        ("trainer.steps=5", "it stands at the top: steps=5"),
        ("trainer.max_epochs=3", "here it is `epochs` of a task's card"),
        ("trainer.gradient_clip_val=1", "here it is clip"),
        ("model.wdith=8", "did you mean `width`?"),
        ("model.compile_blocks=true", "trainer.compile=true"),
        ("data.pices=8", "did you mean `pieces`?"),
        ("logger.wandb.x=1", "allowed: csv, tensorboard"),
        ("logger.csv.enabeld=false", "did you mean `enabled`?"),
        ("modalities.IMAGE.pach=8", "did you mean `patch`?"),
        ("modalities.IMGE.patch=8", "did you mean `IMAGE`?"),
        ("modalities.IMAGE.codec.wdith=8", "did you mean `width`?"),
        ("modalities.IMAGE.codec={size:64}", "setting `codec` of modality IMAGE has no `size`"),
        ("start.paht=runs/x", "did you mean `path`?"),
        ("resume.path=runs/x", "true, false or a run's folder"),
        ("trainer.betas.x=1", ", without keys"),
        ("data.cards.x=1", ", without keys"),
        ("tasks.mine.wieght=2", "did you mean `weight`?"),
        ("tasks.mine.data.tarin=x", "did you mean `train`?"),
        ("hydra.foo=1", "unknown key `hydra.foo`"),
    ],
)
@pytest.mark.parametrize("plus", ["+", "++"])
def test_an_unknown_key_behind_a_plus_stops_as_one_without(argument: str, expected: str, plus: str) -> None:
    assert expected in refused(f"{plus}{argument}")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("minuts=1", "did you mean `minutes`?"),
        ("weights=runs/mine", "start=runs/x"),
        ("trainer.max_epochs=3", "here it is `epochs`"),
        ("modalities.IMAGE.pach=8", "did you mean `patch`?"),
        ("modalities.IMAGE.patch.x=8", "modalities.IMAGE.patch is one value"),
        ("modalities.IMAGE.codec.wdith=8", "did you mean `width`?"),
        ("modalities.IMAGE.codec={wdith: 8}", "did you mean `width`?"),
        ("modalities.IMAGE.codec.width.x=8", "modalities.IMAGE.codec.width is one value"),
        ("trainer={lrr: 1}", "unknown key `trainer.lrr`"),
        ("start={path: x, repaly: 0.1}", "did you mean `replay`?"),
        ("start.repaly=0.1", "did you mean `replay`?"),
        ("logger.csx=true", "did you mean `csv`?"),
        ("trainer.betas.x=1", ", without keys"),
        ("trainer.lr.x=1", "trainer.lr is one value"),
        ("~trainer.lrr", "did you mean `lr`?"),
        ("~minuts", "did you mean `minutes`?"),
        ("=5", "cannot read the argument `=5`"),
        ("@a=5", "cannot read the argument `@a=5`"),
    ],
)
def test_an_unknown_key_stops(argument: str, expected: str) -> None:
    assert expected in refused(argument)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("trainer.precision=16", "half precision with scaled losses is not offered"),
        ("trainer.precision=16-mixed", "bf16 needs no scaling"),
        ("trainer.precision=bf16-true", "weights stay in fp32"),
        ("trainer.accelerator=1", "how many is trainer.devices=1"),
        ("trainer.accelerator=mps", "auto, cpu or cuda"),
        ("trainer.devices=[0,1]", "CUDA_VISIBLE_DEVICES=0,1"),
        ("trainer.devices=0", "at least 1, or -1"),
        ("trainer.strategy=fsdp", "allowed: auto, ddp"),
        ("trainer.lr=fast", "lr is a number"),
        ("trainer.compile=5", "compile is true or false"),
        ("model=5", "model=5: there is no model/5"),
        ("model=null", "leave it out, or choose one"),
        ("model=[tiny,small]", "one of them: model=NAME"),
        ("trainer=null", "leave it out, or choose one"),
        ("tasks=5", "tasks=5: there is no tasks/5"),
        ("logger=wandb", "logger: csv, tensorboard"),
        ("data.prepare=maybe", "prepare is true or false"),
        ("data.pieces=many", "a whole number from 2"),
        ("modalities.IMAGE=5", "write modalities.IMAGE.KEY=VALUE"),
        ("modalities.TEXT.max_length=long", "max_length is a whole number, such as 512"),
        ("modalities.TEXT.max_length=true", "max_length is a whole number, such as 512"),
        ("modalities.AUDIO.specaugment=3", "specaugment is true or false, such as true"),
        ("modalities.IMAGE.codec=3", "codec is a mapping of names to values"),
        ("steps=abc", "steps is a whole number above 0"),
        ("steps=-1", "steps is a whole number above 0"),
        ("minutes=0", "minutes is a number above 0"),
        ("seed=x", "seed is a whole number"),
        ("steps=${nothing}", "`steps`: Interpolation key 'nothing' not found"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_our_words(argument: str, expected: str) -> None:
    assert expected in refused(argument)


def test_several_wrong_settings_are_told_at_once() -> None:
    text = refused("trainer.lr=fast", "model.width=x", "+minuts=1", "data.bins=1", "+logger.foo=1", "seed=x")
    assert text.endswith("6 errors")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"precision": 32}, ("precision", "fp32")),
        ({"precision": "32-true"}, ("precision", "fp32")),
        ({"precision": "bf16-mixed"}, ("precision", "bf16")),
        ({"accelerator": "gpu"}, ("accelerator", "cuda")),
        ({"devices": "auto"}, ("devices", -1)),
        ({"devices": "2"}, ("devices", 2)),
    ],
)
def test_lightnings_own_spellings_are_understood(values: dict[str, Any], wanted: tuple[str, object]) -> None:
    name, value = wanted
    assert getattr(TrainSettings.from_dict({"steps": 1, **values}), name) == value
    ((key, typed),) = values.items()
    assert getattr(loaded(f"trainer.{key}={typed}").settings.train, name) == value


@pytest.mark.parametrize("none", ["logger=null", "logger=none", "logger=False", "logger=[]", "~logger"])
def test_a_run_without_loggers_can_be_asked_for_in_every_spelling(none: str) -> None:
    assert loaded(none).settings.loggers == ()


def test_loggers_are_chosen_and_switched_off_one_by_one() -> None:
    assert loaded().settings.loggers == ("csv",)
    assert loaded("logger=[csv,tensorboard]").settings.loggers == ("csv", "tensorboard")
    assert loaded("logger=[csv,tensorboard]", "logger.csv.enabled=false").settings.loggers == ("tensorboard",)


def test_a_device_that_is_not_there_is_told_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CardError, match=r"accelerator is `cuda`, and there is no CUDA device\n  help: trainer=cpu"):
        check_devices(TrainSettings(steps=1, accelerator="cuda"))
    with pytest.raises(CardError, match=r"devices is -1, and a CPU is not several devices"):
        check_devices(TrainSettings(steps=1, accelerator="auto", devices=-1))
    check_devices(TrainSettings(steps=1, accelerator="cpu", devices=2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(TrainSettings(steps=1, accelerator="cuda", devices=-1))
    with pytest.raises(CardError, match=r"devices is 3, and there are 2 CUDA devices"):
        check_devices(TrainSettings(steps=1, accelerator="auto", devices=3))


def test_a_preset_of_a_user_with_an_unknown_key_stops_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nsteps: 3\nlerning_rate: 1\nmodel: {widht: 8}\n"
    (tmp_path / "experiment" / "own.yaml").write_text(text)
    with pytest.raises(OfasysError) as caught:
        load_run_config([*GIVEN, "experiment=own"], tmp_path)
    assert "unknown key `lerning_rate`" in str(caught.value)
    assert "did you mean `width`?" in str(caught.value)


def test_printing_the_configuration_refuses_what_a_run_refuses() -> None:
    with pytest.raises(CardError, match="did you mean `minutes`"):
        run_hydra("train", [*GIVEN, "+minuts=1", "--cfg", "job"], lambda content, job: None)


def test_evaluate_refuses_unknown_keys() -> None:
    for argument, expected in (("+splitt=valid", "did you mean `split`"), ("+data.rot=x", "did you mean `root`")):
        content = compose("evaluate", ["run=runs/x", argument])
        with pytest.raises(CardError, match=expected):
            refuse_unknown(content, "evaluate")
    assert "did you mean `split`?" in unknown_key("splitt", "evaluate", {}).help


def test_python_offers_our_name_for_what_others_call_it() -> None:
    with pytest.raises(CardError, match=r"unknown option `gradient_clip_val`\n  help: here it is clip"):
        Trainer(gradient_clip_val=1.0)


def test_errors_of_readers_are_two_lines_and_faults_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml
    from omegaconf.errors import ConfigKeyError

    from ofasys_lite.commands import fmt

    def raising(error: Exception) -> None:
        def main(arguments: object) -> int:
            raise error

        monkeypatch.setattr(fmt, "main", main)

    for error in (ConfigKeyError("no key\n  inner"), yaml.YAMLError("bad line\n  inner")):
        raising(error)
        assert app.main(["fmt", "x"]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert "inner" not in " ".join(lines)
    raising(TypeError("a fault"))
    with pytest.raises(TypeError, match="a fault"):
        app.main(["fmt", "x"])
