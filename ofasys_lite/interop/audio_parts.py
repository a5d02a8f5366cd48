"""Encoders of sound for `start.audio=SOURCE`: which house a folder or a file is of."""

from __future__ import annotations

from pathlib import Path

from ofasys_lite.errors import CheckpointError, did_you_mean
from ofasys_lite.generalist.parts import Part
from ofasys_lite.interop.checkpoint_files import read_weights
from ofasys_lite.interop.hugging_face_folder import read_config
from ofasys_lite.interop.other_parts import other_file, other_kind
from ofasys_lite.interop.wave_weights import WAVE_HOUSES, wave_in_folder
from ofasys_lite.interop.whisper_weights import is_whisper_file, whisper_in_file, whisper_in_folder

_FORMS = "a folder of Hugging Face with Whisper, wav2vec 2.0 or HuBERT (config.json and weights), or Whisper's own .pt"
#: By `model_type` of config.json.
_READERS = {"whisper": whisper_in_folder, **dict.fromkeys(WAVE_HOUSES, wave_in_folder)}


def audio_part(source: str) -> Part:
    """The encoder of sound in a folder or a file of another house, for the adapter of AUDIO.

    Raises:
        CheckpointError: It is missing, damaged, unsafe to read, or holds no encoder of sound that is known.
    """
    path = Path(source)
    if not path.exists():
        raise CheckpointError(f"{source}: no such file or folder", help=_FORMS)
    if path.is_file():
        weights = read_weights(path)
        if not is_whisper_file(weights):
            first = ", ".join(list(weights.tensors)[:3])
            help = other_file(weights) or _FORMS
            raise CheckpointError(f"{source} is no encoder of sound that is known (it holds {first} ...)", help=help)
        return whisper_in_file(source, weights)
    config = read_config(path)
    kind = str(config.get("model_type"))
    if kind not in _READERS:
        help = other_kind(kind) or did_you_mean(kind, _READERS, "sound is read by")
        raise CheckpointError(f"{source}: a model of the type `{kind}` reads no sound here", help=help)
    return _READERS[kind](source, config)
