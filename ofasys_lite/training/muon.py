"""Muon at a third less than the products of torch.optim.Muon: minimax iterations, a shape at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ofasys_lite.model import matmul
from ofasys_lite.model.fast_linear import bf16_is_faster

#: Coefficients of x, x^3 and x^5 of one iteration.
Polynomial = tuple[float, float, float]

#: The best polynomials one behind the other for singular values from .006 to 1 (Polar Express, arXiv 2505.16932): each
#: brings what the one before left as near to 1 as it can. Three leave them within .44 of it, four .056, five .0002.
MINIMAX: tuple[Polynomial, ...] = (
    (8.25684, -24.26528, 17.9589),
    (3.85497, -2.87842, 0.55436),
    (3.04246, -2.27937, 0.48638),
    (2.1082, -1.49014, 0.39973),
    (1.87823, -1.25357, 0.37535),
)
#: In bf16 all singular values are taken for so much smaller, as the paper does.
SAFE = 1.02
#: The polynomial of torch.optim.Muon, the same in each iteration.
QUINTIC: Polynomial = (3.4445, -4.7750, 2.0315)
#: Iterations by kind of polynomial: the choices of `iteration`, and how many it makes where nothing is said.
ITERATIONS = {"minimax": 3, "quintic": 5}
#: On a CPU matrices with a shorter side are iterated in fp32: they cost nothing, and bf16 leads them farther astray.
SMALL = 64
#: Share of the mean length of its matrix's blocks below which a block moves less: what nothing asks to move would go on
#: at full speed, by what is left of its momentum or by rounding.
FAINT = 1e-4
#: Most values that are iterated on at once: 64 MB.
_AT_ONCE = 1 << 24


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are brought near the nearest orthogonal matrix (arXiv 2502.16982), as torch.optim.Muon.

    Kernels of convolutions are the matrices of their outputs and all the rest.

    Args:
        params: Matrices and kernels, or groups of them.
        iteration: `minimax`: `MINIMAX` on singular values over a bound of the largest, or `quintic`: as torch does it.
        ns_steps: Iterations, at most five of `minimax`; None takes the usual number (`ITERATIONS`).
        adjust_lr_fn: `match_rms_adamw`: updates as large as those of AdamW, or `original`.
        beta2: Decay of the mean squares of each output's updates, by whose root they are divided, the whole update as
            long as before (NorMuon, arXiv 2510.05491, takes .95); 0 leaves updates as they are.
        block: Matrices are cut along their longer side (along their outputs where both are alike) into blocks of at
            most so many rows or columns, each of which is iterated by itself, with fewer products (MuonBP, arXiv
            2510.16981, without its steps of whole matrices); None leaves them whole. A rate that suits whole matrices
            is too large for blocks: updates of several may add up, where those of a whole matrix are orthogonal.
        precision: Of the iterations. `auto`: fp32 on a CPU, so that a run learns the same on every machine, and bf16
            elsewhere; `fp32`; `bf16`: on a CPU where a probe finds it clearly faster (avx512_bf16, AMX), else fp32.
            What a run began with it keeps when it is resumed.

    Raises:
        ValueError: A parameter is no matrix or kernel, or `block` is below 1.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        iteration: str = "minimax",
        ns_steps: int | None = None,
        adjust_lr_fn: str = "original",
        beta2: float = 0.0,
        block: int | None = None,
        precision: str = "auto",
        eps: float = 1e-7,
    ) -> None:
        if block is not None and (not isinstance(block, int) or block < 1):
            raise ValueError(f"block is {block!r}, no whole number of at least 1")
        given: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        given |= {"iteration": iteration, "ns_steps": ns_steps or ITERATIONS[iteration], "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, given | {"beta2": beta2, "block": block, "precision": precision, "eps": eps})
        shapes = [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.ndim < 2]
        if shapes:
            raise ValueError(f"muon takes matrices and kernels, not a parameter of shape {shapes[0]}")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # of a checkpoint from before there was one
            group.setdefault("beta2", 0.0)
            group.setdefault("block", None)
            group.setdefault("precision", "auto")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; what `closure` gives, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                momentum = state.setdefault("momentum_buffer", torch.zeros_like(gradient))
                momentum.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
                update = update.flatten(1)
                alike.setdefault(update.shape, []).append((parameter, update))
            for shape, pairs in alike.items():
                for first in range(0, len(pairs), most := max(1, _AT_ONCE // shape.numel())):
                    self._update(pairs[first : first + most], group)
        return loss

    def _update(self, pairs: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        """Takes the step of parameters of one shape."""
        x_NAB = torch.stack([update for _, update in pairs])
        parts_MCB = x_NAB if group["block"] is None else cut(x_NAB, group["block"])
        # where parameters lie is known by now; what was found for one wish does not answer another of a resumed run
        found, wanted = group.setdefault("bf16", {}), group["precision"]
        if wanted not in found:
            found[wanted] = wanted == "bf16" and bf16_is_faster() if x_NAB.is_cpu else wanted != "fp32"
        if found[wanted] and not (x_NAB.is_cpu and min(parts_MCB.shape[1:]) < SMALL):
            parts_MCB = parts_MCB.bfloat16()
        bounded = group["iteration"] == "minimax"
        polynomials = MINIMAX[: group["ns_steps"]] if bounded else (QUINTIC,) * group["ns_steps"]
        share_M = shares(parts_MCB, len(x_NAB)) if len(parts_MCB) > len(x_NAB) else None
        parts_MCB = orthogonal(parts_MCB, polynomials, group["eps"], bounded)
        parts_MCB = parts_MCB if share_M is None else parts_MCB.mul_(share_M[:, None, None])
        updates = parts_MCB if group["block"] is None else joined(parts_MCB, x_NAB.shape)
        if group["beta2"]:
            updates = torch.stack(
                [
                    even(update, self.state[parameter], group["beta2"])
                    for (parameter, _), update in zip(pairs, updates, strict=True)
                ]
            )
        # of the blocks as they lie in the matrix: their updates are as large as those of whole matrices
        rows, columns = parts_MCB.shape[1:]
        if parts_MCB.shape != x_NAB.shape and x_NAB.shape[1] < x_NAB.shape[2]:
            rows, columns = columns, rows
        original = group["adjust_lr_fn"] == "original"
        factor = math.sqrt(max(1.0, rows / columns)) if original else 0.2 * math.sqrt(max(rows, columns))
        for (parameter, _), update in zip(pairs, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * factor)


def cut(x_NAB: Tensor, size: int) -> Tensor:
    """(M, C, B): matrices cut along their longer side into blocks of C <= size, columns standing as rows.

    Blocks are of like size, so that the last is no lone row; it may end in zeros. Matrices whose longer side is at most
    `size` stay as they are.
    """
    x_NLS = x_NAB.mT if x_NAB.shape[1] < x_NAB.shape[2] else x_NAB
    long = x_NLS.shape[1]
    if long <= size:
        return x_NAB
    size = like_size(long, size)
    if long % size:
        x_NLS = F.pad(x_NLS, (0, 0, 0, -long % size))
    return x_NLS.reshape(-1, size, x_NLS.shape[2])


def like_size(long: int, size: int) -> int:
    """Rows of the blocks of a side of `long`, at most `size` of them."""
    return math.ceil(long / math.ceil(long / size))


def shares(parts_MCB: Tensor, count: int) -> Tensor:
    """(M,): 1, and less where a block is shorter than `FAINT` of the mean block of its matrix, one of `count`."""
    length_NM: Tensor = parts_MCB.flatten(1).norm(dim=1).view(count, -1)
    least_N1 = FAINT * length_NM.square().mean(1, keepdim=True).sqrt()
    # behind the factor: what is smaller counts as nothing on some devices, and nothing over nothing is no number
    least_N1 = least_N1.clamp(min=torch.finfo(length_NM.dtype).tiny)
    share_NM: Tensor = (length_NM / least_N1).clamp(max=1)
    return share_NM.flatten()


def joined(parts_MCB: Tensor, shape: torch.Size) -> Tensor:
    """(N, A, B), `shape`: the matrices that were `cut`."""
    count, rows, columns = shape
    if parts_MCB.shape == shape:
        return parts_MCB
    x_NLS = parts_MCB.reshape(count, -1, min(rows, columns))[:, : max(rows, columns)]
    return x_NLS.mT if rows < columns else x_NLS


def even(update_AB: Tensor, state: dict[str, Any], beta2: float) -> Tensor:
    """(A, B): the update whose rows are divided by the root of their mean squares so far, as long as it was."""
    squares_A1 = update_AB.float().square().mean(1, keepdim=True)
    held_A1: Tensor = state.setdefault("second_momentum_buffer", torch.zeros_like(squares_A1))
    held_A1.lerp_(squares_A1.to(held_A1.dtype), 1 - beta2)  # loaded, it is of the parameter's type
    even_AB: Tensor = update_AB / held_A1.sqrt().clamp(min=1e-10)
    return even_AB.mul_(update_AB.norm() / even_AB.norm().clamp(min=1e-10))


def update_flops(shape: Sequence[int], iterations: int, block: int | None = None) -> float:
    """Floating point operations of the update of a matrix or kernel: the products of `orthogonal` in fp32."""
    short, long = sorted((float(shape[0]), float(math.prod(shape[1:]))))
    if block is not None and long > block:
        return math.ceil(long / block) * update_flops((like_size(int(long), block), int(short)), iterations)
    if short == long:
        return 6 * iterations * short**3
    return 4 * short**2 * long + (8 * iterations - 6) * short**3


def orthogonal(x_NAB: Tensor, polynomials: Sequence[Polynomial], eps: float, bounded: bool = False) -> Tensor:
    """Matrices with their singular values brought near one, by Newton-Schulz iterations on all of them.

    Where a side is longer than the other the iterations go on in the Gram matrix of the shorter side: P(G) X with
    G = X X^T, whose next G is P G P; the same in exact arithmetic, and half the products where the sides are 1 : 4.
    Only in fp32: bf16 rounds the product of all P, whose largest value is near 100, and updates become noise.

    Args:
        x_NAB: N matrices.
        polynomials: Of each iteration, at least one.
        eps: Norm below which a matrix becomes no whole step.
        bounded: Whether the largest singular value is first brought nearer to 1 than the Frobenius norm does it: by the
            Schatten norm of order 8, which the first iteration's products hold, four times as near on 256 equal values.
    """
    tall = x_NAB.shape[1] > x_NAB.shape[2]
    x_NLM = x_NAB.mT if tall else x_NAB
    in_gram = x_NLM.shape[1] < x_NLM.shape[2] and x_NAB.dtype == torch.float32
    length_N11 = x_NLM.norm(dim=(1, 2), keepdim=True)
    # the norm of squares is a sum of eighth powers and vanishes first: minimax is given matrices of length 1 all the
    # same, and the updates of short ones are made short behind it
    divisor_N11 = length_N11.clamp(min=eps * eps if bounded else eps)
    if not in_gram:
        x_NLM = x_NLM / divisor_N11
    gram_NLL = matmul(x_NLM, x_NLM.mT)
    if in_gram:  # what a matrix is divided by is worked into the last product
        gram_NLL /= divisor_N11**2
    square_NLL = matmul(gram_NLL, gram_NLL)
    if bounded:
        bound_N11 = square_NLL.norm(dim=(1, 2), keepdim=True).sqrt().clamp(min=eps)  # of the squares
        gram_NLL, square_NLL = gram_NLL / bound_N11, square_NLL / bound_N11**2
        divisor_N11 = divisor_N11 * bound_N11.sqrt()
        x_NLM = x_NLM if in_gram else x_NLM / bound_N11.sqrt()
    if bounded and x_NAB.dtype != torch.float32:
        # beyond their bound the polynomials shoot up, and rounding leads there
        polynomials = [(a / SAFE, b / SAFE**3, c / SAFE**5) for a, b, c in polynomials]
    whole_NLL: Tensor | None = None
    for step, (a, b, c) in enumerate(polynomials):
        if step and not in_gram:
            gram_NLL = matmul(x_NLM, x_NLM.mT)
        if step:
            factor_NLL = matmul(gram_NLL, gram_NLL).mul_(c).add_(gram_NLL, alpha=b)
        else:
            factor_NLL = gram_NLL.mul(b).add_(square_NLL, alpha=c)
        factor_NLL.diagonal(dim1=1, dim2=2).add_(a)
        if not in_gram:
            x_NLM = matmul(factor_NLL, x_NLM)
            continue
        whole_NLL = factor_NLL if whole_NLL is None else matmul(factor_NLL, whole_NLL)
        if step < len(polynomials) - 1:
            gram_NLL = matmul(matmul(factor_NLL, gram_NLL), factor_NLL)
    gain_N11 = (length_N11 / eps).clamp(max=1) if bounded else torch.ones_like(length_N11)
    found_NLM: Tensor = x_NLM * gain_N11 if whole_NLL is None else matmul(whole_NLL * (gain_N11 / divisor_N11), x_NLM)
    return found_NLM.mT if tall else found_NLM
