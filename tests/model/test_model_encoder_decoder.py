"""Packing, checkpointing, compilation and empty packs change nothing."""

from __future__ import annotations

import pytest
import torch
from model_packs import RAGGED, SMALL, Pack, build, grads, make_pack
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model import EncoderDecoder, ModelConfig, flops, parameters

VARIANTS = {
    "plain": {},
    "cpu preset": {"norm": "layernorm", "mlp": "gelu", "bias": True},
    "grouped": {"kv_heads": 2, "qk_norm": True},
    "near": {"qkv_bias": True, "near_bias": 8.0, "kv_heads": 2},
    "one key head": {"kv_heads": 1, "cross_rotary": False},
    "no encoder": {"encoder_layers": 0},
}


def _pack_for(model: EncoderDecoder) -> Pack:
    return RAGGED if model.config.encoder_layers else make_pack((0, 0, 0, 0), RAGGED.targets, causal=3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pack_equals_its_samples_one_by_one(variant: str) -> None:
    model = build(**VARIANTS[variant])
    pack = _pack_for(model)
    together = pack.run(model)
    weight = torch.randn(together.shape, generator=torch.Generator().manual_seed(2))
    (together * weight).sum().backward()
    packed = grads(model)
    model.zero_grad()
    alone = torch.cat([sample.run(model) for sample in pack.samples()])
    (alone * weight).sum().backward()
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    for name, grad in grads(model).items():
        torch.testing.assert_close(packed[name], grad, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("backend", ["reference", "sdpa", "padded"])
def test_the_backend_changes_nothing(backend: str) -> None:
    model = build(kv_heads=2)
    expected = RAGGED.run(model)
    model.backend = backend
    torch.testing.assert_close(RAGGED.run(model), expected, rtol=1e-4, atol=1e-5)


def test_targets_of_one_source_do_not_see_each_other() -> None:
    model = build()
    both = make_pack((5,), ((3, 4),))
    states = both.run(model)
    one = Pack(both.sources, ((3,),), 1, both.x_SD, both.positions_S3, both.y_TD[:3], both.positions_T3[:3])
    torch.testing.assert_close(states[:3], one.run(model), rtol=1e-4, atol=1e-5)


def test_causal_rows_see_no_later_row_and_the_others_do() -> None:
    model = build()
    changed = RAGGED.y_TD.clone()
    changed[-1] += 1.0
    changed[RAGGED.causal_rows - 1] += 1.0
    other = Pack(**{**{f: getattr(RAGGED, f) for f in RAGGED.__dataclass_fields__}, "y_TD": changed})
    moved = (RAGGED.run(model) - other.run(model)).abs().amax(-1) > 1e-6
    assert not moved[: RAGGED.causal_rows - 1].any()
    assert moved[RAGGED.causal_rows - 1 :].all()


def test_checkpointing_changes_no_gradient() -> None:
    results = []
    for checkpointing in (False, True):
        model = build(gradient_checkpointing=checkpointing, dropout=0.2).train()
        torch.manual_seed(3)
        RAGGED.run(model).square().sum().backward()
        results.append(grads(model))
    for name, grad in results[0].items():
        torch.testing.assert_close(results[1][name], grad, rtol=1e-5, atol=1e-6)


def test_dropout_is_the_only_randomness() -> None:
    model = build(dropout=0.5).train()
    assert not torch.equal(RAGGED.run(model), RAGGED.run(model))
    model.eval()
    assert torch.equal(RAGGED.run(model), RAGGED.run(model))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_empty_pack_touches_every_parameter(variant: str, checkpointing: bool) -> None:
    model = build(**VARIANTS[variant], gradient_checkpointing=checkpointing).train()
    empty = make_pack((), ())
    out = empty.run(model)
    assert out.shape == (0, 48)
    out.sum().backward()
    assert all(grad.eq(0).all() for grad in grads(model).values())


def test_sources_without_targets_touch_every_parameter() -> None:
    model = build()
    pack = make_pack((3, 2), ((), ()))
    pack.run(model).sum().backward()
    grads(model)


def test_an_encoder_alone_works_and_refuses_targets() -> None:
    model = build(decoder_layers=0)
    states = model.encode(RAGGED.x_SD, RAGGED.positions_S3, RAGGED.sources)
    assert states.shape == RAGGED.x_SD.shape
    empty = make_pack((), ())
    assert model.decode(empty.y_TD, empty.positions_T3, lengths=[]).shape == (0, 48)
    with pytest.raises(ShapeError, match="no decoder"):
        model.decode(RAGGED.y_TD, RAGGED.positions_T3, lengths=RAGGED.lengths)


def test_a_decoder_alone_works_and_refuses_sources() -> None:
    model = build(encoder_layers=0)
    out = model.decode(RAGGED.y_TD, RAGGED.positions_T3, lengths=RAGGED.lengths)
    assert torch.isfinite(out).all()
    with pytest.raises(ShapeError, match="no encoder"):
        model.encode(RAGGED.x_SD, RAGGED.positions_S3, RAGGED.sources)


def test_a_tap_sees_the_states_behind_its_block_and_adds_to_them() -> None:
    model = build()
    seen: dict[int, Tensor] = {}

    def add(states_TD: Tensor) -> Tensor:
        seen[0] = states_TD
        return torch.ones_like(states_TD)

    def look(states_TD: Tensor) -> None:
        seen[1] = states_TD

    plain = RAGGED.run(model, {1: look})
    last = seen[1]
    assert model.decoder_norm is not None
    torch.testing.assert_close(model.decoder_norm(last), plain)
    tapped = RAGGED.run(model, {0: add, 1: look})
    assert not torch.allclose(tapped, plain)
    assert not torch.allclose(seen[1], last)
    assert seen[0].shape == RAGGED.y_TD.shape


def test_taps_stay_outside_of_checkpointed_blocks() -> None:
    model = build(gradient_checkpointing=True).train()
    calls: list[int] = []

    def tap(states_TD: Tensor) -> Tensor:
        calls.append(1)
        return states_TD * 0.5

    RAGGED.run(model, {0: tap}).sum().backward()
    assert len(calls) == 1


def test_wrong_shapes_say_what_is_wrong() -> None:
    model, pack = build(), RAGGED
    with pytest.raises(ShapeError, match="15 rows, the lengths add up to 14"):
        model.encode(pack.x_SD, pack.positions_S3, [5, 0, 7, 2])
    with pytest.raises(ShapeError, match="positions of shape"):
        model.encode(pack.x_SD, pack.positions_S3[:, :2], pack.sources)
    with pytest.raises(ShapeError, match=r"give \(rows, 48\)"):
        model.encode(pack.x_SD[:, :3], pack.positions_S3, pack.sources)
    with pytest.raises(ShapeError, match="inside of a sequence"):
        model.decode(pack.y_TD, pack.positions_T3, lengths=pack.lengths, causal_rows=5)
    with pytest.raises(ShapeError, match="layers of the decoder are 0 to 1"):
        pack.run(model, {2: lambda x: x})


def test_bf16_weights_stay_near_fp32() -> None:
    model = build(norm="layernorm", mlp="gelu")
    expected = RAGGED.run(model)
    half = Pack(**{**{f: getattr(RAGGED, f) for f in RAGGED.__dataclass_fields__},
                   "x_SD": RAGGED.x_SD.bfloat16(), "y_TD": RAGGED.y_TD.bfloat16()})  # fmt: skip
    assert (half.run(model.bfloat16()).float() - expected).abs().mean() < 0.03


def test_autocast_stays_near_fp32() -> None:
    model = build()
    expected = RAGGED.run(model)
    with torch.autocast("cpu", torch.bfloat16):
        out = RAGGED.run(model)
    out.float().sum().backward()
    assert (out.float() - expected).abs().mean() < 0.03


def test_states_keep_their_scale_at_any_depth() -> None:
    for layers in (1, 12):
        model = build(encoder_layers=layers)
        seen: list[Tensor] = []
        model.encoder[-1].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out))
        model.encode(RAGGED.x_SD, RAGGED.positions_S3, RAGGED.sources)
        assert 0.8 < seen[0].std() < 2.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_counted_without_making_them(variant: str) -> None:
    model = build(**VARIANTS[variant])
    assert parameters(model.config) == sum(p.numel() for p in model.parameters())


def test_flops_follow_the_written_formula() -> None:
    width, inner, vocabulary, layers = 48, 64, 100, 2
    config = ModelConfig(**{**SMALL, "mlp": "gelu"})  # type: ignore[arg-type]
    expected = 0
    for s, t in ((5, 3), (0, 2), (7, 0)):
        expected += layers * (2 * s * (4 * width**2 + 2 * width * inner) + 4 * s * s * width)
        expected += layers * (2 * t * (6 * width**2 + 2 * width * inner) + 4 * s * width**2)
        expected += layers * (2 * t * t * width + 4 * s * t * width) + 2 * t * width * vocabulary
    assert flops(config, [5, 0, 7], [3, 2, 0], vocabulary) == expected
    with pytest.raises(ShapeError, match="2 sources and 1 targets"):
        flops(config, [1, 2], [1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
def test_compiled_blocks_give_equal_results() -> None:
    results = []
    for compiled in (False, True):
        model = build(compile_blocks=compiled)
        out = RAGGED.run(model)
        out.square().sum().backward()
        results.append((out.detach(), grads(model)))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    assert list(results[0][1]) == list(results[1][1])
    for name, grad in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], grad, rtol=1e-3, atol=1e-4)
