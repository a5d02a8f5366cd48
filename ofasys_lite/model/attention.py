"""Attention between flat streams: the one place with back-ends, all equal to a plain masked reference.

Shape suffixes: Q rows of the query stream, K rows of the key stream, H query heads, G key and value heads, C channels
of a head, N sequences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.borders import Borders, Parts
from ofasys_lite.model.exact import exact

# Longest sequence for which explicit products beat the fused CPU kernel; beyond it their (Q, K) scores cost memory.
EXACT_LIMIT = {torch.float32: 448, torch.bfloat16: 1024}
DEFAULT_EXACT_LIMIT = 448

_Attend = TypeVar("_Attend", bound=Callable[..., Tensor])


def choose_backend(device: torch.device, dtype: torch.dtype, longest: int, head_width: int) -> str:
    """The name of the fastest back-end for this device, type and longest sequence."""
    if device.type == "cpu":
        return "exact" if longest <= EXACT_LIMIT.get(dtype, DEFAULT_EXACT_LIMIT) else "sdpa"
    half = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)
    return "varlen" if half and head_width % 8 == 0 and head_width <= 256 and has_varlen(device) else "padded"


def has_varlen(device: torch.device) -> bool:
    """Whether this torch and this GPU have the variable-length kernel (torch 2.10, compute capability 8.0)."""
    try:
        from torch.nn.attention import varlen  # noqa: F401
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def attend(
    q_QHC: Tensor,
    k_KGC: Tensor,
    v_KGC: Tensor,
    q_lengths: Sequence[int],
    k_lengths: Sequence[int],
    causal: bool,
    backend: str | None = None,
) -> Tensor:
    """What each query row reads from the keys of its own sequence: (Q, H, C).

    A sequence without keys gets zeros, in output and gradients, in every back-end.

    Args:
        q_QHC: Queries of all sequences, end to end.
        k_KGC: Keys of all sequences, end to end; H is a multiple of G.
        v_KGC: Values beside the keys.
        q_lengths: Rows of each query sequence.
        k_lengths: Rows of each key sequence.
        causal: Whether row i of a sequence sees only its keys 0 to i.
        backend: One of BACKENDS to force it, None to choose by device, type and length.

    Raises:
        ShapeError: Lengths and rows do not agree, or H is no multiple of G.
    """
    return attend_within(q_QHC, k_KGC, v_KGC, Borders(q_lengths, k_lengths, causal, backend))


def attend_within(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
    """The same as `attend`, with the lengths prepared once for all layers."""
    if (q_QHC.shape[0], k_KGC.shape[0]) != (borders.q_rows, borders.k_rows):
        borders.check(q_QHC.shape[0], k_KGC.shape[0])
    if q_QHC.shape[1] % max(1, k_KGC.shape[1]) or k_KGC.shape != v_KGC.shape:
        raise ShapeError(f"attention: heads of q {tuple(q_QHC.shape)}, k {tuple(k_KGC.shape)}, v {tuple(v_KGC.shape)}")
    if borders.q_rows == 0 or borders.k_rows == 0:
        nothing: Tensor = _Nothing.apply(q_QHC, k_KGC, v_KGC)  # type: ignore[no-untyped-call]
        return nothing
    name = borders.backend or choose_backend(q_QHC.device, q_QHC.dtype, borders.longest_k, q_QHC.shape[2])
    return _BACKENDS[name](q_QHC, k_KGC, v_KGC, borders)


def outside_graphs(function: _Attend, compiled: bool) -> _Attend:
    """The function as blocks that are compiled call it: lengths are other ones in each pack, and graphs that know them
    would be made anew. Others get it as it is: what keeps it out of graphs takes a second to import."""
    kept: _Attend = torch.compiler.disable(function) if compiled else function  # type: ignore[no-untyped-call]
    return kept


def attend_parts(
    q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, parts: Parts, biases: Sequence[Tensor] | None = None
) -> Tensor:
    """Self-attention over a stream made of parts laid end to end.

    Args:
        biases: What is added to the scores of each sequence, (H, its rows, its rows).
    """
    if biases is not None:
        causal = [part.causal for part in parts.each for _ in part.q_lengths]
        lengths = [length for part in parts.each for length in part.q_lengths]
        return attend_biased(q_QHC, k_KGC, v_KGC, lengths, causal, biases)
    if len(parts.each) == 1:
        return attend_within(q_QHC, k_KGC, v_KGC, parts.each[0])
    rows = [part.q_rows for part in parts.each]
    pieces = zip(*(x.split_with_sizes(rows) for x in (q_QHC, k_KGC, v_KGC)), parts.each, strict=True)
    return torch.cat([attend_within(q, k, v, part) for q, k, v, part in pieces])


def attend_biased(
    q_QHC: Tensor,
    k_QGC: Tensor,
    v_QGC: Tensor,
    lengths: Sequence[int],
    causal: Sequence[bool],
    biases: Sequence[Tensor],
) -> Tensor:
    """(Q, H, C): self-attention with a bias (H, L, L) added to the scores of each sequence, by explicit products.

    There is one back-end for all devices and lengths: kernels know no biases that are learned.
    """
    scale, repeat = q_QHC.shape[2] ** -0.5, q_QHC.shape[1] // max(1, k_QGC.shape[1])
    q_QHC = q_QHC * scale
    if repeat > 1:
        k_QGC, v_QGC = k_QGC.repeat_interleave(repeat, 1), v_QGC.repeat_interleave(repeat, 1)
    found = [q_QHC[:0]]
    streams = zip(*(x.split_with_sizes(list(lengths)) for x in (q_QHC, k_QGC, v_QGC)), causal, biases, strict=True)
    for q_LHC, k_LHC, v_LHC, masked, bias_HLL in streams:
        scores_HLL = torch.bmm(q_LHC.transpose(0, 1), k_LHC.permute(1, 2, 0)) + bias_HLL.to(q_LHC.dtype)
        if masked:
            later_LL = torch.ones(scores_HLL.shape[1:], dtype=torch.bool, device=q_LHC.device).triu_(1)
            scores_HLL = scores_HLL.masked_fill(later_LL, float("-inf"))
        found.append(torch.bmm(scores_HLL.softmax(-1), v_LHC.transpose(0, 1)).transpose(0, 1))
    return torch.cat(found)


class _Nothing(torch.autograd.Function):
    """Zeros for queries without any key; every input gets a gradient of zeros, so no parameter is left untouched."""

    @staticmethod
    def forward(ctx: Any, q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor) -> Tensor:
        ctx.shapes = (q_QHC.shape, k_KGC.shape)
        return torch.zeros_like(q_QHC, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, grad_QHC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q_shape, k_shape = ctx.shapes
        return grad_QHC.new_zeros(q_shape), grad_QHC.new_zeros(k_shape), grad_QHC.new_zeros(k_shape)


def _reference(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
    """One dense masked product over everything: slow, plain, what the others are tested against."""
    device = q_QHC.device
    owner = [torch.arange(len(n)).repeat_interleave(torch.tensor(n)) for n in (borders.q_lengths, borders.k_lengths)]
    place = [torch.cat([torch.arange(n) for n in side]) for side in (borders.q_lengths, borders.k_lengths)]
    allowed_QK = owner[0].unsqueeze(1) == owner[1]
    if borders.causal:
        allowed_QK &= place[0].unsqueeze(1) >= place[1]
    allowed_QK = allowed_QK.to(device)
    repeat = q_QHC.shape[1] // k_KGC.shape[1]
    k_KHC, v_KHC = k_KGC.repeat_interleave(repeat, 1), v_KGC.repeat_interleave(repeat, 1)
    scores_HQK = torch.einsum("qhc,khc->hqk", q_QHC, k_KHC) * q_QHC.shape[2] ** -0.5
    # a finite floor keeps rows without keys free of NaN in both directions; the second mask makes them zero
    scores_HQK = torch.where(allowed_QK, scores_HQK, torch.finfo(scores_HQK.dtype).min)
    weights_HQK = torch.where(allowed_QK, scores_HQK.softmax(-1), 0.0)
    return torch.einsum("hqk,khc->qhc", weights_HQK, v_KHC)


def _sdpa(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
    """The fused kernel, sequence by sequence: for long ones, whose scores would not fit in memory."""
    pieces = zip(
        q_QHC.split_with_sizes(borders.q_lengths),
        k_KGC.split_with_sizes(borders.k_lengths),
        v_KGC.split_with_sizes(borders.k_lengths),
        strict=True,
    )
    return torch.cat([_sdpa_one(q, k, v, borders.causal) for q, k, v in pieces])


def _sdpa_one(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, causal: bool) -> Tensor:
    if q_QHC.shape[0] == 0 or k_KGC.shape[0] == 0:
        nothing: Tensor = _Nothing.apply(q_QHC, k_KGC, v_KGC)  # type: ignore[no-untyped-call]
        return nothing
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_QHC, k_KGC, v_KGC))
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)[0].transpose(0, 1)


def _padded(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
    """Masked dense attention over padded grids: any device and type, for what has no variable-length kernel."""
    device, count = q_QHC.device, len(borders.q_lengths)

    def grid(x_RHC: Tensor, side: str, longest: int) -> Tensor:
        flat = x_RHC.new_zeros((count * longest, *x_RHC.shape[1:])).index_copy(0, borders.slots(side, device), x_RHC)
        return flat.view(count, longest, *flat.shape[1:]).transpose(1, 2)

    q_NHQC = grid(q_QHC, "q", borders.longest_q)
    k_NGKC, v_NGKC = (grid(x, "k", borders.longest_k) for x in (k_KGC, v_KGC))
    mask_NQK = borders.mask(device)
    seen_NQ1 = mask_NQK.any(-1, keepdim=True)
    # rows that see nothing look at their first key instead and are set to zero afterwards: no NaN either way
    mask_NQK = torch.cat([mask_NQK[..., :1] | ~seen_NQ1, mask_NQK[..., 1:]], dim=-1)
    grouped = q_NHQC.shape[1] != k_NGKC.shape[1]
    out_NHQC = F.scaled_dot_product_attention(
        q_NHQC, k_NGKC, v_NGKC, attn_mask=mask_NQK.unsqueeze(1), enable_gqa=grouped
    )
    out_NHQC = torch.where(seen_NQ1.unsqueeze(1), out_NHQC, 0.0)
    return out_NHQC.transpose(1, 2).flatten(0, 1).index_select(0, borders.slots("q", device))


def _varlen(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
    """The CUDA kernel on the rows that have keys; the others get zeros."""
    if not borders.empty_keys:
        return varlen(q_QHC, k_KGC, v_KGC, borders)
    rows = borders.rows_with_keys(q_QHC.device)
    seen = varlen(q_QHC.index_select(0, rows), k_KGC, v_KGC, borders.with_keys)
    return torch.zeros_like(q_QHC).index_copy(0, rows, seen)


_BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Borders], Tensor]] = {
    "reference": _reference,
    "exact": exact,
    "sdpa": _sdpa,
    "padded": _padded,
    "varlen": _varlen,
}


def varlen(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
    """(Q, H, C): attention within each sequence by the flash kernel; every sequence has keys.

    torch 2.10 and 2.11 take `is_causal`, later ones a window; `enable_gqa` came later than both.
    """
    from torch.nn.attention.varlen import varlen_attn

    options, grouped = _options(borders.causal)
    if q_QHC.shape[1] != k_KGC.shape[1]:
        if grouped:
            options = {**options, "enable_gqa": True}
        else:
            repeat = q_QHC.shape[1] // k_KGC.shape[1]
            k_KGC, v_KGC = k_KGC.repeat_interleave(repeat, 1), v_KGC.repeat_interleave(repeat, 1)
    offsets_q, offsets_k = (borders.offsets(side, q_QHC.device) for side in ("q", "k"))
    out = varlen_attn(q_QHC, k_KGC, v_KGC, offsets_q, offsets_k, borders.longest_q, borders.longest_k, **options)
    attended: Tensor = out[0] if isinstance(out, tuple) else out
    return attended


@lru_cache(maxsize=2)
def _options(causal: bool) -> tuple[dict[str, Any], bool]:
    """Keyword arguments that say `causal` to this torch, and whether it knows grouped heads."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    if "window_size" in known:
        return {"window_size": (-1, 0) if causal else (-1, -1)}, "enable_gqa" in known
    return {"is_causal": causal}, "enable_gqa" in known
