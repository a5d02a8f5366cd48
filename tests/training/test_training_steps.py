"""What one optimizer step moves, in which precision, and what it writes down."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch
import yaml
from rich.console import Console

from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.layout.loader import Steps
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.resume import Beginning, rate_note
from ofasys_lite.training.settings import TrainSettings, learning_rate, progress


def state_of(folder: Path) -> dict[str, Any]:
    """Weights and optimizer state by parameter name."""
    found: dict[str, Any] = torch.load(RunFolder(folder).last, weights_only=True)
    return found


@pytest.mark.parametrize("packs", [(10_000, 10_000), (60, 60)])
def test_an_adapter_whose_task_is_absent_does_not_move(tmp_path: Path, packs: tuple[int, int]) -> None:
    # captions are drawn in the first steps only: their adapter has moments by then, and decay would move it
    cards = [worlds.task("caption", weight=[[0, 1], [2, 0]]), worlds.task("spell", weight=[[0, 1]])]
    more: dict[str, Any] = {"steps": 6, "source_budget": packs[0], "target_budget": packs[1], "checkpoint_every": 1e-9}
    history = recorded(cards, tmp_path / "run", **more)
    image = [n for n in history[0] if n.startswith("adapters.image")]
    assert image
    for name in history[0]:
        moved = [not torch.equal(a[name], b[name]) for a, b in itertools.pairwise(history)]
        if name in image:
            assert not any(moved[2:]), name
        elif name != "embedding.weight":
            assert all(moved[1:]), name
    assert any(not torch.equal(history[0][n], history[2][n]) for n in image)


def recorded(cards: Any, folder: Path, **more: Any) -> list[dict[str, torch.Tensor]]:
    """The weights before the first and behind every step of a run."""
    from ofasys_lite.training.module import TrainingModule

    found: list[dict[str, torch.Tensor]] = []
    before = TrainingModule.training_step

    def step(self: Any, share: Any, batch_idx: int) -> None:
        if not found:
            found.append({n: p.detach().clone() for n, p in self.network.named_parameters()})
        before(self, share, batch_idx)
        found.append({n: p.detach().clone() for n, p in self.network.named_parameters()})

    patch = pytest.MonkeyPatch()
    patch.setattr(TrainingModule, "training_step", step)
    try:
        worlds.run(cards, folder, **more)
    finally:
        patch.undo()
    return found


@pytest.mark.parametrize("accounting", ["share", "token", "sample"])
def test_weights_after_steps_in_small_packs_are_those_of_one_pack_to_rounding(tmp_path: Path, accounting: str) -> None:
    cards = worlds.tasks("caption", "record", "speech", "both")
    # plain gradients: AdamW's first steps divide rounding by itself
    more: dict[str, Any] = {"steps": 3, "samples_per_step": 16, "accounting": accounting, "clip": 0.0}
    one = worlds.weights(worlds.run(cards, tmp_path / "one", **more))
    many = worlds.weights(worlds.run(cards, tmp_path / "many", source_budget=80, target_budget=80, **more))
    start = worlds.weights(worlds.generalist(worlds.ready(cards)))
    moved = sum(float((one[n] - start[n]).abs().sum()) for n in one)
    apart = sum(float((one[n] - many[n]).abs().sum()) for n in one)
    assert apart < 1e-3 * moved


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_mixture_of_all_modalities_learns_in_every_precision(tmp_path: Path, precision: str) -> None:
    folder = tmp_path / precision
    model = worlds.run(worlds.tasks(), folder, steps=12, samples_per_step=13, precision=precision, log_every=3)
    rows = [r for r in RunFolder(folder).history() if r["kind"] == "train"]
    first, last = ([r["loss"] for r in rows if r["step"] == s] for s in (3, 12))
    assert sum(last) / len(last) < 0.9 * sum(first) / len(first)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.network.parameters())
    assert {r["task"] for r in rows} == set(worlds.LINES)
    assert sum(r["share"] for r in {r["task"]: r for r in rows if r["step"] == 3}.values()) == pytest.approx(1)


def test_a_step_has_the_same_samples_on_one_rank_and_on_two() -> None:
    prepared = worlds.ready(worlds.tasks("caption", "speech", "record"))
    entries = [MixtureTask(t.card.name, len(t.sources["train"])) for t in prepared.tasks]
    mixture = Mixture(entries, 3, 12)
    for step in (0, 1, 17):
        alone = Steps(prepared.tasks, mixture, 3)[step]
        ranks = [Steps(prepared.tasks, mixture, 3, rank, 2, (60, 60))[step] for rank in (0, 1)]
        assert len(ranks[0].packs) == len(ranks[1].packs) > 1
        both = sorted(s for share in ranks for pack in share.packs for s in pack.samples)
        assert both == sorted(s for pack in alone.packs for s in pack.samples)
        assert len(both) == 12


def test_a_row_with_an_id_of_its_own_is_read_and_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = worlds.ready(worlds.tasks("restore")).tasks
    source = task.sources["train"]
    assert "id" in source.columns
    steps = Steps([task], Mixture([MixtureTask("restore", len(source))], 3, len(source)), 3)
    first = steps[0].packs
    read, measured = list[int](), list[int]()
    row, lengths = source.row, task.maker.lengths
    monkeypatch.setattr(source, "row", lambda i: (read.append(i), row(i))[1])
    monkeypatch.setattr(task.maker, "lengths", lambda source, i: (measured.append(i), lengths(source, i))[1])
    again = steps[0].packs
    assert [pack.samples for pack in again] == [pack.samples for pack in first]
    assert (sorted(read), measured) == (list(range(len(source))), [])


def test_the_rate_warms_up_and_falls_and_never_leaves_its_bounds() -> None:
    settings = TrainSettings(steps=100, lr=1.0, warmup=0.1, final=0.05)
    rates = [learning_rate(settings, step, 0.0) for step in range(120)]
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[100:] == pytest.approx([0.05] * 20)
    assert rates[10:100] == sorted(rates[10:100], reverse=True)


def test_a_straight_line_falls_from_the_warm_up_or_from_where_the_cooldown_begins() -> None:
    line = TrainSettings(steps=100, lr=1.0, warmup=0.1, final=0.0, schedule="linear")
    assert [learning_rate(line, step, 0.0) for step in (5, 10, 55, 100)] == pytest.approx([0.5, 1.0, 0.5, 0.0])
    late = TrainSettings(steps=100, lr=1.0, warmup=0.1, final=0.1, schedule="wsd", cooldown=0.2)
    assert {learning_rate(late, step, 0.0) for step in range(10, 81)} == {1.0}
    assert [learning_rate(late, step, 0.0) for step in (85, 90, 100, 130)] == pytest.approx([0.775, 0.55, 0.1, 0.1])


def test_what_a_run_that_goes_back_on_its_schedule_is_told_to_type_is_taken() -> None:
    settings = TrainSettings(steps=200, lr=1.0, schedule="wsd", cooldown=0.3)
    note = rate_note(Beginning(95, 0.0, {}, rate=0.2), settings)
    typed = dict(pair.removeprefix("trainer.").split("=") for pair in note.rpartition(": ")[2].split())
    assert typed == {"schedule": "constant", "cooldown": "0.4", "lr": "0.2"}
    replace(settings, schedule="constant", cooldown=0.4, lr=0.2)
    assert "cooldown" not in rate_note(Beginning(95, 0.0, {}, rate=0.2), replace(settings, cooldown=0.4))


def test_a_constant_rate_warms_up_and_stays() -> None:
    settings = TrainSettings(steps=100, lr=1.0, warmup=0.1, schedule="constant")
    assert learning_rate(settings, 5, 0.0) == pytest.approx(0.5)
    assert {learning_rate(settings, step, 0.0) for step in range(10, 130)} == {1.0}


def test_the_larger_share_of_steps_and_minutes_counts() -> None:
    settings = TrainSettings(steps=100, minutes=1.0)
    assert progress(settings, 30, 15.0) == pytest.approx(0.3)
    assert progress(settings, 30, 45.0) == pytest.approx(0.75)


def test_the_rate_follows_given_steps_alone_and_minutes_where_there_are_none() -> None:
    both, minutes = (TrainSettings(steps=steps, minutes=1.0, lr=1.0, warmup=0.9) for steps in (100, None))
    assert [learning_rate(both, 45, seconds) for seconds in (0.0, 45.0)] == pytest.approx([0.5, 0.5])
    assert learning_rate(minutes, 30, 45.0) == pytest.approx(0.75 / 0.9)
    # what epochs hold was not chosen: the run goes by what ends it first
    assert learning_rate(both, 45, 54.0, given=False) == pytest.approx(1.0)


def test_minutes_that_end_a_run_in_steps_leave_its_rates_and_say_where_they_cut_it(tmp_path: Path) -> None:
    said = io.StringIO()
    told = Console(file=said, width=1000)
    worlds.run([worlds.task("spell")], tmp_path / "run", steps=500, minutes=1e-4, warmup=0, log_every=1, console=told)
    rates = [row["lr"] for row in RunFolder(tmp_path / "run").history() if row["kind"] == "step"]
    assert len(rates) < 50
    whole = TrainSettings(steps=500, lr=5e-3, warmup=0)
    assert rates == pytest.approx([learning_rate(whole, n + 1, 0.0) for n in range(len(rates))])
    assert f"minutes=0.0001 ended the run after {len(rates)} of its 500 steps" in said.getvalue()
    assert f"cut short at a learning rate of {rates[-1]:.2g}, where the last step has 0.0001" in said.getvalue()
    assert f"resume={tmp_path / 'run'} with larger minutes= goes on" in said.getvalue()


def test_a_run_that_comes_to_its_last_step_says_nothing_of_a_cut(tmp_path: Path) -> None:
    said = io.StringIO()
    worlds.run([worlds.task("spell")], tmp_path / "run", steps=2, minutes=60.0, console=Console(file=said, width=1000))
    assert "cut short" not in said.getvalue()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "training has no end"),
        ({"steps": 5, "accounting": "tokens"}, "accounting `tokens` is not known"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 5, "ema": 1.5}, "ema is 1.5"),
        ({"steps": 5, "wormup": 0.1}, "unknown key `wormup`"),
        ({"steps": 5, "precision": "fp16"}, "precision is `fp16`"),
        ({"steps": 5, "betas": [0.9]}, "betas is"),
        ({"steps": "5"}, "trainer: "),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": 5, "accelerator": "tpu"}, "accelerator is `tpu`"),
        ({"steps": 5, "strategy": "dpp"}, "strategy `dpp` is not known"),
        ({"steps": 5, "betas": [0.9, 1.5]}, "betas"),
        ({"steps": 5, "betas": ["a", "b"]}, "betas is"),
        ({"steps": 5, "schedule": "liner"}, "schedule `liner` is not known"),
        ({"steps": 5, "cooldown": 0.3}, "cooldown is 0.3, and the schedule is `cosine`"),
        ({"steps": 5, "schedule": "wsd", "warmup": 0.7}, "warmup 0.7 and cooldown 0.4 are more than the whole run"),
        ({"steps": 5, "lr": float("nan")}, "lr is nan"),
        ({"steps": 5, "clip": float("inf")}, "clip is inf"),
        ({"steps": 5, "minutes": float("inf")}, "minutes is inf"),
        ({"steps": 5, "seed": 2**63}, "seed is 9223372036854775808"),
        ({"steps": 5, "seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        TrainSettings.from_dict(values)


def test_epochs_that_end_before_the_first_step_are_named_as_what_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="the tasks' epochs are over after 24 samples, and one step takes 64"):
        worlds.run([worlds.task("spell", epochs=1)], tmp_path / "run", samples_per_step=64)


@pytest.mark.parametrize("preset", ["cpu", "gpu", "ddp"])
def test_the_trainer_presets_hold_legal_settings(preset: str) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "presets" / "trainer" / f"{preset}.yaml").read_text())
    known = {f.name for f in fields(TrainSettings)}
    assert TrainSettings.from_dict({k: v for k, v in values.items() if k in known} | {"steps": 1}).steps == 1


def test_a_run_leaves_the_files_that_its_design_names(tmp_path: Path) -> None:
    config = {"tasks": {"spell": {}}, "name": "x"}
    worlds.run(worlds.tasks("spell", "region"), tmp_path / "run", steps=2, config=config)
    folder = tmp_path / "run"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {
        ".ofasys-lock",
        "checkpoints/last.ckpt",
        "closed_sets.json",
        "config.yaml",
        "export/README.md",
        "export/config.json",
        "export/model.safetensors",
        "export/rows.safetensors",
        "export/tokenizer.model",
        "export/vocabulary.json",
        "metrics.jsonl",
        "parameters.json",
        "plans.json",
        "plans.txt",
        "rows.safetensors",
        "tokenizer/tokenizer.model",
        "tokenizer/vocabulary.json",
    }
    assert json.loads((folder / "closed_sets.json").read_text()) == {"region/label": ["blue", "green", "red"]}
    assert yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) == config


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=2)
    more: dict[str, Any] = {"steps": 12, "resume": True, "lr": 1e38, "warmup": 0.0, "clip": 0.0}
    with pytest.raises(OfasysError, match=r"training has diverged: loss of task spell, slot text is not finite"):
        worlds.run(cards, tmp_path / "run", **more)
    with pytest.raises(OfasysError, match=r"training has diverged: weights are not finite"):
        worlds.run(cards, tmp_path / "run", log_every=100, checkpoint_every=1e-9, **more)
    state = state_of(tmp_path / "run")
    assert state["global_step"] == 2
    assert all(v.isfinite().all() for v in state["state_dict"].values())


def test_the_weights_of_the_best_validation_are_kept_over_a_resume(tmp_path: Path) -> None:
    seen: list[float] = []

    def validate(score: float) -> Any:
        def scored(model: Any, step: int, seconds: float) -> float:
            assert not model.network.training
            seen.append(score)
            return score

        return scored

    best = RunFolder(tmp_path / "run").best
    cards = worlds.tasks("spell")
    written = []
    for steps, score in ((3, 0.7), (6, 0.6), (9, 0.8)):
        worlds.run(cards, tmp_path / "run", steps=steps, resume=True, valid_every=1e-9, validate=validate(score))
        written.append(best.read_bytes())
    assert set(seen) == {0.7, 0.6, 0.8}
    assert written[0] == written[1] != written[2]


def test_a_cut_off_last_row_of_metrics_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (2, 4, 6):
        folder.log({"kind": "step", "step": step})
    with folder.metrics.open("a") as file:
        file.write('{"kind": "st')
    folder.cut_history(4)
    assert folder.history() == [{"kind": "step", "step": 2}, {"kind": "step", "step": 4}]


def test_training_says_nothing_beside_its_own_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=2)
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=3, resume=True)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
