"""Blocks laid out for few rows give the states of the decoder's own."""

from __future__ import annotations

import gc
import mmap

import pytest
import torch
from model_packs import build, make_pack
from torch import Tensor

import ofasys_lite.model.few_rows as few_rows
from ofasys_lite.model import DecodeCache, EncoderDecoder
from ofasys_lite.model.few_rows import WORTH
from ofasys_lite.model.pages import PAGE, large_zeros

SOURCES = (5, 0, 7)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
KINDS: list[dict[str, object]] = [
    {},
    {"kv_heads": 2, "cross_rotary": False, "bias": True, "norm": "layernorm", "mlp": "gelu"},
    # large enough to be laid out for oneDNN, next to small ones
    {"width": 256, "ffn": 384, "encoder_layers": 0, "rotary_blank": True},
]


def _source(model: EncoderDecoder) -> tuple[Tensor, Tensor, tuple[int, ...]] | tuple[None, None, list[int]]:
    if not model.config.encoder_layers:
        return None, None, [0, 0, 0]
    pack = make_pack(SOURCES, ((), (), ()), width=model.config.width)
    return model.encode(pack.x_SD, pack.positions_S3, SOURCES), pack.positions_S3, SOURCES


def _shaken(model: EncoderDecoder) -> EncoderDecoder:
    """Gains and biases that are not 1 and 0."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _same_steps(model: EncoderDecoder, a: DecodeCache, b: DecodeCache, steps: int, at: int = 0) -> None:
    generator = torch.Generator().manual_seed(at)
    for step in range(at, at + steps):
        x = torch.randn(3, model.config.width, generator=generator)
        positions = torch.tensor([[step - 1, step, 2]]).expand(3, 3)
        torch.testing.assert_close(model.step(x, positions, b), model.step(x, positions, a), **TOLERANCE)


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("onednn", [True, False])
@torch.no_grad()
def test_laid_out_blocks_give_the_states_of_the_decoders_own(
    changes: dict[str, object], onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_rows, "laid_out_is_faster", lambda rows: onednn)
    model = _shaken(build(**changes))
    plain, fast = model.start(*_source(model)), model.start(*_source(model), room=WORTH)
    assert plain.blocks is None
    assert fast.blocks is not None
    linears = [x for block in fast.blocks for x in vars(block).values() if isinstance(x, few_rows._Linear)]
    assert any(x.laid_out for x in linears) == (onednn and model.config.width == 256)
    _same_steps(model, plain, fast, 4)
    for cache in (plain, fast):
        cache.reorder([2, 2, 0])
    _same_steps(model, plain, fast, 20, at=4)


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("onednn", [True, False])
@torch.no_grad()
def test_what_laid_out_blocks_give_stays_as_it_was_given(
    changes: dict[str, object], onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_rows, "laid_out_is_faster", lambda rows: onednn)
    model = _shaken(build(**changes))
    plain, fast = model.start(*_source(model)), model.start(*_source(model), room=WORTH)
    layers = range(model.config.decoder_layers)
    told: list[list[Tensor]] = [[], []]
    for step, rows in enumerate((3, 3, 2, 2)):
        x = torch.randn(rows, model.config.width, generator=torch.Generator().manual_seed(step))
        x_before = x.clone()
        for cache, kept in zip((plain, fast), told, strict=True):
            if rows < cache.rows:
                cache.keep([0, 2])

            def tap(states: Tensor, kept: list[Tensor] = kept) -> None:
                kept.append(states)

            positions = torch.full((rows, 3), step)
            kept.append(model.step(x, positions, cache, dict.fromkeys(layers, tap), normed=step % 2 == 0))
        assert torch.equal(x, x_before)
    # compared at the end: no buffer may have been written to again
    for a, b in zip(*told, strict=True):
        torch.testing.assert_close(b, a, **TOLERANCE)


@torch.no_grad()
def test_weights_are_not_laid_out_for_few_steps_norms_of_heads_or_other_types() -> None:
    assert build().start(source_lengths=[0], room=WORTH - 1).blocks is None
    assert build(qk_norm=True).start(source_lengths=[0], room=WORTH).blocks is None
    assert build().bfloat16().start(source_lengths=[0], room=WORTH).blocks is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_pages_hold_zeros_at_a_page_and_outlive_their_maker(dtype: torch.dtype) -> None:
    x = large_zeros((2, 3, 2**20), torch.zeros(1, dtype=dtype))
    assert (x.shape, x.dtype, x.is_contiguous()) == ((2, 3, 2**20), dtype, True)
    assert x.count_nonzero() == 0
    keys, _ = x
    address = keys.data_ptr()
    del x
    gc.collect()
    keys += 1
    assert (keys.data_ptr(), float(keys.float().sum())) == (address, 3.0 * 2**20)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert address % PAGE == 0


@torch.no_grad()
def test_room_that_was_too_small_grows() -> None:
    model = build().eval()
    _same_steps(model, model.start(*_source(model)), model.start(*_source(model), room=2), 12)
