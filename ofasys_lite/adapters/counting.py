"""What training costs a module, counted by torch on tensors without values (its `meta` device): nothing is computed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ofasys_lite.model import Work

_Module = TypeVar("_Module", bound=nn.Module)


def counted(module: _Module, run: Callable[[_Module], Sequence[Tensor]], rows: int) -> tuple[Work, Work]:
    """Per row: what `run` costs forward and backward, and what the matrices that it does not use would.

    Args:
        module: On any device; a copy without values is run.
        run: What is run, on that copy.
        rows: Rows that it fills. Where values decide what it computes, so that nothing can be counted, every matrix is
            taken to be used once by each of them.
    """
    bare = copy.deepcopy(module).to("meta")
    kept: dict[int, int] = {}
    own = {id(p.untyped_storage()._cdata) for p in bare.parameters()}
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        held.append(tensor)  # so that no other storage takes its place
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    try:
        with FlopCounterMode(display=False) as counter, torch.enable_grad():
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                found = [x for x in run(bare) if x.requires_grad]
            if found:
                torch.autograd.backward(found, [torch.empty_like(x) for x in found])
        numbers = sum(size for key, size in kept.items() if key not in own) / 4
    except Exception:  # whatever code that asks for values raises where there are none
        return _once(_matrices(bare)), Work()
    embedded = Work(float(counter.get_total_flops()), numbers) * (1 / max(1, rows))
    return embedded, _once([p for p in _matrices(bare) if p.grad is None])


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weights that are trained and take part in products: no tables that are looked up."""
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    return [p for p in module.parameters() if p.ndim > 1 and p.requires_grad and id(p) not in tables]


def _once(weights: Sequence[nn.Parameter]) -> Work:
    """Products of one row with each of the weights, and twice that backward; what they read and made is kept."""
    return Work(6.0 * sum(p.numel() for p in weights), sum(p[0].numel() + len(p) for p in weights))
