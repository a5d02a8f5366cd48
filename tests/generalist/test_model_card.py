"""README.md of an export: what is known stands in it, what is not is unknown, and its snippets run."""

import json
import re
import shlex
import wave
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import yaml
from PIL import Image

from ofasys_lite import GeneralistModel
from ofasys_lite.cards import load_task_card
from ofasys_lite.commands.app import main
from ofasys_lite.errors import WriteError
from ofasys_lite.generalist.card_data import sources_of
from ofasys_lite.generalist.export import add_results
from ofasys_lite.generalist.generalist import Generalist

RESULTS: dict[str, Any] = {
    "split": "test",
    "facts": {"rows evaluated": "all of the split"},
    "tasks": {
        "spell": {
            "metric": {
                **{"name": "accuracy", "value": 0.875, "low": 0.75, "high": 0.9375, "items": 1200, "unit": "share"},
                "higher_is_better": True,
            },
            "baselines": [
                {"kind": "trivial", "baseline": "majority", "value": 0.25, "low": 0.125, "high": 0.5, "unit": "share"},
                {"kind": "trivial", "baseline": "empty", "value": 0.0, "low": None, "high": None, "unit": "share"},
                {"kind": "reference", "baseline": "nearest", "value": 0.99, "low": 0.98, "high": 1.0, "unit": "share"},
            ],
        }
    },
}


def model(*names: str) -> Generalist:
    return worlds.generalist(worlds.ready(worlds.tasks(*names)))


def head(text: str) -> dict[str, Any]:
    """Front matter."""
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def test_a_card_says_what_is_known_and_invents_no_licence(tmp_path: Path) -> None:
    text = (model("caption", "spell").save_pretrained(tmp_path / "m") / "README.md").read_text(encoding="utf-8")
    assert head(text) == {
        "license": "unknown",
        "library_name": "ofasys_lite",
        "tags": ["ofasys_lite", "image", "phone", "text"],
        "pipeline_tag": "any-to-any",
    }
    assert "- **caption**: `[IMAGE:img] what is shown? -> [TEXT:cap]`" in text
    assert "| rows in memory | not said | unknown | caption, spell |" in text
    assert "Not evaluated yet" in text
    assert "Nobody has said under which licence" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(("name", "tag"), [("caption", "image-to-text"), ("record", "any-to-any")])
def test_one_kind_of_task_is_what_hugging_face_calls_it(tmp_path: Path, name: str, tag: str) -> None:
    text = (model(name).save_pretrained(tmp_path / "m") / "README.md").read_text(encoding="utf-8")
    assert head(text)["pipeline_tag"] == tag


def test_hugging_face_reads_the_front_matter(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    place = model("spell").save_pretrained(tmp_path / "m", licence="apache-2.0")
    add_results(place, RESULTS)
    card = hub.ModelCard.load(place / "README.md")
    assert (card.data.license, card.data.library_name, card.data.model_name) == ("apache-2.0", "ofasys_lite", "m")
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("accuracy", 0.875, "test")


def test_data_have_the_licence_of_their_recipe_and_no_path_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFASYS_DATA", str(tmp_path))
    held = {
        "digits": {"train": "digits:train", "test": "digits:test"},
        "again": {"train": "digits:train"},
        "files": {"train": ["/home/me/a.csv", "b/c.csv"], "test": {"path": "~/d.tsv", "separator": ","}},
        "hub": {"train": "hf:squad:train", "test": {"hf": "./local", "split": "test"}},
        "mine": {"train": "mine:train"},
    }
    line = "[TEXT:a] -> [TEXT:b]"
    cards = {name: load_task_card({"instruction": line, "data": data}, name=name) for name, data in held.items()}
    found = {source.name: source for source in sources_of(cards)}
    assert list(found) == ["digits", "a.csv", "c.csv", "d.tsv", "hf:squad", "hf:./local", "mine"]
    assert found["digits"].licence == "CC-BY-SA-3.0 (MNIST)"
    assert found["digits"].tasks == ("digits", "again")
    assert [found[name].licence for name in ("a.csv", "hf:squad", "mine")] == [None, None, None]
    assert [each.repository for each in found.values() if each.repository] == ["squad"]
    (tmp_path / "mine").mkdir()
    facts = {"recipe": "mine", "title": "own words", "version": 1, "licence": "CC0-1.0", "generated": "", "note": ""}
    facts |= {"group": "", "sources": [], "splits": {}, "groups": {}, "columns": {}, "files": {}, "content_sha256": ""}
    (tmp_path / "mine" / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")
    assert [s.licence for s in sources_of({"mine": cards["mine"]})] == ["CC0-1.0"]


def test_results_stand_in_it_with_intervals_and_go_along_when_it_is_saved_elsewhere(tmp_path: Path) -> None:
    place = model("spell").save_pretrained(tmp_path / "m")
    before = (place / "model.safetensors").read_bytes()
    assert add_results(place, RESULTS)
    row = "| spell | accuracy (higher is better) | 0.875 [0.750, 0.938] | 0.250 [0.125, 0.500] (majority) | 1,200 |"
    assert row in (place / "README.md").read_text(encoding="utf-8")
    assert (place / "model.safetensors").read_bytes() == before
    other = Generalist.from_pretrained(place).save_pretrained(tmp_path / "other")
    assert row in (other / "README.md").read_text(encoding="utf-8")


def test_a_further_training_forgets_the_results_of_before(tmp_path: Path) -> None:
    place = model("spell").save_pretrained(tmp_path / "m")
    add_results(place, RESULTS)
    held = Generalist.from_pretrained(place)
    grown = held.extended(held.vocabulary, {}, {}, {}, held.data)
    text = (grown.save_pretrained(place, overwrite=True) / "README.md").read_text(encoding="utf-8")
    assert "Not evaluated yet" in text
    assert "0.875" not in text
    assert "results" not in json.loads((place / "config.json").read_text(encoding="utf-8"))


def test_a_card_that_somebody_wrote_or_changed_stays(tmp_path: Path) -> None:
    held = model("spell")
    place = held.save_pretrained(tmp_path / "m")
    changed = (place / "README.md").read_text(encoding="utf-8").replace("unknown", "mit", 1)
    (place / "README.md").write_text(changed, encoding="utf-8")
    assert not add_results(place, RESULTS)
    held.save_pretrained(place, overwrite=True)
    assert (place / "README.md").read_text(encoding="utf-8") == changed
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine", encoding="utf-8")
    held.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text(encoding="utf-8") == "mine"
    with pytest.raises(WriteError, match="already holds a model"):
        held.save_pretrained(tmp_path / "mine")


def test_the_authors_licence_and_weights_of_others_stand_in_it(tmp_path: Path) -> None:
    held = model("caption")
    held.parts = {"IMAGE": {"house": "CLIP", "source": "clip-vit", "licence": None}}
    place = GeneralistModel.from_pretrained(held.save_pretrained(tmp_path / "a"), device="cpu").save_pretrained(
        tmp_path / "m", licence="cc-by-4.0"
    )
    text = (place / "README.md").read_text(encoding="utf-8")
    assert head(text)["license"] == "cc-by-4.0"
    assert "| IMAGE | CLIP | clip-vit | unknown |" in text
    assert "Its author says: cc-by-4.0." in text
    assert "weights `CLIP`: unknown" in text


def _files(folder: Path) -> None:
    Image.new("RGB", (24, 20), "red").save(folder / "picture.png")
    with wave.open(str(folder / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\1" * 6000)


@pytest.mark.parametrize("name", ["spell", "caption", "speech", "region", "both", "find"])
def test_its_snippet_and_its_command_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    place = model(name, *(["spell"] if name == "region" else [])).save_pretrained(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    _files(tmp_path)
    text = (place / "README.md").read_text(encoding="utf-8").replace("FOLDER", str(place))
    (code,), (command,) = blocks(text, "python"), blocks(text, "bash")
    exec(compile(code, "card", "exec"), {})
    printed = capsys.readouterr().out
    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("ofasys-lite", "predict")
    assert main([verb, *arguments]) == 0
    assert capsys.readouterr().out.strip() == printed.strip()


def test_columns_that_are_no_names_of_python_and_those_that_are_given_are_spelled(tmp_path: Path) -> None:
    line = "say [TEXT:'my word'] -> of [TEXT:kind,no_loss] [TEXT:cap]"
    rows = [{"id": str(i), "my word": "red", "kind": "green", "cap": "x"} for i in range(24)]
    held = worlds.generalist(worlds.ready([worlds.task("odd", data=rows, line=line)]))
    text = (held.save_pretrained(tmp_path / "m") / "README.md").read_text(encoding="utf-8")
    assert "kind='some words', **{'my word': 'some words'}" in text
    assert "'my word=some words' 'kind=some words'" in blocks(text, "bash")[0]
    exec(compile(blocks(text, "python")[0].replace("FOLDER", str(tmp_path / "m")), "card", "exec"), {})


def test_an_imported_model_says_whose_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = Path(__file__).resolve().parents[1] / "fixtures" / "fairseq" / "bart"
    (tmp_path / "bart").mkdir()
    for name in ("model.pt", "dict.txt"):
        (tmp_path / "bart" / name).write_bytes((stored / name).read_bytes())
    (tmp_path / "bart" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert main(["import", str(tmp_path / "bart" / "model.pt"), "--to", str(tmp_path / "runs" / "b")]) == 0
    place = tmp_path / "runs" / "b" / "export"
    text = (place / "README.md").read_text(encoding="utf-8")
    assert head(text)["license"] == "unknown"  # theirs is not yet ours
    assert "| MODEL | fairseq | model.pt | mit |" in text
    assert str(tmp_path) not in text
    code = blocks(text, "python")[0].replace("FOLDER", str(place)).replace("some words", "w1 w2")
    capsys.readouterr()
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out


def test_without_a_text_model_it_says_how_to_get_one(tmp_path: Path) -> None:
    from ofasys_lite.interop.importing import import_model

    stored = Path(__file__).resolve().parents[1] / "fixtures" / "hugging_face" / "t5"
    place = import_model(stored).generalist.save_pretrained(tmp_path / "m")
    text = (place / "README.md").read_text(encoding="utf-8")
    assert "import it again with `--tokenizer FOLDER`" in text
    assert blocks(text, "python") == []


def test_an_evaluation_writes_its_results_into_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    words = [
        f"{a},{b}" for a in ("sun", "moon", "star", "sky", "rain", "snow") for b in ("red", "green", "blue", "grey")
    ]
    Path("words.csv").write_text("a,b\n" + "\n".join(words) + "\n", encoding="utf-8")
    card = worlds.task(
        "colour", data={"train": "words.csv", "test": "words.csv"}, line="say [TEXT:a] -> [TEXT:b,closed_set]"
    )
    worlds.run([card], tmp_path / "runs" / "x")
    export = tmp_path / "runs" / "x" / "export"
    assert "Not evaluated yet" in (export / "README.md").read_text(encoding="utf-8")
    assert main(["evaluate", "run=runs/x", "bootstrap=20", "samples=2", "report=false", "seen=keep", "limit=4"]) == 0
    assert "Not evaluated yet" in (export / "README.md").read_text(encoding="utf-8")
    assert main(["evaluate", "run=runs/x", "bootstrap=20", "samples=2", "report=false", "seen=keep"]) == 0
    text = (export / "README.md").read_text(encoding="utf-8")
    told = json.loads(Path("runs/x/metrics.json").read_text(encoding="utf-8"))["tasks"]["colour"]["metric"]
    assert f"| {told['value']:.3f} [{told['low']:.3f}, {told['high']:.3f}] |" in text
    assert "| words.csv | not said | unknown | colour |" in text
    assert head(text)["model-index"][0]["results"][0]["metrics"][0]["value"] == told["value"]
