"""The static cache and blocks laid out for few rows give the states of the growing cache; nothing moves in memory."""

from __future__ import annotations

import gc
import mmap

import pytest
import torch
from model_packs import build, make_pack
from torch import Tensor
from torch._dynamo import lookup_backend

from ofasys_lite.errors import ShapeError
from ofasys_lite.model import DecodeCache, EncoderDecoder
from ofasys_lite.model.few_rows import WORTH
from ofasys_lite.model.pages import PAGE, large_zeros
from ofasys_lite.model.static_cache import StaticCache

SOURCES = (5, 0, 7)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
KINDS: list[dict[str, object]] = [
    {},
    {"kv_heads": 2, "cross_rotary": False, "bias": True, "norm": "layernorm", "mlp": "gelu"},
    # large enough for panels, one and several
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


def _same_steps(model: EncoderDecoder, a: DecodeCache, b: DecodeCache | StaticCache, steps: int, at: int = 0) -> None:
    generator = torch.Generator().manual_seed(at)
    for step in range(at, at + steps):
        x = torch.randn(3, model.config.width, generator=generator)
        positions = torch.tensor([[step - 1, step, 2]]).expand(3, 3)
        torch.testing.assert_close(model.step(x, positions, b), model.step(x, positions, a), **TOLERANCE)


@pytest.mark.parametrize("changes", KINDS)
@torch.no_grad()
def test_laid_out_blocks_give_the_states_of_the_decoders_own(changes: dict[str, object]) -> None:
    model = _shaken(build(**changes))
    plain, fast = model.start(*_source(model)), model.start(*_source(model), room=WORTH)
    assert plain.blocks is None
    assert fast.blocks is not None
    _same_steps(model, plain, fast, 4)
    for cache in (plain, fast):
        cache.reorder([2, 2, 0])
    _same_steps(model, plain, fast, 20, at=4)


@pytest.mark.parametrize("changes", KINDS)
@torch.no_grad()
def test_what_laid_out_blocks_give_stays_as_it_was_given(changes: dict[str, object]) -> None:
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


@pytest.mark.parametrize("changes", [*KINDS, {"qk_norm": True}])
@torch.no_grad()
def test_the_static_cache_gives_the_states_of_the_growing_one(changes: dict[str, object]) -> None:
    model = _shaken(build(**changes))
    growing, static = model.start(*_source(model)), model.start_static(*_source(model), room=30)
    _same_steps(model, growing, static, 5)
    for cache in (growing, static):
        cache.reorder(torch.tensor([2, 1, 1]))
    _same_steps(model, growing, static, 25, at=5)
    assert (static.lengths, static.source_B) == (growing.lengths, growing.source_B)
    with pytest.raises(ShapeError, match="its 30 places are written"):
        model.step(torch.zeros(3, model.config.width), torch.zeros(3, 3), static)


@torch.no_grad()
def test_prefixes_of_one_length_go_into_the_static_cache() -> None:
    model = build(kv_heads=2).eval()
    growing, static = model.start(*_source(model)), model.start_static(*_source(model), room=12)
    x, positions = torch.randn(12, 48), torch.arange(4).repeat(3).unsqueeze(1).expand(-1, 3)
    whole = [model.prefill(x, positions, [4, 4, 4], cache) for cache in (growing, static)]
    torch.testing.assert_close(*whole, **TOLERANCE)
    _same_steps(model, growing, static, 6, at=4)
    ragged = model.start_static(*_source(model), room=12)
    with pytest.raises(ShapeError, match="prefixes have one length"):
        model.prefill(x, positions, [5, 4, 3], ragged)


def _addresses(cache: StaticCache) -> list[int]:
    tensors = [*(x for pair in cache._buffers for x in pair), cache._mask_P, cache.place, cache._source_B]
    tensors += [x for grid in cache._grids if grid is not None for x in grid]
    return [x.data_ptr() for x in tensors]


@torch.no_grad()
def test_steps_and_reordering_leave_every_address_of_the_static_cache() -> None:
    model = build().eval()
    cache = model.start_static(*_source(model), room=8)
    before = _addresses(cache)
    for step in range(8):
        model.step(torch.randn(3, 48), torch.full((3, 3), step), cache)
        cache.reorder([1, 0, 2])
    assert _addresses(cache) == before
    with pytest.raises(ShapeError, match="rows do not come or go"):
        cache.keep([0, 1])


@torch.no_grad()
def test_a_static_step_is_one_graph_without_a_way_back_to_the_host() -> None:
    model = build().eval()
    eager, graph = (model.start_static(*_source(model), room=6) for _ in range(2))
    graphs = 0

    def count(module: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        nonlocal graphs
        graphs += 1
        return lookup_backend("aot_eager")(module, inputs)

    # `fullgraph` refuses breaks; reading the counter back (.item, .tolist) would be one
    compiled = torch.compile(model.step, fullgraph=True, backend=count, dynamic=False)
    for step in range(6):
        x, positions = torch.randn(3, 48), torch.full((3, 3), step)
        torch.testing.assert_close(compiled(x, positions, graph), model.step(x, positions, eager), **TOLERANCE)
    assert graphs == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_a_captured_cuda_graph_replays_the_steps() -> None:
    model = build().eval()
    states, positions_S3, lengths = _source(model)
    assert states is not None
    assert positions_S3 is not None
    model, source = model.cuda(), (states.cuda(), positions_S3.cuda(), lengths)
    eager, cache = (model.start_static(*source, room=16) for _ in range(2))
    x, positions = torch.zeros(3, 48, device="cuda"), torch.zeros(3, 3, dtype=torch.long, device="cuda")
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # warms up the libraries on a cache that is thrown away
        model.step(x, positions, model.start_static(*source, room=16))
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = model.step(x, positions, cache)
    for step in range(16):
        x.copy_(torch.randn(3, 48))
        positions.fill_(step)
        graph.replay()
        torch.testing.assert_close(out, model.step(x, positions, eager), rtol=1e-3, atol=1e-4)
    assert cache.lengths == [16] * 3
