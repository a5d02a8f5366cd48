"""Models as checkpoints of fairseq: what fairseq makes of them, the same weights back, and what is refused."""

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fairseq_worlds as worlds
import pytest
import tiny_worlds
import torch
from own_stacks import BART, LINE, STACKS, logits, own, same_weights

from ofasys_lite.commands.app import main
from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.exporting import export_model
from ofasys_lite.interop.fairseq_dictionary import read_symbols
from ofasys_lite.interop.importing import import_model
from ofasys_lite.interop.stored_cases import compare, read_case

HUGGING_FACE = Path(__file__).resolve().parents[1] / "fixtures" / "hugging_face"
OURS = {name: {**stack, "mlp": "gelu"} for name, stack in STACKS.items() if name != "T5"}
OURS["fairseq's waves"] = {**OURS["mBART"], "positions": "sinusoidal_t2t", "entry": "plain"}


@pytest.fixture
def older_hydra() -> Iterator[None]:
    """fairseq asks Hydra for what it was in 1.1; a command of ours that ran before asked for 1.3."""
    from hydra.version import VersionBase
    from packaging.version import Version

    base = VersionBase.instance()
    held = base.getbase()
    base.setbase(Version("1.1"))
    yield
    base.version_base = held


@pytest.mark.parametrize("name", ["transformer", "bart"])
def test_what_was_imported_goes_out_and_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    first = import_model(worlds.STORED / name / "model.pt").generalist
    assert export_model(first, "fairseq", tmp_path)[0].startswith("fairseq: ")
    second = import_model(tmp_path / "model.pt").generalist
    assert same_weights(first, second)
    assert second.network.config == first.network.config
    assert second.vocabulary.hash == first.vocabulary.hash
    assert read_symbols(tmp_path / "dict.txt") == read_symbols(worlds.STORED / name / "dict.txt")
    # and without our own files it is a checkpoint of fairseq like any other
    (tmp_path / "ofasys_export.json").unlink()
    found = compare(import_model(tmp_path / "model.pt"), read_case(worlds.STORED / name / "case.pt"))
    assert all(each.fits for each in found)


@pytest.mark.parametrize("house", OURS)
def test_a_model_of_ours_scores_the_same_behind_an_export_and_an_import(tmp_path: Path, house: str) -> None:
    model = own("BART", **OURS[house])
    lines = export_model(model, "fairseq", tmp_path)
    assert "the decoder is fed `<s>` first: generate(..., bos_token=dictionary.bos())" in lines
    back = import_model(tmp_path / "model.pt").generalist
    assert back.vocabulary.hash == model.vocabulary.hash
    source, target = model.vocabulary.encode("say moon"), model.vocabulary.encode("a red moon")
    found = [logits(each, source, target) for each in (model, back)]
    assert (found[0] - found[1]).abs().max() < 1e-5
    assert found[0].std() > 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("older_hydra")
@pytest.mark.parametrize("house", OURS)
def test_fairseq_loads_it_and_says_the_same(tmp_path: Path, house: str) -> None:
    pytest.importorskip("fairseq", reason="fairseq is not installed", exc_type=ImportError)
    from fairseq import checkpoint_utils

    model = own("BART", **OURS[house])
    export_model(model, "fairseq", tmp_path)
    with torch.serialization.safe_globals([Namespace]):  # fairseq asks torch for it as it was before 2.6
        path, here = str(tmp_path / "model.pt"), {"data": str(tmp_path)}
        (theirs,), _, task = checkpoint_utils.load_model_ensemble_and_task([path], arg_overrides=here)
    known, symbols = model.vocabulary, task.source_dictionary
    rows = torch.tensor(json.loads((tmp_path / "ofasys_export.json").read_text(encoding="utf-8"))["rows"])
    to_theirs = rows.argsort()
    source, target = known.encode("say moon"), known.encode("a red moon")
    spelled = " ".join(known.name(id) for id in source)
    assert symbols.encode_line(spelled, append_eos=False).tolist() == to_theirs[source].tolist()
    fed = to_theirs[[known.control("start"), *target[:-1]]]
    assert fed[0] == symbols.bos()
    with torch.no_grad():
        said, _ = theirs.eval()(to_theirs[source].unsqueeze(0), torch.tensor([len(source)]), fed.unsqueeze(0))
    assert (said[0][:, to_theirs] - logits(model, source, target)).abs().max() < 1e-4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("older_hydra")
@pytest.mark.parametrize("name", ["transformer", "bart"])
def test_fairseq_finds_the_same_hypotheses_in_what_went_out(tmp_path: Path, name: str) -> None:
    pytest.importorskip("fairseq", reason="fairseq is not installed", exc_type=ImportError)
    from fairseq import checkpoint_utils

    export_model(import_model(worlds.STORED / name / "model.pt").generalist, "fairseq", tmp_path)
    with torch.serialization.safe_globals([Namespace]):
        path, here = str(tmp_path / "model.pt"), {"data": str(tmp_path)}
        (theirs,), _, task = checkpoint_utils.load_model_ensemble_and_task([path], arg_overrides=here)
    found = compare(import_model(worlds.STORED / name / "model.pt"), worlds.case(theirs.eval(), task.target_dictionary))
    assert [each.what for each in found if not each.fits] == []


def test_a_bart_of_hugging_face_becomes_one_of_fairseq(tmp_path: Path) -> None:
    model = import_model(HUGGING_FACE / "bart").generalist
    bias = model.network.text.bias
    assert bias is not None
    lines = export_model(model, "fairseq", tmp_path)
    assert lines[0].startswith("fairseq: bart_large, ")
    back = import_model(tmp_path / "model.pt").generalist
    source, target = [0, 7, 9, 2], [11, 12, 2]
    assert (logits(model, source, target) - logits(back, source, target)).abs().max() < 1e-5
    with torch.no_grad():
        bias[5] = 1.0
    with pytest.raises(CheckpointError, match="scores have a bias a row"):
        export_model(model, "fairseq", tmp_path / "more")


@pytest.mark.parametrize(
    ("name", "message"),
    [("t5", r"positions is none|relative is t5 \(fairseq: none\)"), ("marian", "mlp is silu|the row of padding")],
)
def test_other_houses_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        export_model(import_model(HUGGING_FACE / name).generalist, "fairseq", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_begins_with_padding_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "marian"
    folder.mkdir()
    for path in (HUGGING_FACE / "marian").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "activation_function": "relu"}), encoding="utf-8")
    model = import_model(folder).generalist
    bias = model.network.text.bias
    assert bias is not None
    with torch.no_grad():
        bias.zero_()
    with pytest.raises(CheckpointError, match="the row that targets begin with is the row of padding"):
        export_model(model, "fairseq", tmp_path / "out")


def test_our_own_stack_is_refused_with_the_settings_that_would_do(tmp_path: Path) -> None:
    prepared = tiny_worlds.ready([tiny_worlds.task("say", line=LINE)])
    with pytest.raises(CheckpointError, match=r"positions is rotary \(fairseq: learned or sinusoidal_t2t") as found:
        export_model(tiny_worlds.generalist(prepared), "fairseq", tmp_path)
    said = str(found.value.help).partition("trained with ")[2].partition(" can be")[0].split()
    settings: dict[str, Any] = dict(pair.removeprefix("model.").split("=") for pair in said)
    typed = {k: json.loads(v) if v[0] in "tf0123456789" else v for k, v in settings.items()}
    assert export_model(tiny_worlds.generalist(prepared, **typed), "fairseq", tmp_path)[0].startswith("fairseq: ")


def test_the_command_writes_it_beside_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs" / "x"
    own("BART").save_pretrained(run / "export")
    assert main(["export", str(run), "--to", "fairseq"]) == 0
    assert "dict.txt of " in capsys.readouterr().out
    assert main(["import", str(run / "fairseq" / "model.pt"), "--to", str(tmp_path / "runs" / "y")]) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ('{"rows": 3}', "is damaged"),
        ('{"rows": [0, 1]}', "has 2 rows, the vocabulary"),
        ('{"rows": ["a"]}', "is damaged"),
    ],
)
def test_an_account_of_rows_that_does_not_fit_is_refused(tmp_path: Path, content: str, message: str) -> None:
    export_model(own("BART", **BART), "fairseq", tmp_path)
    (tmp_path / "ofasys_export.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        import_model(tmp_path / "model.pt")
