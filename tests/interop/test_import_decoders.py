"""Qwen2 and kin as decoders that read their source as a prefix: logits, greedy output, ChatML; what is refused."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoder_references import DECODERS, FIXTURE, decoder, tokenizer
from rich.console import Console
from safetensors.torch import load_file, save_file

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.commands.app import main
from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.importing import import_model
from ofasys_lite.interop.live_decoder import example, own_logits
from ofasys_lite.plan.constraints import Given, Series
from ofasys_lite.preprocess.base import Context, RowContext
from ofasys_lite.preprocess.chat import ChatPreprocess

TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "is the cat here<|im_end|>?"},
    {"role": "assistant", "content": "the cat"},
]
SETTINGS = {"open": "<|im_start|>{role}\n", "close": "<|im_end|>\n", "max_length": 64, "history": 256}
ROLES = (("roles", ("system", "user", "assistant", "tool")), ("answers", "assistant"))


@pytest.mark.parametrize("name", DECODERS)
def test_logits_and_greedy_output_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    from ofasys_lite.interop.live import compare_live

    decoder(tmp_path, name)
    found = compare_live(import_model(tmp_path), tmp_path)
    assert {each.what: each.value for each in found if not each.fits} == {}
    assert len(found) == 3


def test_a_stored_reference_is_met_without_transformers() -> None:
    imported, held = import_model(FIXTURE), load_file(FIXTURE / "reference.safetensors")
    config = imported.generalist.network.config
    assert (config.source, config.qkv_bias, config.kv_heads, config.rotary_theta) == ("prefix", True, 2, 1e6)
    rows = [(held[f"{i}.source"].tolist(), held[f"{i}.target"].tolist()) for i in range(3)]
    examples = [example(str(i), source, target, 57) for i, (source, target) in enumerate(rows)]
    wanted = [held[f"{i}.logits"] for i in range(3)]
    for own, logits in zip(own_logits(imported, examples), wanted, strict=True):
        assert (own - logits).abs().max() < 1e-4
    for each, logits in zip(examples, wanted, strict=True):
        assert (own_logits(imported, [each])[0] - logits).abs().max() < 1e-4


def test_a_line_goes_on_behind_its_source_as_their_model_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    folder, run = tmp_path / "qwen", tmp_path / "run"
    text = tokenizer(folder)
    end, stop = (text.token_to_id(name) for name in ("<|im_end|>", "<|endoftext|>"))
    theirs = decoder(folder, "qwen2", vocab_size=280, bos_token_id=stop, eos_token_id=end, pad_token_id=stop)
    assert main(["import", str(folder), "--to", str(run), "--check"]) == 0
    printed = capsys.readouterr().out
    assert "Qwen2: 38 tensors mapped" in printed
    assert "ok   greedy: other outputs: 0" in printed
    model = GeneralistModel.from_pretrained(run, device="cpu")
    for line, said in (("[TEXT:q] -> [TEXT:a]", "is the cat"), ("where is [TEXT:q]? -> [TEXT:a]", "the cat")):
        prompt = text.encode(said if line.startswith("[") else "where is the cat?").ids
        banned = [i for i in range(280) if i >= stop and i != end]
        read = torch.tensor([prompt])
        out = theirs.generate(read, attention_mask=torch.ones_like(read), max_new_tokens=6, do_sample=False,
                              suppress_tokens=banned, eos_token_id=end, pad_token_id=stop)[0].tolist()  # fmt: skip
        wanted = [id for id in out[len(prompt) :] if id != end]
        assert wanted
        # the seventh is the end, which is forced
        assert model(line, q=said, max_length=7).text == text.decode(wanted)


def chat(folder: Path) -> tuple[ChatPreprocess, Any, Any]:
    """CHAT with the vocabulary of an imported model, the vocabulary, and the text model."""
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    text = tokenizer(folder)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(FIXTURE / name, folder / name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stop, end = text.token_to_id("<|endoftext|>"), text.token_to_id("<|im_end|>")
    ids = {"vocab_size": 280, "bos_token_id": stop, "eos_token_id": end, "pad_token_id": stop}
    (folder / "config.json").write_text(json.dumps({**config, **ids}), encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "model.embed_tokens.weight": torch.randn(280, 32)}, folder / "model.safetensors")
    vocabulary = import_model(folder).generalist.vocabulary.extended(
        ChatPreprocess.declare(TALK, ROLES, SETTINGS)  # type: ignore[arg-type]
    )
    return ChatPreprocess(Context(SETTINGS, vocabulary)), vocabulary, text


def test_conversations_are_laid_out_in_their_own_rows_of_chatml(tmp_path: Path) -> None:
    made, vocabulary, text = chat(tmp_path / "qwen")
    opened, end = text.token_to_id("<|im_start|>"), text.token_to_id("<|im_end|>")
    (line,) = text.encode("\n").ids

    # what their template writes, words cut by themselves: a mark that is typed stays words
    def turn(role: str, words: str) -> list[int]:
        text.encode_special_tokens = True
        return [opened, *text.encode(f"{role}\n").ids, *text.encode(words).ids, end, line]

    whole = [id for each in TALK for id in turn(each["role"], each["content"])]
    read = made.encode(TALK, ROLES, RowContext())  # type: ignore[arg-type]
    assert read.arrays["ids"].tolist() == whole
    assert whole.count(end) == 3
    learned = made.encode(TALK, ROLES, RowContext(side="target"))  # type: ignore[arg-type]
    assert learned.arrays["ids"].tolist() == whole[:-1]
    words = text.encode("the cat").ids
    assert learned.learn_P is not None
    assert learned.arrays["ids"][learned.learn_P].tolist() == [*words, end]
    # nothing is appended for what they have; marks of pictures are
    assert [name for name in vocabulary.declared if "im_" in name] == []
    assert "<|image|>" in vocabulary.declared


def test_an_answer_goes_on_behind_the_turns_and_is_found_again(tmp_path: Path) -> None:
    made, vocabulary, text = chat(tmp_path / "qwen")
    constraint = made.constraint(ROLES, RowContext(side="target", value=TALK))  # type: ignore[arg-type]
    assert isinstance(constraint, Series)
    given, free = constraint.parts
    assert isinstance(given, Given)
    assert list(given.ids[-len(vocabulary.spelled("<|im_start|>assistant\n")) :]) == list(
        vocabulary.spelled("<|im_start|>assistant\n")
    )
    assert free.close == text.token_to_id("<|im_end|>")  # type: ignore[union-attr]
    assert free.high <= text.token_to_id("<|endoftext|>")  # type: ignore[union-attr]
    ids = [*given.ids, *text.encode("it is").ids, text.token_to_id("<|im_end|>")]
    assert made.decode(torch.tensor(ids).numpy(), ROLES, RowContext()) == "it is"  # type: ignore[arg-type]


@pytest.mark.slow
def test_it_learns_further_with_pictures_and_conversations(tmp_path: Path) -> None:
    folder, run = tmp_path / "qwen", tmp_path / "run"
    chat(folder)
    assert main(["import", str(folder), "--to", str(run)]) == 0
    model = GeneralistModel.from_pretrained(run, device="cpu")
    before = model.generalist.network.embedding.weight.detach().clone()
    pixels = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(4)]
    seen = [{"img": each, "q": "what is it", "a": "the cat"} for each in pixels]
    tasks = [
        Task("see", "[IMAGE:img] [TEXT:q] -> [TEXT:a]", data={"train": seen, "valid": seen[:2], "test": seen[:2]}),
        Task("talk", "-> [CHAT:m]", data={"train": [{"m": TALK}] * 4, "valid": [{"m": TALK}], "test": [{"m": TALK}]}),
    ]
    said = {"console": Console(file=io.StringIO()), "workers": 0, "precision": "fp32"}
    fit(model, tasks, steps=3, folder=tmp_path / "further", **said)
    again = GeneralistModel.from_pretrained(tmp_path / "further", device="cpu")
    after = again.generalist.network.embedding.weight
    assert len(after) > len(before)
    assert 0 < (after[: len(before)] - before).abs().max() < 0.1
    assert [name for name in again.generalist.vocabulary.declared if "im_" in name] == []  # type: ignore[attr-defined]
    answer = again("-> [CHAT:m]", m=TALK[:2], max_length=4).text
    assert answer == model("-> [CHAT:m]", m=TALK[:2], max_length=4).text
    assert again("[IMAGE:img] [TEXT:q] -> [TEXT:a]", img=pixels[0], q="what is it", max_length=4).text is not None


@pytest.mark.slow
def test_one_run_begins_with_a_decoder_of_text_and_an_encoder_of_sound(tmp_path: Path) -> None:
    folder = tmp_path / "qwen"
    chat(folder)
    rng = np.random.default_rng(0)
    heard = [{"wav": {"array": rng.normal(0, 0.1, 9000).astype(np.float32), "rate": 16_000}, "a": "the cat"}] * 3
    data = {"train": heard, "valid": heard[:1], "test": heard[:1]}
    said = {
        "workers": 0,
        "precision": "fp32",
        "steps": 2,
        "folder": tmp_path / "run",
        "console": Console(file=io.StringIO()),
    }
    start = {"text": str(folder), "audio": str(FIXTURE.parents[1] / "audio" / "whisper")}
    fit(GeneralistModel("tiny"), [Task("hear", "[AUDIO:wav] says what? -> [TEXT:a]", data=data)], start=start, **said)
    shutil.rmtree(folder)
    again = GeneralistModel.from_pretrained(tmp_path / "run", device="cpu")
    assert again.config.source == "prefix"
    assert again.generalist.network.specs["audio"].path.endswith("WhisperAdapter")
    assert {name: each["house"] for name, each in again.generalist.parts.items()} == {
        "TEXT": "Qwen2",
        "AUDIO": "Whisper",
    }
    assert again("[AUDIO:wav] says what? -> [TEXT:a]", wav=heard[0]["wav"], max_length=4).text is not None


def copied(folder: Path, changes: dict[str, Any]) -> Path:
    shutil.copytree(FIXTURE, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_sliding_window": True, "sliding_window": 16}, "a window of 16 rows"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layers of the kinds"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "positions of the kind `yarn`"),
        ({"head_dim": 16}, "4 heads of 16 channels and a width of 32"),
        ({"attention_bias": True}, "`attention_bias` is True"),
        ({"hidden_act": "gelu"}, "`hidden_act` is gelu"),
        ({"num_hidden_layers": 4}, r"lacks `layers\.3"),
        ({"num_hidden_layers": 2}, r"Qwen2 has not: `layers\.2"),
        ({"num_key_value_heads": 4}, "has the shape"),
        ({"eos_token_id": None}, "`eos_token_id` is missing"),
        ({"eos_token_id": 99}, "special ids"),
        ({"model_type": "qwen"}, "did you mean `qwen2`"),
        ({"tie_word_embeddings": False}, "lacks `lm_head.weight`"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = copied(tmp_path / "qwen", changes)
    with pytest.raises(CheckpointError, match=message) as found:
        import_model(folder)
    assert str(tmp_path) in str(found.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cut or damaged"),
        (lambda path: path.unlink(), "holds no weights"),
        (lambda path: (path.parent / "tokenizer.json").write_text("{"), "tokenizer.json is damaged"),
    ],
)
def test_cut_files_are_refused(tmp_path: Path, change: Callable[[Path], Any], message: str) -> None:
    folder = copied(tmp_path / "qwen", {})
    change(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        import_model(folder)
