"""Pictures written in part: given codes are kept bit for bit, hidden ones written alone or together in rounds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import code_worlds as worlds
import numpy as np
import pytest
import torch

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.decoding.mask_predict import mask_predict
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.rendering import given_elements
from ofasys_lite.plan.constraints import Codes
from ofasys_lite.preprocess.image_codes import ImageCodesPreprocess

# cells of 4 pixels: 4 x 4 of them on 16 pixels, as many as positions
SOURCE = "fill [IMAGE:img,mask_ratio=0.5,size=16,mask_style={style}] -> [IMAGE:img,codec=dnd({codec}),{way}]"
WAYS = {"together": "decode=mask_predict(steps=3)", "left-to-right": "decode=sample(temperature=2)"}


def world(folder: Path, way: str, style: str = "patches") -> tuple[Any, Generalist]:
    place = worlds.codec(folder / "c")
    line = SOURCE.replace("{style}", style).replace("{way}", WAYS[way])
    prepared = worlds.ready([worlds.task("fill", place, line)])
    return prepared, worlds.generalist(prepared)


def given(model: Generalist, row: Any, id: str) -> tuple[int, ...]:
    maker = model.maker("fill")
    example = maker.source(row, id, sample_rng(0, "fill", id, 0))
    return given_elements(model.network, [maker.known(0, row, example.masked)])[0]["img"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("style", ["patches", "block", "center"])
def test_given_codes_come_back_bit_for_bit(way: str, style: str, tmp_path: Path) -> None:
    prepared, model = world(tmp_path, way, style)
    rows = [worlds.coded_row(prepared, "fill", n) for n in range(6)]
    found = predict(model, [Request("fill", row, str(n)) for n, row in enumerate(rows)])
    (name,) = (n for n in model.network.adapters if "dnd" in n)
    heads = model.network.coder(name).heads
    packed = Codes(name, heads.size, heads.depth, ())
    for n, (row, prediction) in enumerate(zip(rows, found, strict=True)):
        assert prediction is not None
        known = given(model, row, str(n))
        assert sum(e < 0 for e in known) == 8
        written = [packed.pack(codes) for codes in prediction.codes["img"]]
        assert all(e < 0 or e == w for e, w in zip(known, written, strict=True))
        codes = torch.tensor(prediction.codes["img"])[None]
        assert np.array_equal(np.asarray(prediction.value), model.network.coder(name).pictures(codes)[0].numpy())


def test_only_the_hole_is_learned(tmp_path: Path) -> None:
    for way, most in (("left-to-right", 8), ("together", 8)):
        prepared, model = world(tmp_path / way, way)
        maker = model.maker("fill")
        for n in range(8):
            row = worlds.coded_row(prepared, "fill", n)
            example = maker.example(row, str(n), np.random.default_rng(n), True)
            piece = example.targets[0].pieces[0]
            hole = example.masked["img"].arrays["mask"]
            assert piece.learn_P is not None
            assert not piece.learn_P[~hole].any()
            assert (1 if way == "together" else most) <= piece.learn_P.sum() <= most
            assert example.targets[0].causal is (way == "left-to-right")


def test_rows_written_together_see_both_sides_and_not_what_is_hidden(tmp_path: Path) -> None:
    _, model = world(tmp_path, "together")
    (name,) = (n for n in model.network.adapters if "dnd" in n)
    coder = model.network.coder(name)
    codes = torch.zeros(1, 16, 2, dtype=torch.long)
    hidden = torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, 3] = True
    other = codes.clone()
    other[0, 3] = 5
    # a hidden position reads the mask, whatever stands there
    assert torch.equal(coder.masked(codes, hidden), coder.masked(other, hidden))
    other = codes.clone()
    other[0, 9] = 5
    assert not torch.equal(coder.masked(codes, hidden), coder.masked(other, hidden))


def test_predictions_do_not_depend_on_what_they_are_batched_with(tmp_path: Path) -> None:
    prepared, model = world(tmp_path, "together")
    rows = [worlds.coded_row(prepared, "fill", n) for n in range(4)]
    options = DecodeOptions("mask_predict", steps=4, temperature=1.5)
    together = predict(model, [Request("fill", row, str(n), options) for n, row in enumerate(rows)])
    for n, row in enumerate(rows):
        (alone,) = predict(model, [Request("fill", row, str(n), options)])
        assert alone is not None
        assert np.array_equal(alone.codes["img"], together[n].codes["img"])  # type: ignore[union-attr]


def test_the_way_of_the_line_is_the_way_of_decoding(tmp_path: Path) -> None:
    for way, other in (("together", "sample"), ("left-to-right", "mask_predict")):
        prepared, model = world(tmp_path / way, way)
        with pytest.raises(CardError, match=other):
            predict(model, [Request("fill", worlds.coded_row(prepared, "fill"), "0", DecodeOptions(other))])


def test_both_ways_over_one_codec_train_in_one_pack(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c")
    line = SOURCE.replace("{style}", "patches").replace("{way}", WAYS["together"])
    cards = [worlds.task("fill", place, line), worlds.task("draw", place)]
    model = worlds.small_run(cards, tmp_path / "run", steps=3, samples_per_step=8)
    names = [n for n in model.network.adapters if "dnd" in n]
    assert len(names) == 2
    assert sum(n.endswith("-together") for n in names) == 1


def test_256_positions_take_at_most_12_passes_and_every_round_keeps_some() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.ones(2, 256, dtype=torch.bool)
    hidden[1, :100] = False
    codes = torch.randint(0, 8, (2, 256, 2), generator=generator)
    left: list[list[int]] = []

    def write(_: torch.Tensor, codes_NLK: torch.Tensor, hidden_NL: torch.Tensor, choose: Any) -> torch.Tensor:
        left.append(hidden_NL.sum(1).tolist())
        rows = int(hidden_NL.sum())
        return torch.stack([choose(k, torch.randn(rows, 8, generator=generator)) for k in range(2)], -1)

    rngs = [np.random.default_rng(n) for n in range(2)]
    filled = mask_predict(write, codes, hidden, DecodeOptions("mask_predict", steps=12), rngs)
    assert filled.passes == len(left) == 12
    assert all(a > b for one, two in itertools.pairwise(left) for a, b in zip(one, two, strict=True))
    assert left[0] == [256, 156]
    assert torch.equal(filled.codes_NLK[1, :100], codes[1, :100])
    assert bool(torch.isfinite(filled.score_N).all())
    assert (filled.score_N < 0).all()


def test_fewer_hidden_positions_than_rounds_take_fewer_passes() -> None:
    hidden = torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, :3] = True
    passes: list[int] = []

    def write(_: torch.Tensor, codes_NLK: torch.Tensor, hidden_NL: torch.Tensor, choose: Any) -> torch.Tensor:
        passes.append(int(hidden_NL.sum()))
        return choose(0, torch.zeros(passes[-1], 4)).unsqueeze(-1)

    codes = torch.zeros(1, 16, 1, dtype=torch.long)
    filled = mask_predict(write, codes, hidden, DecodeOptions("mask_predict", steps=12), [np.random.default_rng(0)])
    assert passes == [3, 2, 1]
    assert filled.passes == 3


def test_random_order_moves_codes_with_their_positions(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c")
    line = "draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},order=random,anneal=100)]"
    prepared = worlds.ready([worlds.task("draw", place, line)])
    model = worlds.generalist(prepared)
    row = worlds.coded_row(prepared, "draw")
    maker = prepared.tasks[0].maker
    plain = maker.example(row, "0", None, False)
    coder = worlds.coder(model)
    true = coder.codes(worlds.pack([plain]).target.parts[0])[0][0]
    drawn = 0
    for step, n in ((0, 1), (0, 2), (50, 3), (50, 4), (100, 5), (1000, 6)):
        example = maker.example(row, "0", np.random.default_rng(n), True, step)
        piece = example.targets[0].pieces[0]
        order = piece.arrays["order"]
        assert isinstance(
            maker.preprocess[prepared.tasks[0].plan.target_slots()[0].tool_key],
            ImageCodesPreprocess,
        )
        assert np.array_equal(piece.positions_P3[:, 1] * 4 + piece.positions_P3[:, 2], order)
        learned = coder.codes(worlds.pack([example]).target.parts[0])[0][0]
        assert torch.equal(learned, true[torch.from_numpy(order)])
        shuffled = not np.array_equal(order, np.arange(16))
        drawn += shuffled
        assert shuffled if step == 0 else True
        assert not shuffled if step >= 100 else True
    assert drawn >= 2


def test_corrupted_codes_are_mended_by_the_deeper_ones(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c", depth=2)
    line = "draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},correct=0.5)]"
    prepared = worlds.ready([worlds.task("draw", place, line)])
    model = worlds.generalist(prepared)
    coder = worlds.coder(model)
    part = next(p for p in worlds.pack(worlds.examples(prepared, "draw", 8)).target.parts if "dnd" in p.adapter)
    true, _ = coder.eval().codes(part)
    coder.train()
    torch.manual_seed(0)
    learned, fed = coder.codes(part)
    wrong = fed[..., 0] != true[..., 0]
    assert 0.2 < wrong.float().mean() < 0.7
    # the first code is learned as it is; the second as the nearest to what the fed one leaves
    assert torch.equal(learned[..., 0], true[..., 0])
    assert torch.equal(learned[..., 1][~wrong], true[..., 1][~wrong])
    latents = coder.latents(part)
    quantizer = coder.codec.quantizer
    rest = (latents - quantizer.book(0).vectors(fed[..., 0]))[wrong]
    assert torch.equal(learned[..., 1][wrong], quantizer.book(1).nearest(rest))
    assert torch.equal(learned[..., 1], fed[..., 1])


def test_flat_codes_are_rows_of_their_own(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c")
    prepared = worlds.ready(
        [worlds.task("draw", place, "draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},layers=flat)]")]
    )
    model = worlds.generalist(prepared)
    coder = worlds.coder(model)
    batch = worlds.pack(worlds.examples(prepared, "draw", 3))
    codes = coder.codes(next(p for p in batch.target.parts if "dnd" in p.adapter))[0]
    assert tuple(codes.shape) == (3, 32, 1)
    assert len(model.network(batch).values_U) == 3 * 32
    found = predict(model, [Request("draw", {"cap": "a red square"}, options=DecodeOptions("sample"))])[0]
    assert found is not None
    assert found.codes["img"].shape == (32, 1)
    assert found.value.size == (8, 8)
