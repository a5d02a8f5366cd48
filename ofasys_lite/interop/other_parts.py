"""Weights that were given to one part of a generalist, and are another's: which one, for messages."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from ofasys_lite.interop.checkpoint_files import Weights
from ofasys_lite.interop.decoder_weights import DECODERS
from ofasys_lite.interop.fairseq_weights import is_fairseq
from ofasys_lite.interop.hugging_face import HOUSES
from ofasys_lite.interop.image_networks import is_efficientnet
from ofasys_lite.interop.image_towers import TOWERS
from ofasys_lite.interop.wave_weights import WAVE_HOUSES
from ofasys_lite.interop.whisper_weights import is_whisper_file


class _Reader(NamedTuple):
    """Attributes: how it is asked for; `model_type` in config.json; whether a file is one of its houses."""

    asked: str
    kinds: Collection[str]
    is_it: Callable[[Weights], bool]


_READERS = (
    _Reader("it reads text: start.text=SOURCE", (*HOUSES, *DECODERS), lambda each: is_fairseq(each.tensors)),
    _Reader("it reads pictures: start.image=SOURCE", (*TOWERS,), lambda each: is_efficientnet(each.tensors)),
    _Reader("it reads sound: start.audio=SOURCE", ("whisper", *WAVE_HOUSES), is_whisper_file),
)


def other_kind(kind: str) -> str:
    """Help where a folder's `model_type` is refused: the part that begins with it; empty where none does."""
    return next((each.asked for each in _READERS if kind in each.kinds), "")


def other_file(weights: Weights) -> str:
    """The same for a file that is refused, by what it holds."""
    return next((each.asked for each in _READERS if each.is_it(weights)), "")
