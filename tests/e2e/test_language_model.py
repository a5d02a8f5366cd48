"""A line that reads nothing is a language model: bits per byte, going on from a beginning, packed like alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from test_chat import talk

import ofasys_lite
from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.metrics import evaluate_metric, fit_predict
from ofasys_lite.plan import build_plan
from ofasys_lite.report.evaluate_model import evaluate
from ofasys_lite.report.foretold import foretold
from ofasys_lite.report.judge import judges
from ofasys_lite.report.task_rows import TaskRows
from ofasys_lite.report.validation import losses

WHO, DOES, WHAT = ("the cat", "a dog", "my hat", "our cup"), ("sees", "eats", "finds"), ("the sun", "a fish", "no one")


def rows(count: int = 200) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)

    def one(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    return [
        {"id": str(i), "a": f"{one(WHO)} {one(DOES)} {one(WHAT)} and {one(WHO)} {one(DOES)} it"} for i in range(count)
    ]


def card(**more: Any) -> Any:
    held = rows()
    return worlds.task("lm", {"train": held[:150], "valid": held[150:], "test": held[150:]}, line="-> [TEXT:a]", **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    folder = tmp_path_factory.mktemp("lm") / "run"
    sizes = {"encoder_layers": 0, "decoder_layers": 2}
    return worlds.run([card()], folder, steps=100, samples_per_step=16, lr=1e-2, model=sizes), folder


def test_it_foretells_more_than_bytes_do(run: tuple[Generalist, Path]) -> None:
    (task,) = evaluate(run[0]).tasks
    assert task.metric.name == "bits_per_byte"
    assert [each.name for each in task.baselines] == ["byte_unigram", "byte_trigram"]
    assert task.margin is not None
    assert task.margin.clear
    # what cannot be foretold: one of four, three, three, four and three; its bytes are about 38
    least = (2 * np.log2(4) + 3 * np.log2(3)) / np.mean([len(row["a"]) for row in rows()[150:]])
    assert least < task.metric.value < 1.6 * least


def test_bits_are_the_loss_of_training(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    plan, held = model.entry("lm").plan, rows()[:7]
    (slot,) = plan.target_slots()
    bits = foretold(model, [Request("lm", row, row["id"]) for row in held], slot)
    tokens = sum(len(model.vocabulary.encode(row["a"])) + 1 for row in held)
    source = worlds.ready([worlds.task("lm", held, line="-> [TEXT:a]")]).tasks[0].sources["train"]
    maker = model.maker("lm", None)
    mean = losses(model, TaskRows(plan, maker, source), range(len(source)))["a"]
    assert len(source) == len(bits)
    assert sum(float(str(paid)) for paid in bits) == pytest.approx(mean * tokens / np.log(2), rel=1e-4)
    alone = [foretold(model, [Request("lm", row, row["id"])], slot)[0] for row in held]
    assert alone == pytest.approx(bits, rel=1e-4)


def test_of_a_conversation_the_last_answer_is_foretold() -> None:
    held = [{"id": str(i), "messages": talk(i)} for i in range(6)]
    prepared = worlds.ready([worlds.task("t", held, line="-> [CHAT:messages]")])
    model = worlds.generalist(prepared)
    (slot,) = model.entry("t").plan.target_slots()
    bits = foretold(model, [Request("t", row, row["id"]) for row in held], slot)
    muted = [
        {
            **row,
            "messages": [{**t, "weight": int(n == len(row["messages"]) - 1)} for n, t in enumerate(row["messages"])],
        }
        for row in held
    ]
    assert foretold(model, [Request("t", row, row["id"]) for row in muted], slot) == pytest.approx(bits, rel=1e-5)
    (error,) = foretold(model, [Request("t", {"messages": "hello"}, "0")], slot)
    assert "found the text `hello`" in str(error)


def test_a_text_goes_on_from_a_beginning(run: tuple[Generalist, Path]) -> None:
    model = ofasys_lite.OFASys.from_pretrained(run[1])
    found = model("-> [TEXT:begin,no_loss] [TEXT:a]", begin="the cat sees the sun and").text
    whole = f"the cat sees the sun and{found}"
    assert whole.rsplit(" and ", 1)[1].removesuffix(" it").rsplit(" ", 1)[0] in WHO
    drawn = {model("-> [TEXT:a]", method="sample", seed=seed).text for seed in range(3)}
    assert len(drawn) > 1


def test_packed_and_one_by_one_is_the_same() -> None:
    held = rows(9)
    prepared = worlds.ready([worlds.task("t", held, line="-> [TEXT:a]")])
    (task,), model = prepared.tasks, worlds.generalist(prepared)
    one, many = (worlds.gradients(model, task, held, packs) for packs in ([range(9)], [[i] for i in range(9)]))
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=3e-4, atol=3e-6, msg=name)


def test_byte_models_pay_what_is_computed_by_hand() -> None:
    train, test = [{"a": "aab"}], [{"a": "ab"}]
    # of 4 symbols (a a b end) of 3 kinds: a (2 + 3/257) / 7, b and the end (1 + 3/257) / 7
    a, b = (2 + 3 / 257) / 7, (1 + 3 / 257) / 7
    (bits,) = fit_predict("byte_unigram", train, test, (), "a", "text")
    assert bits == pytest.approx(-np.log2(a * b * b))
    # behind a: a once, b once; behind b: the end
    (more,) = fit_predict("byte_trigram", train, test, (), "a", "text")
    assert float(str(more)) < float(str(bits))
    score = evaluate_metric("bits_per_byte", [bits], ["ab"])
    assert score.value == pytest.approx(float(str(bits)) / 2)
    assert not score.higher_is_better


def test_what_foretells_and_what_answers_are_not_compared() -> None:
    def of(line: str, metric: dict[str, Any]) -> None:
        one = worlds.task("t", [{"a": "x", "q": "y"}], line=line, metrics=[metric])
        judges(build_plan(one, modalities()), one, modalities())

    of("[TEXT:q] -> [TEXT:a]", {"name": "bits_per_byte", "references": ["byte_fivegram"]})
    with pytest.raises(CardError, match="baseline `majority` answers, and foretells nothing"):
        of("-> [TEXT:a]", {"name": "bits_per_byte", "baselines": ["majority"]})
    with pytest.raises(CardError, match="baseline `byte_unigram` foretells texts"):
        of("-> [TEXT:a]", {"name": "chrf", "baselines": ["byte_unigram"]})
    with pytest.raises(CardError, match="judges free text that is learned token by token"):
        of("-> [TEXT:a,closed_set=(x,y)]", {"name": "bits_per_byte"})
