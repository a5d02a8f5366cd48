"""The encoder-decoder on flat streams of vectors: knows no task and no modality."""

from ofasys_lite.model.attention import attend
from ofasys_lite.model.borders import BACKENDS, Borders
from ofasys_lite.model.cache import DecodeCache
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.cost import flops, parameters
from ofasys_lite.model.ctc import ctc_losses
from ofasys_lite.model.encoder_decoder import EncoderDecoder, Tap, Taps
from ofasys_lite.model.head import head_loss
from ofasys_lite.model.probe import Precision, pick_device, probe_precision, tensor_cores
from ofasys_lite.model.quantize import Codebook, Quantized, ResidualQuantizer
from ofasys_lite.model.rotary import RotaryAxes, mrope_axes, rotary_angles, rotary_table, rotate
from ofasys_lite.model.scalar_codes import ScalarQuantizer
from ofasys_lite.model.transfer import moved

__all__ = [
    "BACKENDS",
    "Borders",
    "Codebook",
    "DecodeCache",
    "EncoderDecoder",
    "ModelConfig",
    "Precision",
    "Quantized",
    "ResidualQuantizer",
    "RotaryAxes",
    "ScalarQuantizer",
    "Tap",
    "Taps",
    "attend",
    "ctc_losses",
    "flops",
    "head_loss",
    "moved",
    "mrope_axes",
    "parameters",
    "pick_device",
    "probe_precision",
    "rotary_angles",
    "rotary_table",
    "rotate",
    "tensor_cores",
]
