"""wav2vec 2.0 and HuBERT as parts: samples, states packed and one by one, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audio_references import FIXTURES, WAVES, signals, wave, wave_states
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ofasys_lite.adapters.audio_wave import WaveAdapter
from ofasys_lite.adapters.base import Shared
from ofasys_lite.errors import CardError, CheckpointError, DataError, InstructionError
from ofasys_lite.generalist.parts import Part
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.audio_parts import audio_part
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side
from ofasys_lite.layout.pack import Part as Pieces
from ofasys_lite.preprocess.base import READ, Context, Piece
from ofasys_lite.preprocess.wave import WaveAudio, WaveFrames

LIMIT, D = 1e-4, 12
FOLDER = FIXTURES / "wav2vec2"


def adapter(part: Part, **more: Any) -> WaveAdapter:
    torch.manual_seed(0)
    made = WaveAdapter({**part.settings, **more}, Shared(D, nn.Embedding(4, D)))
    missing, further = made.load_state_dict(dict(part.state), strict=False)
    assert not further
    assert all(name.startswith(part.fresh) for name in missing)
    return made.eval()


def reader(part: Part, **more: Any) -> WaveAudio:
    return WaveAudio(Context({**part.settings, **more}, None, adapter="audio"))  # type: ignore[arg-type]


def pieces(part: Part, **more: Any) -> list[Piece]:
    return [reader(part, **more).encode((signal, 16_000), (), READ) for signal in signals()]


def packed(held: list[Piece]) -> Pieces:
    batch = collate([Example("t", str(i), (Side((piece,)),), ()) for i, piece in enumerate(held)])
    (found,) = to_device(batch, torch.device("cpu")).source.parts
    return found


@torch.no_grad()
def states(made: WaveAdapter, held: list[Piece]) -> list[Tensor]:
    part = packed(held)
    found, counts = made.encoder(part.arrays["samples"], part.sizes["samples"])
    return list(found.split(counts))


def most(own: list[Tensor], wanted: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(own, wanted, strict=True))


def met(part: Part, wanted: list[Tensor]) -> bool:
    made, held = adapter(part), pieces(part)
    together, alone = states(made, held), [states(made, [each])[0] for each in held]
    return most(together, wanted) < LIMIT and most(alone, wanted) < LIMIT


@pytest.mark.parametrize("name", WAVES)
def test_states_are_those_of_transformers_packed_and_one_by_one(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    model = wave(tmp_path, name)
    part = audio_part(str(tmp_path))
    assert met(part, wave_states(model))
    assert part.house == ("HuBERT" if name == "hubert" else "wav2vec 2.0")
    assert set(part.left) == {"masked_spec_embed"}


def test_stored_states_are_met_without_transformers() -> None:
    reference = load_file(FOLDER / "reference.safetensors")
    wanted = [reference[str(i)] for i in range(len(signals()))]
    assert [len(each) for each in wanted] == [49, 21, 7, 1, 2]
    assert met(audio_part(str(FOLDER)), wanted)


def test_rows_of_a_pack_equal_rows_one_by_one_in_values_and_gradients() -> None:
    part = audio_part(str(FOLDER))
    made, held = adapter(part, join=2), pieces(part, join=2)
    assert [piece.count for piece in held] == [25, 11, 4, 1, 1]
    together = made.embed(packed(held))
    judge = torch.randn(together.shape, generator=torch.Generator().manual_seed(1))
    (together * judge).sum().backward()
    gradients = {name: p.grad for name, p in made.named_parameters()}
    made.zero_grad()
    alone = torch.cat([made.embed(packed([piece])) for piece in held])
    (alone * judge).sum().backward()
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-3, msg=name)
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name
    made.zero_grad()
    made.embed(Pieces("audio", torch.zeros(0).long(), (), {}, {})).sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_size_and_direction_of_older_files_are_the_same_weight(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "w"))
    weights = load_file(folder / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, tensor in weights.items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[f"wav2vec2.{name}"] = tensor
    save_file({**renamed, "lm_head.weight": torch.ones(3, 16)}, folder / "model.safetensors")
    part, other = audio_part(str(folder)), audio_part(str(FOLDER))
    assert set(part.left) == {"masked_spec_embed", "lm_head.weight"}
    for name, tensor in part.state.items():
        torch.testing.assert_close(tensor, other.state[name], rtol=0, atol=0)


def test_rows_are_counted_by_length_alone_and_short_sounds_are_refused() -> None:
    frames, made = WaveFrames(16_000, 8), reader(audio_part(str(FOLDER)))
    assert frames.samples(1) == 400
    for count in (1, 2, 7, 49):
        assert frames.frames(frames.samples(count)) == count
        assert frames.frames(frames.samples(count) - 1) == count - 1
        assert made.rows_of((frames.samples(count),), ()) == count
    assert made.encode((signals()[0], 16_000), (("max_length", 5),), READ).count == 5
    assert made.rows_of((16_000,), (("max_length", 5),)) == 5
    wide = np.repeat(signals()[0], 3)
    assert made.encode((wide, 48_000), (), READ).count == 49
    with pytest.raises(DataError, match="too short"):
        made.encode((signals()[0][:399], 16_000), (), READ)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"add_adapter": True}, "`add_adapter` is True"),
        ({"conv_pos_batch_norm": True}, "`conv_pos_batch_norm` is True"),
        ({"feat_extract_norm": "batch"}, "`feat_extract_norm` is batch"),
        ({"feat_extract_activation": "relu"}, "`feat_extract_activation` is relu"),
        ({"conv_kernel": 10}, "`conv_kernel` is 10"),
        ({"conv_stride": [5, 2]}, "are of several lengths"),
        ({"feat_extract_norm": "layer"}, r"lacks `feature_extractor\.conv_layers\.1\.layer_norm"),
        ({"num_hidden_layers": 1}, r"has not: `encoder\.layers\.1"),
        ({"hidden_size": 20}, "has the shape"),
        ({"hidden_act": "maxout"}, "`hidden_act` is maxout"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "w"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as found:
        audio_part(str(folder))
    assert str(tmp_path) in str(found.value)


def test_another_rate_hidden_bands_and_sizes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "w"))
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="`sampling_rate` is 8000"):
        audio_part(str(folder))
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}', encoding="utf-8")
    plain = reader(audio_part(str(folder))).encode((signals()[0], 16_000), (), READ)
    np.testing.assert_array_equal(plain.arrays["samples"], signals()[0])
    settings = dict(audio_part(str(FOLDER)).settings)
    WaveAudio.check_options((), settings)
    with pytest.raises(InstructionError, match="reads samples"):
        WaveAudio.check_options((("specaugment", True),), settings)
    with pytest.raises(InstructionError, match="which hears 16000 Hz"):
        WaveAudio.check_options((("sample_rate", 8000),), settings)
    with pytest.raises(CardError, match="setting `sample_rate` of AUDIO is 8000"):
        WaveAudio.check_options((), {**settings, "sample_rate": 8000})
    shared = Shared(D, nn.Embedding(4, D))
    for changes, message in (
        ({"channels": [8]}, "channels` is"),
        ({"groups": 5}, "in 5 groups"),
        ({"strides": [2]}, "7 and 1"),
    ):
        with pytest.raises(CardError, match=message):
            WaveAdapter({"wav2vec2": {**settings["wav2vec2"], **changes}}, shared)
    with pytest.raises(CardError, match=r"no head beside the encoder of wav2vec 2\.0"):
        WaveAdapter({**settings, "objectives": ["mae"]}, shared)
