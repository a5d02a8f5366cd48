"""Runs that begin with an encoder or an encoder-decoder of others: `start.text=FOLDER`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.commands.train import main
from ofasys_lite.errors import CardError, CheckpointError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.preprocess.vocabulary import CONTROLS

pytest.importorskip("tokenizers", reason="tokenizers is not installed")
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "hugging_face"
CLOSED = "[TEXT:q] which? -> [TEXT:a,closed_set]"
FREE = "[TEXT:q] again? -> [TEXT:q{}]"
SMALL = ["model=tiny", "trainer.workers=0", "trainer.valid_every=0", "trainer.threads=1", "evaluate=false"]
STILL = ["trainer.lr=1e-9", "trainer.weight_decay=0", "trainer.ema=0"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a task's data, and weights of BERT."""
    rows = [f"I saw a {word}-{n},{word[:1]}" for n in range(30) for word in ("plum", "bus")]
    (tmp_path / "d.csv").write_text("q,a\n" + "\n".join(rows) + "\n", encoding="utf-8")
    shutil.copytree(FIXTURES / "bert", tmp_path / "bert")
    (tmp_path / "bert" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(name: str, *more: str, steps: int = 2, line: str = CLOSED) -> None:
    task = [f"+tasks.t.instruction={line}", "+tasks.t.data.train=d.csv"]
    code = main([f"name={name}", f"steps={steps}", *SMALL, *task, *more])
    assert code == 0


def bart(folder: Path) -> Path:
    """The stored BART with a text model of bytes: 60 rows, four of them special."""
    shutil.copytree(FIXTURES / "bart", folder)
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "\u0120": 4}
    letters = [*map(chr, range(97, 123)), *"0123456789-", *map(chr, range(65, 84))]
    words |= {letter: 5 + n for n, letter in enumerate(letters[:55])}
    (folder / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return folder


def test_an_encoder_brings_sizes_vocabulary_and_states_and_the_decoder_is_the_presets(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train("x", "start.text=bert", *STILL)
    told = " ".join("".join(capfd.readouterr()).split())
    assert "TEXT begins with BERT (bert), " in told
    assert "fresh: body.decoder; left: 2 tensors; licence: mit" in told
    assert "sizes come with the weights of BERT: width 32 (not 128), ffn 48 (not 512)" in told
    model = Generalist.from_pretrained("runs/x", "cpu")
    config = model.network.config
    assert (config.width, config.encoder_layers, config.decoder_layers, config.places) == (32, 2, 2, 40)
    held = load_file("bert/model.safetensors")
    state = model.network.state_dict()
    rows = len(held["embeddings.word_embeddings.weight"])
    assert (state["embedding.weight"][:rows] - held["embeddings.word_embeddings.weight"]).abs().max() < 1e-6
    query = state["body.encoder.1.attention.qkv.weight"][:32]
    assert (query - held["encoder.layer.1.attention.self.query.weight"]).abs().max() < 1e-6
    lacking = len(CONTROLS) - 4  # it has rows for start, close, pad and mask
    assert len(model.vocabulary) == rows + lacking + model.vocabulary.bins + 2
    assert model.modalities["TEXT"].settings["max_length"] == 38  # what is written ends before its last place
    assert model.parts == {"TEXT": {"house": "BERT", "source": "bert", "licence": "mit"}}
    used = GeneralistModel.from_pretrained("runs/x", device="cpu")
    assert used.predict("t", [{"q": "I saw a plum-3"}])[0].text in ("p", "b")
    # a run that begins with that one, and says nothing of BERT, has it all
    again = [each for each in SMALL if not each.startswith("model")]
    task = [f"+tasks.t.instruction={CLOSED}", "+tasks.t.data.train=d.csv"]
    main(["name=y", "start=runs/x", "steps=1", *again, *task])
    assert Generalist.from_pretrained("runs/y", "cpu").parts == model.parts


def test_a_run_goes_on_bit_for_bit_when_the_folder_is_gone(here: Path) -> None:
    more = ["start.text=bert", "trainer.schedule=constant", "trainer.warmup=0"]
    train("whole", *more, steps=4)
    train("cut", *more)
    shutil.rmtree("bert")
    assert main(["resume=runs/cut", "steps=4", "evaluate=false"]) == 0
    whole, cut = (Generalist.from_pretrained(f"runs/{name}", "cpu") for name in ("whole", "cut"))
    assert whole.vocabulary.hash == cut.vocabulary.hash
    for name, value in whole.network.state_dict().items():
        assert value.equal(cut.network.state_dict()[name]), name


def test_dropout_is_what_the_weights_were_trained_with_unless_the_user_says_otherwise(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train("theirs", "start.text=bert")
    assert "dropout 0.1 (not 0.0)" in " ".join("".join(capfd.readouterr()).split())
    train("mine", "start.text=bert", "model.dropout=0.3")
    assert "dropout" not in "".join(capfd.readouterr())
    shutil.rmtree("bert")
    for name, dropout in (("theirs", 0.1), ("mine", 0.3)):
        assert main([f"resume=runs/{name}", "steps=4"]) == 0
        assert Generalist.from_pretrained(f"runs/{name}", "cpu").network.config.dropout == dropout


def test_an_encoder_decoder_brings_its_decoder_too(here: Path) -> None:
    bart(here / "bart")
    train("x", "start.text=bart", *STILL, line=FREE.format(""))
    model = Generalist.from_pretrained("runs/x", "cpu")
    held = load_file("bart/model.safetensors")
    own = model.network.state_dict()["body.decoder.0.cross.q.weight"]
    assert (own - held["model.decoder.layers.0.encoder_attn.q_proj.weight"]).abs().max() < 1e-6
    with pytest.raises(CheckpointError, match=r"model\.decoder_layers is 2 there, and 5 is asked for"):
        train("y", "start.text=bart", "model.decoder_layers=5")


def test_a_decoder_that_reads_its_source_as_a_prefix_begins_a_run_too(here: Path) -> None:
    shutil.copytree(FIXTURES / "qwen2", "qwen2")
    signs = ["\u0120", *map(chr, range(97, 123)), *"0123456789-?", *map(chr, range(65, 83))]
    words = {sign: row for row, sign in enumerate(signs[:57])}
    Path("qwen2/vocab.json").write_text(json.dumps(words), encoding="utf-8")
    Path("qwen2/merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    train("x", "start.text=qwen2", *STILL, line=FREE.format(""))
    model = Generalist.from_pretrained("runs/x", "cpu")
    held = load_file("qwen2/model.safetensors")
    own = model.network.state_dict()["body.decoder.2.mlp.out.weight"]
    assert (own - held["model.layers.2.mlp.down_proj.weight"]).abs().max() < 1e-6
    assert (model.network.config.encoder_layers, model.parts["TEXT"]["house"]) == (0, "Qwen2")


def test_free_text_in_word_pieces_is_refused_or_accepted_and_counted(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CardError, match=r"\[TEXT:q\] would be written in word pieces, which lose case, accents and"):
        train("x", "start.text=bert", line=FREE.format(""))
    with pytest.raises(CardError, match="which lose case"):
        train("x", "start.text=bert", line="[TEXT:q] -> [STRUCT:a]")
    Path("s.jsonl").write_text(json.dumps({"q": "how many?", "s": {"t": ["a"]}, "a": "SELECT a FROM t"}) + "\n")
    grammar = "[TEXT:q] -> [TEXT:a,grammar=sql(s),uncased]"
    with pytest.raises(CardError, match="`a` has a grammar, and pieces of others are not known byte by byte"):
        train("x", "start.text=bert", "+tasks.t.data.train=s.jsonl", line=grammar)
    train("x", "start.text=bert", *STILL, line=FREE.format(",uncased"))
    told = " ".join("".join(capfd.readouterr()).split())
    assert "values of `q` are not written as they stand: 'i saw a plum-0' as 'i saw a plum - 0'" in told
    with pytest.raises(CheckpointError, match=r"(?s)runs/x is a run of this package.*start=runs/x"):
        train("y", "start.text=runs/x")
    train("y", "start.text=bert", "model.decoder_layers=1", "model.dropout=0.1", *STILL)
    assert Generalist.from_pretrained("runs/y", "cpu").network.config.decoder_layers == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["start.text=bert", "start.path=runs/x"], r"path \(runs/x\) and text \(bert\) are both given"),
        (["start.txt=bert"], "start: unknown key `txt`.*did you mean `text`"),
        (["start.imge=clip"], "start: unknown key `imge`.*did you mean `image`"),
        (["start.text=bert", "model.width=64"], "model.width is 32 there, and 64 is asked for.*model.decoder_layers"),
        (["start.text=bert", "data.pieces=300"], "data.pieces cannot be chosen: it brings its own vocabulary"),
        (["start={text: bert}"], "`start` is `{text: bert}`.*start.text=FOLDER"),
        (["start=bert"], "no export of a model.*start.text=bert"),
        (["start.text=none-such"], "start.text=none-such: none-such: no such folder"),
        (["start.text=bert", "start.box=bert"], "start.box"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(here: Path, words: list[str], message: str) -> None:
    with pytest.raises(OfasysError, match=f"(?s){message}"):
        train("x", *words)


def test_fit_takes_it_and_refuses_sizes_that_the_user_gave_himself(here: Path) -> None:
    rows = [{"q": f"a plum {n}", "a": "p" if n % 2 else "b"} for n in range(40)]
    task = Task("t", CLOSED).add_dataset(rows, "train").add_dataset(rows[:4], "test")
    options: dict[str, Any] = {"steps": 1, "workers": 0, "valid_every": 0, "threads": 1}
    model = fit(GeneralistModel("tiny"), task, folder="run", start={"text": "bert"}, **options)
    assert model.config.width == 32
    assert model.generalist.parts["TEXT"]["house"] == "BERT"
    shutil.rmtree("bert")
    again = {**options, "steps": 2}
    model = fit(GeneralistModel("tiny"), task, folder="run", start={"text": "bert"}, resume=True, **again)
    assert model.generalist.parts["TEXT"]["house"] == "BERT"
    shutil.copytree(FIXTURES / "bert", "bert")
    with pytest.raises(CheckpointError, match=r"model\.width is 32 there, and 64 is asked for"):
        fit(GeneralistModel("tiny", width=64), task, folder="run2", start={"text": "bert"}, **options)
    with pytest.raises(CheckpointError, match=r"(?s)data\.pieces cannot be chosen.*in Python: pieces="):
        fit(GeneralistModel("tiny"), task, folder="run2", start={"text": "bert"}, pieces=300, **options)
