"""Adapters of codes with depth: rows fed, losses against a direct computation, gradients, orders, layers, weights."""

from __future__ import annotations

from typing import Any

import code_worlds as worlds
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_worlds import labels, learned
from torch import Tensor

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.codes import head_layers
from ofasys_lite.adapters.image_codes import ImageCodesAdapter
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.layout.pack import Batch, Part
from ofasys_lite.layout.ready import Ready

WORLD = tuple[Ready, Generalist]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WORLD:
    return worlds.world(tmp_path_factory.mktemp("adapter") / "c", "draw", "name", "both", "pages", "maybe")


def said(world: WORLD, more: str, seed: int = 0) -> WORLD:
    """The drawing task with more said of the codec, and a model for it."""
    folder = next(iter(world[0].codecs.values()))
    prepared = worlds.ready([worlds.task("draw", folder, worlds.LINES["draw"].replace("{codec}", f"{folder},{more}"))])
    return prepared, worlds.generalist(prepared, seed)


def coded(batch: Batch) -> Part:
    (found,) = (p for p in batch.target.parts if p.adapter != "text")
    return found


def direct(model: Generalist, batch: Batch, codes_RK: Tensor, inputs: bool = True) -> Tensor:
    """(R, K) cross entropies by a plain loop over the decoder's blocks: no taps, no readings."""
    heads, body = worlds.coder(model).heads, model.network.body
    rows = learned(batch, "depth_cross_entropy")[0].rows_R
    seen: list[Tensor] = []

    class Block(torch.nn.Module):
        """A block of the decoder, and behind it the heads of its layer."""

        def __init__(self, inner: torch.nn.Module, layer: int) -> None:
            super().__init__()
            self.inner, self.layer = inner, layer

        def forward(self, *given: Any) -> Tensor:
            x_TD: Tensor = self.inner(*given)
            before = x_TD.clone()
            for k, layer in enumerate(heads.layers):
                if layer == self.layer:
                    seen.append(before[rows])
                    if heads.feedback and k < heads.depth - 1:
                        x_TD = x_TD.clone()
                        x_TD[rows] = x_TD[rows] + heads.table.weight[codes_RK[:, k]] * heads.scale
            return x_TD

    kept = list(body.decoder)
    try:
        for layer, block in enumerate(kept):
            body.decoder[layer] = Block(block, layer)
        model.network.decode(batch, model.network.encode(batch.source))
    finally:
        for layer, block in enumerate(kept):
            body.decoder[layer] = block
    losses = []
    for k, states in enumerate(seen):
        norm = heads.norms[k]
        scaled = states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6) * norm.weight
        losses.append(F.cross_entropy(scaled @ heads.heads[k].weight.T, codes_RK[:, k], reduction="none"))
    return torch.stack(losses, -1)


def true_codes(model: Generalist, batch: Batch) -> Tensor:
    """(N, L, K) codes of a pack's pictures."""
    return worlds.coder(model).codec.encode(coded(batch).arrays["pixels"])


@pytest.mark.parametrize("name", ["draw", "both", "pages", "maybe"])
@torch.no_grad()
def test_the_loss_of_a_task_is_that_of_its_heads_over_the_same_decoder(world: WORLD, name: str) -> None:
    prepared, model = world
    batch = worlds.pack(worlds.examples(prepared, name, 4))
    found = model.network(batch).values_U[len(labels(batch)) :]
    wanted_RK = direct(model, batch, true_codes(model, batch).flatten(0, 1))
    torch.testing.assert_close(found, wanted_RK.mean(-1), rtol=1e-4, atol=1e-5)
    assert wanted_RK.std() > 0.1


@pytest.mark.parametrize(
    ("more", "shares"),
    [
        ("weights=(3,1)", (0.75, 0.25)),
        ("weights=(1,0)", (1.0, 0.0)),
        ("layers=even", (0.5, 0.5)),
        ("layers=parallel", (0.5, 0.5)),
        ("feedback=false", (0.5, 0.5)),
    ],
)
@torch.no_grad()
def test_weights_layers_and_feedback_do_what_they_say(world: WORLD, more: str, shares: tuple[float, ...]) -> None:
    prepared, model = said(world, more)
    batch = worlds.pack(worlds.examples(prepared, "draw", 4))
    found = model.network(batch).values_U
    wanted_RK = direct(model, batch, true_codes(model, batch).flatten(0, 1))
    torch.testing.assert_close(found, (wanted_RK * torch.tensor(shares)).sum(-1), rtol=1e-4, atol=1e-5)
    heads = worlds.coder(model).heads
    assert heads.layers == ((1, 1) if more == "layers=parallel" else (0, 1))
    assert heads.feedback == (more not in ("layers=parallel", "feedback=false"))


@torch.no_grad()
def test_without_feedback_the_second_code_does_not_depend_on_the_first(world: WORLD) -> None:
    for more, depends in (("feedback=false", False), ("feedback=true", True)):
        prepared, model = said(world, more)
        batch = worlds.pack(worlds.examples(prepared, "draw", 2))
        adapter, part = worlds.coder(model), coded(batch)
        losses = []
        for shift in (0, 1):
            codes = true_codes(model, batch)
            shifted = codes.clone()
            shifted[..., 0] = (codes[..., 0] + shift) % 8
            reading = adapter.heads.read(
                learned(batch, "depth_cross_entropy")[0].rows_R, codes.flatten(0, 1), shifted.flatten(0, 1)
            )
            model.network.decode(batch, model.network.encode(batch.source), reading.taps)
            losses.append(reading.loss())
        assert part is coded(batch)
        same_RK = (losses[0] - losses[1]).abs() < 1e-6
        # the last position of a picture feeds nobody but itself
        assert bool(same_RK[:, 0][[0, 16]].all())
        assert bool(same_RK[0, 1]) != depends


def test_gradients_reach_every_head_and_the_table_and_never_the_codec(world: WORLD) -> None:
    prepared, model = world
    network = model.network.train()
    batch = worlds.pack([*worlds.examples(prepared, "draw", 2), *worlds.examples(prepared, "name", 2)])
    network.zero_grad()
    losses = network(batch)
    (losses.values_U.mean() + losses.touch).backward()
    adapter = worlds.coder(model)
    for head in adapter.heads.heads:
        assert head.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert adapter.heads.table.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert all(p.grad is None and not p.requires_grad for p in adapter.codec.parameters())
    network.zero_grad()
    network.eval()


def test_every_learned_parameter_is_in_the_graph_of_a_pack_of_pictures(world: WORLD) -> None:
    # ranks of a group wait for each other's gradients: none may be missing
    prepared, model = world
    model.network.zero_grad()
    losses = model.network(worlds.pack(worlds.examples(prepared, "draw", 2)))
    (losses.values_U.mean() + losses.touch).backward()
    learned = [(n, p) for n, p in model.network.named_parameters() if p.requires_grad]
    without = [name for name, parameter in learned if parameter.grad is None]
    model.network.zero_grad()
    assert without == []


def test_training_mode_leaves_the_codec_as_it_was_trained(world: WORLD) -> None:
    _, model = world
    before = {n: t.clone() for n, t in worlds.coder(model).codec.state_dict().items()}
    model.network.train()
    assert not worlds.coder(model).codec.training
    assert worlds.coder(model).training
    model.network(worlds.pack(worlds.examples(world[0], "draw", 4)))
    assert all(torch.equal(before[n], t) for n, t in worlds.coder(model).codec.state_dict().items())
    model.network.eval()


@torch.no_grad()
def test_codes_are_those_of_the_codec_and_kept_by_content(world: WORLD) -> None:
    prepared, model = world
    adapter = worlds.coder(model)
    adapter._kept.clear()
    batch = worlds.pack(worlds.examples(prepared, "draw", 6))
    learned, fed = adapter.codes(coded(batch))
    assert torch.equal(learned, true_codes(model, batch))
    assert torch.equal(learned, fed)
    seen: list[int] = []
    whole = adapter.codec.latents

    def counted(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return whole(pixels)

    adapter.codec.latents = counted  # type: ignore[method-assign]
    try:
        again = worlds.pack(worlds.examples(prepared, "draw", 8))
        torch.testing.assert_close(adapter.codes(coded(again))[0][:6], learned)
        known = set(coded(batch).arrays["key"].tolist())
        assert seen == [sum(key not in known for key in coded(again).arrays["key"].tolist())]
    finally:
        del adapter.codec.latents  # type: ignore[misc]


@torch.no_grad()
def test_a_row_is_fed_the_sum_of_the_vectors_of_the_position_before(world: WORLD) -> None:
    prepared, model = world
    batch = worlds.pack(worlds.examples(prepared, "both", 2))
    x_TD = model.network.embed(batch.target)
    heads = worlds.coder(model).heads
    codes_NLK = true_codes(model, batch)
    part = coded(batch)
    assert part.counts == (16, 16)
    vectors = heads.table.weight[codes_NLK].sum(-2) * heads.scale
    torch.testing.assert_close(x_TD[part.rows_P], vectors.flatten(0, 1))
    # the row behind a position predicts the next one
    assert torch.equal(part.rows_P[:15], learned(batch, "depth_cross_entropy")[0].rows_R[1:16])


# ------------------------------------------------------------------ random order


def ordered(world: WORLD) -> tuple[WORLD, list[Any], list[Any]]:
    """A task in random order, its examples in training, and the same rows line by line."""
    prepared, model = said(world, "order=random")
    (task,) = prepared.tasks
    source = task.sources["train"]
    row = [source.row(i) for i in range(3)]
    mixed = [task.maker.example(r, str(i), np.random.default_rng(i), True) for i, r in enumerate(row)]
    plain = [task.maker.example(r, str(i), None, False) for i, r in enumerate(row)]
    return (prepared, model), mixed, plain


@torch.no_grad()
def test_rows_in_random_order_take_codes_places_and_positions_with_them(world: WORLD) -> None:
    (_, model), mixed, plain = ordered(world)
    adapter = worlds.coder(model)
    one, two = worlds.pack(plain), worlds.pack(mixed)
    order_NL = coded(two).arrays["order"].view(3, 16)
    assert all(sorted(order) == list(range(16)) for order in order_NL.tolist())
    assert len({tuple(order) for order in order_NL.tolist()}) == 3
    learned, fed = adapter.codes(coded(two))
    raster, _ = adapter.codes(coded(one))
    for n in range(3):
        assert torch.equal(learned[n], raster[n][order_NL[n]])
        assert torch.equal(fed[n], learned[n])
    grid = one.target.positions_S3.view(3, 16, 3)
    assert torch.equal(two.target.positions_S3.view(3, 16, 3), torch.stack([grid[n][order_NL[n]] for n in range(3)]))
    x_NTD = model.network.embed(two.target).view(3, 16, -1)
    for n in range(3):
        before = order_NL[n][:15]
        wanted = adapter.fed(raster[n][before], before)
        torch.testing.assert_close(x_NTD[n, 1:], wanted)


@torch.no_grad()
def test_in_evaluation_rows_stand_line_by_line_as_in_decoding(world: WORLD) -> None:
    (_, model), _, plain = ordered(world)
    batch = worlds.pack(plain)
    adapter = worlds.coder(model)
    assert not any(coded(batch).sizes["order"])
    codes_NLK, _ = adapter.codes(coded(batch))
    x_NTD = model.network.embed(batch.target).view(3, 16, -1)
    torch.testing.assert_close(x_NTD[0, 1:], adapter.fed(codes_NLK[0, :15], torch.arange(15)))


@torch.no_grad()
def test_a_model_that_sees_only_its_own_row_has_the_same_loss_in_any_order(world: WORLD) -> None:
    (_, model), mixed, plain = ordered(world)
    adapter = worlds.coder(model)
    assert adapter.places is not None
    adapter.places.weight.zero_()
    adapter.heads.table.weight.zero_()  # rows read nothing: what is left is the position and the order of labels
    for block in model.network.body.decoder:
        for parameter in block.attention.parameters():  # type: ignore[union-attr]
            parameter.zero_()
        if block.cross is not None:
            for parameter in block.cross.parameters():  # type: ignore[union-attr]
                parameter.zero_()
    one, two = worlds.pack(plain), worlds.pack(mixed)
    order_NL = coded(two).arrays["order"].view(3, 16)
    in_order, shuffled = (model.network(b).values_U.view(3, 16) for b in (one, two))
    # the first row reads <start>, the others nothing
    for n in range(3):
        inner = shuffled[n, 1:][(order_NL[n, 1:] != 0)]
        wanted = in_order[n][order_NL[n, 1:]][(order_NL[n, 1:] != 0)]
        torch.testing.assert_close(inner, wanted)


# ------------------------------------------------------------------ layers


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("layers", range(1, 13))
def test_heads_stand_behind_rising_layers_that_end_at_the_last(depth: int, layers: int) -> None:
    assert head_layers("parallel", depth, layers) == (layers - 1,) * depth
    for name in ("last", "even"):
        if depth > layers:
            with pytest.raises(CardError, match=f"codes of depth {depth}, and the decoder has {layers} layers"):
                head_layers(name, depth, layers)
            continue
        found = head_layers(name, depth, layers)
        assert len(found) == depth
        assert list(found) == sorted(set(found))
        assert found[0] >= 0
        assert found[-1] == layers - 1
    if depth <= layers:
        assert head_layers("last", depth, layers) == tuple(range(layers - depth, layers))


def test_codes_deeper_than_the_decoder_say_what_to_do(world: WORLD) -> None:
    with pytest.raises(CardError) as caught:
        worlds.generalist(world[0], decoder_layers=1)
    assert caught.value.message == "codes of depth 2, and the decoder has 1 layers"
    assert caught.value.help == ("depth is at most the number of decoder layers: write depth=1, or take a deeper model")


def test_weights_of_another_depth_than_the_codec_has_are_refused(world: WORLD) -> None:
    with pytest.raises(CardError, match=r"codec: weights \(1, 1, 1\) for codes of depth 2"):
        said(world, "weights=(1,1,1)")


def test_rendered_pictures_are_those_of_the_codec(world: WORLD) -> None:
    adapter = worlds.coder(world[1])
    codes = torch.randint(8, (3, 16, 2))
    assert torch.equal(adapter.render(codes), adapter.codec.decode(codes))
    assert adapter.render(codes).shape == (3, 8, 8, 3)


def test_an_adapter_is_built_from_the_plans_facts_alone(world: WORLD) -> None:
    spec = next(s for s in world[1].network.specs.values() if "hash" in s.settings.get("codec", {}))
    made = ImageCodesAdapter(spec.settings, Shared(32, torch.nn.Embedding(10, 32), 0.0, 2))
    assert made.codec.config == worlds.coder(world[1]).codec.config
