"""Weights that were given to one part of a generalist, and are another's: which one, for messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ofasys_lite.interop.checkpoint_files import Weights
from ofasys_lite.interop.decoder_weights import DECODERS
from ofasys_lite.interop.fairseq_weights import is_fairseq
from ofasys_lite.interop.hugging_face import HOUSES
from ofasys_lite.interop.image_networks import is_efficientnet
from ofasys_lite.interop.image_towers import TOWERS
from ofasys_lite.interop.wave_weights import WAVE_HOUSES
from ofasys_lite.interop.whisper_weights import is_whisper_file

#: Part -> values of `model_type` in config.json that it begins with.
KINDS: Mapping[str, Collection[str]] = {
    "text": (*HOUSES, *DECODERS),
    "image": (*TOWERS,),
    "audio": ("whisper", *WAVE_HOUSES),
}
_READS = {"text": "text", "image": "pictures", "audio": "sound"}


def other_kind(kind: str) -> str:
    """Help where a folder's `model_type` is refused: the part that begins with it; empty where none does."""
    return next((_told(part) for part, kinds in KINDS.items() if kind in kinds), "")


def other_file(weights: Weights) -> str:
    """The same for a file that is refused, by what it holds."""
    found = {
        "image": is_efficientnet(weights.tensors),
        "audio": is_whisper_file(weights),
        "text": is_fairseq(weights.tensors),
    }
    return next((_told(part) for part, is_it in found.items() if is_it), "")


def _told(part: str) -> str:
    return f"it reads {_READS[part]}, which begins with it: start.{part}=SOURCE"
