"""Decoding with a cache equals decoding without one."""

from __future__ import annotations

import pytest
import torch
from model_packs import Pack, build, make_pack
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model import DecodeCache, EncoderDecoder, attend
from ofasys_lite.model.source_grid import SourceGrids

SOURCES = (5, 0, 7)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def _start(model: EncoderDecoder) -> tuple[Pack, Tensor, DecodeCache]:
    pack = make_pack(SOURCES, ((), (), ()))
    states_SD = model.encode(pack.x_SD, pack.positions_S3, SOURCES)
    return pack, states_SD, model.start(states_SD, pack.positions_S3, SOURCES)


def _whole(model: EncoderDecoder, pack: Pack, states_SD: Tensor, rows: list[Tensor], source_B: list[int]) -> Tensor:
    """Last states of rows decoded without a cache, each alone."""
    last = []
    offsets = [0, 5, 5, 12]
    for y_TD, source in zip(rows, source_B, strict=True):
        span = slice(offsets[source], offsets[source + 1])
        positions = torch.arange(len(y_TD)).unsqueeze(1).expand(-1, 3)
        out = model.decode(
            y_TD,
            positions,
            states_SD[span],
            pack.positions_S3[span],
            lengths=[len(y_TD)],
            cross_lengths=[(len(y_TD), SOURCES[source])],
        )
        last.append(out[-1])
    return torch.stack(last)


def _at(rows: list[Tensor]) -> Tensor:
    return torch.tensor([[len(row) - 1] * 3 for row in rows])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kv_heads": 2, "qk_norm": True},
        {"cross_rotary": False, "bias": True},
        {"qkv_bias": True, "near_bias": 8.0, "kv_heads": 2},
    ],
)
@torch.no_grad()
def test_steps_with_reorder_and_keep_equal_whole_passes(changes: dict[str, object]) -> None:
    model = build(**changes).eval()
    pack, states_SD, cache = _start(model)
    generator = torch.Generator().manual_seed(5)
    rows: list[Tensor] = [torch.zeros(0, 48) for _ in SOURCES]
    source_B = [0, 1, 2]
    moves: dict[int, list[int]] = {
        2: [0, 0, 0, 1, 1, 2, 2],
        4: [1, 0, 0, 4, 4, 6, 5],
        7: [6, 1, 3, 0],
        20: [2, 0],
    }
    for step in range(24):
        if step in moves:
            parents = moves[step]
            rows, source_B = [rows[p] for p in parents], [source_B[p] for p in parents]
            cache.keep(parents) if step == 20 else cache.reorder(torch.tensor(parents))
        new_BD = torch.randn(len(rows), 48, generator=generator)
        rows = [torch.cat([row, new.unsqueeze(0)]) for row, new in zip(rows, new_BD, strict=True)]
        got = model.step(new_BD, _at(rows), cache)
        if step in (0, 1, 2, 4, 7, 16, 17, 20, 23):
            torch.testing.assert_close(got, _whole(model, pack, states_SD, rows, source_B), **TOLERANCE)
    assert cache.source_B == source_B
    assert cache.lengths == [24, 24]


@torch.no_grad()
def test_a_decoder_alone_steps_as_it_decodes() -> None:
    model = build(encoder_layers=0).eval()
    cache = model.start(source_lengths=[0, 0])
    y = torch.randn(2, 6, 48)
    for t in range(6):
        got = model.step(y[:, t], torch.full((2, 3), t), cache)
    positions = torch.arange(6).repeat(2).unsqueeze(1).expand(-1, 3)
    whole = model.decode(y.flatten(0, 1), positions, lengths=[6, 6])
    torch.testing.assert_close(got, whole[[5, 11]], **TOLERANCE)


@torch.no_grad()
def test_taps_work_in_steps_as_in_whole_passes() -> None:
    model = build().eval()
    pack, states_SD, cache = _start(model)
    taps = {0: lambda x: x.tanh(), 1: lambda x: None}
    y = torch.randn(3, 4, 48)
    for t in range(4):
        got = model.step(y[:, t], torch.full((3, 3), t), cache, taps)
    whole = model.decode(
        y.flatten(0, 1),
        torch.arange(4).repeat(3).unsqueeze(1).expand(-1, 3),
        states_SD,
        pack.positions_S3,
        lengths=[4, 4, 4],
        cross_lengths=[(4, s) for s in SOURCES],
        taps=taps,
    )
    torch.testing.assert_close(got, whole[[3, 7, 11]], **TOLERANCE)


@torch.no_grad()
def test_no_live_rows_give_no_states() -> None:
    model = build().eval()
    _, _, cache = _start(model)
    model.step(torch.randn(3, 48), torch.zeros(3, 3), cache)
    cache.keep([])
    assert cache.rows == 0
    assert model.step(torch.zeros(0, 48), torch.zeros(0, 3), cache).shape == (0, 48)


@torch.no_grad()
def test_beams_share_what_they_read_of_the_source() -> None:
    model = build().eval()
    _, _, cache = _start(model)
    before = cache._memories[0]
    cache.reorder([0] * 4 + [1] * 4 + [2] * 4)
    assert cache._memories[0] is before
    assert before is not None
    assert before[0].shape[0] == sum(SOURCES)


@torch.no_grad()
def test_wrong_uses_of_the_cache_are_refused() -> None:
    model = build().eval()
    _, _, cache = _start(model)
    with pytest.raises(ShapeError, match="outside of the 3 live rows"):
        cache.reorder([0, 3])
    with pytest.raises(ShapeError, match="lengths add up to 3"):
        model.step(torch.zeros(2, 48), torch.zeros(2, 3), cache)


@pytest.mark.parametrize("seed", range(6))
@torch.no_grad()
def test_any_order_of_reordering_and_dropping_equals_whole_passes(seed: int) -> None:
    model = build(kv_heads=2, decoder_layers=1).eval()
    pack, states_SD, cache = _start(model)
    generator = torch.Generator().manual_seed(seed)
    rows: list[Tensor] = [torch.zeros(0, 48) for _ in SOURCES]
    source_B = [0, 1, 2]
    for step in range(20):
        if step % 3 == 2 and rows:
            count = int(torch.randint(0 if step > 12 else 1, len(rows) + 3, (1,), generator=generator))
            parents = torch.randint(0, len(rows), (count,), generator=generator)
            if step % 2:
                parents = parents.sort().values.unique()
            cache.reorder(parents)
            rows, source_B = [rows[p] for p in parents.tolist()], [source_B[p] for p in parents.tolist()]
        new_BD = torch.randn(len(rows), 48, generator=generator)
        rows = [torch.cat([row, new.unsqueeze(0)]) for row, new in zip(rows, new_BD, strict=True)]
        got = model.step(new_BD, _at(rows) if rows else torch.zeros(0, 3), cache)
        if rows:
            torch.testing.assert_close(got, _whole(model, pack, states_SD, rows, source_B), **TOLERANCE)
    assert (cache.source_B, cache.lengths) == (source_B, [len(row) for row in rows])


@torch.no_grad()
def test_ragged_sources_are_read_in_grids_that_hold_little_else_and_those_that_are_done_leave() -> None:
    lengths, alive = [300, 0, 12, 310, 14, 90, 305, 11], [0, 2, 3, 5, 6]
    generator = torch.Generator().manual_seed(0)
    memories = [(torch.randn(sum(lengths), 2, 8, generator=generator), torch.randn(sum(lengths), 2, 8)) for _ in "ab"]
    grids = SourceGrids([None, *memories], lengths)
    for sources in (range(8), alive):
        grids.settle(sources)
        held = [g.held[1][0].shape[0] * g.held[1][0].shape[1] // 2 for g in grids._grids if g.held[1]]
        assert sum(held) <= 1.25 * sum(lengths[s] for s in sources) + 64 * len(held)
        for rows in (1, 3):
            q_NJHC = torch.randn(len(sources), rows, 4, 8, generator=generator)
            expected = attend(
                q_NJHC.flatten(0, 1) * 8**0.5,
                *(torch.cat([x.split_with_sizes(lengths)[s] for s in sources]) for x in memories[1]),
                [rows] * len(sources),
                [lengths[s] for s in sources],
                causal=False,
            )
            torch.testing.assert_close(grids.read(2, q_NJHC).flatten(0, 1), expected, rtol=1e-4, atol=1e-5)
            assert not grids.read(0, q_NJHC).any()
