"""What runs on a device against a plain reference there: attention, the head, CTC, the image stem; values, gradients.

Shapes: Q, K rows of the streams, H heads, G key and value heads, C channels, L rows with loss, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image import ImageAdapter
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import BACKENDS, attend, ctc_losses, head_loss
from ofasys_lite.model.attention import has_varlen

__all__ = ["Check", "checks"]

#: Largest difference of values and gradients over the largest number of the reference, per type.
LIMITS = {torch.float32: 2e-4, torch.bfloat16: 3e-2}
#: Query rows and key rows of each sequence; one has no keys.
CROSS = ([17, 1, 64, 5, 200], [33, 80, 1, 0, 130])
SELF = ([17, 1, 64, 5, 200],) * 2


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        name: What was compared.
        difference: Largest difference of values and gradients, relative; None where it was skipped.
        limit: What is allowed.
        reason: Why it was skipped.
    """

    name: str
    difference: float | None = None
    limit: float = 0.0
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.difference is None or self.difference <= self.limit


def checks(device: torch.device) -> Iterator[Check]:
    """All comparisons on `device`, one by one."""
    for backend in BACKENDS:
        if backend == "reference":
            continue
        for dtype in LIMITS:
            reason = _missing(backend, dtype, device)
            name = f"attention {backend} {str(dtype)[6:]}"
            yield Check(name, reason=reason) if reason else _attention(name, backend, dtype, device)
    yield _head(device)
    yield _ctc(device)
    yield _stem(device)


def _missing(backend: str, dtype: torch.dtype, device: torch.device) -> str:
    """Why a back-end cannot run here; empty where it can."""
    if backend == "exact" and device.type != "cpu":
        return "made for CPUs"
    if backend == "varlen" and device.type != "cuda":
        return "needs a CUDA device"
    if backend == "varlen" and not has_varlen(device):
        return "needs torch 2.10 and compute capability 8.0"
    if backend == "varlen" and dtype == torch.float32:
        return "has half precision only"
    return ""


def _apart(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest relative difference of tensors."""
    pairs = zip(found, wanted, strict=True)
    return max(float((a.float() - b.float()).abs().max() / b.float().abs().max().clamp(min=1e-6)) for a, b in pairs)


def _with_gradients(work: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """What `work` makes of the inputs, and the gradients of a fixed sum of it."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = work(*leaves)
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out.float() * weight).sum(), leaves)]


def _attention(name: str, backend: str, dtype: torch.dtype, device: torch.device) -> Check:
    worst = 0.0
    for heads, groups, channels in ((8, 8, 64), (8, 2, 64), (4, 4, 128)):
        for lengths, causal in ((SELF, True), (SELF, False), (CROSS, False)):
            generator = torch.Generator().manual_seed(0)
            shapes = ((sum(lengths[0]), heads), (sum(lengths[1]), groups), (sum(lengths[1]), groups))
            # the reference takes the same rounded numbers
            rounded = [torch.randn(*s, channels, generator=generator).to(device, dtype) for s in shapes]
            exact = [x.float() for x in rounded]
            found = _with_gradients(_attending(lengths, causal, backend), *rounded)
            wanted = _with_gradients(_attending(lengths, causal, "reference"), *exact)
            worst = max(worst, _apart(found, wanted))
    return Check(name, worst, LIMITS[dtype])


def _attending(lengths: tuple[list[int], list[int]], causal: bool, backend: str) -> Callable[..., Tensor]:
    return lambda q, k, v: attend(q, k, v, *lengths, causal=causal, backend=backend)


def _head(device: torch.device) -> Check:
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, 64, generator=generator).to(device) for n in (300, 5000))
    labels = torch.randint(0, 5000, (300,), generator=generator).to(device)
    found = _with_gradients(lambda x, w: head_loss(x, w, labels, 0.1, 2**19), states, weight)
    wanted = _with_gradients(
        lambda x, w: F.cross_entropy(F.linear(x, w), labels, reduction="none", label_smoothing=0.1), states, weight
    )
    return Check("head in parts float32", _apart(found, wanted), LIMITS[torch.float32])


def _ctc(device: torch.device) -> Check:
    rng = np.random.default_rng(0)
    lengths, blank = [40, 7, 90], 3
    labels = [rng.integers(4, 2000, n // 3) for n in lengths]
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, 32, generator=generator).to(device) for n in (sum(lengths), 2000))

    def one_by_one(x: Tensor, w: Tensor) -> Tensor:
        losses = []
        for rows, each in zip(x.split(lengths), labels, strict=True):
            log_RV = F.log_softmax(F.linear(rows, w), -1).unsqueeze(1)
            targets = torch.from_numpy(each).to(device).unsqueeze(0)
            losses.append(F.ctc_loss(log_RV, targets, (len(rows),), (len(each),), blank, "sum"))  # type: ignore[arg-type]
        return torch.stack(losses)

    found = _with_gradients(lambda x, w: ctc_losses(x, w, lengths, labels, blank, 2**16), states, weight)
    return Check("ctc float32", _apart(found, _with_gradients(one_by_one, states, weight)), 1e-3)


def _stem(device: torch.device) -> Check:
    torch.manual_seed(0)
    model = ImageAdapter({"patch": 4}, Shared(48, nn.Embedding(4, 48))).to(device)
    rng = np.random.default_rng(0)
    shapes = [(int(lines), int(columns)) for lines, columns in rng.integers(2, 9, (12, 2))]
    images = [
        torch.from_numpy(rng.integers(0, 256, (lines * columns * 64, 3)).astype(np.uint8)) for lines, columns in shapes
    ]

    def rows(chosen: Sequence[int]) -> Tensor:
        counts = tuple(shapes[i][0] * shapes[i][1] for i in chosen)
        pixels = torch.cat([images[i] for i in chosen]).to(device)
        sizes = {"pixels": tuple(64 * n for n in counts)}
        grids = tuple((1, *shapes[i]) for i in chosen)
        return model.embed(Part("image", torch.arange(sum(counts)), counts, {"pixels": pixels}, sizes, grids))

    together, alone = rows(range(len(shapes))), torch.cat([rows([i]) for i in range(len(shapes))])
    # cuDNN takes TF32 for convolutions
    return Check("image stem float32", _apart([together.detach()], [alone.detach()]), 5e-3)
