"""A modality from a folder outside the package (one card, two short files) trains, is evaluated, exported and used."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.commands.app import main
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import make_ready
from ofasys_lite.report import load_results, render_report, save_pictures, save_results
from ofasys_lite.report.evaluate_model import evaluate
from ofasys_lite.run.run_folder import RunFolder

CARD = """
name: COLOUR
aliases: [COLOR]
preprocess: {default: colour_parts.ColourPreprocess}
adapter: {default: colour_parts.ColourAdapter}
reads: now
writes: never
attributes:
  dark: {type: flag, side: source, help: "halve the brightness"}
settings: {top: 255}
"""

PAINT = """
name: PAINT
preprocess: {default: colour_parts.PaintPreprocess}
adapter: {default: ofasys_lite.adapters.text.TextAdapter}
reads: now
writes: now
metric: colour_parts.equal
"""

MODULE = '''
"""COLOUR: `r g b` as text or three numbers -> one row. PAINT: the same, written as text, kept in files of its own."""

import numpy as np
import torch
from torch import nn

from ofasys_lite.adapters.base import Adapter
from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Free
from ofasys_lite.plan.segments import option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import Piece, Preprocess, line_positions
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS


class ColourPreprocess(Preprocess):
    fixed_rows = 1

    def encode(self, value, options, known):
        try:
            rgb = [float(v) for v in (value.split() if isinstance(value, str) else value)]
        except (TypeError, ValueError):
            raise DataError(f"{value!r} is no colour") from None
        if len(rgb) != 3:
            raise DataError(f"a colour has three numbers, this has {len(rgb)}")
        scale = self.settings["top"] * (2 if option(options, "dark") else 1)
        array = np.array([rgb], dtype=np.float32) / scale
        return Piece(self.context.adapter, line_positions(1), {"rgb": array})

    def show(self, value):
        return patch(rgb_of(value))


class PaintPreprocess(Preprocess):
    kind = kinds.NUMBERS
    ending = ".ppm"
    text = True

    def encode(self, value, options, known):
        return Piece.of_ids([*self.vocabulary.encode(value), CONTROL_IDS["close"]])

    def constraint(self, options, known):
        vocabulary = self.vocabulary
        return Free(vocabulary.text_low, vocabulary.text_high, 1, 20, CONTROL_IDS["close"])

    def decode(self, ids, options, known):
        return rgb_of(self.vocabulary.decode(i for i in ids[:-1]))

    @classmethod
    def read(cls, value, options, folder=None):
        return rgb_of(value)

    def show(self, value):
        return patch(value)

    def brief(self, value):
        return "#" + "".join(f"{v:02x}" for v in value)

    def save(self, value, ending):
        return ("P3 1 1 255 " + " ".join(map(str, value))).encode()


def rgb_of(value):
    found = [int(v) for v in (value.split() if isinstance(value, str) else value) if str(v).isdigit()]
    return np.array((found + [0, 0, 0])[:3])


def patch(rgb):
    return Shown("red %d, green %d, blue %d" % tuple(rgb), np.tile(rgb.astype(np.uint8), (8, 8, 1)))


def equal(predictions, references):
    return [float((a == b).all()) for a, b in zip(predictions, references)]


equal.higher_is_better = True


class ColourAdapter(Adapter):
    def __init__(self, settings, shared):
        super().__init__(settings, shared)
        self.inner = nn.Sequential(nn.Linear(3, shared.width), nn.GELU(), nn.Linear(shared.width, shared.width))

    def embed(self, part):
        return self.inner(part.arrays["rgb"])
'''


CLIP = """
name: CLIP
adapter_name: image
preprocess: {default: colour_parts.ClipPreprocess}
adapter: {default: ofasys_lite.adapters.image.ImageAdapter}
reads: now
settings: {patch: 4, frames: 2}
"""

CLIPS = '''


class ClipPreprocess(Preprocess):
    """(frames, 8 * lines, 8 * columns, 3) uint8 -> cells of every frame, by the adapter of IMAGE."""

    typical = (2, 8, 8)

    @classmethod
    def measure(cls, value, folder):
        return np.shape(value)[:3]

    def rows_of(self, size, options):
        return min(size[0], self.settings["frames"]) * (size[1] // 8) * (size[2] // 8)

    def encode(self, value, options, known):
        pixels = np.asarray(value, dtype=np.uint8)[: self.settings["frames"]]
        grid = (len(pixels), pixels.shape[1] // 8, pixels.shape[2] // 8)
        positions = np.stack([axis.ravel() for axis in np.indices(grid)], axis=1)
        arrays = {"pixels": pixels.reshape(-1, 3), "mask": np.zeros(0, dtype=np.bool_)}
        return Piece(self.context.adapter, positions, arrays, grid=grid)
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: the card, the module, a csv."""
    folder = tmp_path / "mine"
    (folder / "modalities").mkdir(parents=True)
    (folder / "modalities" / "colour.yaml").write_text(CARD)
    (folder / "modalities" / "paint.yaml").write_text(PAINT)
    (folder / "modalities" / "clip.yaml").write_text(CLIP)
    (folder / "colour_parts.py").write_text(MODULE + CLIPS)
    names = ("red", "green", "blue")
    lines = [f"{250 * (n % 3 == 0)} {250 * (n % 3 == 1)} {250 * (n % 3 == 2)},{names[n % 3]}" for n in range(60)]
    broken = ["200 10,red"]
    (folder / "colours.csv").write_text("\n".join(["colour,name", *lines, *broken]) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("colour_parts", None)


def test_a_modality_from_outside_learns_beside_the_others(outside: Path, tmp_path: Path) -> None:
    cards = modalities([outside])
    line = "[COLOR:colour] which colour? -> [TEXT:name,closed_set]"
    card = load_task_card({"instruction": line, "data": {"train": str(outside / "colours.csv")}}, name="colours")
    folder = tmp_path / "run"
    more = {"steps": 40, "samples_per_step": 12, "quarantine": 0.1, "lr": 1e-2, "log_every": 10}
    model = worlds.run([card, worlds.task("spell")], folder, modalities=cards, **more)
    losses = [r["loss"] for r in RunFolder(folder).history() if r.get("task") == "colours"]
    assert losses[-1] < 0.3 * losses[0]
    assert set(model.network.adapters) == {"colour", "text"}
    asked = [Request("colours", {"colour": rgb}) for rgb in ("250 0 0", [0, 250, 0], "0 0 250")]
    assert [p.values["name"] for p in predict(model, asked) if p] == ["red", "green", "blue"]
    loaded = Generalist.from_pretrained(folder)
    assert [p.values["name"] for p in predict(loaded, asked) if p] == ["red", "green", "blue"]
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))


def test_what_it_says_of_its_values_is_shown_judged_and_saved_everywhere(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cards = modalities([outside])
    rows = [{"colour": f"{250 * (n % 3 == 0)} {250 * (n % 3 == 1)} {250 * (n % 3 == 2)}"} for n in range(48)]
    path = tmp_path / "paints.jsonl"
    path.write_text("".join(json.dumps({**row, "paint": row["colour"]}) + "\n" for row in rows))
    data = dict.fromkeys(("train", "test"), str(path))
    card = load_task_card({"instruction": "[COLOUR:colour] mix it -> [PAINT:paint]", "data": data}, name="mix")
    model = worlds.run([card], tmp_path / "runs" / "mix", modalities=cards, steps=120, lr=1e-2, samples_per_step=12)
    found = evaluate(model, ["mix"], limit=6, samples=3, bootstrap=5, seen="keep")
    task = found.tasks[0]
    assert (task.metric.name, task.metric.value) == ("colour_parts.equal", 1.0)
    assert [b.name for b in task.baselines] == ["majority"]
    kept = load_results(save_results(found, tmp_path / "evaluation.json"))
    for results in (found, kept):
        page = render_report(results)
        assert page.count("red 250, green 0, blue 0") == 3  # what was read, predicted and in the data
        assert page.count('<img class="shot"') >= 9
    (sheet,) = save_pictures(kept, tmp_path / "samples")
    assert sheet.name == "mix.png"
    (one,) = predict(model, [Request("mix", {"colour": "250 0 0"})])
    assert one is not None
    assert one.text == "#fa0000"
    assert one.save(tmp_path / "a").name == "a.ppm"
    assert one.save(tmp_path / "b.txt").read_text() == "#fa0000\n"
    command = ["predict", "runs/mix", "mix", "colour=250 0 0"]
    assert main(command) == 1
    assert "`paint` is written to a .ppm file, and no file is named for it" in capsys.readouterr().err
    assert main([*command, "--out", "red.png"]) == 1
    assert "it would not end with .ppm" in capsys.readouterr().err
    assert main([*command, "--out", "red"]) == 0
    assert capsys.readouterr().out == "#fa0000\n"
    assert (tmp_path / "red.ppm").read_text() == "P3 1 1 255 250 0 0"
    assert main(["predict", "runs/mix", "mix", "--data", str(path), "--limit", "2", "--out", "all.jsonl"]) == 0
    written = [json.loads(line)["paint"] for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [Path(name).read_text() for name in written] == ["P3 1 1 255 250 0 0", "P3 1 1 255 0 250 0"]


def film(number: int, frames: int = 3) -> np.ndarray[Any, Any]:
    """(frames, 8, 16, 3) of one colour."""
    pixels = np.zeros((frames, 8, 16, 3), np.uint8)
    pixels[..., number % 3] = 250
    return pixels


def test_modalities_that_name_the_same_adapter_share_it(outside: Path, tmp_path: Path) -> None:
    cards = modalities([outside])
    rows = [{"clip": film(n), "image": film(n)[0], "name": ("red", "green", "blue")[n % 3]} for n in range(30)]
    lines = {
        "clips": "[CLIP:clip] which? -> [TEXT:name,closed_set]",
        "images": "[IMAGE:image] -> [TEXT:name,closed_set]",
    }
    tasks = [load_task_card({"instruction": line, "data": {"train": rows}}, name=name) for name, line in lines.items()]
    ready = make_ready(tasks, cards, worlds.small_data())
    assert ready.adapters["image"][1]["frames"] == 2
    clips = ready.tasks[0]
    assert clips.maker.lengths(clips.sources["train"], 0)[0] == 4 + 1 + len(" which?") // 3  # two frames of two cells
    examples = [task.maker.example(rows[1], "1", None, False) for task in ready.tasks]
    pieces = [example.sources[0].pieces[0] for example in examples]
    assert [(piece.adapter, piece.grid) for piece in pieces] == [("image", (2, 1, 2)), ("image", (1, 1, 2))]
    part = next(part for part in collate(examples).source.parts if part.adapter == "image")
    assert part.grids == ((2, 1, 2), (1, 1, 2))
    model = worlds.generalist(ready)
    assert set(model.network.adapters) == {"image", "text"}
    with torch.inference_mode():
        embedded = model.network.adapters["image"].embed(to_device(collate(examples), model.device).source.parts[0])
    assert torch.equal(embedded[:2], embedded[2:4])  # equal frames
    assert torch.allclose(embedded[:2], embedded[4:6], atol=1e-6)  # and the picture beside them


def test_settings_that_modalities_with_one_adapter_do_not_share_are_told(outside: Path) -> None:
    (outside / "modalities" / "clip.yaml").write_text(CLIP.replace("patch: 4", "patch: 8"))
    rows = [{"clip": film(0), "image": film(0)[0], "name": "red"}] * 4
    line = "[CLIP:clip] [IMAGE:image] -> [TEXT:name]"
    card = load_task_card({"instruction": line, "data": {"train": rows}}, name="both")
    with pytest.raises(CardError, match=r"CLIP and IMAGE share the adapter `image`.*`patch` is 8 and 4") as raised:
        make_ready([card], modalities([outside]), worlds.small_data())
    assert "adapter_name" in raised.value.help


def test_its_attributes_and_sides_are_checked_as_those_of_any_modality(outside: Path) -> None:
    from ofasys_lite.errors import OfasysError
    from ofasys_lite.plan import build_plan

    cards = modalities([outside])
    with pytest.raises(OfasysError, match="did you mean `dark`"):
        build_plan(load_task_card({"instruction": "[COLOUR:c,drak] -> [TEXT:a]"}, name="x"), cards)
    with pytest.raises(OfasysError, match="COLOUR"):
        build_plan(load_task_card({"instruction": "[TEXT:a] -> [COLOUR:c]"}, name="x"), cards)


def test_a_card_whose_module_is_not_there_says_which_one(outside: Path, tmp_path: Path) -> None:
    (outside / "colour_parts.py").unlink()
    sys.modules.pop("colour_parts", None)
    card = load_task_card(
        {"instruction": "[COLOUR:colour] -> [TEXT:name]", "data": {"train": str(outside / "colours.csv")}}, name="c"
    )
    with pytest.raises(CardError, match="no module `colour_parts`"):
        worlds.run([card], tmp_path / "run", modalities=modalities([outside]))


def test_a_wrong_number_of_rows_is_told_by_the_adapter_name(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = worlds.ready(worlds.tasks("caption"))
    network, task = worlds.generalist(prepared).network, prepared.tasks[0]
    example = task.maker.example(task.sources["train"].row(0), "0", None, False)
    batch = to_device(collate([example]), torch.device("cpu"))
    monkeypatch.setattr(network.adapter("image"), "embed", lambda part: torch.zeros(1, network.config.width))
    with pytest.raises(ShapeError, match="image adapter returned 1 rows, the plan counts 6"):
        network.embed(batch.source)
