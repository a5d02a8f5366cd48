"""BERT and RoBERTa of small random size beside transformers, where it is installed; a stored reference; refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import encoder_folders as folders
import pytest
import torch
from safetensors.torch import load_file, save_file

from ofasys_lite.commands.app import main
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.importing import import_model
from ofasys_lite.interop.text_parts import text_part
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.base import Piece


@pytest.mark.parametrize(
    ("kind", "head", "changes"),
    [
        ("Bert", False, {}),
        ("Bert", True, {"hidden_act": "relu", "layer_norm_eps": 1e-5}),
        ("Roberta", True, {"type_vocab_size": 1}),
    ],
)
def test_states_are_those_of_transformers(tmp_path: Path, kind: str, head: bool, changes: dict[str, Any]) -> None:
    from ofasys_lite.interop.live import compare_live

    folder = folders.saved(tmp_path, kind, head, **changes)
    imported = import_model(folder)
    found = compare_live(imported, folder)
    assert [each.what for each in found] == ["encoder states, packed", "encoder states, one by one"]
    assert {each.what: each.value for each in found if not each.fits} == {}
    assert all(not name.startswith(("encoder.", "embeddings.w")) for name in imported.left)


def test_stored_states_are_met_without_transformers() -> None:
    imported = import_model(folders.FIXTURE)
    held = load_file(folders.FIXTURE / "reference.safetensors")
    rows = [held[f"{i}.source"].tolist() for i in range(len(held) // 2)]
    examples = [Example("row", str(i), (Side((Piece.of_ids(row),)),), ()) for i, row in enumerate(rows)]
    network = imported.generalist.network
    with torch.no_grad():
        for pack in (examples, examples[:1], examples[1:2], examples[2:]):
            batch = to_device(collate(pack), torch.device("cpu"))
            states = network.encode(batch.source).split(list(batch.source.lengths))
            for each, own in zip(pack, states, strict=True):
                assert (own - held[f"{each.id}.states"]).abs().max() < 1e-4


def test_the_command_says_what_was_left_and_how_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(folders.FIXTURE), "--to", str(tmp_path / "x")]) == 0
    told = capsys.readouterr().out
    assert "BERT: 37 tensors mapped" in told
    assert "pooler.dense.bias and 1 more: the vector of the first token" in told
    assert f"it writes nothing; a training gives it a decoder: ofasys-lite train start.text={folders.FIXTURE}" in told


def test_text_stands_between_their_marks_and_files_that_pad_are_read_without_padding(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    vocabulary = import_model(folders.FIXTURE).generalist.vocabulary
    names = folders.vocabulary()
    assert [[vocabulary.control(n) for n in ("start", "close", "pad", "mask")], vocabulary.around] == [
        [names.index(n) for n in ("[CLS]", "[SEP]", "[PAD]", "[MASK]")],
        ((names.index("[CLS]"),), (names.index("[SEP]"),)),
    ]
    ids = vocabulary.encode("The PLUMS, unable?")
    assert [names[id] for id in ids] == ["the", "plum", "##s", ",", "un", "##able", "?"]
    assert vocabulary.decode(ids) == "the plums, unable?"
    for path in folders.FIXTURE.iterdir():
        shutil.copy(path, tmp_path)
    held = tokenizers.Tokenizer.from_str(vocabulary.model.decode())
    held.enable_padding(length=128)
    held.enable_truncation(2)
    held.save(str(tmp_path / "tokenizer.json"))
    assert import_model(tmp_path).generalist.vocabulary.encode("The PLUMS, unable?") == ids


def test_a_body_has_the_sizes_of_the_weights_and_the_decoder_of_the_run() -> None:
    body = text_part(str(folders.FIXTURE))
    asked = ModelConfig(width=64, decoder_layers=3, dropout=0.2, kv_heads=2, qk_norm=True)
    config = body.sizes(asked)
    assert (config.width, config.encoder_layers, config.decoder_layers, config.dropout) == (32, 2, 3, 0.1)
    assert body.sizes(asked, ["dropout"]).dropout == 0.2
    assert (config.kv_heads, config.qk_norm, config.norm_place) == (4, False, "after")
    assert body.vocabulary is not None
    vocabulary = body.vocabulary.extended(["=yes", "=no"])
    network = body.network(config, vocabulary, {})
    held = load_file(folders.FIXTURE / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert network.embedding.weight[: len(held)].equal(held)
    assert len(network.embedding.weight) == len(vocabulary)


def stand_in(folder: Path, **changes: Any) -> Path:
    """The stored BERT with some keys of config.json changed."""
    shutil.copytree(folders.FIXTURE, folder)
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**said, **changes}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, r"has the shape \[\d+, 32\], wanted is \[\d+, 64\]"),
        ({"num_hidden_layers": 3}, r"lacks `encoder\.layer\.2\."),
        ({"num_hidden_layers": 1}, r"holds what BERT has not: `encoder\.layer\.1\."),
        ({"hidden_act": "maxout"}, "`hidden_act` is maxout"),
        ({"is_decoder": True}, "it is a decoder"),
        ({"position_embedding_type": "relative_key"}, "`position_embedding_type` is relative_key"),
        ({"model_type": "electra"}, "a model of the type `electra` is not known"),
        ({"num_attention_heads": 5}, "does not split into 5 heads"),
        ({"hidden_dropout_prob": "much"}, "`hidden_dropout_prob` is 'much'"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        text_part(str(stand_in(tmp_path / "x", **changes)))


def test_half_a_file_missing_weights_and_another_tokenizer_are_refused(tmp_path: Path) -> None:
    folder = stand_in(tmp_path / "x")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cut or damaged"):
        text_part(str(folder))
    path.write_bytes(whole)
    tensors = load_file(path)
    save_file({n: t for n, t in tensors.items() if "word_embeddings" not in n}, path)
    with pytest.raises(CheckpointError, match=r"lacks `embeddings\.word_embeddings\.weight`"):
        text_part(str(folder))
    save_file(tensors, path)
    words = (folder / "vocab.txt").read_text(encoding="utf-8")
    (folder / "vocab.txt").write_text(f"{words}further\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="it is the text model of other weights"):
        text_part(str(folder))
    (folder / "vocab.txt").write_text(words.replace("[CLS]", "<cls>"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"has no token \[CLS\]"):
        text_part(str(folder))
    (folder / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match="holds no text model"):
        text_part(str(folder))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "nothing is fetched here.*hf download sentence-transformers/all-M"),
        ("nowhere", "no such folder.*hf download NAME --local-dir"),
        (__file__, "is no file of weights by its name"),
        (str(Path(__file__).parent), "holds no config.json"),
    ],
)
def test_what_is_no_folder_of_weights_is_told(source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        text_part(source)
