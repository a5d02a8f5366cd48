"""BART, mBART, Marian and T5 of small random size beside transformers, where it is installed; and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ofasys_lite import GeneralistModel
from ofasys_lite.commands.app import main
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.importing import import_model
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side, Target
from ofasys_lite.preprocess.base import Piece

SIZES = {
    "vocab_size": 60,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 40,
}
T5 = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("Bart", SIZES),
    "bart, scaled, relu": ("Bart", {**SIZES, "scale_embedding": True, "activation_function": "relu"}),
    "mbart": ("MBart", {**SIZES, "scale_embedding": True, "decoder_start_token_id": 2}),
    "marian": (
        "Marian",
        {**SIZES, "pad_token_id": 59, "eos_token_id": 0, "decoder_start_token_id": 59, "scale_embedding": True,
         "activation_function": "swish", "bos_token_id": None, "forced_eos_token_id": 0},
    ),
    "t5": ("T5", {**T5, "decoder_start_token_id": 0}),
    "t5 v1.1": (
        "T5",
        {**T5, "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
}  # fmt: skip


def saved(folder: Path, name: str) -> Path:
    """A random model as transformers saves it, its tables and gains drawn wide enough to be seen."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    house, sizes = MODELS[name]
    torch.manual_seed(0)
    model = getattr(transformers, "T5ForConditionalGeneration" if house == "T5" else {
        "Bart": "BartForConditionalGeneration", "MBart": "MBartForConditionalGeneration", "Marian": "MarianMTModel"
    }[house])(getattr(transformers, f"{house}Config")(**sizes))  # fmt: skip
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "embed_positions" not in key or house != "Marian":
                parameter.add_(0.1 * torch.randn_like(parameter))
        if house == "Marian":
            model.final_logits_bias.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_states_logits_gradients_and_hypotheses_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    from ofasys_lite.interop.live import compare_live

    folder = saved(tmp_path, name)
    found = compare_live(import_model(folder), folder)
    assert {each.what: each.value for each in found if not each.fits} == {}
    names = {each.what.partition(",")[0] for each in found}
    assert names == {"encoder states", "logits", "ce_sum", "gradient norms", "greedy", "beam4", "beam4_ngram"}


def test_the_command_compares_with_the_live_library_and_the_run_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = saved(tmp_path / "bart", "bart"), tmp_path / "runs" / "x"
    assert main(["import", str(folder), "--to", str(run), "--check"]) == 0
    printed = capsys.readouterr().out
    assert "BART: " in printed
    assert "ok   beam4, packed: other hypotheses: 0" in printed
    assert GeneralistModel.from_pretrained(run, device="cpu").config.norm_place == "after"


@pytest.mark.parametrize("name", ["bart", "marian", "t5"])
def test_stored_references_are_met_without_transformers(name: str) -> None:
    folder = Path(__file__).resolve().parents[1] / "fixtures" / "hugging_face" / name
    imported = import_model(folder)
    held = load_file(folder / "reference.safetensors")
    start = imported.generalist.vocabulary.control("start")
    rows = [(held[f"{i}.source"].tolist(), held[f"{i}.target"].tolist()) for i in range(len(held) // 4)]
    examples = [
        Example("row", str(i), (Side((Piece.of_ids(s),)),), (Target((Piece.of_ids(t),), (), True, start),))
        for i, (s, t) in enumerate(rows)
    ]
    network = imported.generalist.network
    with torch.no_grad():
        for pack in (examples, examples[:1], examples[1:2], examples[2:3]):
            batch = to_device(collate(pack), torch.device("cpu"))
            states = network.encode(batch.source)
            logits = network.text.scores(network.decode(batch, states)).split(list(batch.target.lengths))
            for each, own, scores in zip(pack, states.split(list(batch.source.lengths)), logits, strict=True):
                assert (own - held[f"{each.id}.states"]).abs().max() < 1e-4
                assert (scores - held[f"{each.id}.logits"]).abs().max() < 1e-4


def stand_in(folder: Path, changes: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """A folder in Hugging Face's form, made without the library."""
    config = {
        **SIZES,
        "model_type": "bart",
        "pad_token_id": 1,
        "eos_token_id": 2,
        "bos_token_id": 0,
        "decoder_start_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    save_file(tensors or {"model.shared.weight": torch.ones(60, 32)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"lacks `encoder\.embed_positions\.weight`"),
        ({"activation_function": "maxout"}, "`activation_function` is maxout"),
        ({"decoder_ffn_dim": 64}, "encoder_ffn_dim is 48, decoder_ffn_dim is 64"),
        ({"d_model": "wide"}, "`d_model` is 'wide'"),
        ({"eos_token_id": 77}, "special ids"),
        ({"model_type": "t5", **T5, "d_kv": 16}, "4 heads of 16 channels and a width of 32"),
        ({"ofasys_lite": "1"}, "a model of this package already"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as found:
        import_model(stand_in(tmp_path, changes))
    assert str(tmp_path) in str(found.value)


def test_cut_weights_and_foreign_shards_are_refused(tmp_path: Path) -> None:
    path = stand_in(tmp_path, {}) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="cut or damaged"):
        import_model(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        import_model(tmp_path)
    index = {"weight_map": {"model.shared.weight": "../../etc/passwd"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match="outside of its folder"):
        import_model(tmp_path)


def test_a_missing_and_a_further_tensor_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "bart")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if "layers.1.fc2.weight" not in k}, path)
    with pytest.raises(CheckpointError, match=r"lacks `\w+coder\.layers\.1\.fc2\.weight`"):
        import_model(folder)
    save_file({**tensors, "model.encoder.layers.2.fc1.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"BART has not: `encoder\.layers\.2\.fc1\.weight`"):
        import_model(folder)
