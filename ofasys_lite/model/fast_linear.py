"""Products of rows with weights where nothing is learned: oneDNN's, where a probe finds them faster than torch's own.

torch's products in fp32 on a CPU are MKL's, which give away half of an AMD processor: there oneDNN's take 0.4 of the
time, and what a row gets does not depend on the rows beside it. Weights are laid out once where many steps of few rows
are written. Copies live as long as `products`, in which no weight may change, so they are never stale.

Shape suffixes: R rows, I inputs, O outputs of a product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Weights of fewer numbers go the plain way: there calls cost more than products.
SMALL = 2**16
#: Products of at most so many rows are bound by reading the weights.
FEW = 128
#: From so many of them on a copy that is laid out for them has paid.
WORTH = 16
#: How much faster oneDNN has to be, and by how much it may differ, relative to the largest number.
FASTER, NEAR = 1.15, 1e-5


class FastLinear(nn.Linear):
    """nn.Linear that takes the products of `products` inside of it."""

    def forward(self, x_RI: Tensor) -> Tensor:
        """(R, O)."""
        # graphs are of training and of other devices; they must not be cut here
        now = None if torch.compiler.is_compiling() else _NOW.get()
        if now is None:
            return F.linear(x_RI, self.weight, self.bias)
        return now(x_RI, self.weight, self.bias)


def make_linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    """A linear layer; small ones are nn.Linear itself."""
    return (nn.Linear if inputs * outputs < SMALL else FastLinear)(inputs, outputs, bias)


def product(x_RI: Tensor, weight_OI: Tensor) -> Tensor:
    """(R, O): the same for a weight that belongs to no linear layer."""
    now = _NOW.get()
    return F.linear(x_RI, weight_OI) if now is None or weight_OI.numel() < SMALL else now(x_RI, weight_OI, None)


@contextmanager
def products(device: torch.device, bf16: bool = False) -> Iterator[None]:
    """Inside it, and in this thread, products on a CPU are the fastest there are; elsewhere nothing changes.

    Args:
        device: Where the weights are. They must not change meanwhile, and nothing is learned.
        bf16: Products in bfloat16, as under autocast, which has to be on for all else.
    """
    token = _NOW.set(_Products(bf16) if device.type == "cpu" and (bf16 or _onednn_is_faster()) else None)
    try:
        yield
    finally:
        _NOW.reset(token)


class _Products:
    """Products with all weights met so far."""

    def __init__(self, bf16: bool) -> None:
        self.bf16 = bf16
        #: By the weight's id: the weight, which so stays what the id says; how it is multiplied; products of few rows.
        self._held: dict[int, _Held] = {}

    def __call__(self, x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        """(R, O)."""
        # what is computed anew for each call (converters) would be held in vain
        if type(weight_OI) is not nn.Parameter or not len(x_RI) or torch.is_grad_enabled():
            return F.linear(x_RI, weight_OI, bias_O)
        held = self._held.get(id(weight_OI))
        if held is None:
            held = self._held[id(weight_OI)] = _Held(weight_OI, self.bf16)
        return held(x_RI, bias_O)


class _Held:
    """One weight as oneDNN takes it: as it is, or laid out."""

    def __init__(self, weight_OI: Tensor, bf16: bool) -> None:
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.own_OI, self.weight = weight_OI, weight_OI.to(self.dtype)
        self.left = 0 if bf16 else WORTH
        self.laid_out = False

    def __call__(self, x_RI: Tensor, bias_O: Tensor | None) -> Tensor:
        if not self.laid_out and len(x_RI) <= FEW:
            self.left -= 1
            if self.left < 0:
                self.weight, self.laid_out = torch.ops.mkldnn._reorder_linear_weight(self.weight, None), True
        bias_O = None if bias_O is None else bias_O.to(self.dtype)
        return _multiply(x_RI.to(self.dtype), self.weight, bias_O)


def _multiply(x_RI: Tensor, weight: Tensor, bias_O: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x_RI, weight, bias_O, "none", [], "")
    return found


@lru_cache(maxsize=1)
def _onednn_is_faster() -> bool:
    """Whether products in fp32 are clearly faster by oneDNN, and the same; a few milliseconds, once per process."""
    generator = torch.Generator().manual_seed(0)
    x_RI, weight_OI = (torch.randn(n, 512, generator=generator) for n in (64, 512))
    try:
        with torch.inference_mode():
            plain, other = F.linear(x_RI, weight_OI), _multiply(x_RI, weight_OI, None)
            if float((plain - other).abs().max()) > NEAR * float(plain.abs().max()):
                return False
            return _seconds(lambda: F.linear(x_RI, weight_OI)) > FASTER * _seconds(
                lambda: _multiply(x_RI, weight_OI, None)
            )
    except (RuntimeError, AttributeError):  # a torch without it
        return False


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of the best of a few repetitions."""
    found = []
    for _ in range(8):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


_NOW: ContextVar[_Products | None] = ContextVar("products", default=None)
