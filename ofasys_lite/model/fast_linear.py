"""Products of rows with weights on a CPU: oneDNN's, where a probe finds them faster than torch's own.

torch's products in fp32 on a CPU are MKL's, which on AMD give away a tenth (Zen 4) or half (Zen 5); what a row gets
from oneDNN's does not depend on the rows beside it. On others both are alike where rows are many, and a weight that is
laid out is read for few rows in half of the time. A training takes them forward and backward (`learned_products`).
Where nothing is learned (`products`), weights are laid out once they are used again, which is worth another twentieth
where rows are many; copies live as long as `products`, in which no weight may change, so they are never stale.

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
#: Rows that stand for few and for many where a probe asks.
FEW_ROWS, MANY = 16, 256
#: How much faster oneDNN has to be, with weights as they are and laid out, and by how much it may differ, relative to
#: the largest number.
FASTER, FASTER_LAID_OUT, NEAR = 1.15, 1.05, 1e-5


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
    few = a_MK.shape[-2:].numel() * b_KN.shape[-1] < FEW * SMALL_LEARNED
    if few or not isinstance(_NOW.get(), _Learning) or a_MK.dtype != torch.float32:
        return a_MK @ b_KN
    if a_MK.ndim == 2:
        return multiply(a_MK, b_KN.t(), None)
    return torch.stack([multiply(a, b.t(), None) for a, b in zip(a_MK, b_KN, strict=True)])


@contextmanager
def products(device: torch.device, bf16: bool = False) -> Iterator[None]:
    """Inside it, and in this thread, products on a CPU are the fastest there are; elsewhere nothing changes.

    Args:
        device: Where the weights are. They must not change meanwhile, and nothing is learned.
        bf16: Products in bfloat16, as under autocast, which has to be on for all else.
    """
    many = device.type == "cpu" and (bf16 or laid_out_is_faster(MANY))
    few = many or (device.type == "cpu" and laid_out_is_faster(FEW_ROWS))
    token = _NOW.set(_Products(bf16, many) if few else None)
    try:
        yield
    finally:
        _NOW.reset(token)


@contextmanager
def learned_products(onednn: bool) -> Iterator[None]:
    """Inside it, and in this thread, a training's products in fp32 on a CPU are oneDNN's, if so `onednn`."""
    token = _NOW.set(_Learning() if onednn else None)
    try:
        yield
    finally:
        _NOW.reset(token)


class _Learning:
    """Products of a training, with whatever a weight is made of."""

    def __call__(self, x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        """(R, O)."""
        takes = x_RI.is_cpu and x_RI.dtype == torch.float32 and x_RI.ndim == 2 and x_RI.numel() > 0
        if not takes or weight_OI.numel() < SMALL_LEARNED or torch.is_autocast_enabled("cpu"):
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
            multiply(grad_RO.t(), x_RI.t(), None) if of_weight else None,
            grad_RO.sum(0) if of_bias else None,
        )


class _Products:
    """Products with all weights met so far.

    Args:
        many: Whether oneDNN's are taken of many rows, too, and of weights that are not laid out.
    """

    def __init__(self, bf16: bool, many: bool) -> None:
        self.bf16 = bf16
        self.many = many
        #: By the weight's id: the weight, which so stays what the id says; how it is multiplied; products of few rows.
        self._held: dict[int, _Held] = {}

    def __call__(self, x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        """(R, O)."""
        # what is computed anew for each call (converters) would be held in vain
        known = type(weight_OI) is nn.Parameter and weight_OI.numel() >= SMALL
        if not known or not len(x_RI) or torch.is_grad_enabled():
            return F.linear(x_RI, weight_OI, bias_O)
        held = self._held.get(id(weight_OI))
        if held is None:
            held = self._held[id(weight_OI)] = _Held(weight_OI, self.bf16, self.many)
        return held(x_RI, bias_O)


class _Held:
    """One weight as oneDNN takes it: as it is, or laid out."""

    def __init__(self, weight_OI: Tensor, bf16: bool, many: bool) -> None:
        self.many = many
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.own_OI, self.weight = weight_OI, weight_OI.to(self.dtype)
        self.left = 0 if bf16 else WORTH
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


def multiply(x_RI: Tensor, weight: Tensor, bias_O: Tensor | None) -> Tensor:
    """(R, O) by oneDNN: x W^T + b, of a weight as it is or one of `lay_out_weight`."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x_RI, weight, bias_O, "none", [], "")
    return found


def lay_out_weight(weight_OI: Tensor) -> Tensor:
    """The weight as oneDNN reads it, a copy that only `multiply` understands."""
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI, None)
    return found


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether products of many rows in fp32 are clearly faster by oneDNN, and the same; asked once per process."""
    return _faster(64, laid_out=False, least=FASTER)


@lru_cache(maxsize=2)
def laid_out_is_faster(rows: int) -> bool:
    """The same for a weight that is laid out, and so many rows: few, as in steps that write, or many.

    A processor on which torch's own products of many rows are as fast may still read a weight for a few rows at half
    the speed.
    """
    return _faster(rows, laid_out=True, least=FASTER_LAID_OUT)


def _faster(rows: int, laid_out: bool, least: float) -> bool:
    try:
        return _ratio(rows, laid_out) > least
    except (RuntimeError, AttributeError):  # a torch without it
        return False


@torch.inference_mode()
def _ratio(rows: int, laid_out: bool) -> float:
    """Time of a product by torch over that by oneDNN; 0 where they differ."""
    generator = torch.Generator().manual_seed(0)
    x_RI, weight_OI = (torch.randn(n, 512, generator=generator) for n in (rows, 1024))
    weight = lay_out_weight(weight_OI) if laid_out else weight_OI
    plain, other = F.linear(x_RI, weight_OI), multiply(x_RI, weight, None)
    if float((plain - other).abs().max()) > NEAR * float(plain.abs().max()):
        return 0.0
    # in turns and by this thread's own time: others may use the machine
    by_torch, by_onednn = list[float](), list[float]()
    for _ in range(8):
        by_torch.append(seconds(lambda: F.linear(x_RI, weight_OI)))
        by_onednn.append(seconds(lambda: multiply(x_RI, weight, None)))
    return min(by_torch) / min(by_onednn)


def seconds(work: Callable[[], object]) -> float:
    """Seconds that this thread takes for one call; others that it has help wait with it."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def best_seconds(work: Callable[[], object], times: int = 8) -> float:
    """Seconds of the best of a few repetitions."""
    return min(seconds(work) for _ in range(times))


_NOW: ContextVar[_Products | _Learning | None] = ContextVar("products", default=None)
