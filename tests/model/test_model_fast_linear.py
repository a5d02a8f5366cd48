"""Products outside of training are those of torch, whichever library computes them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.model import ModelConfig, autocast, fast_linear, head_loss, learned_products, matmul, product, products
from ofasys_lite.model.fast_linear import (
    ALL,
    FEW,
    LEARNED_ROWS,
    SMALL,
    SMALL_LEARNED,
    WIDE,
    WORTH,
    FastLinear,
    bytes_are_exact,
    make_linear,
)
from ofasys_lite.model.layers import make_mlp

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """oneDNN's products, faster here or not; counts them."""
    counted: list[int] = []
    real = fast_linear.multiply

    def counting(*given: Tensor) -> Tensor:
        counted.append(len(given[0]))
        return real(*given)

    monkeypatch.setattr(fast_linear, "multiply", counting)
    monkeypatch.setattr(fast_linear, "laid_out_is_faster", lambda rows: True)
    return counted


def _layer(bias: bool = True, inputs: int = 256, outputs: int = 384) -> nn.Linear:
    torch.manual_seed(0)
    return make_linear(inputs, outputs, bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 256), (5, 256), (300, 256), (0, 256), (2, 3, 256)])
@torch.inference_mode()
def test_products_are_those_of_torch_before_and_after_weights_are_laid_out(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = _layer(bias), torch.randn(shape)
    expected = layer(x)
    with products(CPU):
        for _ in range(WORTH + 3):
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(product(x, layer.weight), F.linear(x, layer.weight), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_where_only_few_rows_are_faster_only_they_take_the_weight_that_is_laid_out(
    monkeypatch: pytest.MonkeyPatch, by_onednn: list[int]
) -> None:
    layer, few, many = _layer(), torch.randn(5, 256), torch.randn(FEW + 1, 256)
    expected = layer(few), layer(many)
    for found, taken in ((True, [5, 5, 5]), (False, [])):
        by_onednn.clear()
        monkeypatch.setattr(fast_linear, "laid_out_is_faster", lambda rows, found=found: found and rows <= FEW)
        with products(CPU):
            for _ in range(WORTH + 3):
                torch.testing.assert_close(layer(few), expected[0], rtol=1e-5, atol=1e-5)
                assert torch.equal(layer(many), expected[1])
        assert by_onednn == taken


@torch.inference_mode()
def test_in_bf16_they_are_those_of_autocast() -> None:
    layer, x = _layer(), torch.randn(7, 256)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
        with products(CPU, "bf16"):
            found = layer(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_what_a_row_gets_does_not_depend_on_the_rows_beside_it(by_onednn: list[int]) -> None:
    layer, x = _layer(), torch.randn(16, 256)
    with products(CPU):
        for _ in range(WORTH + 1):
            together = layer(x)
        assert all(torch.equal(layer(x[: n + 1])[n], together[n]) for n in range(16))
    assert len(by_onednn) == WORTH + 17


needs_bytes = pytest.mark.skipif(not bytes_are_exact(), reason="no exact products in eight bits here")


def _plain_bytes(x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """The same in whole numbers, without a library for them."""
    scales = [(each.abs().amax(1, keepdim=True) / 127).clamp_min(1e-30) for each in (x_RI, weight_OI)]
    whole = [(each / scale).round().long() for each, scale in zip((x_RI, weight_OI), scales, strict=True)]
    found_RO = (whole[0] @ whole[1].T).double() * scales[0].double() * scales[1].double().T
    return (found_RO if bias_O is None else found_RO + bias_O).float()


@needs_bytes
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 256), (5, 256), (FEW + 5, 256), (0, 256), (2, 3, 256)])
@torch.inference_mode()
def test_in_eight_bits_whole_numbers_are_added_exactly(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = _layer(bias), torch.randn(shape) * 10.0
    if bias:
        layer.bias.normal_()
    x.view(-1, 256)[2:3] = 0.0  # a row of nothing
    expected = _plain_bytes(x.view(-1, 256), layer.weight, layer.bias).view(*shape[:-1], 384)
    with products(CPU, "int8"):
        for _ in range(2):
            # a number at the border of two bytes may fall to either
            torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=0.02)
        near = product(x, layer.weight)
    plain = F.linear(x, layer.weight)
    assert near.shape == plain.shape
    assert float((near - plain).norm()) <= 0.02 * float(plain.norm())


@needs_bytes
@torch.inference_mode()
def test_in_eight_bits_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    layer, x = _layer(), torch.randn(FEW + 40, 256)
    x[7] *= 1000.0
    with products(CPU, "int8"):
        together = layer(x)
        assert all(torch.equal(layer(x[n : n + 1])[0], together[n]) for n in range(0, FEW + 40, 9))
        assert all(torch.equal(layer(x[: n + 1])[n], together[n]) for n in range(0, FEW + 40, 9))


@needs_bytes
@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
@torch.inference_mode()
def test_in_eight_bits_a_feed_forward_layer_takes_many_rows_in_parts(mlp: str) -> None:
    torch.manual_seed(0)
    layer = make_mlp(ModelConfig(width=256, heads=4, ffn=512, mlp=mlp))
    x = torch.randn(2 * FEW + 9, 256)
    plain = layer(x)
    with products(CPU, "int8"):
        found = layer(x)
        assert all(torch.equal(layer(x[n : n + 1])[0], found[n]) for n in range(0, len(x), 50))
    assert float((found - plain).norm()) <= 0.03 * float(plain.norm())


@needs_bytes
@pytest.mark.parametrize("rows", [5, FEW + 5])
@torch.inference_mode()
def test_in_eight_bits_under_autocast_they_are_given_in_bfloat16(rows: int) -> None:
    layer, x = _layer(), torch.randn(rows, 256)
    with products(CPU, "int8"):
        exact = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            found, of_half = layer(x), layer(x.bfloat16())
    assert found.dtype == of_half.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02)
    assert float((of_half.float() - exact).norm()) <= 0.02 * float(exact.norm())


@pytest.mark.parametrize("faster", [True, False])
def test_beside_eight_bits_all_else_is_in_bfloat16_where_that_is_faster(
    faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_linear, "bf16_is_faster", lambda: faster)
    for precision, half in (("fp32", False), ("bf16", True), ("int8", faster)):
        with autocast(CPU, precision):
            assert torch.is_autocast_enabled("cpu") == half


@needs_bytes
@torch.inference_mode()
def test_in_eight_bits_what_is_not_finite_stays_so() -> None:
    layer, x = _layer(), torch.randn(3, 256)
    x[1, 4], x[2, 4] = float("nan"), float("inf")
    with products(CPU, "int8"):
        found = layer(x)
    assert bool(found[0].isfinite().all())
    assert not bool(found[1:].isfinite().any())


@needs_bytes
def test_in_eight_bits_small_weights_and_gradients_go_the_plain_way() -> None:
    small, layer, x = _layer(inputs=8, outputs=SMALL // 8 - 1), _layer(), torch.randn(2, 256)
    with products(CPU, "int8"):
        with torch.inference_mode():
            assert torch.equal(small(x[:, :8]), F.linear(x[:, :8], small.weight, small.bias))
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_products_that_cut_their_sums_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(x_RI: Tensor, weight: Tensor, scale_O: Tensor, zero_O: Tensor, *_: object) -> Tensor:
        return torch.full((len(x_RI), len(scale_O)), float(2**15 - 1))

    bytes_are_exact.cache_clear()
    monkeypatch.setattr(fast_linear, "multiply_bytes", saturating)
    try:
        assert not bytes_are_exact()
    finally:
        bytes_are_exact.cache_clear()


def test_small_weights_gradients_and_what_is_no_parameter_go_the_plain_way(by_onednn: list[int]) -> None:
    with products(CPU):
        with torch.inference_mode():
            small = _layer(inputs=8, outputs=SMALL // 8 - 1)
            small(torch.randn(2, 8))
            product(torch.randn(2, 256), _layer().weight * 2)
        layer = _layer()
        layer(torch.randn(2, 256)).sum().backward()
    assert layer.weight.grad is not None
    assert by_onednn == []


def test_weights_that_a_training_changes_are_laid_out_anew() -> None:
    layer, x = _layer(), torch.randn(2, 256)
    # a fused optimizer does not count its changes in the weights' version
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def written() -> Tensor:
        with products(CPU), torch.inference_mode():
            return [layer(x) for _ in range(WORTH + 2)][-1]

    before = written()
    layer(x).sum().backward()
    optimizer.step()
    after = written()
    torch.testing.assert_close(after, layer(x).detach(), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after, before, atol=0.1)


def test_another_thread_computes_as_before(by_onednn: list[int]) -> None:
    layer, x = _layer(), torch.randn(2, 256)

    @torch.inference_mode()
    def elsewhere() -> None:
        layer(x)

    with products(CPU):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert by_onednn == []


@pytest.mark.parametrize("broken", [RuntimeError("no such operator"), AttributeError("mkldnn")])
def test_a_torch_without_onednn_keeps_its_own_products(monkeypatch: pytest.MonkeyPatch, broken: Exception) -> None:
    def refuse(*_: Tensor) -> Tensor:
        raise broken

    monkeypatch.undo()
    monkeypatch.setattr(fast_linear, "multiply", refuse)
    probe: Callable[[], int] = fast_linear.onednn_from.__wrapped__
    assert probe() == 0


@pytest.mark.parametrize(("ratio", "least"), [(2.1, ALL), (1.5, WIDE), (1.12, WIDE), (1.03, 0), (0.0, 0)])
def test_where_little_is_gained_only_wide_weights_of_a_training_take_them(
    ratio: float, least: int, monkeypatch: pytest.MonkeyPatch, by_onednn: list[int]
) -> None:
    asked: list[tuple[int, bool, int]] = []

    def measured(rows: int, laid_out: bool, rounds: int) -> float:
        asked.append((rows, laid_out, torch.get_num_threads()))  # of two threads one may wait for a core
        return ratio

    monkeypatch.setattr(fast_linear, "_measured", measured)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert fast_linear.onednn_from.__wrapped__() == least
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert asked == [(LEARNED_ROWS, False, 1)]
    narrow, wide = _layer(inputs=WIDE - 1, outputs=1024), _layer(inputs=WIDE, outputs=WIDE)
    table, labels = nn.Parameter(torch.randn(1000, WIDE)), torch.randint(0, 1000, (80,))
    with learned_products(least):
        for layer, taken in ((narrow, 3 * (least == ALL)), (wide, 3 * (least > 0))):
            by_onednn.clear()
            layer(torch.randn(9, layer.in_features, requires_grad=True)).sum().backward()
            assert len(by_onednn) == taken
        by_onednn.clear()
        head_loss(torch.randn(80, WIDE, requires_grad=True), table, labels).sum().backward()
        assert len(by_onednn) == 3 * (least > 0)


@pytest.mark.parametrize("least", [0, WIDE])
def test_narrow_tables_of_many_rows_take_them_where_wide_weights_do(
    least: int, monkeypatch: pytest.MonkeyPatch, by_onednn: list[int]
) -> None:
    monkeypatch.setattr(fast_linear, "LARGE", 1000 * 128)
    labels = torch.randint(0, 999, (80,))
    for rows, taken in ((999, 0), (1000, 3 * (least > 0))):
        table = nn.Parameter(torch.randn(rows, 128))
        with learned_products(least):
            by_onednn.clear()
            head_loss(torch.randn(80, 128, requires_grad=True), table, labels).sum().backward()
            assert len(by_onednn) == taken


def test_large_layers_take_them_and_small_ones_are_as_they_are() -> None:
    assert type(_layer()) is FastLinear
    assert type(_layer(inputs=8, outputs=SMALL_LEARNED // 8 - 1)) is nn.Linear
    assert repr(_layer()) == "FastLinear(in_features=256, out_features=384, bias=True)"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_a_training_has_the_values_and_gradients_of_torch(rows: int, bias: bool, by_onednn: list[int]) -> None:
    layer, x = _layer(bias), torch.randn(rows, 256, requires_grad=True)
    read = torch.randn(rows, 384)
    learned = [x, *layer.parameters()]

    def run() -> tuple[Tensor, ...]:
        out = layer(x)
        return (out.detach(), *torch.autograd.grad((out * read).sum(), learned))

    expected = run()
    with learned_products(ALL):
        found = run()
    assert len(by_onednn) == 3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_what_needs_no_gradient_is_not_multiplied(by_onednn: list[int]) -> None:
    layer, x = _layer(), torch.randn(9, 256)
    layer.weight.requires_grad_(False)
    with learned_products(ALL):
        layer(x).sum().backward()
    assert len(by_onednn) == 1
    torch.testing.assert_close(layer.bias.grad, torch.full((384,), 9.0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_head_is_the_same(smoothing: float, by_onednn: list[int]) -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(80, 64, requires_grad=True), nn.Parameter(torch.randn(1000, 64))
    labels = torch.randint(0, 1000, (80,))
    expected = torch.autograd.grad(head_loss(states, weight, labels, smoothing).sum(), [states, weight])
    with learned_products(ALL):
        found = torch.autograd.grad(head_loss(states, weight, labels, smoothing).sum(), [states, weight])
    assert len(by_onednn) == 3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_trainings_own_products_are_those_of_torch_one_by_one_and_many(by_onednn: list[int]) -> None:
    a, b = torch.randn(3, 200, 300), torch.randn(3, 300, 250)
    with learned_products(ALL):
        for one, other in ((a, b), (b.mT, a.mT), (a[0], b[0]), (b[0].T, a[0].T)):
            torch.testing.assert_close(matmul(one, other), one @ other, rtol=1e-4, atol=1e-4)
    assert len(by_onednn) == 8


@pytest.mark.parametrize("kind", ["bf16", "small", "empty", "folded", "double"])
def test_what_onednn_does_not_take_goes_the_way_of_torch(kind: str, by_onednn: list[int]) -> None:
    layer = _layer(inputs=16, outputs=16) if kind == "small" else _layer()
    x = torch.randn({"empty": (0, 256), "folded": (2, 3, 256), "small": (5, 16)}.get(kind, (5, 256)))
    if kind == "double":
        layer, x = layer.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
        expected = layer(x)
        with learned_products(ALL):
            assert torch.equal(layer(x), expected)
    assert not by_onednn


@pytest.mark.parametrize(("rows", "copied"), [(40, "what comes"), (900, "what was read")])
def test_of_a_sum_over_rows_what_is_narrower_is_copied(
    rows: int, copied: str, monkeypatch: pytest.MonkeyPatch, by_onednn: list[int]
) -> None:
    layer, x = _layer(bias=False, inputs=256, outputs=1024), torch.randn(rows, 256)
    layer(x).square().sum().backward()
    expected, layer.weight.grad = layer.weight.grad, None
    with learned_products(ALL):
        layer(x).square().sum().backward()
    found = layer.weight.grad
    assert found is not None
    assert expected is not None
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert by_onednn[1:] == [1024 if copied == "what comes" else 256]
