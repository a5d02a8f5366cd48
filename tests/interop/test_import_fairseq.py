"""Checkpoints of fairseq's transformer and BART: fairseq's numbers and hypotheses, its dictionary, what is refused."""

import json
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fairseq_worlds as worlds
import pytest
import sentencepiece
import torch

from ofasys_lite import GeneralistModel
from ofasys_lite.commands.app import main
from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.fairseq_dictionary import distinct_symbols, read_symbols, symbols_text
from ofasys_lite.interop.fairseq_weights import current_names
from ofasys_lite.interop.importing import account, import_model
from ofasys_lite.interop.stored_cases import compare, read_case
from ofasys_lite.preprocess.vocabulary import train_pieces

#: fairseq 0.12.3 warns of what newer libraries changed.
live = pytest.mark.filterwarnings("ignore")


def fairseq() -> Any:
    return pytest.importorskip("fairseq", reason="fairseq is not installed", exc_type=ImportError)


def beyond(found: Any) -> dict[str, float]:
    return {each.what: each.value for each in found if not each.fits}


def checkpoint(folder: Path, name: str = "transformer", change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
    """A stored checkpoint and its dictionary in `folder`, its content changed in place."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(worlds.STORED / name / "model.pt", weights_only=True)
    if change is not None:
        change(content)
    torch.save(content, folder / "model.pt")
    (folder / "dict.txt").write_bytes((worlds.STORED / name / "dict.txt").read_bytes())
    return folder / "model.pt"


@pytest.mark.parametrize("name", ["transformer", "bart"])
def test_stored_numbers_and_hypotheses_of_fairseq_are_met_without_it(name: str) -> None:
    found = compare(import_model(worlds.STORED / name / "model.pt"), read_case(worlds.STORED / name / "case.pt"))
    assert beyond(found) == {}
    assert {each.what.partition(",")[0] for each in found} == {
        *("encoder states", "logits", "ce_sum", "label_smoothed_0.1_sum", "gradient norms"),
        *("greedy", "beam4", "beam4_norm_ngram"),
    }


def test_one_tensor_of_others_is_seen(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["model"]["decoder.layers.1.encoder_attn.v_proj.bias"] += 1.0

    case = dict(read_case(worlds.STORED / "transformer" / "case.pt"))
    assert beyond(compare(import_model(checkpoint(tmp_path, change=change)), case))["logits, packed"] > 0.01


@live
@pytest.mark.parametrize("name", worlds.MODELS)
def test_numbers_and_hypotheses_are_those_of_the_live_library(tmp_path: Path, name: str) -> None:
    fairseq()
    path, model = worlds.saved(tmp_path, name)
    found = compare(import_model(path), worlds.case(model, worlds.dictionary()))
    assert beyond(found) == {}
    assert any("beam4_norm_ngram, packed: other" in each.what and each.about == "of 12" for each in found)


@live
def test_a_dictionary_is_fairseqs_both_ways(tmp_path: Path) -> None:
    fairseq()
    from fairseq.data import Dictionary

    text = "the 10\n\u2028 9\na b 8\nthe 7 #fairseq:overwrite\n<mask> 1\n"
    (tmp_path / "dict.txt").write_text(text, encoding="utf-8")
    theirs = Dictionary.load(str(tmp_path / "dict.txt"))
    assert read_symbols(tmp_path / "dict.txt") == theirs.symbols
    names = distinct_symbols(["<s>", "<pad>", "</s>", "<unk>", "\u2581the", "=traffic light", "\n", "", "x", "x"][4:])
    (tmp_path / "own.txt").write_text(symbols_text(names), encoding="utf-8")
    assert Dictionary.load(str(tmp_path / "own.txt")).symbols == names == read_symbols(tmp_path / "own.txt")


@live
def test_waves_are_fairseqs() -> None:
    fairseq()
    from fairseq.modules import SinusoidalPositionalEmbedding

    from ofasys_lite.model.standing import sinusoids_t2t

    theirs = SinusoidalPositionalEmbedding.get_embedding(30, 16, 1)
    assert (sinusoids_t2t(28, 16) - theirs[2:]).abs().max() < 1e-6


def test_symbols_of_a_dictionary_are_one_a_line(tmp_path: Path) -> None:
    names = distinct_symbols(["a", "b c", "a", ""])
    assert names == ["<s>", "<pad>", "</s>", "<unk>", "a", "b c", "a_", "<row_3>"]
    (tmp_path / "d.txt").write_text(symbols_text(names), encoding="utf-8")
    assert read_symbols(tmp_path / "d.txt") == names


def test_an_imported_run_reads_symbols_between_spaces_and_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, stored = tmp_path / "runs" / "x", worlds.STORED / "bart"
    assert main(["import", str(stored / "model.pt"), "--to", str(run), "--check", str(stored / "case.pt")]) == 0
    assert "ok   beam4_norm_ngram, packed: other hypotheses: 0" in capsys.readouterr().out
    model = GeneralistModel.from_pretrained(run, device="cpu")
    found = model("[TEXT:src] -> [TEXT:tgt]", src="w1 w2 w2", min_length=3, max_length=6).text
    assert len(found.split()) >= 3
    assert all(symbol.startswith("w") for symbol in found.split())


def test_an_account_says_what_was_left(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["model"]["classification_heads.mnli.dense.weight"] = torch.ones(2, 2)

    told = "\n".join(account(import_model(checkpoint(tmp_path, "bart", change))))
    assert "classification_heads.mnli.dense.weight: heads of classes write no text" in told
    assert "encoder.layers.* -> body.encoder.*" in told


def test_older_names_are_the_same_network(tmp_path: Path) -> None:
    def older(content: dict[str, Any]) -> None:
        tensors, names = content["model"], {"self_attn": "0", "encoder_attn": "1", "final": "2"}
        for name in list(tensors):
            parts = name.split(".")
            if name.endswith(("q_proj.weight", "q_proj.bias")):
                joined = torch.cat([tensors.pop(name.replace("q_proj", f"{x}_proj")) for x in "qkv"])
                tensors[name.replace("q_proj.", "in_proj_")] = joined
            elif "layer_norm" in name:
                kind = parts[3].removesuffix("_layer_norm")
                number = "1" if parts[0] == "encoder" and kind == "final" else names[kind]
                tensors[".".join([*parts[:3], "layer_norms", number, parts[4]])] = tensors.pop(name)

    new = import_model(checkpoint(tmp_path / "new"))
    old = import_model(checkpoint(tmp_path / "old", change=older))
    one, two = (each.generalist.network.state_dict() for each in (new, old))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert current_names({"decoder.embed_out": torch.ones(2)}).keys() == {"decoder.output_projection.weight"}


def test_a_norm_that_its_version_did_not_use_is_left(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["args"].encoder_normalize_before = content["args"].decoder_normalize_before = True
        for side in ("encoder", "decoder"):
            content["model"][f"{side}.version"] = torch.ones(1)
            content["model"] |= {f"{side}.layer_norm.{kind}": torch.ones(16) for kind in ("weight", "bias")}

    imported = import_model(checkpoint(tmp_path, change=change))
    config = imported.generalist.network.config
    assert (config.norm_place, config.final_norm) == ("before", False)
    assert imported.left["decoder.layer_norm.weight"] == "checkpoints of this version do not use it"


def test_pieces_of_sentencepiece_are_rows_by_their_spelling(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    model = train_pieces(["w1 w2 w3"], 300)
    held = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [held.id_to_piece(i) for i in range(held.get_piece_size())]
    kept = [p for p in pieces if not p.startswith("<")][: worlds.SYMBOLS]
    lines = [*kept, *(f"unused{i}" for i in range(worlds.SYMBOLS - len(kept)))]
    (tmp_path / "dict.txt").write_text("".join(f"{name} 1\n" for name in lines), encoding="utf-8")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model)
    vocabulary = import_model(path).generalist.vocabulary
    ids = vocabulary.encode("w1 w3")
    assert [vocabulary.name(id) for id in ids] == held.encode("w1 w3", out_type=str)
    assert vocabulary.decode(ids) == "w1 w3"
    assert vocabulary.encode("\u65e5") == [3] * len(held.encode("\u65e5"))


def test_ids_of_gpt2_are_rows_by_the_numbers_that_spell_them(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    path = checkpoint(tmp_path, "bart")
    words = {chr(ord("a") + i): i for i in range(26)} | {"\u0120": 26, "ab": 27}
    (tmp_path / "encoder.json").write_text(json.dumps(words), encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b\n", encoding="utf-8")
    order = [27, 2, 0, *(i for i in range(worlds.SYMBOLS) if i not in (27, 2, 0))]
    (tmp_path / "dict.txt").write_text("".join(f"{i} 1\n" for i in order), encoding="utf-8")
    vocabulary = import_model(path).generalist.vocabulary
    assert vocabulary.encode("abc") == [4, 5]
    assert vocabulary.decode([4, 5]) == "abc"


def _set(**settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["args"].__dict__.update(settings)


def _tensor(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        if value is None:
            del content["model"][name]
        else:
            content["model"][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(adaptive_softmax_cutoff="10,20"), "adaptive_softmax_cutoff is 10,20, which has no counterpart"),
        (_set(cross_self_attention=True), "cross_self_attention is True"),
        (_set(activation_fn="maxout"), "activation_fn is maxout"),
        (_set(decoder_attention_heads=4), "heads of encoder and decoder are 2 and 4"),
        (_set(encoder_attention_heads="many"), "heads of encoder and decoder are many and 2"),
        (_set(encoder_normalize_before=True), "norms stand before of one side only"),
        (_set(max_source_positions=None), "max_source_positions, max_target_positions are"),
        (lambda content: content.pop("args"), "heads of encoder and decoder are None and None"),
        (_tensor("encoder.layers.1.fc2.weight", None), r"lacks `encoder\.layers\.1\.fc2\.weight`"),
        (_tensor("encoder.layers.0.fc1.weight", None), r"lacks `encoder\.layers\.0\.fc1\.weight`"),
        (_tensor("decoder.layers.0.fc1.bias", torch.ones(3)), r"has the shape \[3\], wanted is \[24\]"),
        (_tensor("decoder.layers.0.fc1.bias", torch.full((24,), torch.nan)), "not finite"),
        (_tensor("encoder.layers.0.moe.gate", torch.ones(2)), r"fairseq has not: `encoder\.layers\.0\.moe"),
        (_tensor("decoder.project_in_dim.weight", torch.ones(2)), r"fairseq has not: `decoder\.project_in_dim"),
        (_tensor("decoder.embed_tokens.weight", torch.ones(44, 16)), "is not the encoder's table"),
        (_tensor("decoder.output_projection.weight", torch.ones(44, 8)), r"has the shape \[44, 8\]"),
        (_tensor("encoder.embed_tokens.weight", torch.ones(9, 16)), "has 44 rows, the weights .* have 9"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    path = checkpoint(tmp_path, change=change)
    with pytest.raises(CheckpointError, match=message) as found:
        import_model(path)
    assert str(tmp_path) in str(found.value)
    assert found.value.help


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no dictionary beside it"),
        (b"", "has 4 rows"),
        (b"a 1\nb\n", "line 2: no count stands behind `b`"),
        (b"a 1\na 1\n", "line 2: `a` is there twice"),
        (b"\xff\xfe 1\n", "cannot be read"),
    ],
)
def test_another_dictionary_is_refused(tmp_path: Path, text: bytes | None, message: str) -> None:
    path = checkpoint(tmp_path)
    (tmp_path / "dict.txt").unlink()
    if text is not None:
        (tmp_path / "dict.txt").write_bytes(text)
    with pytest.raises(CheckpointError, match=message):
        import_model(path)


def test_a_text_model_of_another_dictionary_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    (tmp_path / "spiece.model").write_bytes(train_pieces(["over the moon"], 300))
    with pytest.raises(CheckpointError, match="names no piece of the text model"):
        import_model(path)
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="the text model is damaged"):
        import_model(path)


class Evil:
    """Pickles as a call of os.mkdir."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    path = checkpoint(tmp_path, change=lambda content: content.update(extra_state=Evil(mark)))
    with pytest.raises(CheckpointError, match="nothing was run"):
        import_model(path)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_half_a_file_is_refused(tmp_path: Path, share: float) -> None:
    path = checkpoint(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="cut or damaged"):
        import_model(path)
