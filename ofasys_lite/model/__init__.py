"""The encoder-decoder on flat streams of vectors: knows no task and no modality.

Its names are imported when they are first used: sizes of a model are checked before torch is there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ofasys_lite.model.attention import attend as attend
    from ofasys_lite.model.borders import BACKENDS as BACKENDS
    from ofasys_lite.model.borders import Borders as Borders
    from ofasys_lite.model.config import ModelConfig as ModelConfig
    from ofasys_lite.model.crowded import give_way as give_way
    from ofasys_lite.model.ctc import ctc_losses as ctc_losses
    from ofasys_lite.model.encoder_decoder import EncoderDecoder as EncoderDecoder
    from ofasys_lite.model.encoder_decoder import Tap as Tap
    from ofasys_lite.model.encoder_decoder import Taps as Taps
    from ofasys_lite.model.fast_linear import autocast as autocast
    from ofasys_lite.model.fast_linear import learned_products as learned_products
    from ofasys_lite.model.fast_linear import make_linear as make_linear
    from ofasys_lite.model.fast_linear import matmul as matmul
    from ofasys_lite.model.fast_linear import onednn_from as onednn_from
    from ofasys_lite.model.fast_linear import product as product
    from ofasys_lite.model.fast_linear import products as products
    from ofasys_lite.model.head import head_loss as head_loss
    from ofasys_lite.model.kv_cache import DecodeCache as DecodeCache
    from ofasys_lite.model.pages import keep_freed_memory as keep_freed_memory
    from ofasys_lite.model.probe import exact_types as exact_types
    from ofasys_lite.model.probe import pick_device as pick_device
    from ofasys_lite.model.probe import pick_precision as pick_precision
    from ofasys_lite.model.probe import probe_precision as probe_precision
    from ofasys_lite.model.probe import tensor_cores as tensor_cores
    from ofasys_lite.model.rotary import RotaryAxes as RotaryAxes
    from ofasys_lite.model.rotary import mrope_axes as mrope_axes
    from ofasys_lite.model.rotary import rotary_table as rotary_table
    from ofasys_lite.model.rotary import rotate as rotate
    from ofasys_lite.model.sampled_head import sampled_loss as sampled_loss
    from ofasys_lite.model.transfer import moved as moved
    from ofasys_lite.model.work import Work as Work
    from ofasys_lite.model.work import body_work as body_work
    from ofasys_lite.model.work import flops as flops
    from ofasys_lite.model.work import parameters as parameters

#: Module -> the names that this room hands on from it.
_HANDED = {
    "attention": "attend",
    "borders": "BACKENDS Borders",
    "config": "ModelConfig",
    "crowded": "give_way",
    "ctc": "ctc_losses",
    "encoder_decoder": "EncoderDecoder Tap Taps",
    "fast_linear": "autocast learned_products make_linear matmul onednn_from product products",
    "head": "head_loss",
    "kv_cache": "DecodeCache",
    "pages": "keep_freed_memory",
    "probe": "exact_types pick_device pick_precision probe_precision tensor_cores",
    "rotary": "RotaryAxes mrope_axes rotary_table rotate",
    "sampled_head": "sampled_loss",
    "transfer": "moved",
    "work": "Work body_work flops parameters",
}
_WHERE = {name: module for module, names in _HANDED.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module `ofasys_lite.model` has no attribute `{name}`")
    found = getattr(import_module(f"ofasys_lite.model.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
