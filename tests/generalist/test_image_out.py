"""Pictures out of a generalist: decoding is teacher forcing, batches and guidance, exports, borrowed codecs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import code_worlds as worlds
import numpy as np
import pytest
import tiny_worlds
import torch
from PIL import Image

from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Prediction, Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example
from ofasys_lite.layout.ready import Ready
from ofasys_lite.training.accounting import RunTerms, unit_weights

WORLD = tuple[Ready, Generalist]
NAMES = ("draw", "name", "both", "pages", "maybe", "twice")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WORLD:
    return worlds.world(tmp_path_factory.mktemp("out") / "c", *NAMES)


def ask(world: WORLD, name: str, number: int = 0, **options: Any) -> Request:
    chosen = DecodeOptions(**{"max_length": 24, **options})
    return Request(name, worlds.coded_row(world[0], name, number), f"{name}-{number}", chosen)


def answers(world: WORLD, requests: Sequence[Request]) -> list[Prediction]:
    found = predict(world[1], requests)
    assert all(p is not None for p in found)
    return [p for p in found if p is not None]


def same(one: Prediction, two: Prediction) -> None:
    assert one.score == pytest.approx(two.score, abs=1e-4)
    assert one.codes.keys() == two.codes.keys()
    for column, codes in one.codes.items():
        assert np.array_equal(codes, two.codes[column])
    assert plain(one.values) == plain(two.values)


def plain(value: Any) -> Any:
    """A value with its pictures as lists of pixels."""
    if isinstance(value, Image.Image):
        return np.asarray(value).tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@torch.no_grad()
def forced(model: Generalist, examples: Sequence[Example], codes: Sequence[np.ndarray[Any, Any]]) -> torch.Tensor:
    """(N, L, K, V) logits of pictures whose codes are fed as the true ones."""
    batch = to_device(collate(examples), torch.device("cpu"))
    adapter = worlds.coder(model)
    part = next(p for p in batch.target.parts if p.adapter != "text")
    given = torch.from_numpy(np.stack(codes))
    adapter._last = (part, given, given)
    (rows,) = tiny_worlds.learned(batch, "depth_cross_entropy")
    reading = adapter.reading(part, rows)
    model.network.decode(batch, model.network.encode(batch.source), reading.taps)
    return reading.logits().view(*given.shape, -1)


@pytest.mark.parametrize("name", ["draw", "both"])
def test_codes_fed_back_as_true_ones_are_chosen_again(world: WORLD, name: str) -> None:
    found = answers(world, [ask(world, name, n, method="greedy") for n in range(4)])
    prepared, model = world
    task = next(t for t in prepared.tasks if t.card.name == name)
    rows = [dict(worlds.coded_row(prepared, name, n)) for n in range(4)]
    for row, prediction in zip(rows, found, strict=True):
        row.update({c: v for c, v in prediction.values.items() if c != "cap"})
    if name == "both":
        # what was said before the picture stands before it again; what follows it is not read by it
        assert all(isinstance(row["label"], str) for row in rows)
    examples = [task.maker.example(row, str(n), None, False) for n, row in enumerate(rows)]
    logits = forced(model, examples, [p.codes["img"] for p in found])
    assert np.array_equal(logits.argmax(-1).numpy(), np.stack([p.codes["img"] for p in found]))
    if name == "draw":
        wanted = logits.log_softmax(-1).amax(-1).sum((1, 2)) / 16
        assert [p.score for p in found] == pytest.approx(wanted.tolist(), abs=1e-4)


def test_guided_codes_fed_back_with_both_sources_are_chosen_again(world: WORLD) -> None:
    prepared, model = world
    found = answers(world, [ask(world, "draw", n, method="greedy", cfg=2.5) for n in range(3)])
    task = next(t for t in prepared.tasks if t.card.name == "draw")
    for number, prediction in enumerate(found):
        row = worlds.coded_row(prepared, "draw", number)
        whole = task.maker.example(row, "0", None, False)
        empty = task.maker.source(row, "0", emptied=True)
        halves = [whole, Example(whole.task, "1", empty.sources, whole.targets)]
        logits = forced(model, halves, [prediction.codes["img"]] * 2)
        mixed = logits[1] + 2.5 * (logits[0] - logits[1])
        assert np.array_equal(mixed.argmax(-1).numpy(), prediction.codes["img"])
    unguided = answers(world, [ask(world, "draw", n, method="greedy") for n in range(3)])
    assert any(not np.array_equal(one.codes["img"], two.codes["img"]) for one, two in zip(found, unguided, strict=True))


MIXED = [
    ("draw", 0, {}),
    ("name", 1, {"method": "beam", "beam": 3}),
    ("draw", 1, {"cfg": 3.0}),
    ("both", 0, {"method": "sample", "temperature": 0.8, "top_k": 5, "seed": 3}),
    ("pages", 1, {"method": "sample", "seed": 5}),
    ("draw", 2, {"method": "sample", "cfg": 1.5, "top_p": 0.7, "seed": 2}),
    ("twice", 0, {}),
    ("name", 0, {"method": "sample"}),
    ("maybe", 0, {"method": "sample", "seed": 1}),
    ("both", 1, {"method": "sample", "cfg": 2.0, "temperature": 1.5}),
]


def test_a_picture_does_not_depend_on_what_it_is_predicted_with(world: WORLD) -> None:
    requests = [ask(world, name, number, **options) for name, number, options in MIXED]
    for one, two in zip(answers(world, requests), (answers(world, [r])[0] for r in requests), strict=True):
        same(one, two)
    backwards = answers(world, requests[::-1])[::-1]
    for one, two in zip(answers(world, requests), backwards, strict=True):
        same(one, two)


def test_guidance_of_one_is_no_guidance(world: WORLD) -> None:
    for method in ("greedy", "sample"):
        one, two = answers(world, [ask(world, "draw", 1, method=method, cfg=1.0), ask(world, "draw", 1, method=method)])
        same(one, two)


def test_seeds_and_ids_draw_other_pictures(world: WORLD) -> None:
    requests = [ask(world, "draw", 0, method="sample", seed=seed) for seed in (0, 0, 1)]
    one, again, other = answers(world, requests)
    same(one, again)
    assert not np.array_equal(one.codes["img"], other.codes["img"])


def test_what_is_predicted_is_a_picture_of_its_codes(world: WORLD) -> None:
    found = answers(world, [ask(world, name) for name in ("draw", "both", "twice")])
    adapter = worlds.coder(world[1])
    for each in found:
        image = each.values["img"]
        assert isinstance(image, Image.Image)
        assert (image.size, image.mode) == ((8, 8), "RGB")
        assert each.codes["img"].shape == (16, 2)
        rendered = adapter.render(torch.from_numpy(each.codes["img"])[None])[0].numpy()
        assert np.array_equal(np.asarray(image), rendered)
    assert isinstance(found[0].value, Image.Image)
    assert set(found[1].values) == {"label", "img", "cap"}


def test_groups_hold_a_picture_an_element(world: WORLD) -> None:
    requests = [ask(world, "pages", n, method="sample", seed=seed) for n in range(2) for seed in range(8)]
    records = [record for p in answers(world, requests) for record in p.values["pages"]]
    assert len(records) >= 4
    assert all(isinstance(r["img"], Image.Image) and isinstance(r["label"], str) for r in records)


def test_codes_of_a_group_are_those_of_all_its_pictures(tmp_path: Path) -> None:
    line = "show [TEXT:cap] -> ([IMAGE:img,codec=dnd({codec})]){2,3}<over=pages>"
    prepared = worlds.ready([worlds.task("pages", worlds.codec(tmp_path / "codec"), line)])
    model = worlds.generalist(prepared)
    requests = [ask((prepared, model), "pages", 1, method="sample", seed=seed, max_length=80) for seed in range(4)]
    adapter = worlds.coder(model)
    for each in answers((prepared, model), requests):
        pages = each.values["pages"]
        assert len(pages) in (2, 3)
        assert each.codes.keys() == {"pages.img"}
        assert each.codes["pages.img"].shape == (len(pages), 16, 2)
        rendered = adapter.render(torch.from_numpy(each.codes["pages.img"])).numpy()
        assert np.array_equal(rendered, np.stack([np.asarray(page["img"]) for page in pages]))


def test_an_optional_picture_is_none_or_whole(world: WORLD) -> None:
    requests = [ask(world, "maybe", n, method="sample", seed=seed) for n in range(2) for seed in range(12)]
    found = [p.values["sub"] for p in answers(world, requests)]
    assert {type(value) for value in found} == {type(None), Image.Image}


def test_an_optional_picture_of_one_position_is_too(tmp_path: Path) -> None:
    folder = worlds.codec(tmp_path / "one", factor=8)
    prepared = worlds.ready([worlds.task("maybe", folder)])
    model = worlds.generalist(prepared)
    requests = [ask((prepared, model), "maybe", 0, method="sample", seed=seed) for seed in range(12)]
    found = answers((prepared, model), requests)
    assert {type(p.values["sub"]) for p in found} == {type(None), Image.Image}
    assert all((p.values["sub"] is None) == ("sub" not in p.codes) for p in found)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("draw", {"method": "beam", "beam": 2}, "`beam` does not write codes"),
        ("name", {"cfg": 2.0}, "`cfg` does nothing: greedy of token ids has none"),
        ("name", {"method": "mask_predict"}, "mask_predict: this line was learned from left to right"),
        ("pages", {"cfg": 2.0}, "cfg compares with an emptied source, and this line has no slot with `drop=`"),
    ],
)
def test_decoding_that_a_line_has_no_use_for_is_refused(
    world: WORLD, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardError) as caught:
        predict(world[1], [ask(world, name, 0, **options)])
    assert caught.value.message == message
    assert caught.value.help or "drop=" in message


# ------------------------------------------------------------------ packs and accounting


def gradients(world: WORLD, packs: list[list[Example]], mode: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a step cut into packs."""
    prepared, model = world
    network = model.network
    batches = [collate(each) for each in packs]
    ledger = RunTerms([t for task in prepared.tasks for t in task.maker.terms()], [t.card.name for t in prepared.tasks])
    counts = ledger.count(batches)
    network.zero_grad()
    total = 0.0
    for batch in batches:
        weights_U = unit_weights(batch, ledger, counts, mode)[0]
        losses = network(to_device(batch, torch.device("cpu")))
        assert len(losses.values_U) == len(weights_U)
        loss = (losses.values_U * torch.from_numpy(weights_U)).sum() + losses.touch
        loss.backward()
        total += float(loss.detach())
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return total, found


@pytest.mark.parametrize("mode", ["share", "token", "sample"])
def test_two_packs_of_four_cost_what_one_of_eight_costs(world: WORLD, mode: str) -> None:
    names = ("draw", "name", "both", "pages", "maybe", "draw", "twice", "name")
    found = [worlds.examples(world[0], name, 1, first=n)[0] for n, name in enumerate(names)]
    one = gradients(world, [found], mode)
    two = gradients(world, [found[:4], found[4:]], mode)
    odd = gradients(world, [found[::2], [], found[1::2]], mode)
    for other in (two, odd):
        assert other[0] == pytest.approx(one[0], rel=1e-5)
        assert one[1].keys() == other[1].keys()
        for name, gradient in one[1].items():
            torch.testing.assert_close(other[1][name], gradient, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_losses_of_a_mixed_pack_are_those_of_its_samples(world: WORLD) -> None:
    network = world[1].network
    found = [worlds.examples(world[0], name, 1)[0] for name in NAMES]
    pack = collate(found)
    values_U = network(to_device(pack, torch.device("cpu"))).values_U
    for number, example in enumerate(found):
        alone = network(to_device(collate([example]), torch.device("cpu"))).values_U
        torch.testing.assert_close(values_U[torch.from_numpy(pack.samples_U == number)], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_two_codecs_in_one_pack_and_in_one_batch_keep_apart(tmp_path: Path) -> None:
    one, two = worlds.codec(tmp_path / "a"), worlds.codec(tmp_path / "b", seed=1, codes=16, depth=1)
    cards = [worlds.task("draw", one), worlds.task("both", two)]
    prepared = worlds.ready(cards)
    model = worlds.generalist(prepared)
    examples = [*worlds.examples(prepared, "both", 2), *worlds.examples(prepared, "draw", 2)]
    pack = collate(examples)
    assert len(tiny_worlds.learned(pack, "depth_cross_entropy")) == 2
    values_U = model.network(to_device(pack, torch.device("cpu"))).values_U
    for number, example in enumerate(examples):
        alone = model.network(to_device(collate([example]), torch.device("cpu"))).values_U
        torch.testing.assert_close(values_U[torch.from_numpy(pack.samples_U == number)], alone, rtol=1e-4, atol=1e-5)
    held = (prepared, model)
    requests = [ask(held, "draw", 0), ask(held, "both", 0, cfg=2.0), ask(held, "draw", 1, cfg=2.0), ask(held, "both")]
    for together, request in zip(answers(held, requests), requests, strict=True):
        same(together, answers(held, [request])[0])
        assert together.codes["img"].shape == (16, 2 if request.task == "draw" else 1)


# ------------------------------------------------------------------ exports, new lines


def test_an_export_draws_the_same_pictures_without_the_codecs_folder(tmp_path: Path) -> None:
    world = worlds.world(tmp_path / "c", "draw", "both", "pages")
    requests = [ask(world, n, 1, method="sample", seed=3) for n in ("draw", "both", "pages")]
    before = answers(world, requests)
    world[1].save_pretrained(tmp_path / "export")
    shutil.rmtree(tmp_path / "c")
    loaded = Generalist.from_pretrained(tmp_path / "export")
    for one, two in zip(before, answers((world[0], loaded), requests), strict=True):
        same(one, two)
    assert tiny_worlds.equal(tiny_worlds.weights(world[1]), tiny_worlds.weights(loaded))
    one, two = worlds.coder(world[1]).codec.state_dict(), worlds.coder(loaded).codec.state_dict()
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_settings_of_the_models_side_survive_an_export(tmp_path: Path) -> None:
    folder = worlds.codec(tmp_path / "c")
    line = worlds.LINES["draw"].replace("{codec}", "{codec},weights=(1,0.5),layers=parallel,order=random")
    prepared = worlds.ready([worlds.task("draw", folder, line)])
    model = worlds.generalist(prepared)
    request = ask((prepared, model), "draw", 0)
    before = predict(model, [request])[0]
    model.save_pretrained(tmp_path / "export")
    loaded = Generalist.from_pretrained(tmp_path / "export")
    after = predict(loaded, [request])[0]
    assert before is not None
    assert after is not None
    same(before, after)
    adapter = worlds.coder(loaded)
    assert adapter.shares == pytest.approx((2 / 3, 1 / 3))
    assert adapter.heads.layers == (1, 1)
    assert adapter.places is not None


def line_of(model: Generalist, line: str) -> Prediction:
    found = predict(model, [Request(model.task_of_line(line), {"cap": "a red square"})])[0]
    assert found is not None
    return found


def test_a_new_line_borrows_the_learned_codec(world: WORLD) -> None:
    folder = next(iter(world[0].codecs.values()))
    for said in ("", ",size=8", ",codec=dnd", ",codec=dnd(depth=2)", f",codec=dnd({folder})"):
        found = line_of(world[1], f"please paint [TEXT:cap] -> [IMAGE:out{said}]")
        assert isinstance(found.values["out"], Image.Image)


def test_a_new_line_borrows_the_models_side_with_it(tmp_path: Path) -> None:
    folder = worlds.codec(tmp_path / "c")
    line = worlds.LINES["draw"].replace("{codec}", "{codec},layers=parallel,weights=(2,1)")
    model = worlds.generalist(worlds.ready([worlds.task("draw", folder, line)]))
    assert isinstance(line_of(model, "paint [TEXT:cap] -> [IMAGE:out]").value, Image.Image)


def test_a_new_line_that_asks_for_another_codec_says_so(world: WORLD, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"slot \[IMAGE:out\]: no learned task writes \{'depth': 3\}"):
        line_of(world[1], "paint [TEXT:cap] -> [IMAGE:out,codec=dnd(depth=3)]")
    other = worlds.codec(tmp_path / "other", seed=5)
    with pytest.raises(CheckpointError, match=r"no learned task writes \{'hash':"):
        line_of(world[1], f"paint [TEXT:cap] -> [IMAGE:out,codec=dnd({other})]")
    with pytest.raises(CardError, match="no codec in nowhere"):
        line_of(world[1], "paint [TEXT:cap] -> [IMAGE:out,codec=dnd(nowhere)]")


def test_a_model_that_learned_no_codes_says_that_none_writes_them(tmp_path: Path) -> None:
    model = worlds.generalist(worlds.ready([worlds.task("name", tmp_path)]))
    with pytest.raises(CheckpointError, match="no learned task writes codes"):
        line_of(model, "paint [TEXT:cap] -> [IMAGE:out]")


def test_several_codecs_have_to_be_told_apart(tmp_path: Path) -> None:
    one, two = worlds.codec(tmp_path / "a"), worlds.codec(tmp_path / "b", seed=1, depth=1)
    model = worlds.generalist(worlds.ready([worlds.task("draw", one), worlds.task("both", two)]))
    with pytest.raises(CheckpointError, match="learned tasks have several codecs that write codes"):
        line_of(model, "paint [TEXT:cap] -> [IMAGE:out]")
    assert line_of(model, "paint [TEXT:cap] -> [IMAGE:out,codec=dnd(depth=1)]").codes["out"].shape == (16, 1)
