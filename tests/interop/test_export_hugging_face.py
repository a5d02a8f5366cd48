"""Models as folders of Hugging Face: the same numbers there, the same weights back, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch
from own_stacks import BART, LINE, STACKS, logits, own, same_weights

from ofasys_lite import GeneralistModel
from ofasys_lite.commands.app import main
from ofasys_lite.errors import CheckpointError, WriteError
from ofasys_lite.interop.exporting import export_model
from ofasys_lite.interop.imported import Imported
from ofasys_lite.interop.importing import import_model
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary

STORED = Path(__file__).resolve().parents[1] / "fixtures" / "hugging_face"


@pytest.mark.parametrize("name", ["bart", "marian", "t5"])
def test_what_was_imported_goes_out_and_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    first = import_model(STORED / name).generalist
    lines = export_model(first, "hf", tmp_path / "out")
    second = import_model(tmp_path / "out").generalist
    assert same_weights(first, second)
    assert second.network.config == first.network.config
    assert second.vocabulary.hash == first.vocabulary.hash
    assert "tokenizer: none, as none was imported" in lines
    held = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    given = json.loads((STORED / name / "config.json").read_text(encoding="utf-8"))
    sizes = {k: v for k, v in given.items() if k in held and isinstance(v, (int, str)) and k != "architectures"}
    sizes = {k: v for k, v in sizes.items() if not k.startswith(("forced_", "bos_", "dropout"))}
    assert {k: held[k] for k in sizes} == sizes


@pytest.mark.parametrize("house", STACKS)
def test_a_model_of_ours_scores_the_same_behind_an_export_and_an_import(tmp_path: Path, house: str) -> None:
    model = own(house)
    assert export_model(model, "hf", tmp_path)[0].startswith(f"{house}: ")
    back = import_model(tmp_path).generalist
    assert back.vocabulary.hash == model.vocabulary.hash
    source, target = model.vocabulary.encode("say moon"), model.vocabulary.encode("a red moon")
    found = [logits(each, source, target) for each in (model, back)]
    assert (found[0] - found[1]).abs().max() < 1e-5
    assert found[0].std() > 0.1


@pytest.mark.parametrize("house", [*STACKS, "T5, untied"])
def test_transformers_loads_it_and_says_the_same(tmp_path: Path, house: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    from ofasys_lite.interop.live import compare_live

    model = own(house.partition(",")[0])
    if "untied" in house:
        text = model.network.text
        text.head = torch.nn.Parameter(torch.randn_like(model.network.embedding.weight))
    export_model(model, "hf", tmp_path)
    found = compare_live(Imported(house, model, {}), tmp_path)
    # no import says which of our gradients is which of theirs; they count the first id as written, which may come again
    apart = ("gradient", "ngram")
    assert {d.what: d.value for d in found if not d.fits and not any(word in d.what for word in apart)} == {}
    assert any(each.what.startswith("beam4, ") for each in found)


def test_rows_that_a_training_appended_go_out_and_come_back(tmp_path: Path) -> None:
    imported = import_model(STORED / "bart").generalist
    grown = imported.vocabulary.extended(["=yes", "=no"])
    torch.manual_seed(0)
    model = imported.extended(grown, {}, {}, {}, imported.data)
    export_model(model, "hf", tmp_path)
    back = import_model(tmp_path).generalist
    assert same_weights(model, back)
    assert isinstance(back.vocabulary, ForeignVocabulary)
    assert back.vocabulary.find("=no") == len(grown) - 1
    assert len(back.network.embedding.weight) == len(grown) > 1000


def test_the_tokenizer_cuts_text_as_ours_does(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    model = own("BART")
    export_model(model, "hf", tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.get_vocab_size() == len(model.vocabulary)
    for text in ("say moon", "a red star number 12", " two  spaces ", "", "\n\ttabs", "é \U0001f600 日本", "x" * 40):
        ids = model.vocabulary.encode(text)
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids) == text
    assert [theirs.id_to_token(i) for i in (0, 2, model.vocabulary.box_low)] == ["<pad>", "<close>", "<bin 0>"]


def test_transformers_writes_what_we_write(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = own("BART")
    export_model(model, "hf", tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    # words and values of a line are cut each by itself
    ids = torch.tensor([[*tokenizer("say").input_ids, *tokenizer("moon").input_ids]])
    known = model.vocabulary
    # ours writes text and its end alone
    others = [i for i in range(len(known)) if not known.text_low <= i < known.text_high and i != known.control("close")]
    plain: dict[str, Any] = {"do_sample": False, "num_beams": 1, "use_cache": False, "suppress_tokens": others}
    written = theirs.generate(ids, max_new_tokens=5, **plain)[0]
    place = model.save_pretrained(tmp_path / "ours")
    text = GeneralistModel.from_pretrained(place, device="cpu")(LINE, text="moon", max_length=6).text
    assert tokenizer.decode(written, skip_special_tokens=True) == text != ""


def test_an_appended_tokenizer_names_every_row(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    held = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(60)}, unk_token="w3"))
    held.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    folder = tmp_path / "bart"
    folder.mkdir()
    for path in (STORED / "bart").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    held.save(str(folder / "tokenizer.json"))
    imported = import_model(folder).generalist
    model = imported.extended(imported.vocabulary.extended(["=w5"]), {}, {}, {}, imported.data)
    export_model(model, "hf", tmp_path / "out")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert theirs.get_vocab_size() == len(model.vocabulary)
    assert theirs.encode("w5 w7", add_special_tokens=False).ids == [5, 7]
    assert theirs.id_to_token(len(model.vocabulary) - 1) == "=w5"
    assert same_weights(model, import_model(tmp_path / "out").generalist)


def test_a_stack_of_our_own_is_refused_with_the_settings_that_would_do(tmp_path: Path) -> None:
    near = {"qkv_bias": True, "near_bias": 8.0}
    model = worlds.generalist(worlds.ready([worlds.task("say", line=LINE)]), **near)
    with pytest.raises(CheckpointError, match=r"positions is rotary \(mBART: learned\)") as found:
        export_model(model, "hf", tmp_path / "out")
    advice = str(found.value.help).partition("trained with ")[2].partition(" can be")[0].split()
    settings = dict(pair.removeprefix("model.").split("=") for pair in advice)
    typed = {k: json.loads(v) if v[0] in "tf0123456789" else v for k, v in settings.items()}
    done = worlds.generalist(worlds.ready([worlds.task("say", line=LINE)]), **{**near, **typed})
    assert export_model(done, "hf", tmp_path / "out")[0].startswith("mBART: ")


def test_pictures_have_no_counterpart_and_nothing_is_written(tmp_path: Path) -> None:
    model = worlds.generalist(worlds.ready([worlds.task("caption")]), **BART)
    with pytest.raises(CheckpointError, match="the adapter `image` of this model has no counterpart in BART") as found:
        export_model(model, "hf", tmp_path / "out")
    assert "text tasks" in str(found.value.help)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("house", "more", "message"),
    [
        ("BART", {"qk_norm": True}, "qk_norm is True"),
        ("T5", {"query_gain": 2.0}, "query_gain is 2.0"),
        ("T5", {"qkv_bias": True}, "qkv_bias is True"),
        ("BART", {"encoder_layers": 0}, "this model has 0 and 1 layers"),
    ],
)
def test_what_a_house_has_not_is_refused(tmp_path: Path, house: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        export_model(own(house, **more), "hf", tmp_path / "out")


def test_a_table_that_reads_and_scores_otherwise_is_refused(tmp_path: Path) -> None:
    model = own("BART")
    model.network.text.logit_scale = 3.0
    with pytest.raises(CheckpointError, match="one table cannot do both"):
        export_model(model, "hf", tmp_path / "out")


def test_an_older_export_is_replaced_only_if_told_and_files_of_others_never(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "x"
    import_model(STORED / "t5").generalist.save_pretrained(run / "export")
    assert main(["export", str(run), "--to", "hf"]) == 0
    assert "T5: " in capsys.readouterr().out
    assert main(["export", str(run), "--to", "hf"]) == 1
    assert "already holds an export" in capsys.readouterr().err
    assert main(["export", str(run), "--to", "hf", "--overwrite"]) == 0
    assert main(["export", str(run), "--to", "hf", "--out", str(run)]) == 1
    assert "holds a run" in capsys.readouterr().err
    before = sorted(run.rglob("*"))
    for within in ("export", "export/hf", "checkpoints"):
        assert main(["export", str(run), "--to", "hf", "--out", str(run / within), "--overwrite"]) == 1
        assert "is what the run x keeps for itself" in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before
    assert main(["export", str(run), "--to", "hf", "--out", str(run / "for" / "others")]) == 0
    assert main(["export", str(run), "--to", "hf", "--overwrite"]) == 0  # the run is still found
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(WriteError, match=r"files that are not of an export of ours: config\.json"):
        export_model(import_model(STORED / "t5").generalist, "hf", tmp_path / "theirs", overwrite=True)
    assert (tmp_path / "theirs" / "config.json").read_text(encoding="utf-8") == "{}"


def test_an_export_of_two_models_is_refused(tmp_path: Path) -> None:
    for name in ("bart", "t5"):
        export_model(import_model(STORED / name).generalist, "hf", tmp_path / name)
    model = own("BART")
    export_model(model, "hf", tmp_path / "own")
    (tmp_path / "bart" / "vocabulary.json").write_bytes((tmp_path / "own" / "vocabulary.json").read_bytes())
    with pytest.raises(CheckpointError, match="belong together"):
        import_model(tmp_path / "bart")
    (tmp_path / "bart" / "tokenizer.model").write_bytes((tmp_path / "own" / "tokenizer.model").read_bytes())
    with pytest.raises(CheckpointError, match="do not mix files of two exports"):
        import_model(tmp_path / "bart")


def test_an_unknown_target_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="`fh` is no target"):
        export_model(import_model(STORED / "t5").generalist, "fh", tmp_path)


def test_a_run_that_is_not_there_is_told_with_the_near_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    import_model(STORED / "t5").generalist.save_pretrained(Path("runs/mine/export"))
    assert main(["export", "runs/mne", "--to", "hf"]) == 1
    assert "did you mean `runs/mine`" in " ".join(capsys.readouterr().err.split())
    assert main(["export", "mine", "--to", "hf"]) == 0
    assert Path("runs/mine/hf/config.json").is_file()
