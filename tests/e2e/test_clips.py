"""Clips from a row to an answer: trained, validated, exported, predicted, evaluated and shown, beside pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from PIL import Image

from ofasys_lite.cards import modalities
from ofasys_lite.commands.app import main
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import DataSettings, make_ready
from ofasys_lite.report import load_results, render_report, save_results
from ofasys_lite.report.evaluate_model import evaluate

LINE = "[VIDEO:clip,frames=4] subtitle: [TEXT:sub?] question: [TEXT:question] -> [TEXT:answer,closed_set]"
STILL = "[IMAGE:img] [TEXT:question] -> [TEXT:shape,closed_set]"
BOXES = "[VIDEO:clip,frames=4] what is seen, and when? -> ([TEXT:when] [BOX:box] [TEXT:label])*<over=seen,max=3>"


def moving(number: int, count: int = 6) -> np.ndarray[Any, Any]:
    """(count, 32, 32, 3): a bright square that moves to the right for odd numbers, to the left for even ones."""
    found = np.zeros((count, 32, 32, 3), np.uint8)
    for t in range(count):
        left = 4 * t if number % 2 else 4 * (count - 1 - t)
        found[t, 8 + number % 8 : 16 + number % 8, left : left + 8] = 255
    return found


def gif(pixels: np.ndarray[Any, Any]) -> bytes:
    images = [Image.fromarray(each) for each in pixels]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=100)
    return file.getvalue()


def rows(count: int = 40) -> list[dict[str, Any]]:
    found = []
    for n in range(count):
        clip = moving(n)
        box = [4.0, 8.0 + n % 8, 12.0, 16.0 + n % 8]
        value = (clip, list(clip), gif(clip), {"bytes": gif(clip), "path": None})[n // 2 % 4]
        found.append(
            {
                "clip": value,
                "img": clip[n % 6],
                "sub": "slow" if n % 3 else None,
                "question": "where to?",
                "answer": ("left", "right")[n % 2],
                "shape": "square",
                "seen": [{"when": f"{0.1 * t:.1f} s", "box": box, "label": "square"} for t in range(1 + n % 3)],
            }
        )
    return found


def test_a_line_with_a_clip_learns_what_no_frame_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = rows()
    cards = [worlds.task("where", held, line=LINE), worlds.task("still", held, line=STILL, weight=0.3)]
    model = worlds.run(cards, tmp_path / "runs" / "clips", steps=100, lr=5e-3, samples_per_step=12, valid_every=30)
    assert set(model.network.adapters) == {"image", "text"}
    loaded = Generalist.from_pretrained(tmp_path / "runs" / "clips")
    asked = [Request("where", row) for row in held[:12]]
    for each in (model, loaded):
        assert [p.values["answer"] for p in predict(each, asked) if p] == ["left", "right"] * 6
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))
    (one,) = predict(loaded, [Request(loaded.task_of_line("[VIDEO:clip] -> [TEXT:answer,closed_set]"), held[0])])
    assert one is not None
    found = evaluate(model, ["where"], limit=8, samples=3, bootstrap=5, seen="keep")
    kept = load_results(save_results(found, tmp_path / "evaluation.json"))
    assert {b.name for b in found.tasks[0].baselines} == {"majority", "question_only"}
    for results in (found, kept):
        page = render_report(results)
        assert "6 frames of 32 x 32" in page
        assert page.count('<img class="shot"') >= 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(gif(moving(3)))
    assert main(["predict", "runs/clips", "where", "clip=clip.mp4", "question=where to?"]) == 0


def test_boxes_and_words_over_time_are_a_line_too(tmp_path: Path) -> None:
    held = rows(12)
    card = worlds.task("seen", held, line=BOXES)
    assert check_tasks([card], modalities()).errors == ()
    ready = worlds.ready([card])
    assert ready.tasks[0].maker.frame(held[0]) == (32, 32)
    model = worlds.run([card], tmp_path / "run", steps=3)
    (one,) = predict(model, [Request("seen", held[0])])
    assert one is not None
    assert set(one.values) == {"seen"}


def test_a_pack_of_clips_costs_what_its_samples_cost_alone() -> None:
    held = rows(8)
    ready = worlds.ready([worlds.task("where", held, line=LINE), worlds.task("still", held, line=STILL)])
    model = worlds.generalist(ready)
    examples = [task.maker.example(held[i], str(i), None, False) for i in range(4) for task in ready.tasks]
    network = model.network

    def gradients(packs: list[list[Any]]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network.zero_grad()
        values = []
        for pack in packs:
            losses = network(to_device(collate(pack), model.device))
            (losses.values_U.sum() + losses.touch).backward()
            values.append(losses.values_U.detach())
        return torch.cat(values), {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    together, alone = gradients([examples]), gradients([[each] for each in examples])
    torch.testing.assert_close(together[0], alone[0], rtol=1e-4, atol=1e-5)
    for name, gradient in together[1].items():
        torch.testing.assert_close(gradient, alone[1][name], rtol=1e-3, atol=1e-5, msg=name)
    assert float(together[1]["adapters.image.motion.weight"].abs().sum()) > 0


def test_settings_of_pictures_are_those_of_clips() -> None:
    held = rows(8)
    cards = [worlds.task("where", held, line=LINE), worlds.task("still", held, line=STILL)]
    data = DataSettings(pieces=400, modalities={"IMAGE": {"patch": 8, "widths": [4, 4, 8]}, "VIDEO": {"max_rows": 64}})
    ready = make_ready(cards, modalities(), data)
    path, settings = ready.adapters["image"]
    assert path.endswith("ImageAdapter")
    assert (settings["patch"], settings["widths"], settings["max_rows"]) == (8, [4, 4, 8], 64)
    assert settings["temporal_patch"] == 2
    piece = ready.tasks[0].maker.example(held[0], "0", None, False).sources[0].pieces[0]
    assert piece.grid == (2, 2, 2)
    assert ready.tasks[0].maker.lengths(ready.tasks[0].sources["train"], 0)[0] >= piece.count
    with pytest.raises(CardError, match=r"`patch` is (4 and 8|8 and 4)"):
        make_ready(cards, modalities(), DataSettings(pieces=400, modalities={"VIDEO": {"patch": 8}}))


def test_a_model_of_pictures_says_that_it_reads_no_clips_and_can_learn_to(tmp_path: Path) -> None:
    held = rows()
    still = worlds.task("still", held, line=STILL)
    first = worlds.run([still], tmp_path / "first", steps=3)
    with pytest.raises(CheckpointError, match="this model has no adapter for VIDEO"):
        first.task_of_line("[VIDEO:clip] -> [TEXT:shape,closed_set=(square,round)]")
    with torch.inference_mode():
        example = first.maker("still").example(held[0], "0", None, False)
        before = first.network.embed(to_device(collate([example]), first.device).source)
    where = worlds.task("where", held, line=LINE)
    model = worlds.run([where], tmp_path / "second", start=first, steps=1, lr=1e-9)
    assert model.network.adapter("image").motion is not None  # type: ignore[attr-defined]
    with torch.inference_mode():
        after = model.network.embed(to_device(collate([example]), model.device).source)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-5)
    model = worlds.run([where], tmp_path / "third", start=first, steps=60, lr=5e-3, samples_per_step=12)
    asked = [Request("where", row) for row in held[:6]]
    assert [p.values["answer"] for p in predict(model, asked) if p] == ["left", "right"] * 3


def test_a_row_with_a_broken_clip_goes_to_the_quarantine(tmp_path: Path) -> None:
    held = rows()
    held[5]["clip"] = gif(moving(5))[:90]
    card = worlds.task("where", held, line=LINE)
    worlds.run([card], tmp_path / "run", steps=6, samples_per_step=12, quarantine=0.1)
    ledger = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in ledger] == ["5"]
    report = check_tasks([card], modalities(), tolerate=0.0)
    assert [e.code for e in report.errors] == ["E304"]
    assert "cannot read" in report.errors[0].message
