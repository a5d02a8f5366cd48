"""A decoder that reads its source as a prefix: one causal stream with each target, packed, alone and step by step."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from model_packs import Pack, build, make_pack
from torch import Tensor

from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.model import DecodeCache, EncoderDecoder, ModelConfig, body_work, flops

SOURCES = (5, 0, 7, 3)
TARGETS = ((3,), (4,), (2, 5), ())
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
KINDS: list[dict[str, object]] = [
    {},
    {"kv_heads": 2, "qk_norm": True, "norm": "layernorm"},
    {"bias": True, "mlp": "gelu"},
    {"qkv_bias": True, "kv_heads": 1},
    {"positions": "none"},
]


def made(**changes: object) -> EncoderDecoder:
    model = build(encoder_layers=0, source="prefix", **changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def as_one(model: EncoderDecoder, x_SD: Tensor, at_S3: Tensor, y_TD: Tensor, at_T3: Tensor) -> Tensor:
    """States of target rows of one sequence, as a decoder alone makes them of both."""
    first = int(at_S3.max()) + 1 if len(at_S3) else 0
    alone = build_like(model)
    both, at = torch.cat([x_SD, y_TD]), torch.cat([at_S3, at_T3 + first])
    return alone.decode(both, at, lengths=[len(both)])[len(x_SD) :]


def build_like(model: EncoderDecoder) -> EncoderDecoder:
    """The same weights in a decoder that reads no source."""
    alone = EncoderDecoder(ModelConfig.from_dict({**model.config.to_dict(), "source": "encoder"}))
    alone.load_state_dict(model.state_dict())
    return alone.eval()


def pack() -> Pack:
    return make_pack(SOURCES, TARGETS)


def spans(lengths: tuple[int, ...] | list[int]) -> list[slice]:
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]


@pytest.mark.parametrize("changes", KINDS)
@torch.no_grad()
def test_a_pack_equals_a_decoder_alone_over_each_source_with_each_target(changes: dict[str, object]) -> None:
    model, held = made(**changes), pack()
    found = held.run(model)
    sources, targets = spans(SOURCES), spans(held.lengths)
    owners = [i for i, each in enumerate(TARGETS) for _ in each]
    for owner, rows in zip(owners, targets, strict=True):
        read = sources[owner]
        wanted = as_one(model, held.x_SD[read], held.positions_S3[read], held.y_TD[rows], held.positions_T3[rows])
        torch.testing.assert_close(found[rows], wanted, **TOLERANCE)
    torch.testing.assert_close(found, torch.cat([each.run(model) for each in held.samples()]), **TOLERANCE)


def test_gradients_of_a_pack_are_those_of_its_samples() -> None:
    model, held = made(kv_heads=2), pack()
    held.x_SD.requires_grad_()
    judge = torch.randn(held.y_TD.shape, generator=torch.Generator().manual_seed(2))
    (held.run(model) * judge).sum().backward()
    packed = {name: p.grad for name, p in model.named_parameters()}
    source, held.x_SD.grad = held.x_SD.grad, None
    model.zero_grad()
    torch.cat([each.run(model) for each in held.samples()]).mul(judge).sum().backward()
    torch.testing.assert_close(source, held.x_SD.grad, **TOLERANCE)
    assert source is not None
    assert source[:5].abs().sum() > 0
    assert source[12:].abs().sum() == 0  # nobody is asked behind the last source
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_blocks_that_are_computed_again_give_the_same_gradients() -> None:
    found = []
    for again in (False, True):
        model, held = made(gradient_checkpointing=again).train(), pack()
        held.run(model).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], msg=name)


@torch.no_grad()
def test_steps_in_half_precision_follow_those_in_full() -> None:
    model, held = made(kv_heads=2), pack()
    exact, half = started(model, held, None), None
    with torch.autocast("cpu", torch.bfloat16):
        half = started(model, held, None)
    rows = torch.randn(4, 48, generator=torch.Generator().manual_seed(3))
    for place in range(3):
        at_B3 = torch.full((4, 3), place)
        wanted = model.step(rows, at_B3, exact)
        with torch.autocast("cpu", torch.bfloat16):
            got = model.step(rows, at_B3, half)
        torch.testing.assert_close(got.float(), wanted, rtol=0.1, atol=0.1)


def started(model: EncoderDecoder, held: Pack, room: int | None) -> DecodeCache:
    states = model.encode(held.x_SD, held.positions_S3, SOURCES)
    assert states is held.x_SD
    return model.start(states, held.positions_S3, SOURCES, room)


@pytest.mark.parametrize("room", [None, 200])
@pytest.mark.parametrize("changes", KINDS)
@torch.no_grad()
def test_steps_with_beams_that_change_places_and_end_equal_whole_passes(
    changes: dict[str, object], room: int | None
) -> None:
    model, held = made(**changes), pack()
    cache = started(model, held, room)
    generator = torch.Generator().manual_seed(5)
    rows: list[Tensor] = [torch.zeros(0, 48) for _ in SOURCES]
    source_B = [0, 1, 2, 3]
    moves: dict[int, list[int]] = {
        1: [0, 1, 3],
        3: [0, 0, 0, 1, 1, 2, 2],
        5: [1, 0, 4, 4, 6, 5],
        8: [5, 1, 3, 0],
        20: [2, 0],
    }
    read = spans(SOURCES)
    for step in range(23):
        if step in moves:
            parents = moves[step]
            rows, source_B = [rows[p] for p in parents], [source_B[p] for p in parents]
            cache.keep(parents) if step == 20 else cache.reorder(torch.tensor(parents))
        new_BD = torch.randn(len(rows), 48, generator=generator)
        rows = [torch.cat([row, new.unsqueeze(0)]) for row, new in zip(rows, new_BD, strict=True)]
        at_B3 = torch.tensor([[len(row) - 1] * 3 for row in rows])
        got = model.step(new_BD, at_B3, cache)
        for state, row, source in zip(got, rows, source_B, strict=True):
            at = torch.arange(len(row)).unsqueeze(1).expand(-1, 3)
            wanted = as_one(model, held.x_SD[read[source]], held.positions_S3[read[source]], row, at)
            torch.testing.assert_close(state, wanted[-1], **TOLERANCE)


@torch.no_grad()
def test_a_pack_without_any_source_and_one_without_targets() -> None:
    model = made()
    held = make_pack((0, 0), ((3,), (2,)))
    torch.testing.assert_close(held.run(model), build_like(model).decode(held.y_TD, held.positions_T3, lengths=[3, 2]))
    cache = model.start(torch.zeros(0, 48), torch.zeros(0, 3, dtype=torch.long), (0, 0))
    got = model.step(held.y_TD[[0, 3]], held.positions_T3[[0, 3]], cache)
    torch.testing.assert_close(got, held.run(model)[[0, 3]], **TOLERANCE)
    assert make_pack((4, 2), ((), ())).run(model).shape == (0, 48)


@torch.no_grad()
def test_taps_see_and_change_target_rows_alone() -> None:
    model, held, seen = made(), pack(), list[Tensor]()

    def look(x_TD: Tensor) -> None:
        seen.append(x_TD)

    plain = held.run(model, {0: look})
    assert seen[0].shape == held.y_TD.shape
    moved = held.run(model, {0: lambda x_TD: torch.ones_like(x_TD)})
    assert not torch.allclose(moved, plain, atol=1e-3)
    cut = held.run(model, {1: lambda x_TD: 0 * x_TD})
    torch.testing.assert_close(cut, plain)


def test_what_a_prefix_cannot_do_is_refused() -> None:
    model, held = made(), make_pack((3,), ((2,),), causal=0)
    with pytest.raises(ShapeError, match="whose rows see each other"):
        held.run(model)
    with pytest.raises(ShapeError, match="source=prefix"):
        pack().run(build(encoder_layers=0))
    with pytest.raises(CardError, match=r"source is `prefix`, with 2 \+ 2 layers"):
        build(source="prefix")
    with pytest.raises(CardError, match="source is `prefix`, and positions is `learned`"):
        build(encoder_layers=0, source="prefix", positions="learned", places=9)
    with pytest.raises(CardError, match="source `prefixed` is not known"):
        build(source="prefixed")


def test_work_counts_the_source_once_for_each_of_its_targets() -> None:
    config = made().config
    alone = ModelConfig.from_dict({**config.to_dict(), "source": "encoder"})
    cross = [(sum(t), s) for t, s in zip(TARGETS, SOURCES, strict=True)]
    rows = [8, 4, 9, 12]
    assert body_work(config, SOURCES, [3, 4, 2, 5], cross) == body_work(alone, [], rows, [(n, 0) for n in rows])
    assert flops(config, [5], [3], 10) == flops(alone, [0], [8], 10) - 2 * 5 * 48 * 10
