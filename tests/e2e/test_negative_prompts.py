"""Negative prompts: guidance leads away from what a given text reads as, not from an emptied source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.layout.ready import DataSettings, make_ready
from ofasys_lite.plan import build_plan

LINE = "film [TEXT:name,drop=0.1] as [TEXT:style] -> [VIDEO:clip,frames=2,size=8]"
ROW = {"id": "0", "name": "a red star", "style": "old", "clip": np.zeros((2, 8, 8, 3), np.uint8)}


def world() -> Generalist:
    ready = make_ready([worlds.task("t", [ROW] * 8, line=LINE)], modalities(), DataSettings(pieces=300, bins=32))
    model = worlds.generalist(ready)
    torch.nn.init.normal_(model.network.get_parameter("adapters.image:videowriter.denoiser.out.weight"), std=0.05)
    return model


def film(model: Generalist, row: dict[str, Any] = ROW, **options: Any) -> Any:
    (found,) = predict(model, [Request("t", row, "0", model.entry("t").options(steps=2, **options))])
    assert found is not None
    return found.values["clip"].frames_FHW3


def test_the_text_stands_where_the_emptied_slot_stood() -> None:
    maker = world().maker("t")
    away = maker.source(ROW, "0", emptied=True, negative="a grey sun").sources[0]
    asked = maker.source({**ROW, "name": "a grey sun"}, "0").sources[0]
    assert [p.arrays["ids"].tolist() for p in away.pieces] == [p.arrays["ids"].tolist() for p in asked.pieces]
    emptied = maker.source(ROW, "0", emptied=True).sources[0]
    assert len(emptied.pieces) == len(asked.pieces) - 1


def test_guidance_leads_away_from_it() -> None:
    model = world()
    plain, emptied = film(model), film(model, cfg=3.0)
    away, again = film(model, cfg=3.0, negative="a grey sun"), film(model, cfg=3.0, negative="a grey sun")
    np.testing.assert_array_equal(away, again)
    assert not np.array_equal(away, emptied)
    # away from what is asked for leads nowhere
    own = film(model, cfg=3.0, negative="a red star").astype(int)
    assert np.abs(own - plain).max() <= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"negative": "x"}, "negative: guidance leads away from it, and there is none"),
        ({"negative": 3, "cfg": 2.0}, "negative is 3"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(CardError, match=told):
        film(world(), **options)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('[TEXT:a,drop=0.1] -> [VIDEO:b,decode=denoise(negative="x")]', "guidance leads away from it"),
        (
            '[IMAGE:a,drop=0.1] -> [VIDEO:b,decode=denoise(cfg=2,negative="x")]',
            "no slot with `drop=`",
        ),
        ('[TEXT:a] -> [VIDEO:b,decode=denoise(cfg=2,negative="x")]', "training empties none"),
        ('[TEXT:a,drop=0.1] -> [TEXT:b,decode=greedy(negative="x")]', "has no `negative`"),
    ],
)
def test_a_line_that_has_no_use_for_it_is_refused(line: str, told: str) -> None:
    with pytest.raises(OfasysError) as caught:
        build_plan(load_task_card({"instruction": line}, name="t"), modalities())
    assert told in str(caught.value)


def test_lines_may_name_it() -> None:
    for line in (
        '[TEXT:a,drop=0.1] -> [AUDIO:b,decode=denoise(cfg=2,negative="noise, hum")]',
        '[TEXT:a,drop=0.1] -> [IMAGE:b,codec=dnd(depth=2),decode=sample(cfg=2,negative="grey")]',
        '[TEXT:a,drop=0.1] -> [TEXT:b,decode=mask_predict(cfg=2,negative="no")]',
    ):
        plan = build_plan(load_task_card({"instruction": line}, name="t"), modalities())
        assert plan.decoding()["negative"]
