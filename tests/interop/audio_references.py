"""Small random encoders of sound, as transformers saves and computes them; `python tests/interop/audio_references.py`
writes the references that tests meet without the library (made with transformers 5.24)."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "audio"
#: One second: 100 frames, 50 states.
WHISPER = {
    "num_mel_bins": 80,
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "max_source_positions": 50,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "vocab_size": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "suppress_tokens": [],
    "begin_suppress_tokens": None,
}


WAVE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 12,
}
#: Name -> class of transformers, what is other than in WAVE.
WAVES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2, large": (
        "Wav2Vec2",
        {
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            "conv_bias": True,
            "conv_dim": [8, 6, 6, 6, 6, 6, 7],
        },
    ),
    "hubert": ("Hubert", {}),
}


def signals() -> list[np.ndarray[Any, Any]]:
    """Sounds (n,) of 16 kHz, up to a second, in -1 to 1: tones in noise, and silence."""
    rng = np.random.default_rng(0)
    found = []
    for samples, hertz in ((16_000, 440.0), (7_041, 1800.0), (2_400, 90.0), (500, 5000.0)):
        time = np.arange(samples) / 16_000
        tone = 0.4 * np.sin(2 * math.pi * hertz * time) * np.hanning(samples)
        found.append((tone + 0.01 * rng.normal(size=samples)).astype(np.float32))
    return [*found, np.zeros(800, np.float32)]


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model with all weights, norms and biases too, drawn wide enough to be seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def whisper(folder: Path, **changes: Any) -> Any:
    """A random Whisper, saved; the model itself."""
    import transformers

    torch.manual_seed(0)
    model = shaken(transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**{**WHISPER, **changes})))
    model.save_pretrained(folder)
    features(model.config.num_mel_bins).save_pretrained(folder)
    return model


def features(mels: int) -> Any:
    """transformers' own frames, filled up to a second."""
    import transformers

    return transformers.WhisperFeatureExtractor(feature_size=mels, chunk_length=1)


@torch.no_grad()
def whisper_states(model: Any, padded: bool) -> list[tuple[Tensor, Tensor]]:
    """(frames (F, M), states (R, E)) of each of `signals()`: of the whole second, or of as much as each sound lasts."""
    extract, encoder, found = features(model.config.num_mel_bins), model.model.encoder, []
    whole = encoder.embed_positions
    for signal in signals():
        frames_MF = extract(signal, sampling_rate=16_000, return_tensors="pt").input_features[0]
        count = 100 if padded else -(-len(signal) // 160)
        rows = -(-count // 2)
        # it takes full length only: so for fewer rows it is given a shorter table, and an odd frame as it fills it
        encoder.config.max_source_positions = rows
        encoder.embed_positions = torch.nn.Embedding.from_pretrained(whole.weight[:rows])
        given = frames_MF[:, :count]
        if count % 2:
            states = _odd(encoder, given)
        else:
            states = encoder(given[None]).last_hidden_state[0]
        found.append((given.T.contiguous(), states))
    encoder.embed_positions, encoder.config.max_source_positions = whole, 50
    return found


def _odd(encoder: Any, frames_MF: Tensor) -> Tensor:
    """States of an odd number of frames, which the model itself refuses: its own layers, one after another."""
    x = torch.nn.functional.gelu(encoder.conv1(frames_MF[None]))
    x = torch.nn.functional.gelu(encoder.conv2(x)).permute(0, 2, 1) + encoder.embed_positions.weight
    for layer in encoder.layers:
        x = layer(x, None)
        x = x[0] if isinstance(x, tuple) else x
    states: Tensor = encoder.layer_norm(x)[0]
    return states


def wave(folder: Path, name: str) -> Any:
    """A random model of WAVES, saved; the model itself."""
    import transformers

    kind, own = WAVES[name]
    torch.manual_seed(0)
    model = shaken(getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**{**WAVE, **own})))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return model


@torch.no_grad()
def wave_states(model: Any) -> list[Tensor]:
    """(R, E) of each of `signals()`, each alone."""
    import transformers

    extract = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    given = [extract(signal, sampling_rate=16_000, return_tensors="pt").input_values for signal in signals()]
    return [model(values).last_hidden_state[0].clone() for values in given]


def _write_wave() -> None:
    folder = FIXTURES / "wav2vec2"
    shutil.rmtree(folder, ignore_errors=True)
    states = wave_states(wave(folder, "wav2vec2"))
    save_file({str(i): each for i, each in enumerate(states)}, folder / "reference.safetensors")


def _write_whisper() -> None:
    folder = FIXTURES / "whisper"
    shutil.rmtree(folder, ignore_errors=True)
    model = whisper(folder)
    held: dict[str, Tensor] = {}
    for name, padded in (("padded", True), ("native", False)):
        for i, (frames, states) in enumerate(whisper_states(model, padded)):
            held[f"{name}.{i}.states"] = states.clone()
            if padded and i < 2:
                held[f"{name}.{i}.frames"] = frames
    save_file(held, folder / "reference.safetensors")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "encoder." in k}, folder / "model.safetensors")
    for path in folder.iterdir():
        if path.name not in ("config.json", "preprocessor_config.json", "model.safetensors", "reference.safetensors"):
            path.unlink()
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "whisper"


if __name__ == "__main__":
    _write_whisper()
    _write_wave()
