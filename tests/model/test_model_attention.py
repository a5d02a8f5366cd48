"""Every back-end equals the masked reference, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.model import BACKENDS, Borders, attend
from ofasys_lite.model.attention import attend_within, choose_backend

CPU_BACKENDS = [name for name in BACKENDS if name not in ("reference", "varlen")]
BORDERS = {
    "ragged": ([3, 1, 6, 2], [5, 4, 1, 9]),
    "empty keys": ([3, 2, 4], [5, 0, 2]),
    "empty queries": ([3, 0, 4], [5, 6, 2]),
    "only empty keys": ([3, 2], [0, 0]),
    "no rows": ([], []),
    "no queries": ([0, 0], [3, 2]),
    "many short": ([2, 3, 1, 4] * 5, [4, 2, 5, 1] * 5),
    "equal": ([4] * 5, [4] * 5),
}


def _run(
    q_lengths: list[int], k_lengths: list[int], causal: bool, backend: str | None, groups: int, dtype: torch.dtype
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(sum(rows), heads, 8, generator=generator).to(dtype).requires_grad_()
        for rows, heads in ((q_lengths, 4), (k_lengths, groups), (k_lengths, groups))
    )
    out = attend(q, k, v, q_lengths, k_lengths, causal, backend)
    out.backward(torch.randn(out.shape, generator=generator).to(dtype))
    results = [out.detach(), *(x.grad for x in (q, k, v) if x.grad is not None)]
    assert len(results) == 4
    assert all(torch.isfinite(r).all() for r in results)
    return results


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("backend", [*CPU_BACKENDS, None])
@pytest.mark.parametrize("name", BORDERS)
def test_a_backend_equals_the_masked_reference(name: str, backend: str | None, groups: int) -> None:
    q_lengths, k_lengths = BORDERS[name]
    for causal in (False, True):
        keys = q_lengths if causal else k_lengths
        expected = _run(q_lengths, keys, causal, "reference", groups, torch.float32)
        for got, want in zip(_run(q_lengths, keys, causal, backend, groups, torch.float32), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_backend_in_bf16_stays_near_the_reference_in_fp32(backend: str) -> None:
    q_lengths, k_lengths = BORDERS["empty keys"]
    expected = _run(q_lengths, k_lengths, False, "reference", 2, torch.float32)
    for got, want in zip(_run(q_lengths, k_lengths, False, backend, 2, torch.bfloat16), expected, strict=True):
        torch.testing.assert_close(got.float(), want, rtol=0.1, atol=0.06)


@pytest.mark.parametrize("backend", ["reference", *CPU_BACKENDS])
def test_a_sequence_without_keys_gets_zeros(backend: str) -> None:
    out, grad_q, *_ = _run([3, 2, 4], [5, 0, 2], False, backend, 4, torch.float32)
    assert out[3:5].eq(0).all()
    assert grad_q[3:5].eq(0).all()
    assert out[:3].ne(0).all()


def test_exact_gradients_agree_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(7, 4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    k = torch.randn(7, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    v = torch.randn(7, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    for causal in (False, True):
        assert torch.autograd.gradcheck(lambda *x, c=causal: attend(*x, [4, 3], [4, 3], c, "exact"), (q, k, v))


def test_queries_that_are_strided_views_are_read_right() -> None:
    qkv = torch.randn(6, 12, 8)
    q, k, v = qkv.split(4, dim=1)
    want = attend(q.contiguous(), k.contiguous(), v.contiguous(), [2, 4], [2, 4], True, "reference")
    for backend in CPU_BACKENDS:
        torch.testing.assert_close(attend(q, k, v, [2, 4], [2, 4], True, backend), want)


@pytest.mark.parametrize(
    ("device", "dtype", "longest", "expected"),
    [
        ("cpu", torch.float32, 100, "exact"),
        ("cpu", torch.float32, 1000, "sdpa"),
        ("cpu", torch.bfloat16, 1000, "exact"),
        ("cuda", torch.float32, 100, "padded"),
        ("mps", torch.float32, 100, "padded"),
        ("xpu", torch.bfloat16, 100, "padded"),
    ],
)
def test_the_backend_follows_from_device_type_and_length(
    device: str, dtype: torch.dtype, longest: int, expected: str
) -> None:
    assert choose_backend(torch.device(device), dtype, longest, 64) == expected


def test_lengths_that_do_not_add_up_are_refused() -> None:
    x = torch.zeros(5, 1, 2)
    with pytest.raises(ShapeError, match="5 query rows, the lengths add up to 4"):
        attend(x, x, x, [4], [5], False)
    with pytest.raises(ShapeError, match="2 query sequences and 1 key"):
        attend(x, x, x, [4, 1], [5], False)
    with pytest.raises(ShapeError, match="as many keys"):
        attend(x, x, x, [5], [4], True)
    with pytest.raises(CardError, match="did you mean `exact`"):
        attend(x, x, x, [5], [5], False, "exct")


def test_what_a_device_needs_of_the_lengths_is_made_once() -> None:
    borders = Borders([2, 3], [4, 0])
    cpu = torch.device("cpu")
    assert borders.offsets("q", cpu).tolist() == [0, 2, 5]
    assert borders.offsets("k", cpu) is borders.offsets("k", cpu)
    assert borders.slots("q", cpu).tolist() == [0, 1, 3, 4, 5]
    assert borders.rows_with_keys(cpu).tolist() == [0, 1]
    assert (borders.with_keys.q_lengths, borders.with_keys.k_lengths) == ((2,), (4,))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", BORDERS)
def test_the_cuda_kernel_equals_the_masked_reference(name: str) -> None:
    q_lengths, k_lengths = BORDERS[name]
    generator = torch.Generator().manual_seed(0)
    results = []
    for backend in ("reference", "varlen", "padded"):
        generator.manual_seed(0)
        q, k, v = (
            torch.randn(sum(rows), heads, 64, generator=generator).cuda().bfloat16().requires_grad_()
            for rows, heads in ((q_lengths, 4), (k_lengths, 2), (k_lengths, 2))
        )
        out = attend_within(q, k, v, Borders(q_lengths, k_lengths, False, backend))
        out.sum().backward()
        results.append([out.detach().float(), *(x.grad.float() for x in (q, k, v) if x.grad is not None)])
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            torch.testing.assert_close(got, want, rtol=0.05, atol=0.05)
