"""Fresh biases of queries and keys that score what lies near."""

from __future__ import annotations

import pytest
import torch
from model_packs import build
from torch import Tensor

from ofasys_lite.model import EncoderDecoder, rotary_table
from ofasys_lite.model.layers import CrossAttention, SelfAttention

#: (time, row, column) of the cells of a grid of 4 x 4.
GRID = torch.tensor([[0, row, column] for row in range(4) for column in range(4)])


def scores(part: SelfAttention | CrossAttention, model: EncoderDecoder) -> Tensor:
    """(H, S, S) of rows that say nothing but where they stand."""
    nothing_SD = torch.zeros(len(GRID), model.config.width)
    where = rotary_table(GRID, model.config)
    if isinstance(part, SelfAttention):
        q_SHC, k_SGC, _ = part.project(nothing_SD, where)
    else:
        q_SHC, (k_SGC, _) = part.queries(nothing_SD, where), part.memory(nothing_SD, where)
    k_SHC = k_SGC.repeat_interleave(part.heads // part.groups, 1)
    return torch.einsum("qhc,khc->hqk", q_SHC, k_SHC) * part.channels**-0.5


def parts(model: EncoderDecoder) -> list[SelfAttention | CrossAttention]:
    return [each for each in model.modules() if isinstance(each, SelfAttention | CrossAttention)]


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 2}, {"bias": True}])
def test_a_rows_own_place_gets_the_score_and_what_is_far_gets_less(changes: dict[str, object]) -> None:
    model = build(**{"width": 256, "qkv_bias": True, "near_bias": 8.0, "rotary_theta": 100.0, **changes})
    assert len(parts(model)) == 6
    for part in parts(model):
        found_HSS = scores(part, model)
        own_HS = found_HSS.diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(own_HS, torch.full_like(own_HS, 8.0))
        others = ~torch.eye(len(GRID), dtype=torch.bool)
        assert (found_HSS[:, others] < 8.0).all()
        beside, across = found_HSS[:, 0, 1], found_HSS[:, 0, 15]
        assert (beside > across).all()
        assert beside.mean() > across.mean() + 1


def test_heads_differ_and_without_it_places_say_nothing() -> None:
    near = build(qkv_bias=True, near_bias=8.0)
    first, second = scores(parts(near)[0], near)[:2]
    assert not torch.allclose(first, second)
    plain = build(qkv_bias=True)
    assert all((scores(part, plain) == 0).all() for part in parts(plain))


def test_cross_attention_that_is_not_turned_begins_without() -> None:
    model = build(qkv_bias=True, near_bias=8.0, cross_rotary=False)
    for part in parts(model):
        assert (scores(part, model).abs().sum() > 0) == isinstance(part, SelfAttention)


def test_all_else_of_the_body_is_drawn_as_without() -> None:
    made = []
    for config in (build(qkv_bias=True, near_bias=8.0).config, build(qkv_bias=True).config):
        torch.manual_seed(5)
        made.append(EncoderDecoder(config))
    for (name, a), b in zip(made[0].named_parameters(), made[1].parameters(), strict=True):
        assert torch.equal(a, b) != name.endswith(("qkv.bias", "q.bias", "kv.bias")), name


def test_what_is_drawn_behind_the_body_is_what_it_is_without() -> None:
    behind = []
    for config in (build(qkv_bias=True, near_bias=8.0).config, build(qkv_bias=True).config):
        torch.manual_seed(5)
        EncoderDecoder(config)
        behind.append(torch.randn(7))
    assert torch.equal(*behind)


def test_another_seed_draws_other_near_biases() -> None:
    drawn = []
    config = build(qkv_bias=True, near_bias=8.0).config
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        model = EncoderDecoder(config)
        drawn.append(torch.cat([each.flatten() for name, each in model.named_parameters() if name.endswith("v.bias")]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
