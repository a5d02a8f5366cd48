"""Whisper's encoder as a part: frames, states packed and one by one, its two forms of files, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audio_references import FIXTURES, signals, whisper, whisper_states
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.adapters.audio_whisper import WhisperAdapter
from ofasys_lite.adapters.base import Shared
from ofasys_lite.errors import CardError, CheckpointError, InstructionError
from ofasys_lite.generalist.parts import Part
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.audio_parts import audio_part
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side
from ofasys_lite.layout.pack import Part as Pieces
from ofasys_lite.preprocess.base import READ, Context, Piece, RowContext
from ofasys_lite.preprocess.whisper_frames import WhisperAudio

LIMIT, D = 1e-4, 12
WHISPER = FIXTURES / "whisper"


def adapter(part: Part, **more: Any) -> WhisperAdapter:
    """An adapter with the part's weights, what it lacks as drawn."""
    torch.manual_seed(0)
    settings = {**part.settings, **more}
    made = WhisperAdapter(settings, Shared(D, nn.Embedding(4, D)))
    missing, further = made.load_state_dict(dict(part.state), strict=False)
    assert not further
    assert all(name.startswith(part.fresh) for name in missing)
    return made.eval()


def pieces(part: Part, **more: Any) -> list[Piece]:
    settings = {**part.settings, **more}
    preprocess = WhisperAudio(Context(settings, None, adapter="audio"))  # type: ignore[arg-type]
    return [preprocess.encode((signal, 16_000), (), READ) for signal in signals()]


def packed(held: list[Piece]) -> Pieces:
    batch = collate([Example("t", str(i), (Side((piece,)),), ()) for i, piece in enumerate(held)])
    (found,) = to_device(batch, torch.device("cpu")).source.parts
    return found


def states(made: WhisperAdapter, held: list[Piece]) -> list[Tensor]:
    """(R, E) of each sound, all in one call."""
    part = packed(held)
    found = made.encoder(part.arrays["frames"], part.sizes["frames"])
    return list(found.split([-(-n // 2) for n in part.sizes["frames"]]))


def most(own: list[Tensor], wanted: list[Tensor]) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(own, wanted, strict=True))


@pytest.mark.parametrize("padded", [True, False])
def test_stored_states_are_met_without_transformers_packed_and_one_by_one(padded: bool) -> None:
    part = audio_part(str(WHISPER))
    held, made = pieces(part, padded=padded), adapter(part, padded=padded)
    reference = load_file(WHISPER / "reference.safetensors")
    wanted = [reference[f"{'padded' if padded else 'native'}.{i}.states"] for i in range(len(held))]
    assert [len(x) for x in wanted] == ([50] * 5 if padded else [50, 23, 8, 2, 3])
    assert most(states(made, held), wanted) < LIMIT
    assert most([states(made, [each])[0] for each in held], wanted) < LIMIT


def test_stored_frames_are_met_and_short_sounds_have_the_first_of_them() -> None:
    part, reference = audio_part(str(WHISPER)), load_file(WHISPER / "reference.safetensors")
    full, native = pieces(part, padded=True), pieces(part)
    for i in (0, 1):
        np.testing.assert_allclose(full[i].arrays["frames"], reference[f"padded.{i}.frames"], atol=LIMIT)
        np.testing.assert_array_equal(
            native[i].arrays["frames"], full[i].arrays["frames"][: len(signals()[i]) // 160 + bool(i)]
        )


@pytest.mark.parametrize("mels", [80, 128])
def test_frames_and_states_are_those_of_transformers(tmp_path: Path, mels: int) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    model = whisper(tmp_path, num_mel_bins=mels)
    part = audio_part(str(tmp_path))
    for padded in (True, False):
        wanted = whisper_states(model, padded)
        held, made = pieces(part, padded=padded), adapter(part, padded=padded)
        frames = [torch.from_numpy(piece.arrays["frames"]) for piece in held]
        assert most(frames, [each for each, _ in wanted]) < LIMIT
        assert most(states(made, held), [each for _, each in wanted]) < LIMIT
        assert most([states(made, [each])[0] for each in held], [each for _, each in wanted]) < LIMIT


def test_rows_of_a_pack_equal_rows_one_by_one_in_values_and_gradients() -> None:
    part = audio_part(str(WHISPER))
    made, held = adapter(part, join=2), pieces(part, join=2)
    assert [piece.count for piece in held] == [25, 12, 4, 1, 2]
    together = made.embed(packed(held))
    judge = torch.randn(together.shape, generator=torch.Generator().manual_seed(1))
    (together * judge).sum().backward()
    gradients = {name: p.grad for name, p in made.named_parameters()}
    made.zero_grad()
    alone = torch.cat([made.embed(packed([piece])) for piece in held])
    (alone * judge).sum().backward()
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)
        width = part.settings["whisper"]["width"]
        learned = parameter.grad if not name.endswith("qkv.bias") else parameter.grad[:width]
        assert learned is not None
        assert learned.abs().sum() > 0, name


def test_a_pack_without_sounds_touches_every_parameter() -> None:
    made = adapter(audio_part(str(WHISPER)))
    rows = made.embed(
        packed(pieces(audio_part(str(WHISPER)))[:1]).__class__("audio", torch.zeros(0).long(), (), {}, {})
    )
    assert rows.shape == (0, D)
    rows.sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_the_part_says_what_went_where_and_under_which_licence(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WHISPER, tmp_path / "w"))
    (folder / "README.md").write_text("---\nlanguage:\n- en\nlicense: apache-2.0\n---\n# Whisper\n", encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "model.decoder.layer_norm.weight": torch.ones(16)}, folder / "model.safetensors")
    part = audio_part(str(folder))
    assert (part.house, part.choice, part.licence) == ("Whisper", "whisper", "apache-2.0")
    assert part.settings["whisper"] == {
        "mels": 80, "places": 50, "width": 16, "layers": 2, "heads": 2, "ffn": 24, "mlp": "gelu"
    }  # fmt: skip
    assert part.settings["max_seconds"] == 1.0
    assert part.left == {"decoder.layer_norm.weight": "the decoder is not read"}
    assert len(part.origins) == len(weights)
    assert part.origins["encoder.layers.1.self_attn.v_proj.weight"][:2] == ("encoder.blocks.1.attention.qkv.weight", 32)


def test_a_file_of_whispers_authors_gives_the_same_part(tmp_path: Path) -> None:
    from ofasys_lite.interop.whisper_weights import _FILE, _FOLDER

    words = [pair for key in _FOLDER for pair in zip(_FOLDER[key].split(), _FILE[key].split(), strict=True)]
    tensors = {}
    for name, tensor in load_file(WHISPER / "model.safetensors").items():
        for theirs, wanted in words:
            name = (
                name.replace(f"encoder.{theirs}", f"encoder.{wanted}")
                if theirs in ("layers", "layer_norm")
                else (name if f".{theirs}" not in name else name.replace(theirs, wanted))
            )
        tensors[name.removeprefix("model.")] = tensor
    dims = {"n_mels": 80, "n_audio_ctx": 50, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 2, "n_vocab": 20}
    torch.save({"dims": dims, "model_state_dict": tensors}, tmp_path / "tiny.pt")
    with pytest.raises(CheckpointError, match=r"has the shape \[24, 16\], wanted is \[64, 16\]"):
        audio_part(str(tmp_path / "tiny.pt"))  # their feed-forward layers are always 4 times as wide
    for layer in (0, 1):
        tensors[f"encoder.blocks.{layer}.mlp.0.weight"] = torch.ones(64, 16)
        tensors[f"encoder.blocks.{layer}.mlp.0.bias"] = torch.ones(64)
        tensors[f"encoder.blocks.{layer}.mlp.2.weight"] = torch.ones(16, 64)
    torch.save({"dims": dims, "model_state_dict": tensors}, tmp_path / "tiny.pt")
    part, other = audio_part(str(tmp_path / "tiny.pt")), audio_part(str(WHISPER))
    assert part.settings == {**other.settings, "whisper": {**other.settings["whisper"], "ffn": 64}}
    assert part.state.keys() == other.state.keys()
    for name, tensor in part.state.items():
        if "mlp.into" not in name and "mlp.out.weight" not in name:
            torch.testing.assert_close(tensor, other.state[name], rtol=0, atol=0)


def test_a_sound_of_another_rate_is_resampled() -> None:
    part, signal = audio_part(str(WHISPER)), signals()[0]
    preprocess = WhisperAudio(Context(part.settings, None, adapter="audio"))  # type: ignore[arg-type]
    wide = np.repeat(signal, 3)  # at 48 kHz, as long
    piece = preprocess.encode((wide, 48_000), (), READ)
    assert piece.count == 50
    assert preprocess.rows_of((16_000,), ()) == 50
    own = preprocess.encode((signal, 16_000), (), READ)
    assert np.abs(piece.arrays["frames"][:, :20] - own.arrays["frames"][:, :20]).mean() < 0.1


def test_training_hides_bands_and_cuts_what_a_drawn_speed_makes_longer() -> None:
    part = audio_part(str(WHISPER))
    preprocess = WhisperAudio(Context(part.settings, None, adapter="audio"))  # type: ignore[arg-type]
    counts = set()
    for seed in range(12):
        known = RowContext(rng=np.random.default_rng(seed), train=True)
        piece = preprocess.encode((signals()[0], 16_000), (("speed", 0.1),), known)
        counts.add(piece.count)
        assert (piece.arrays["frames"] == 0).any() or seed
    assert counts == {46, 50}
    drawn = preprocess.encode((signals()[0], 16_000), (("specaugment", False),), known)
    np.testing.assert_array_equal(drawn.arrays["frames"], pieces(part)[0].arrays["frames"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "a model of the type `bert` reads no sound here"),
        ({"model_type": "wisper"}, "did you mean `whisper`"),
        ({"num_mel_bins": 40}, "`feature_size` is 80"),
        ({"encoder_layers": 3}, r"lacks `encoder\.layers\.2"),
        ({"encoder_layers": 1}, r"Whisper has not: `encoder\.layers\.1"),
        ({"d_model": 32}, r"has the shape"),
        ({"d_model": "wide"}, "`d_model` is 'wide'"),
        ({"max_source_positions": 49}, r"`encoder\.embed_positions\.weight` has the shape \[50, 16\]"),
        ({"activation_function": "maxout"}, "`activation_function` is maxout"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = Path(shutil.copytree(WHISPER, tmp_path / "w"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as found:
        audio_part(str(folder))
    assert str(tmp_path) in str(found.value)


def test_frames_of_another_kind_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WHISPER, tmp_path / "w"))
    said = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, "hop_length": 320}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="`hop_length` is 320"):
        audio_part(str(folder))
    (folder / "preprocessor_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json is damaged"):
        audio_part(str(folder))
    (folder / "preprocessor_config.json").unlink()
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "model.encoder.conv1.bias": torch.full((16,), float("nan"))}, path)
    with pytest.raises(CheckpointError, match="not finite"):
        audio_part(str(folder))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match="cut or damaged"):
        audio_part(str(folder))
    with pytest.raises(CheckpointError, match="no such file or folder"):
        audio_part(str(tmp_path / "nothing"))
    torch.save({"model": {"encoder.weight": torch.ones(2)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no encoder of sound that is known"):
        audio_part(str(tmp_path / "other.pt"))


def test_what_the_encoder_cannot_hear_is_refused_before_training() -> None:
    settings = dict(audio_part(str(WHISPER)).settings)
    WhisperAudio.check_options((), settings)
    with pytest.raises(CardError, match="`max_seconds` is 30"):
        WhisperAudio.check_options((("max_seconds", 30.0),), settings)
    with pytest.raises(InstructionError, match="which hears 16000 Hz"):
        WhisperAudio.check_options((("sample_rate", 8000),), settings)
    with pytest.raises(CardError, match="setting `sample_rate` of AUDIO is 8000"):
        WhisperAudio.check_options((), {**settings, "sample_rate": 8000})
    with pytest.raises(CardError, match="setting `padded` is 'yes'"):
        WhisperAudio.check_options((), {**settings, "padded": "yes"})
    padded = {**settings, "padded": True}
    with pytest.raises(InstructionError, match=r"fills them up again"):
        WhisperAudio.check_options((("max_length", 10),), padded)
    with pytest.raises(CardError, match="no head beside Whisper's encoder"):
        WhisperAdapter({**settings, "objectives": ["mae"]}, Shared(D, nn.Embedding(4, D)))


@pytest.mark.slow
def test_a_run_begins_with_whisper_learns_further_and_its_export_needs_nothing_else(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WHISPER, tmp_path / "w"))
    rng, line = np.random.default_rng(0), "[AUDIO:wav,loss=ctc(text,weight=0.3)] what is said? -> [TEXT:text]"
    sounds = [rng.normal(0, 0.1, 9000 + 400 * i).astype(np.float32) for i in range(6)]
    rows = [{"wav": {"array": s, "rate": 16_000}, "text": ("sun", "moon")[i % 2]} for i, s in enumerate(sounds)]
    task = Task("speech", line, data={"train": rows, "valid": rows[:2], "test": rows[:2]})
    model = GeneralistModel("tiny", width=32, encoder_layers=1, decoder_layers=1, heads=2, kv_heads=2, ffn=32)
    said = {"folder": tmp_path / "run", "console": Console(file=io.StringIO()), "workers": 0, "pieces": 300}
    fit(model, [task], steps=3, start={"audio": str(folder)}, precision="fp32", **said)
    begun = audio_part(str(folder)).state["encoder.blocks.1.mlp.into.weight"]
    own = model.generalist.network.adapters["audio"].encoder.blocks[1].mlp.into.weight
    assert 0 < (own - begun).abs().max() < 0.1
    shutil.rmtree(folder)
    again = GeneralistModel.from_pretrained(tmp_path / "run", device="cpu")
    assert again.generalist.network.specs["audio"].path.endswith("WhisperAdapter")
    first, second = (m(line, wav=rows[0]["wav"], max_length=4).text for m in (model, again))
    assert first == second
