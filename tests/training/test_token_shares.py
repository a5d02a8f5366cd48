"""Weights as shares of tokens, rows that come again too often, and what a report tells of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
from test_training_resume import checkpoint, same_state, stop_after
from test_training_streams import said_by

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.commands.run_keys import settings_of
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.errors import CardError
from ofasys_lite.report.drawn import Drawn, drawn
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.expected import token_means
from ofasys_lite.training.settings import TrainSettings
from ofasys_lite.training.shares import MixtureSettings, in_samples, repeat_notes

LINE = "[TEXT:text] -> [TEXT:label]"
TOKENS: dict[str, Any] = {"samples_per_step": 12, "log_every": 4, "mixture": {"unit": "tokens"}}


def task(name: str, words: int, count: int = 40, **more: Any) -> TaskCard:
    """A task whose sources have so many words."""
    rows = [
        {"text": " ".join(worlds.WORDS[(n + k) % 6] for k in range(words)), "label": worlds.LABELS[n % 3]}
        for n in range(count)
    ]
    return worlds.task(name, rows, line=LINE, **more)


def shares(folder: Path, key: str) -> dict[str, float]:
    """Task -> what the log tells of it, over the whole run."""
    found = drawn(RunFolder(folder).history())
    return {name: getattr(each, key) for name, each in found.items()}


def test_weights_are_shares_of_tokens_where_the_mixture_says_so(tmp_path: Path) -> None:
    cards = [task("short", 2, weight=2), task("long", 20)]
    said = said_by(cards, tmp_path / "run", steps=12, **TOKENS)
    tokens, samples = shares(tmp_path / "run", "tokens"), shares(tmp_path / "run", "samples")
    assert tokens["short"] == pytest.approx(2 / 3, abs=0.03)
    assert samples["short"] > 0.85
    means = checkpoint(tmp_path / "run")["ofasys"]["facts"]["tokens"]
    assert means["long"] > 3 * means["short"]
    assert "weights are shares of tokens; tokens of a sample, in the mean of up to 256 rows: short" in said


def test_a_resumed_run_keeps_the_means_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [task("short", 2), task("long", 20)]
    worlds.run(cards, tmp_path / "whole", steps=6, **TOKENS)
    stop_after(3, cards, tmp_path / "parts", steps=6, **TOKENS)
    monkeypatch.setattr("ofasys_lite.training.fit.token_means", lambda *_: pytest.fail("measured again"))
    worlds.run(cards, tmp_path / "parts", steps=6, resume=True, workers=2, **TOKENS)
    same_state(tmp_path / "whole", tmp_path / "parts")
    assert shares(tmp_path / "whole", "tokens") == shares(tmp_path / "parts", "tokens")


def test_points_over_steps_are_shares_of_tokens_too() -> None:
    schedule = in_samples([[0, 1.0], [10, 3.0]], 4.0, "weight")
    assert schedule.points == ((0, 0.25), (10, 0.75))
    mixture = Mixture([MixtureTask("a", 9, in_samples(1.0, 3.0, "weight")), MixtureTask("b", 9, 1.0)], 0, 4)
    assert mixture.shares(0) == pytest.approx((0.25, 0.75))


def test_a_task_of_which_no_row_can_be_read_has_no_mean() -> None:
    broken = worlds.task("caption", [{"img": b"none", "cap": "a"} for _ in range(30)])
    ready = worlds.ready([broken, task("short", 2)])
    with pytest.raises(CardError, match="task caption: none of 30 rows can be read, so nobody knows how long they are"):
        token_means(ready.tasks, TrainSettings(steps=1, mixture=MixtureSettings("tokens")))


def test_rows_that_come_too_often_are_told_before_the_first_step(tmp_path: Path) -> None:
    cards = [task("few", 2, 24), task("many", 2, 400)]
    more: dict[str, Any] = {"samples_per_step": 12, "log_every": 4}
    said = said_by(cards, tmp_path / "run", steps=20, mixture={"repeats": 3}, **more)
    size = len(worlds.ready(cards).tasks[0].sources["train"])
    assert f"task few: each of its {size} rows is trained on {120 / size:.1f} times in 20 steps, more than 3" in said
    assert "epochs: 3" in said
    assert "task many: each" not in said
    assert "each of its" not in said_by(cards, tmp_path / "none", steps=20, mixture={"repeats": 0}, **more)


def test_without_steps_it_is_told_when_it_comes_to_that_and_once() -> None:
    mixture = Mixture([MixtureTask("few", 10), MixtureTask("stream", None)], 0, 10)
    told: set[str] = set()
    assert repeat_notes(mixture, 7, 4, told) == []
    assert len(repeat_notes(mixture, 9, 4, told)) == 1
    assert repeat_notes(mixture, 20, 4, told) == []
    assert repeat_notes(mixture, None, 4) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"unit": "token"}, "unit `token` is not known"),
        ({"units": "tokens"}, "unknown key `units`"),
        ({"repeats": -1}, "repeats is -1"),
        ({"repeats": "4"}, "repeats is '4'"),
        ("tokens", "mixture is 'tokens'"),
    ],
)
def test_wrong_settings_are_told(given: Any, told: str) -> None:
    with pytest.raises(CardError, match=told):
        TrainSettings(steps=1, mixture=given)


def test_it_stands_at_the_top_of_a_configuration() -> None:
    found = settings_of({"steps": 5, "mixture": {"unit": "tokens"}}).train
    assert found.mixture == MixtureSettings("tokens", 4.0)
    assert TrainSettings.from_dict(found.to_dict()) == found
    with pytest.raises(CardError) as error:
        settings_of({"steps": 5, "trainer": {"mixture": {"unit": "tokens"}}})
    assert "it stands at the top" in str(error.value.help)


def test_a_report_tells_how_often_rows_were_trained_on_and_the_shares() -> None:
    def row(step: int, name: str, samples: int, epoch: float, share: float | None) -> dict[str, Any]:
        found = {"kind": "train", "step": step, "task": name, "slot": "x", "samples": samples, "epoch": epoch}
        return found if share is None else {**found, "token_share": share}

    history = [
        row(2, "a", 10, 0.5, 0.5),
        row(2, "b", 30, 1.0, 0.5),
        row(4, "a", 20, 1.5, 0.2),
        row(4, "b", 20, 2.0, 0.8),
    ]
    found = drawn([*history, {**history[-1], "slot": "y"}, {"kind": "step", "step": 4}])
    assert found == {"a": Drawn(1.5, 0.375, 0.35), "b": Drawn(2.0, 0.625, 0.65)}
    assert (found["a"].text, found["a"].shares) == ("1.5 x", "38% of samples, 35% of tokens")
    assert drawn([row(2, "a", 10, 0.5, None)])["a"].tokens is None
    assert drawn([]) == {}
