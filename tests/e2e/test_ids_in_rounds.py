"""Token ids written all together: numbers spelt out, by Mask-Predict; learned, decoded in rounds, refused elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.decoding.rounds_of_ids import rounds_of_ids
from ofasys_lite.errors import CardError, CheckpointError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.language import LONGEST
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder

NAMES = ("AH", "B", "K", "D", "EH", "F", "G", "HH", "IY", "JH")
LINE = "say [TEXT:number,spelled,drop=0.1] -> [PHONE:words,decode=mask_predict(steps=4)]"
DATA = DataSettings(pieces=300, bins=32)


def rows(count: int = 900) -> list[dict[str, Any]]:
    """Numbers of 2 to 5 digits, a phone for each digit."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        digits = rng.integers(0, 10, 2 + i % 4)
        found.append({"id": str(i), "number": "".join(map(str, digits)), "words": " ".join(NAMES[d] for d in digits)})
    return found


def card(line: str = LINE, **more: Any) -> Any:
    held = rows()
    return worlds.task("t", {"train": held[:860], "valid": held[860:], "test": held[860:]}, line=line, **more)


def prepared(line: str = LINE) -> Ready:
    return make_ready([card(line)], modalities(), DATA)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    folder = tmp_path_factory.mktemp("rounds") / "run"
    more = {"steps": 300, "samples_per_step": 24, "lr": 5e-3, "ema": 0.9, "data": DATA, "model": {"width": 48}}
    return worlds.run([card()], folder, **more), folder


def said(model: Generalist, numbers: list[str], **options: Any) -> list[str]:
    given = model.entry("t").options(**options)
    found = predict(model, [Request("t", {"number": n}, n, given) for n in numbers])
    return [each.values["words"] for each in found if each is not None]


@pytest.mark.slow
def test_numbers_that_were_not_seen_are_said_in_their_length(run: tuple[Generalist, Path]) -> None:
    numbers = [row["number"] for row in rows()[860:]]
    wanted = [row["words"] for row in rows()[860:]]
    found = said(run[0], numbers)
    assert np.mean([a == b for a, b in zip(found, wanted, strict=True)]) > 0.7
    assert np.mean([len(a.split()) == len(b.split()) for a, b in zip(found, wanted, strict=True)]) > 0.85


@pytest.mark.slow
def test_a_sample_does_not_depend_on_what_it_is_written_with(run: tuple[Generalist, Path]) -> None:
    numbers = [row["number"] for row in rows()[260:272]]
    together = said(run[0], numbers)
    assert together == [said(run[0], [number])[0] for number in numbers]
    assert together == said(run[0], numbers, seed=3)  # nothing is drawn


@pytest.mark.slow
def test_guidance_of_one_is_none_and_a_single_round_is_one_pass(run: tuple[Generalist, Path]) -> None:
    numbers = [row["number"] for row in rows()[260:272]]
    assert said(run[0], numbers) == said(run[0], numbers, cfg=1.0)
    assert all(said(run[0], numbers, steps=1, lengths=1, cfg=2.0))


@pytest.mark.slow
def test_it_is_validated_and_exported(run: tuple[Generalist, Path]) -> None:
    model, folder = run
    Validator(RunFolder(folder), samples=20)(model, 300, 0.0)
    valid = {r["task"]: r for r in RunFolder(folder).history() if r["kind"] == "valid"}["t"]
    assert set(valid["loss"]) == {"words", "words:length"}
    assert valid["loss"]["words"] < 1.2 < np.log(10)
    assert "value" in valid
    loaded = Generalist.from_pretrained(folder)
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))
    assert said(loaded, ["1234"]) == said(model, ["1234"])


def test_packed_and_one_by_one_is_the_same() -> None:
    (task,) = prepared().tasks
    model = worlds.generalist(prepared())
    one, many = (worlds.gradients(model, task, rows(9), p) for p in ([range(9)], [[i] for i in range(9)]))
    assert one.keys() == many.keys()
    assert one["adapters.rounds.length.weight"].abs().max() > 1e-7
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=2e-4, atol=2e-6, msg=name)


def test_what_is_hidden_is_a_function_of_the_sample_alone() -> None:
    (task,) = prepared().tasks

    def fed(seed: int | None) -> Any:
        rng = None if seed is None else np.random.default_rng(seed)
        target, length = task.maker.example(rows()[3], "3", rng, seed is not None).targets
        (asked,), (learned,) = length.learned, target.learned
        assert asked.arrays["labels"].tolist() == [5]
        ids, hidden = target.pieces[0].arrays["ids"], target.pieces[0].learn_P
        assert hidden is not None
        assert np.array_equal(ids == CONTROL_IDS["mask"], hidden)
        assert 1 <= hidden.sum() == len(learned.arrays["labels"]) <= 5
        return ids

    np.testing.assert_array_equal(fed(3), fed(3))
    np.testing.assert_array_equal(fed(None), fed(None))
    assert len({tuple(fed(seed)) for seed in range(9)}) > 3
    batch = collate([task.maker.example(row, row["id"], None, False) for row in rows(3)])
    assert batch.causal_rows == 0
    assert {rows.objective.name for rows in batch.losses} == {"masked_ids", "length"}


def test_rounds_write_anew_what_they_were_least_sure_of() -> None:
    seen: list[Any] = []

    def scores(ids_ML: torch.Tensor, share: float) -> torch.Tensor:
        seen.append((ids_ML.tolist(), share))
        # of 6 places the later ones are surer; the first round is wrong at place 0
        right = torch.tensor([1, 0, 1, 0, 1, 0])
        if len(seen) == 1:
            right[0] = 0
        return torch.nn.functional.one_hot(right, 2)[None] * torch.arange(1.0, 7.0)[None, :, None]

    (found,) = rounds_of_ids(scores, torch.tensor([10, 11]), 1, 6, 3, mask=-1)
    assert found.ids == (11, 10, 11, 10, 11, 10)
    assert [share for _, share in seen] == [0, 1 / 3, 2 / 3]
    assert seen[0][0] == [[-1] * 6]
    assert seen[1][0] == [[-1, -1, -1, -1, 11, 10]]
    assert seen[2][0] == [[-1, -1, 11, 10, 11, 10]]
    sure = torch.arange(1.0, 7.0).sigmoid().log()
    assert found.score == pytest.approx(sure.mean().item(), abs=1e-5)
    (one,) = rounds_of_ids(lambda ids, share: torch.zeros(1, 2, 2), torch.tensor([4, 5]), 1, 2, 50, mask=-1)
    assert one.ids == (4, 4)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[TEXT:q] -> [TEXT:a,closed_set=(x,y),decode=mask_predict]", "`a` is one of a set"),
        ("[TEXT:q] -> [BOX:a,decode=mask_predict]", "BOX is written from left to right"),
        ("[TEXT:q] -> [STRUCT:a,decode=mask_predict]", "STRUCT is written from left to right"),
        ("[TEXT:q] -> [TEXT:a,noise_ratio=0.1,decode=mask_predict]", "`noise_ratio` means nothing"),
        ("[TEXT:q] -> [TEXT:a,max_length=300,decode=mask_predict]", f"rounds write {LONGEST} ids at most"),
        ("[TEXT:q] -> ([TEXT:a,decode=mask_predict])*<over=x>", "within a group"),
        ("[TEXT:a,mask_ratio=0.3,mask_style=mass] -> [TEXT:a,decode=mask_predict]", "`mask_style=mass` has the target"),
        ("[TEXT:q] -> so [TEXT:a,decode=mask_predict]", "stands beside something else"),
        ("[TEXT:q] -> [TEXT:a?,decode=mask_predict]", "what is written in one go is always there"),
        ("[TEXT:q] -> [TEXT:a,decode=mask_predict] ;; [TEXT:b]", "one target is written in order"),
        ("[TEXT:q] -> [TEXT:a>b,decode=mask_predict]", "a preference pair is written from left to right"),
        ("[TEXT:q] -> [TEXT:a,decode=mask_predict(lengths=0)]", "`lengths=0` is out of range"),
        ("[TEXT:q] -> [TEXT:a,decode=mask_predict(beam=2)]", "has no `beam`"),
        ("[TEXT:q] -> [TEXT:a,decode=mask_predict(cfg=2)]", "training empties none"),
    ],
)
def test_what_a_line_cannot_ask_for(line: str, told: str) -> None:
    with pytest.raises(OfasysError) as caught:
        build_plan(load_task_card({"instruction": line}, name="t"), modalities())
    assert told in str(caught.value)


@pytest.mark.slow
def test_what_is_learned_together_is_not_written_one_by_one(run: tuple[Generalist, Path]) -> None:
    with pytest.raises(CardError, match="greedy: this line was learned with mask_predict"):
        said(run[0], ["12"], method="greedy")
    with pytest.raises(CardError, match="`candidates` does nothing"):
        said(run[0], ["12"], candidates=2)
    model = worlds.generalist(prepared("[TEXT:number] -> [PHONE:words]"))
    with pytest.raises(CheckpointError, match="from left to right alone"):
        model.task_of_line("[TEXT:number] -> [PHONE:words,decode=mask_predict]")


def test_an_empty_or_very_long_target_is_refused_by_name() -> None:
    (task,) = prepared("[TEXT:number] -> [TEXT:words,decode=mask_predict]").tasks
    row = {"id": "0", "number": "1", "words": "ab " * 400}
    with pytest.raises(OfasysError, match=f"ids cannot be written in rounds, which write 1 to {LONGEST}"):
        task.maker.example(row, "0", None, False)
