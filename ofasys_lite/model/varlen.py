"""The variable-length CUDA kernel, its changing signature wrapped once (torch 2.10 to 2.13)."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from torch import Tensor

from ofasys_lite.model.borders import Borders


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
