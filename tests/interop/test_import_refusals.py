"""Hostile and broken checkpoints: refused with what, where and what to do; nothing of them runs."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ofasys_worlds as worlds
import pytest
import torch

from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.audio_parts import audio_part
from ofasys_lite.interop.image_parts import image_part
from ofasys_lite.interop.importing import import_model
from ofasys_lite.interop.text_parts import text_part

#: What Whisper's authors say of a model, by their names.
WHISPER_DIMS = dict.fromkeys(("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer"), 2)


class Evil:
    """Pickles as a call of os.mkdir."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


class Sly(dict):  # type: ignore[type-arg]
    """A mapping of a class of its own."""


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "it-ran"
    path = tmp_path / "evil.pt"
    torch.save({"model": worlds.state(), "args": Evil(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pt holds an object of `\w+\.mkdir`, and .* nothing was run"):
        import_model(path)
    assert not mark.exists()


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "it-ran", tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(CheckpointError, match=r"nothing was run|cut or damaged"):
        import_model(path)
    assert not mark.exists()


def test_objects_of_unknown_classes_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"model": worlds.state(), "cfg": Sly(a=1)}, tmp_path / "sly.pt")
    with pytest.raises(CheckpointError, match="Sly"):
        import_model(tmp_path / "sly.pt")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_half_a_file_is_refused(tmp_path: Path, share: float) -> None:
    path = worlds.checkpoint(tmp_path, worlds.state())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="cut or damaged") as found:
        import_model(path)
    assert "copy it again" in str(found.value)


def _changed(name: str, value: Any) -> dict[str, Any]:
    tensors: dict[str, Any] = worlds.state()
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value(tensors[name])
    return tensors


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lambda: _changed("encoder.layers.1.fc2.weight", None), r"lacks `encoder\.layers\.1\.fc2\.weight`"),
        (
            lambda: _changed("encoder.layer_norm.bias", lambda t: t[:-1]),
            r"`encoder\.layer_norm\.bias` has the shape \[63\]",
        ),
        (lambda: _changed("decoder.layers.0.fc1.weight", lambda t: t * float("nan")), "not finite"),
        (
            lambda: _changed("encoder.adaptor.embed_tokens.weight", lambda t: t[:-9]),
            "has 1336 rows, the weights .* have 1327",
        ),
        (lambda: _changed("encoder.layers.0.self_attn.c_attn", lambda t: t[:2]), "gains of heads do not fit"),
        (
            lambda: worlds.state() | {"encoder.layers.0.moe.gate": torch.ones(2)},
            r"OFASys has not: `encoder\.layers\.0\.moe",
        ),
        (lambda: {"bert.embeddings.weight": torch.ones(2, 2)}, "is not of OFASys, OFA or fairseq"),
        (
            lambda: worlds.state() | {"decoder.output_projection.weight": torch.ones(1336, 64)},
            r"`decoder\.output_projection\.weight` is not the encoder's table",
        ),
        (dict, "holds no weights"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, tensors: Any, message: str) -> None:
    path = worlds.checkpoint(tmp_path, tensors())
    with pytest.raises(CheckpointError, match=message) as found:
        import_model(path)
    assert str(path) in str(found.value)
    assert found.value.help


def test_another_scale_of_attention_is_refused(tmp_path: Path) -> None:
    from argparse import Namespace

    path = worlds.checkpoint(tmp_path, worlds.state(), args=Namespace(attn_scale_factor=1))
    with pytest.raises(CheckpointError, match="attn_scale_factor is 1"):
        import_model(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "there is no dictionary"), ("<s>\n<pad>\n", "has 2 rows"), ("", "has 4 rows")],
)
def test_another_dictionary_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = worlds.checkpoint(tmp_path, worlds.state())
    (tmp_path / "dict.txt").unlink()
    if text is not None:
        (tmp_path / "dict.txt").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        import_model(path)


def test_another_text_model_is_refused_when_text_is_read(tmp_path: Path) -> None:
    path = worlds.checkpoint(tmp_path, worlds.state())
    with pytest.raises(CheckpointError, match="holds no text model"):
        import_model(path, tokenizer=tmp_path)
    with pytest.raises(CheckpointError, match="without their text model"):
        import_model(path).generalist.vocabulary.encode("a bus")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        import_model(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        import_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bort"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="type `bort` is not known") as found:
        import_model(tmp_path)
    assert "bart" in str(found.value)
    (tmp_path / "notes.doc").write_text("x", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no file of weights by its name"):
        import_model(tmp_path / "notes.doc")


@pytest.mark.parametrize(
    ("kind", "read", "part"),
    [
        ("clip", text_part, "image"),
        ("qwen2_vl", text_part, "image"),
        ("whisper", text_part, "audio"),
        ("wav2vec2", image_part, "audio"),
        ("t5", image_part, "text"),
        ("qwen2", audio_part, "text"),
        ("siglip", audio_part, "image"),
    ],
)
def test_weights_of_another_part_are_told_where_they_belong(
    tmp_path: Path, kind: str, read: Callable[[str], Any], part: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"`{kind}`") as found:
        read(str(tmp_path))
    assert f": start.{part}=SOURCE" in str(found.value)


@pytest.mark.parametrize(
    ("held", "read", "part"),
    [
        ({"model": {"encoder.conv1.weight": torch.ones(2)}, "dims": WHISPER_DIMS}, text_part, "audio"),
        ({"model": {"encoder.conv1.weight": torch.ones(2)}, "dims": WHISPER_DIMS}, image_part, "audio"),
        ({"_conv_stem.weight": torch.ones(2)}, text_part, "image"),
        ({"_conv_stem.weight": torch.ones(2)}, audio_part, "image"),
    ],
)
def test_a_file_of_another_part_is_told_where_it_belongs(
    tmp_path: Path, held: dict[str, Any], read: Callable[[str], Any], part: str
) -> None:
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f": start.{part}=SOURCE"):
        read(str(tmp_path / "a.pt"))
