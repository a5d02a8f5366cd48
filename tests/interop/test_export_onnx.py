"""Models as graphs of ONNX: they are the network, onnxruntime runs them, what has no counterpart is refused."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from own_stacks import LINE, STACKS, logits, wide

from ofasys_lite import GeneralistModel
from ofasys_lite.commands.app import main
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.interop import export_onnx
from ofasys_lite.interop.export_onnx import write_onnx
from ofasys_lite.interop.exporting import export_model
from ofasys_lite.interop.onnx_graphs import Embed, Encode, Step

ALL: dict[str, dict[str, Any]] = {
    "our own": {"norm": "rmsnorm", "mlp": "swiglu", "kv_heads": 1, "qk_norm": True, "decoder_layers": 2},
    "no rotation in cross-attention": {"cross_rotary": False, "rotary_layout": "axial"},
    "fairseq's waves": {**STACKS["mBART"], "positions": "sinusoidal_t2t"},
    "OFASys' distances": {**STACKS["T5"], "positions": "learned", "places": 30, "relative": "log", "relative_span": 30},
    **STACKS,
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest would keep each line that torch says of a trace, which takes most of the time."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)


def own(name: str, **more: Any) -> Generalist:
    return wide(worlds.generalist(worlds.ready([worlds.task("say", line=LINE)]), **{**ALL[name], **more}))


@pytest.mark.parametrize("name", ALL)
def test_graphs_are_the_network_id_by_id(name: str) -> None:
    model = own(name)
    network, known = model.network, model.vocabulary
    source, target = known.encode("say a red moon"), known.encode("a green star number 12")
    wanted = logits(model, source, target)
    embed, encode, step = Embed(network), Encode(network), Step(network)
    with torch.no_grad():
        at = torch.arange(len(source)).unsqueeze(1).expand(-1, 3)
        _, *memory = encode(embed(torch.tensor(source)), at)
        keys = torch.zeros(network.config.decoder_layers, 3, 0, network.config.kv_groups, network.config.head_width)
        values, found = keys, []
        for place, id in enumerate([known.control("start"), *target[:-1]]):
            # three rows of a search; the last is written alike
            ids, places = torch.tensor([id] * 3), torch.full((3, 3), place)
            said, keys, values = step(ids, places, keys, values, *memory)
            found.append(said[2])
    assert (torch.stack(found) - wanted).abs().max() < 1e-4
    assert wanted.std() > 0.1


def test_a_graph_leaves_the_network_as_it_was() -> None:
    model = own("our own")
    before = logits(model, [40, 41], [42, 2])
    Encode(model.network), Step(model.network)
    assert torch.equal(before, logits(model, [40, 41], [42, 2]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["our own", "BART", "T5"])
def test_onnxruntime_says_what_the_network_says(tmp_path: Path, name: str) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    lines = export_model(own(name), "onnx", tmp_path)
    told = next(line for line in lines if "greatest difference" in line)
    assert float(told.rpartition(" ")[2]) < 1e-4


@pytest.mark.slow
def test_the_command_writes_graphs_that_write_what_we_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    import onnxruntime

    run = tmp_path / "runs" / "x"
    model = own("our own")
    known = model.vocabulary
    model.save_pretrained(run / "export")
    assert main(["export", str(run), "--to", "onnx"]) == 0
    assert "embed.onnx, encoder.onnx, step.onnx" in capsys.readouterr().out
    sessions = {
        name: onnxruntime.InferenceSession(run / "onnx" / f"{name}.onnx") for name in ("embed", "encoder", "step")
    }
    facts = json.loads((run / "onnx" / "ofasys_export.json").read_text(encoding="utf-8"))
    ids = np.array([*known.encode("say"), *known.encode("moon")])
    rows = sessions["embed"].run(None, {"ids": ids})[0]
    at = np.arange(len(ids))[:, None].repeat(3, 1)
    _, *kept = sessions["encoder"].run(None, {"rows": rows, "positions": at})
    memory = dict(zip(("memory_keys", "memory_values"), kept, strict=True))
    keys = values = np.zeros((facts["blocks"], 1, 0, facts["heads"], facts["channels"]), np.float32)
    last, written = facts["controls"]["start"], list[int]()
    low, high, close = *facts["text"], facts["controls"]["close"]
    for place in range(6):
        fed = {"ids": np.array([last]), "positions": np.full((1, 3), place), "past_keys": keys, "past_values": values}
        said, keys, values = sessions["step"].run(None, {**fed, **memory})
        legal = [close, *range(low, high)] if place else range(low, high)
        last = max(legal, key=lambda id: said[0, id])
        if last == close:
            break
        written.append(last)
    text = GeneralistModel.from_pretrained(run, device="cpu")(LINE, text="moon", min_length=1, max_length=7).text
    assert known.decode(written) == text != ""


@pytest.mark.slow
def test_pictures_adapters_are_left_and_a_language_model_has_no_encoder(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model = worlds.generalist(worlds.ready([worlds.task("caption")]))
    lines = export_model(model, "onnx", tmp_path / "a")
    assert any(line.startswith("left: adapters image: ") for line in lines)
    alone = worlds.generalist(worlds.ready([worlds.task("say", line="-> [TEXT:cap]")]), encoder_layers=0)
    export_model(alone, "onnx", tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").glob("*.onnx")) == ["embed.onnx", "step.onnx"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"positions": "untied", "places": 30}, r"places have channels of their own \(positions: untied\)"),
        ({"rotary_blank": True}, "rotary_blank"),
        ({"positions": "learned", "places": 30, "entry": "kinds"}, r"rows are told apart by kind"),
    ],
)
def test_what_one_sample_s_graph_has_not_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(export_onnx, "needed", lambda *_, **__: None)
    model = worlds.generalist(worlds.ready([worlds.task("say", line=LINE)]), **more)
    with pytest.raises(CheckpointError, match=message) as found:
        export_model(model, "onnx", tmp_path / "out")
    assert found.value.help
    assert not (tmp_path / "out").exists()


def test_without_the_libraries_it_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(CheckpointError, match="export --to onnx needs onnxscript") as found:
        write_onnx(own("our own"), tmp_path)
    assert found.value.help == "pip install 'ofasys_lite[onnx]'"


@pytest.mark.slow
def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    asked = export_onnx._of_graphs
    monkeypatch.setattr(export_onnx, "_of_graphs", lambda *given: [x + 0.01 for x in asked(*given)])
    with pytest.raises(CheckpointError, match=r"onnxruntime differs by 0\.01"):
        export_model(own("BART"), "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
