"""Chat: a model that answers by what was said before, packed like alone, evaluated, exported, asked by all doors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

import ofasys_lite
from ofasys_lite.cards import modalities
from ofasys_lite.commands.app import main
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.errors import OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.layout.collate import collate
from ofasys_lite.report.evaluate_model import evaluate
from ofasys_lite.report.html import render_report
from ofasys_lite.report.sample_sheet import sample_sheet
from ofasys_lite.run.run_folder import RunFolder

LINE = "-> [CHAT:messages]"
COLOURS, THINGS = ("red", "blue", "green"), ("car", "hat", "cup", "pen")
Messages = list[dict[str, str]]


def talk(number: int) -> Messages:
    """What colour something has is said at the beginning, and asked at the end."""
    colour, thing, between = COLOURS[number % 3], THINGS[number // 3 % 4], number // 12 % 4
    turns = [("system", "be brief")] if number % 2 else []
    turns += [("user", f"my {thing} is {colour}"), ("assistant", "noted")]
    for count in range(between):
        turns += [("user", f"count {count}"), ("assistant", "ok")]
    turns += [("user", f"which colour is my {thing}?"), ("assistant", colour)]
    return [{"role": role, "content": words} for role, words in turns]


def rows() -> list[dict[str, Any]]:
    order = np.random.default_rng(0).permutation(96)
    return [{"id": str(number), "messages": talk(int(number))} for number in order]


def card(**more: Any) -> Any:
    held = rows()
    data = {"train": held[:72], "valid": held[72:84], "test": held[72:]}
    metrics = [{"name": "accuracy", "baselines": ["majority", "nearest_turn"], "references": ["nearest_tfidf"]}]
    return worlds.task("talk", data, line=LINE, metrics=metrics, **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """A decoder-only model that learned to talk."""
    folder = tmp_path_factory.mktemp("chat") / "run"
    sizes = {"encoder_layers": 0, "decoder_layers": 2}
    return worlds.run([card()], folder, steps=150, samples_per_step=16, lr=1e-2, model=sizes), folder


def test_it_answers_by_what_was_said_and_beats_the_baselines(run: tuple[Generalist, Path], tmp_path: Path) -> None:
    found = evaluate(run[0])
    (task,) = found.tasks
    scores = {each.name: each.score.value for each in task.baselines}
    assert task.metric.value >= 0.9
    assert task.margin is not None
    assert task.margin.clear
    # the last turn alone says what is asked about, and not its colour
    assert set(scores) == {"majority", "nearest_turn", "nearest_tfidf"}
    assert max(scores["majority"], scores["nearest_turn"]) < 0.7
    shown = task.samples[0].inputs[0].shown
    assert shown is not None
    assert "user: which colour is my" in shown.text
    page = render_report(found)
    assert "which colour is my" in page
    assert sample_sheet(task.samples, tmp_path / "sheet.png").is_file()


def test_with_another_history_it_answers_otherwise(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    held = rows()[72:]
    mixed = [
        [*other["messages"][:-2], *row["messages"][-2:]] for row, other in zip(held, held[5:] + held[:5], strict=True)
    ]
    wanted = [row["messages"][-1]["content"] for row in held]

    def share(talks: Sequence[Messages]) -> float:
        said = predict(model, [Request("talk", {"messages": m}, str(i)) for i, m in enumerate(talks)])
        return float(np.mean([p is not None and p.text == w for p, w in zip(said, wanted, strict=True)]))

    assert share([row["messages"] for row in held]) >= 0.9
    assert share(mixed) < 0.75


ASKED: Messages = [
    {"role": "user", "content": "my car is blue"},
    {"role": "assistant", "content": "noted"},
    {"role": "user", "content": "which colour is my car?"},
]


def test_a_conversation_goes_on_from_python_and_the_command_line(
    run: tuple[Generalist, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ofasys_lite.OFASys.from_pretrained(run[1])
    assert model(LINE, messages=ASKED).text == "blue"
    assert model("talk", ASKED, max_length=9).text == "blue"
    assert model(LINE, messages=ASKED, beam=3, n_best=2).n_best[0].text == "blue"
    sharegpt = [{"from": "human" if i % 2 == 0 else "gpt", "value": t["content"]} for i, t in enumerate(ASKED)]
    assert model(LINE, messages=sharegpt).text == "blue"
    # an answer goes back into the conversation
    longer = [*ASKED, {"role": "assistant", "content": "blue"}, {"role": "user", "content": "which colour is my car?"}]
    assert model(LINE, messages=longer).text == "blue"
    (tmp_path / "talks.jsonl").write_text(json.dumps({"messages": ASKED}) + "\n")
    main(["predict", str(run[1]), "talk", f"messages={json.dumps(ASKED)}"])
    main(["predict", str(run[1]), LINE, "--data", str(tmp_path / "talks.jsonl")])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "blue"
    assert json.loads(second)["messages"] == "blue"
    with pytest.raises(OfasysError, match="turn 1: unknown role `usr`"):
        model(LINE, messages=[{"role": "usr", "content": "hello"}])
    with pytest.raises(OfasysError, match="found the text `hello`"):
        model(LINE, messages="hello")
    assert main(["predict", str(run[1]), "talk"]) == 1
    told = capsys.readouterr().err
    assert "slot [CHAT:messages] has no value" in told
    assert '"role": "user"' in told


def test_limits_of_decoding_count_the_answer_alone(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    for length in (2, 3):
        options = model.entry("talk").options(min_length=length, max_length=length)
        (found,) = predict(model, [Request("talk", {"messages": ASKED}, "0", options)])
        assert found is not None
        assert len(model.vocabulary.encode(found.text)) <= length - 1


@pytest.mark.parametrize(
    "line",
    [LINE, "[IMAGE:img] -> [CHAT:messages,history=40]", "[CHAT:messages] -> [TEXT:cap]"],
)
def test_packed_and_one_by_one_is_the_same(line: str) -> None:
    held = [{**row, "messages": talk(i)} for i, row in enumerate(worlds.rows(9))]
    prepared = worlds.ready([worlds.task("t", held, line=line)])
    (task,), model = prepared.tasks, worlds.generalist(prepared)
    one, many = (
        worlds.gradients(model, task, held, [range(9)]),
        worlds.gradients(model, task, held, [[i] for i in range(9)]),
    )
    assert one.keys() == many.keys()
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=3e-4, atol=3e-6, msg=name)


def test_of_two_conversations_one_is_preferred(tmp_path: Path) -> None:
    held = [{"id": str(i), "good": talk(i), "bad": [*talk(i)[:-1], talk(i + 1)[-1]]} for i in range(24)]
    pair = worlds.task("t", held, line="-> [CHAT:good>bad,loss=dpo(beta=0.5)]")
    losses = list[float]()
    worlds.run([pair], tmp_path / "run", steps=30, samples_per_step=8, lr=5e-3)
    for row in RunFolder(tmp_path / "run").history():
        losses += [row["loss"]] if row["kind"] == "train" else []
    assert np.mean(losses[-3:]) < 0.8 * np.log(2)


def test_loss_is_on_the_answers_and_their_ends_alone() -> None:
    held = [{"id": str(i), "messages": talk(i)} for i in range(12)]
    prepared = worlds.ready([worlds.task("t", held, line=LINE)])
    (task,), vocabulary = prepared.tasks, prepared.vocabulary
    batch = collate([task.maker.example(row, row["id"], None, False) for row in held])
    wanted = list[int]()
    for row in held:
        for turn in row["messages"]:
            if turn["role"] == "assistant":
                wanted += [*vocabulary.encode(turn["content"]), int(vocabulary.find("<|im_end|>\n") or 0)]
    np.testing.assert_array_equal(worlds.labels(batch), wanted)
    assert int(batch.units_U.sum()) == len(wanted)


def test_check_names_the_row_and_the_turn() -> None:
    held = rows()[:12]
    held[3] = {"id": "x", "messages": [{"role": "usr", "content": "hello"}]}
    held[4] = {"id": "y", "messages": "hello"}
    held[5] = {"id": "z", "messages": ASKED[:1]}
    report = check_tasks([worlds.task("t", {"train": held}, line=LINE)], modalities(), tolerate=0)
    told = "\n".join(error.render() for error in report.errors)
    assert "turn 1: unknown role `usr`" in told
    assert "found the text `hello`" in told
    assert "no turn of `assistant` to learn" in told
