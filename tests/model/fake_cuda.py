"""A CUDA device where there is none: its tensors hold no numbers, but have the types and shapes that a GPU would give.

Operations on them go through torch's FakeTensorMode, so dispatch and autocast follow the rules of CUDA; what stays on
the host is computed as usual. Every operation is looked at: what would make the host wait for the device, what mixes
devices or types, which attention kernel runs. Three things are lent to a torch built for the CPU: a guard of the
device (autograd, indexing and copies ask for one), page-locked memory, and a fused kernel for dense attention.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import ofasys_lite

__all__ = ["CUDA", "FakeCuda", "Finding"]

CUDA = torch.device("cuda", 0)
#: One for all: what is made once for a device may be met in the next context again.
_FAKE = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)
PACKAGE = Path(ofasys_lite.__file__).parent

#: Places of `c10::DeviceType` in torch's table of guards.
_CUDA_GUARD, _META_GUARD, _GUARDS = 1, 14, 20
_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"

#: What hands a number, or a count, from the device to the host.
WAITS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::equal",
    "aten::is_nonzero",
    "aten::bincount",
}
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution"}
DENSE = {"aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_flash_attention"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not happen on a GPU.

    Attributes:
        what: One of wait, copy, index, device, type, dense.
        operation: The operation of torch.
        where: File and line of the package, or of the test.
        detail: Devices and types of what went in.
    """

    what: str
    operation: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what:6} {self.where:40} {self.operation} {self.detail}"


@dataclass
class FakeCuda:
    """A context in which the device `cuda` exists; afterwards `findings` and `operations` say what happened.

    Attributes:
        capability: Compute capability of the device.
        findings: What should not have happened, each place once.
        operations: Number of calls by name.
        launches: Number of calls that are no views.
        half: Whether products should be in half precision.
        gradients: For a caller's notes.
    """

    capability: tuple[int, int] = (9, 0)
    findings: dict[Finding, int] = field(default_factory=dict)
    operations: Counter[str] = field(default_factory=Counter)
    launches: int = 0
    half: bool = False
    gradients: dict[Tensor, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pinned: dict[int, Tensor] = {}

    @contextlib.contextmanager
    def __call__(self) -> Iterator[FakeCuda]:
        """Enters the context."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_guard())
            for target, name, value in self._lent():
                stack.enter_context(mock.patch.object(target, name, value))
            stack.enter_context(torch.autograd.set_multithreading_enabled(False))
            torch._C._set_only_lift_cpu_tensors(True)
            stack.callback(torch._C._set_only_lift_cpu_tensors, False)
            stack.enter_context(_Watch(self))
            yield self

    @contextlib.contextmanager
    def autocast(self, half: bool) -> Iterator[None]:
        """Mixed precision; while it is on, products in fp32 are findings."""
        self.half = half
        try:
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                yield
        finally:
            self.half = False

    def move(self, module: torch.nn.Module) -> None:
        """Puts the parameters and buffers of a module on the device; what is shared stays shared."""
        moved: dict[int, torch.nn.Parameter] = {}
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    fresh = moved.setdefault(
                        id(parameter), torch.nn.Parameter(parameter.detach().to(CUDA), parameter.requires_grad)
                    )
                    part._parameters[name] = fresh
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else buffer.to(CUDA)

    def backward(self, loss: Tensor) -> dict[Tensor, Tensor]:
        """Gradients of all leaves, node by node of torch's graph: its own engine asks for streams of a real device."""
        root = loss.grad_fn
        assert root is not None
        given: dict[Any, list[Tensor | None]] = {root: [torch.ones_like(loss)]}
        grads: dict[Tensor, Tensor] = {}
        # what is computed again in checkpoints is asked for by the number of the pass
        with torch.no_grad(), mock.patch.object(torch._C, "_current_graph_task_id", return_value=id(given)):
            for node in _in_order(root):
                wanted = given.pop(node, None)
                if wanted is None:
                    continue
                if hasattr(node, "variable"):
                    grads[node.variable] = wanted[0]  # type: ignore[assignment]
                    continue
                if hasattr(node, "apply"):
                    found = node.apply(*map(_filled, wanted, node._input_metadata))
                else:
                    found = node(*wanted)
                found = found if isinstance(found, tuple) else (found,)
                for (after, place), gradient in zip(node.next_functions, found, strict=False):
                    if after is None or gradient is None:
                        continue
                    held = given.setdefault(after, [None] * max(1, len(after._input_metadata)))
                    gradient = _fitted(gradient, after._input_metadata[place])
                    held[place] = gradient if held[place] is None else held[place] + gradient
        return grads

    def forget(self) -> None:
        """Forgets what was seen so far."""
        self.findings.clear()
        self.operations.clear()
        self.launches = 0

    def report(self, wanted: Callable[[Finding], bool] = lambda _: True) -> str:
        """The findings, a line each, with how often they happened."""
        return "\n".join(f"{count:4} x {finding}" for finding, count in self.findings.items() if wanted(finding))

    # ------------------------------------------------------------------ what is seen

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        """Judges one operation before it runs."""
        name = func._schema.name
        if name.startswith("prim::"):
            return
        self.operations[name] += 1
        given = [result.alias_info for result in func._schema.returns]
        self.launches += not all(alias is not None and not alias.is_write for alias in given)
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        there = [x for x in tensors if x.is_cuda]
        here = [x for x in tensors if not x.is_cuda]
        if name in WAITS and there:
            self._note("wait", name, tensors)
        elif name in ("aten::_to_copy", "aten::copy_"):
            self._look_at_copy(name, args, kwargs, tensors)
        elif name in ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"):
            wrong = [x for x in args[1] if x is not None and (x.dtype in (torch.bool, torch.uint8) or not x.is_cuda)]
            if wrong and args[0].is_cuda:
                self._note("index", name, wrong)
        elif name == "aten::repeat_interleave" and there and kwargs.get("output_size") is None:
            self._note("wait", name, tensors)
        elif there and any(x.ndim for x in here) and name not in ("aten::_ctc_loss", "aten::_ctc_loss_backward"):
            self._note("device", name, tensors)
        if self.half and name in PRODUCTS and there and any(x.dtype == torch.float32 for x in there):
            self._note("type", name, tensors)
        if name == "torch_attn::_varlen_attn" and len({x.dtype for x in args[:3]} | {torch.bfloat16}) > 1:
            self._note("type", name, tensors)
        if self.half and name in DENSE:
            self._note("dense", name, tensors)

    def _look_at_copy(self, name: str, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        source = args[0] if name == "aten::_to_copy" else args[1]
        to = kwargs.get("device") if name == "aten::_to_copy" else args[0].device
        lazily = kwargs.get("non_blocking", False) or (name == "aten::copy_" and len(args) > 2 and args[2])
        if to is None or torch.device(to).type == source.device.type:
            return
        if source.device.type == "cuda":
            self._note("wait", name, tensors)
        elif not (lazily and id(source) in self._pinned) and not (name == "aten::copy_" and source.ndim == 0):
            self._note("copy", name, tensors)

    def _note(self, what: str, name: str, tensors: list[Tensor]) -> None:
        detail = ", ".join(f"{x.device.type}:{str(x.dtype)[6:]}{list(x.shape)}" for x in tensors[:4])
        finding = Finding(what, name, _where(), detail)
        known = next((f for f in self.findings if (f.what, f.operation, f.where) == (what, name, finding.where)), None)
        self.findings[known or finding] = self.findings.get(known or finding, 0) + 1

    # ------------------------------------------------------------------ what is lent

    def _lent(self) -> list[tuple[Any, str, Any]]:
        def pin(tensor: Tensor, *_: Any) -> Tensor:
            locked = tensor.clone()
            self._pinned[id(locked)] = locked  # kept, so that nothing else gets its number
            return locked

        def fresh(tensor: Tensor, data: Any, dtype: torch.dtype | None = None) -> Tensor:
            return torch.tensor(data, dtype=dtype or tensor.dtype, device=tensor.device)

        return [
            (Tensor, "new_tensor", fresh),
            (torch.cuda, "_lazy_init", lambda: None),
            (torch.cuda, "get_device_capability", lambda *_: self.capability),
            (torch.cuda, "is_bf16_supported", lambda *_: True),
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (Tensor, "pin_memory", pin),
            (Tensor, "is_pinned", lambda tensor, *_: id(tensor) in self._pinned),
            (torch.nn.functional, "scaled_dot_product_attention", _dense),
        ]


class _Watch(TorchDispatchMode):
    """Lets the host compute, and has operations with anything on the device go through the fake mode."""

    def __init__(self, owner: FakeCuda) -> None:
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        fakes = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, FakeTensor)]
        if not fakes and (device is None or torch.device(device).type != "cuda"):
            return func(*args, **kwargs)
        self.owner.look(func, args, kwargs)
        with _FAKE:
            return SHAPES.get(func._schema.name, func)(*args, **kwargs)


def _ctc(log_TNC: Tensor, targets_NL: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    steps, count = log_TNC.shape[:2]
    return log_TNC.new_empty(count), log_TNC.new_empty(count, steps, 2 * targets_NL.shape[-1] + 1)


#: Shapes of what torch itself cannot run without numbers.
SHAPES: dict[str, Callable[..., Any]] = {
    "aten::_use_cudnn_ctc_loss": lambda *_, **__: False,
    "aten::_use_miopen_ctc_loss": lambda *_, **__: False,
    "aten::_ctc_loss": _ctc,
    "aten::_ctc_loss_backward": lambda gradient, log_TNC, *_, **__: torch.empty_like(log_TNC),
}


@contextlib.contextmanager
def _guard() -> Iterator[None]:
    """Lends the device the guard of `meta`, which does nothing."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    table = (ctypes.c_void_p * _GUARDS).in_dll(library, _REGISTRY)
    before = table[_CUDA_GUARD]
    table[_CUDA_GUARD] = table[_META_GUARD]
    try:
        yield
    finally:
        table[_CUDA_GUARD] = before


def _dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Dense attention by the one fused kernel whose shapes torch knows without a device."""
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    bias = None if attn_mask is None else attn_mask.to(q.dtype).expand(*q.shape[:3], k.shape[2])
    run: Callable[..., Any] = torch.ops.aten._scaled_dot_product_efficient_attention
    out: Tensor = run(q, k, v, bias, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale)[0]
    return out


def _in_order(root: Any) -> list[Any]:
    """All nodes of a graph, each behind those that it gets gradients from."""
    waiting: Counter[Any] = Counter()
    seen, stack = {root}, [root]
    while stack:
        for after, _ in stack.pop().next_functions:
            if after is not None:
                waiting[after] += 1
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
    order, ready = [], [root]
    while ready:
        order.append(ready.pop())
        for after, _ in order[-1].next_functions:
            if after is not None:
                waiting[after] -= 1
                if not waiting[after]:
                    ready.append(after)
    return order


def _fitted(gradient: Tensor, metadata: Any) -> Tensor:
    """A gradient in the shape and type of what it belongs to, as torch's engine hands it on."""
    assert gradient.device == metadata.device, (gradient.device, metadata.device)
    return gradient.sum_to_size(tuple(metadata.shape)).to(metadata.dtype)


def _filled(gradient: Tensor | None, metadata: Any) -> Tensor:
    """A gradient of zeros where there is none, for functions that are written in Python."""
    if gradient is not None:
        return gradient
    return torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=metadata.device)


def _where() -> str:
    """The innermost line of the package that is running."""
    frame = sys._getframe(1)
    outside = ""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if PACKAGE in path.parents:
            return f"{path.relative_to(PACKAGE)}:{frame.f_lineno}"
        if not outside and path.name != Path(__file__).name and "torch" not in path.parts:
            outside = f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return outside
