"""Checkpoints of OFASys and OFA: the reference's numbers, and a run that loads by the usual API."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ofasys_worlds as worlds
import pytest
import sentencepiece
import torch

from ofasys_lite import GeneralistModel
from ofasys_lite.adapters.image_resnet import ResNet
from ofasys_lite.commands.app import main
from ofasys_lite.interop.checkpoint_files import read_weights
from ofasys_lite.interop.importing import account, import_model
from ofasys_lite.interop.stored_cases import compare, read_case
from ofasys_lite.model.standing import log_buckets
from ofasys_lite.preprocess.vocabulary import train_pieces


def beyond(found: Any) -> dict[str, float]:
    return {each.what: each.value for each in found if not each.fits}


def test_text_is_what_the_reference_says_packed_and_one_by_one(tmp_path: Path) -> None:
    imported = import_model(worlds.checkpoint(tmp_path, worlds.state()))
    found = compare(imported, read_case(worlds.STORED / "text2text.pt"))
    assert beyond(found) == {}
    assert {each.what.partition(",")[0] for each in found} >= {
        "encoder states",
        "logits",
        "ce_sum",
        "label_smoothed_0.1_sum",
        "gradient norms",
        "greedy",
        "beam5",
        "beam5_norm_ngram",
    }


def test_pictures_and_text_are_what_the_reference_says(tmp_path: Path) -> None:
    imported = import_model(worlds.checkpoint(tmp_path, worlds.state(pictures=True)))
    # the rows of the ResNet are stored: its own 8.5 million weights are not
    imported.generalist.network.adapters["image"] = worlds.Seen()
    assert beyond(compare(imported, read_case(worlds.STORED / "image2text.pt"))) == {}


@pytest.mark.parametrize("name", ["encoder.layers.0.self_attn.c_attn", "decoder.cross_pos_q_linear.weight"])
def test_one_tensor_of_others_is_seen(tmp_path: Path, name: str) -> None:
    tensors = worlds.state()
    tensors[name] = torch.ones_like(tensors[name])
    imported = import_model(worlds.checkpoint(tmp_path, tensors))
    case = dict(read_case(worlds.STORED / "text2text.pt"))
    case.pop("generation")
    assert beyond(compare(imported, case))["logits, packed"] > 0.01


def test_the_whole_reference_where_it_lies() -> None:
    folder = os.environ.get("OFASYS_REFERENCE")
    if not folder:
        pytest.skip("OFASYS_REFERENCE names the folder of the whole reference, whose ResNet is too large to be stored")
    place = Path(folder)
    imported = import_model(place / "state_dict_fp16.pt", dictionary=place / "dictionary.txt")
    for path in sorted(place.glob("*2*.pt")):
        assert beyond(compare(imported, read_case(path))) == {}


def test_older_names_are_the_same_network(tmp_path: Path) -> None:
    tensors = worlds.state(pictures=True)
    (tmp_path / "old").mkdir()
    new = import_model(worlds.checkpoint(tmp_path, tensors)).generalist.network.state_dict()
    old = import_model(worlds.checkpoint(tmp_path / "old", worlds.older_names(tensors))).generalist.network.state_dict()
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in new if not name.endswith("image.mask"))


def test_a_resnet_has_the_names_and_values_of_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    theirs = torchvision.models.resnet50().eval()
    own = ResNet((3, 4, 6)).eval()
    own.load_state_dict({n: t for n, t in theirs.state_dict().items() if not n.startswith(("layer4", "fc"))})
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        y = theirs.layer3(theirs.layer2(theirs.layer1(y)))
        assert (own(x) - y).abs().max() < 1e-5


def test_settings_of_fairseq_are_a_mapping_of_values(tmp_path: Path) -> None:
    weights = read_weights(worlds.checkpoint(tmp_path, worlds.state()))
    assert weights.settings == {"arch": "ofasys_tiny", "attn_scale_factor": 2, "data": "somewhere"}
    assert set(weights.left) == {"args", "cfg", "optimizer_history"}


def test_an_account_names_what_was_mapped_and_what_was_left(tmp_path: Path) -> None:
    tensors = worlds.state() | {"encoder.adaptor.audio_fbank.proj.weight": torch.ones(3)}
    told = "\n".join(account(import_model(worlds.checkpoint(tmp_path, tensors))))
    assert "encoder.layers.* -> body.encoder.*" in told
    assert "encoder.adaptor.audio_fbank.proj.weight: its adapter has no counterpart here yet" in told


def _with_text(folder: Path) -> Path:
    """A checkpoint whose dictionary counts the pieces of a SentencePiece model, which lies beside it."""
    path = worlds.checkpoint(folder, worlds.state(pictures=True))
    model = train_pieces(["what does the image describe? a red bus on the grass"], 300)
    size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
    assert size <= 331
    (folder / "spiece.model").write_bytes(model)
    lines = (folder / "dict.txt").read_text(encoding="utf-8").splitlines()
    pieces = iter(range(1000))
    lines = [f"<text>_{next(pieces)}" if line.startswith("<text>") else line for line in lines]
    (folder / "dict.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_an_imported_run_loads_and_runs_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs" / "ofa"
    case = str(worlds.STORED / "text2text.pt")
    assert main(["import", str(_with_text(tmp_path)), "--to", str(run), "--check", case]) == 0
    printed = capsys.readouterr().out
    assert "ok   logits, packed" in printed
    assert "greatest difference" in printed
    model = GeneralistModel.from_pretrained(run, device="cpu")
    image = torch.randint(0, 255, (48, 64, 3), dtype=torch.uint8).numpy()
    found = model("[IMAGE:img] what does the image describe? -> [TEXT:cap,max_length=4]", img=image)
    assert isinstance(found.text, str)
    box = model('[IMAGE:img] which region does the text " [TEXT:cap] " describe? -> [BOX:box]', img=image, cap="a bus")
    assert len(box.values["box"]) == 4


def test_a_run_learns_further_and_its_ids_keep_their_meaning(tmp_path: Path) -> None:
    imported = import_model(_with_text(tmp_path)).generalist
    vocabulary = imported.vocabulary
    grown = vocabulary.extended(["=yes"])
    assert (len(vocabulary), grown.name(335), grown.name(336)) == (1336, "<mask>", "<bin>_0")
    assert grown.find("=yes") == len(grown) - 1
    assert grown.control("end") >= 1336
    before = imported.network.embedding.weight.detach().clone()
    wider = imported.extended(grown, {}, {}, {}, imported.data)
    assert torch.equal(wider.network.embedding.weight[:1336], before)
    assert len(wider.network.embedding.weight) == len(grown)


def test_buckets_of_distances_are_those_of_ofa() -> None:
    distance = torch.tensor([-1023, -128, -127, -1, 0, 1, 127, 128, 129, 1023])
    assert log_buckets(distance, 256, 1024).tolist() == [0, 127, 128, 254, 255, 256, 382, 383, 384, 510]


def test_a_case_that_is_none_is_refused(tmp_path: Path) -> None:
    torch.save({"logits": torch.zeros(1)}, tmp_path / "case.pt")
    with pytest.raises(Exception, match="no stored reference: it lacks src_slots"):
        read_case(tmp_path / "case.pt")


def test_what_does_not_fit_its_reference_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors: Mapping[str, Any] = worlds.state()
    path = worlds.checkpoint(tmp_path, {n: t * 1.01 if n.endswith("fc1.weight") else t for n, t in tensors.items()})
    case = dict(read_case(worlds.STORED / "text2text.pt"))
    case.pop("generation")
    torch.save(case, tmp_path / "case.pt")
    told = main(["import", str(path), "--to", str(tmp_path / "runs/x"), "--check", str(tmp_path / "case.pt")])
    assert told == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_differences_that_are_no_number_do_not_fit() -> None:
    from ofasys_lite.interop.stored_cases import Difference

    one = Difference("logits", 0.0, 1e-4)
    assert one.fits
    assert not replace(one, value=float("nan")).fits
