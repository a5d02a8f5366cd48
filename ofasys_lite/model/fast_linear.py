"""Products of rows with weights on a CPU: oneDNN's, where a probe finds them faster than torch's own.

torch's products in fp32 on a CPU are MKL's, which on AMD give away a tenth (Zen 4) or half (Zen 5); what a row gets
from oneDNN's does not depend on the rows beside it. On others both are alike where rows are many, and a weight that is
laid out is read for few rows in half of the time. A training takes them forward and backward (`learned_products`);
where they are a tenth faster only (Zen 4), of wide weights and large tables alone: with others two threads lose by it.
Where nothing is learned (`products`), weights are laid out once they are used again, which is worth another twentieth
where rows are many; copies live as long as `products`, in which no weight may change, so they are never stale.
There products may also be of numbers in eight bits (W8A8, as LLM.int8() scales them, arXiv 2208.07339): a scale for
each output of a weight and for each row that it is multiplied with, whole numbers added exactly, all else in bf16 where
that is faster, or in fp32.

Shape suffixes: R rows, I inputs, O outputs of a product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Weights of fewer numbers go the plain way: there calls cost more than products. In a training, where rows are many,
#: and in steps that write.
SMALL_LEARNED, SMALL = 2**15, 2**16
#: Products of at most so many rows are bound by reading the weights.
FEW = 128
#: Behind so many of them a copy is laid out: that costs what about two of them gain, and most outputs are longer.
WORTH = 2
#: Rows that stand for few and for many where a probe asks, and for a training's.
FEW_ROWS, MANY, LEARNED_ROWS = 16, 256, 1024
#: Least width of weights of a training whose products are oneDNN's: all, or wide ones; from so many numbers on they are
#: so, too, however narrow: of a table of 59,457 rows of 256 numbers its products took .74 of torch's time on Zen 4.
ALL, WIDE, LARGE = 1, 512, 2**22
#: What the facts of a run say of its products in fp32 -> least width of weights whose products are oneDNN's.
LEARNED = {"torch": 0, "onednn": ALL, f"onednn from width {WIDE}": WIDE}
#: Largest number in eight bits, of both signs; what makes rows of them the bytes without sign that oneDNN wants; the
#: least scale, so that rows of zeros stay zeros.
BYTE, SIGN, TINY = 127, 128, 1e-30
#: How much faster oneDNN has to be: in a training (with many rows: 2.0 on Zen 5, 1.1 to 1.35 on Zen 4, also beside busy
#: programs), in one of wide weights, and with weights that are laid out; by how much it may differ, relative to the
#: largest number.
FASTER, FASTER_WIDE, FASTER_LAID_OUT, NEAR = 1.6, 1.07, 1.05, 1e-5
#: Rounds of a probe, and of that of a training, whose choice holds for hours.
ROUNDS, ROUNDS_LEARNED = 8, 24
#: Likewise bf16: processors with its instructions reach twice, so that others beside decide nothing.
FASTER_IN_BF16 = 1.4


class FastLinear(nn.Linear):
    """nn.Linear that takes the products of `products` or `learned_products` inside of them."""

    def forward(self, x_RI: Tensor) -> Tensor:
        """(R, O)."""
        # graphs are of training and of other devices; they must not be cut here
        now = None if torch.compiler.is_compiling() else _NOW.get()
        if now is None:
            return F.linear(x_RI, self.weight, self.bias)
        return now(x_RI, self.weight, self.bias)


def make_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer; small ones are nn.Linear itself."""
    return (nn.Linear if inputs * outputs < SMALL_LEARNED else FastLinear)(inputs, outputs, bias)


def product(x_RI: Tensor, weight_OI: Tensor) -> Tensor:
    """(R, O): the same for a weight that belongs to no linear layer."""
    now = _NOW.get()
    if now is None or weight_OI.numel() < SMALL_LEARNED:
        return F.linear(x_RI, weight_OI)
    return now(x_RI, weight_OI, None)


def matmul(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """(M, N): the product of what a training has computed, through which nothing is learned; or (B, M, N) of many."""
    few, now = a_MK.shape[-2:].numel() * b_KN.shape[-1] < FEW * SMALL_LEARNED, _NOW.get()
    if few or not isinstance(now, _Learning) or a_MK.dtype != torch.float32 or not now.takes(a_MK, b_KN):
        return a_MK @ b_KN
    if a_MK.ndim == 2:
        across = not a_MK.is_contiguous() and a_MK.t().is_contiguous()
        return multiply_across(a_MK.t(), b_KN) if across else multiply(a_MK, b_KN.t(), None)
    return torch.stack([multiply(a, b.t(), None) for a, b in zip(a_MK, b_KN, strict=True)])


@contextmanager
def products(device: torch.device, precision: str = "fp32") -> Iterator[None]:
    """Inside it, and in this thread, products on a CPU are the fastest there are; elsewhere nothing changes.

    Args:
        device: Where the weights are. They must not change meanwhile, and nothing is learned.
        precision: `fp32`; `bf16`, products in bfloat16, as under `autocast`, which has to be on for all else; or
            `int8`, products of large weights in eight bits, all else as `autocast` has it.
    """
    many = device.type == "cpu" and (precision != "fp32" or laid_out_is_faster(MANY))
    few = many or (device.type == "cpu" and laid_out_is_faster(FEW_ROWS))
    token = _NOW.set(_Products(precision, many) if few else None)
    try:
        yield
    finally:
        _NOW.reset(token)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """What all else but the products of `products` takes of a precision: bfloat16 where it is that, and beside products
    in eight bits, which are less exact, where this CPU multiplies clearly faster in it."""
    half = precision == "bf16" or (precision == "int8" and bf16_is_faster())
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


@contextmanager
def learned_products(least: int) -> Iterator[None]:
    """Inside it, and in this thread, a training's products in fp32 on a CPU are oneDNN's, of weights that are at least
    `least` wide; 0: of none."""
    token = _NOW.set(_Learning(least) if least else None)
    try:
        yield
    finally:
        _NOW.reset(token)


class _Learning:
    """Products of a training, with whatever a weight is made of, from a width on."""

    def __init__(self, least: int) -> None:
        self.least = least

    def takes(self, a_MK: Tensor, b_KN: Tensor) -> bool:
        """Whether a product of two matrices, or of many of each, is oneDNN's."""
        rows, inputs, outputs = *a_MK.shape[-2:], b_KN.shape[-1]
        return outputs >= self.least or max(rows, inputs) * outputs >= LARGE  # a table's are among the first two

    def __call__(self, x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        """(R, O)."""
        takes = x_RI.is_cpu and x_RI.dtype == torch.float32 and x_RI.ndim == 2 and x_RI.numel() > 0
        small = weight_OI.numel() < SMALL_LEARNED
        small = small or (min(weight_OI.shape) < self.least and weight_OI.numel() < LARGE)
        if not takes or small or torch.is_autocast_enabled("cpu"):
            return F.linear(x_RI, weight_OI, bias_O)
        found: Tensor = _Learned.apply(x_RI, weight_OI, bias_O)  # type: ignore[no-untyped-call]
        return found


class _Learned(torch.autograd.Function):
    """x W^T + b, and its gradients of first order."""

    @staticmethod
    def forward(ctx: Any, x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_RI, weight_OI)
        return multiply(x_RI, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RO: Tensor) -> tuple[Tensor | None, ...]:
        x_RI, weight_OI = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            multiply(grad_RO, weight_OI.t(), None) if of_x else None,
            multiply_across(grad_RO, x_RI) if of_weight else None,
            grad_RO.sum(0) if of_bias else None,
        )


class _Products:
    """Products with all weights met so far.

    Args:
        many: Whether oneDNN's are taken of many rows, too, and of weights that are not laid out.
    """

    def __init__(self, precision: str, many: bool) -> None:
        self.precision = precision
        self.many = many
        #: By the weight's id: the weight, which so stays what the id says; how it is multiplied; products of few rows.
        self._held: dict[int, _Held | _Bytes] = {}

    def __call__(self, x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        """(R, O)."""
        # what is computed anew for each call (converters) would be held in vain
        known = type(weight_OI) is nn.Parameter and weight_OI.numel() >= SMALL
        if not known or not len(x_RI) or torch.is_grad_enabled():
            return F.linear(x_RI, weight_OI, bias_O)
        held = self._held.get(id(weight_OI))
        if held is None:
            held = _Bytes(weight_OI) if self.precision == "int8" else _Held(weight_OI, self.precision, self.many)
            self._held[id(weight_OI)] = held
        return held(x_RI, bias_O)


class _Held:
    """One weight as oneDNN takes it: as it is, or laid out."""

    def __init__(self, weight_OI: Tensor, precision: str, many: bool) -> None:
        self.many = many
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.own_OI, self.weight = weight_OI, weight_OI.to(self.dtype)
        self.left = WORTH if precision == "fp32" else 0
        self.laid_out = False

    def __call__(self, x_RI: Tensor, bias_O: Tensor | None) -> Tensor:
        taken = self.many or len(x_RI) <= FEW
        if taken and not self.laid_out:
            self.left -= 1
            if self.left < 0:
                self.weight, self.laid_out = lay_out_weight(self.weight), True
        if not (self.many or (taken and self.laid_out)):
            return F.linear(x_RI, self.own_OI, bias_O)
        bias_O = None if bias_O is None else bias_O.to(self.dtype)
        return multiply(x_RI.to(self.dtype), self.weight, bias_O)


class _Bytes:
    """One weight in eight bits. What a row gets depends on no row beside it, as in fp32."""

    def __init__(self, weight_OI: Tensor) -> None:
        self.own_OI = weight_OI
        scale_O = weight_OI.abs().amax(1).clamp_min_(TINY).div_(BYTE)
        bytes_OI = (weight_OI / scale_O.unsqueeze(1)).round_().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(bytes_OI, None)
        self.scale_O, self.zero_O = scale_O, torch.zeros(len(scale_O), dtype=torch.int64)

    def __call__(self, x_RI: Tensor, bias_O: Tensor | None) -> Tensor:
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        bias_O = None if bias_O is None else bias_O.to(dtype)
        shape = x_RI.shape[:-1]
        if x_RI.ndim != 2:
            x_RI = x_RI.reshape(-1, x_RI.shape[-1])
        if len(x_RI) <= FEW:
            found_RO = self._part(x_RI, bias_O, dtype)
        else:  # what comes and goes of so many rows stays in the cache
            found_RO = torch.empty(len(x_RI), len(self.scale_O), dtype=dtype)
            for part_RI, out_RO in zip(torch.split(x_RI, FEW), torch.split(found_RO, FEW), strict=True):
                self._part(part_RI, bias_O, dtype, out_RO)
        return found_RO if len(shape) == 1 else found_RO.view(*shape, len(self.scale_O))

    def _part(self, x_RI: Tensor, bias_O: Tensor | None, dtype: torch.dtype, out_RO: Tensor | None = None) -> Tensor:
        x_RI = x_RI.float()
        scale_R1 = x_RI.abs().amax(1, keepdim=True).clamp_min_(TINY).mul_(1 / BYTE)
        # conversions to bytes without sign are slow in torch, and oneDNN's products of ones with sign
        bytes_RI = torch.div(x_RI, scale_R1).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(SIGN)
        found_RO = multiply_bytes(bytes_RI, self.weight, self.scale_O, self.zero_O, dtype)
        found_RO = torch.mul(found_RO, scale_R1.to(dtype), out=found_RO if out_RO is None else out_RO)
        return found_RO if bias_O is None else found_RO.add_(bias_O)


def multiply_bytes(
    x_RI: Tensor, weight: Tensor, scale_O: Tensor, zero_O: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(R, O) in `dtype` by oneDNN: whole numbers x - SIGN, x without sign, times a weight of `qlinear_prepack` times
    its outputs' scales."""
    found: Tensor = torch.ops.onednn.qlinear_pointwise(
        x_RI, 1.0, SIGN, weight, scale_O, zero_O, None, 1.0, 0, dtype, "none", [], ""
    )
    return found


@lru_cache(maxsize=1)
@torch.inference_mode()
def bytes_are_exact() -> bool:
    """Whether products in eight bits add exactly here; asked once.

    Without the instructions for it (VNNI) sums of two products are cut at 16 bits, and old torch has no such products.
    """
    x_RI, weight_OI = torch.full((4, 512), 255, dtype=torch.uint8), torch.full((64, 512), BYTE, dtype=torch.int8)
    try:
        laid_out = torch.ops.onednn.qlinear_prepack(weight_OI, None)
        found_RO = multiply_bytes(x_RI, laid_out, torch.ones(64), torch.zeros(64, dtype=torch.int64))
    except (RuntimeError, AttributeError):
        return False
    return bool((found_RO == (255 - SIGN) * BYTE * 512).all())


def multiply(x_RI: Tensor, weight: Tensor, bias_O: Tensor | None) -> Tensor:
    """(R, O) by oneDNN: x W^T + b, of a weight as it is or one of `lay_out_weight`."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x_RI, weight, bias_O, "none", [], "")
    return found


def multiply_across(a_RO: Tensor, b_RI: Tensor) -> Tensor:
    """(O, I) by oneDNN: a^T b, which sums over rows.

    oneDNN copies what stands across in its first place; so what is narrower goes there, though the product then stands
    across itself: a twentieth of a training's time on Zen 4 was such copies.
    """
    rows, outputs, inputs = *a_RO.shape, b_RI.shape[1]
    if rows * outputs <= rows * inputs + outputs * inputs:
        return multiply(a_RO.t(), b_RI.t(), None)
    return multiply(b_RI.t(), a_RO.t(), None).t().contiguous()


def lay_out_weight(weight_OI: Tensor) -> Tensor:
    """The weight as oneDNN reads it, a copy that only `multiply` understands."""
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI, None)
    return found


def in_bytes() -> bool:
    """Whether products are in eight bits here."""
    now = _NOW.get()
    return isinstance(now, _Products) and now.precision == "int8"


@lru_cache(maxsize=1)
def bf16_is_faster() -> bool:
    """Whether products of matrices on this CPU are clearly faster in bf16: twice and more with its instructions, slower
    without. Asked once per process."""
    a_MK = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    b_MK = a_MK.bfloat16()
    fp32, bf16 = (best_seconds(lambda x=x: x @ x.mT) for x in (a_MK, b_MK))  # type: ignore[misc]
    return fp32 > FASTER_IN_BF16 * bf16


@lru_cache(maxsize=1)
def onednn_from() -> int:
    """Least width of weights of which a training takes oneDNN's products: `ALL`, `WIDE`, or 0, where they are no faster
    or not the same. Asked once per process; between what processors give there is room, so that they answer alike.

    Asked in one thread: of two, one may wait for a core that another program holds, and then oneDNN's products seem
    twice as fast where they are a sixth slower.
    """
    with one_thread():
        ratio = _ratio(LEARNED_ROWS, laid_out=False, rounds=ROUNDS_LEARNED)
    return ALL if ratio > FASTER else WIDE if ratio > FASTER_WIDE else 0


@lru_cache(maxsize=2)
def laid_out_is_faster(rows: int) -> bool:
    """Whether products of so many rows, few or many, with a weight that is laid out are faster by oneDNN, and the same.

    A processor on which torch's own products of many rows are as fast may still read a weight for a few rows at half
    the speed.
    """
    return _ratio(rows, laid_out=True) > FASTER_LAID_OUT


def _ratio(rows: int, laid_out: bool, rounds: int = ROUNDS) -> float:
    """Time of a product by torch over that by oneDNN; 0 where they differ, or torch comes without it."""
    try:
        return _measured(rows, laid_out, rounds)
    except (RuntimeError, AttributeError):
        return 0.0


@torch.inference_mode()
def _measured(rows: int, laid_out: bool, rounds: int) -> float:
    generator = torch.Generator().manual_seed(0)
    x_RI, weight_OI = (torch.randn(n, 512, generator=generator) for n in (rows, 1024))
    weight = lay_out_weight(weight_OI) if laid_out else weight_OI
    plain, other = F.linear(x_RI, weight_OI), multiply(x_RI, weight, None)
    if float((plain - other).abs().max()) > NEAR * float(plain.abs().max()):
        return 0.0
    # in turns and by this thread's own time: others may use the machine
    by_torch, by_onednn = list[float](), list[float]()
    for _ in range(rounds):
        by_torch.append(seconds(lambda: F.linear(x_RI, weight_OI)))
        by_onednn.append(seconds(lambda: multiply(x_RI, weight, None)))
    return min(by_torch) / min(by_onednn)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside it torch computes in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seconds(work: Callable[[], object]) -> float:
    """Seconds that this thread takes for one call; others that it has help wait with it."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def best_seconds(work: Callable[[], object], times: int = 8) -> float:
    """Seconds of the best of a few repetitions."""
    return min(seconds(work) for _ in range(times))


_NOW: ContextVar[_Products | _Learning | None] = ContextVar("products", default=None)
