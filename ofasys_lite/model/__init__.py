"""The encoder-decoder on flat streams of vectors: knows no task and no modality.

Its names are imported when they are first used: sizes of a model are checked before torch is there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ofasys_lite.model.attention import attend
    from ofasys_lite.model.borders import BACKENDS, Borders
    from ofasys_lite.model.config import ModelConfig
    from ofasys_lite.model.ctc import ctc_losses
    from ofasys_lite.model.encoder_decoder import EncoderDecoder, Tap, Taps
    from ofasys_lite.model.fast_linear import learned_products, make_linear, matmul, onednn_is_faster, product, products
    from ofasys_lite.model.head import head_loss
    from ofasys_lite.model.kv_cache import DecodeCache
    from ofasys_lite.model.probe import Precision, pick_device, probe_precision, tensor_cores
    from ofasys_lite.model.rotary import RotaryAxes, mrope_axes, rotary_angles, rotary_table, rotate
    from ofasys_lite.model.transfer import moved
    from ofasys_lite.model.work import Work, body_work, flops, parameters

__all__ = [
    "BACKENDS",
    "Borders",
    "DecodeCache",
    "EncoderDecoder",
    "ModelConfig",
    "Precision",
    "RotaryAxes",
    "Tap",
    "Taps",
    "Work",
    "attend",
    "body_work",
    "ctc_losses",
    "flops",
    "head_loss",
    "learned_products",
    "make_linear",
    "matmul",
    "moved",
    "mrope_axes",
    "onednn_is_faster",
    "parameters",
    "pick_device",
    "probe_precision",
    "product",
    "products",
    "rotary_angles",
    "rotary_table",
    "rotate",
    "tensor_cores",
]

_WHERE = {
    "attend": "attention",
    "BACKENDS": "borders",
    "body_work": "work",
    "Borders": "borders",
    "ctc_losses": "ctc",
    "DecodeCache": "kv_cache",
    "EncoderDecoder": "encoder_decoder",
    "flops": "work",
    "head_loss": "head",
    "ModelConfig": "config",
    "moved": "transfer",
    "mrope_axes": "rotary",
    "parameters": "work",
    "Precision": "probe",
    "pick_device": "probe",
    "probe_precision": "probe",
    "learned_products": "fast_linear",
    "make_linear": "fast_linear",
    "matmul": "fast_linear",
    "onednn_is_faster": "fast_linear",
    "product": "fast_linear",
    "products": "fast_linear",
    "rotary_angles": "rotary",
    "rotary_table": "rotary",
    "RotaryAxes": "rotary",
    "rotate": "rotary",
    "Tap": "encoder_decoder",
    "Taps": "encoder_decoder",
    "tensor_cores": "probe",
    "Work": "work",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module `ofasys_lite.model` has no attribute `{name}`")
    found = getattr(import_module(f"ofasys_lite.model.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
