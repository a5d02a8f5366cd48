"""predict and evaluate on a run that writes pictures: which files they leave, and what they say without a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import code_worlds as worlds
import numpy as np
import pytest
from PIL import Image

from ofasys_lite.commands.app import main
from ofasys_lite.errors import DataError, WriteError
from ofasys_lite.generalist.prediction import Prediction
from ofasys_lite.preprocess.audio import AudioPreprocess
from ofasys_lite.preprocess.base import Context
from ofasys_lite.preprocess.image import ImagePreprocess

TOOLS = {"img": ImagePreprocess(Context({}, cast(Any, None)))}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the finished run runs/draws and rows to draw."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("OFASYS_CACHE", str(home / "cache"))
        rows = []
        for row in worlds.rows(8):
            name = f"{row['id']}.png"
            Image.fromarray(row["img"]).save(home / name)
            rows.append({"id": row["id"], "cap": row["cap"], "label": row["label"], "img": name})
        (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = dict.fromkeys(("train", "valid", "test"), str(home / "rows.jsonl"))
        codec = worlds.codec(home / "codec")
        cards = [worlds.task("draw", codec, data=data), worlds.task("both", codec, data=data)]
        worlds.small_run(cards, home / "runs" / "draws", steps=2)
        yield home


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_a_picture_is_written_to_the_file_that_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/draws", "draw", "cap=a red square", "--out", "out/red.png"]) == 0
    out, err = capsys.readouterr()
    assert out == "<image 8 x 8>\n"
    assert err.strip().endswith("red.png")
    with Image.open("out/red.png") as image:
        assert image.size == (8, 8)


def test_json_names_the_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/draws", "draw", "cap=a red square", "--json", "--out", "out/j.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["img"] == str(Path("out/j.png"))
    assert Path(found["img"]).is_file()
    assert main(["predict", "runs/draws", "both", "cap=a red square", "--out", "out/both.json"]) == 0
    kept = json.loads(Path("out/both.json").read_text("utf-8"))
    assert kept["img"] == "both.png"
    assert Path("out/both.png").is_file()


def test_a_beam_of_pictures_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/draws", "draw", "cap=a red square", "beam=3", "n_best=3", "--out", "n.png"]) == 1
    assert "`beam` does not write codes" in capsys.readouterr().err
    assert not Path("n.png").exists()


def test_rows_are_lines_of_json_with_pictures_in_a_folder_of_their_name(place: Path) -> None:
    assert main(["predict", "runs/draws", "draw", "--data", "rows.jsonl", "--out", "out/drawn.jsonl"]) == 0
    lines = [json.loads(line) for line in Path("out/drawn.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [f"r{number}" for number in range(8)]
    for line in lines:
        assert Path(line["img"]).parent == Path("out/drawn")
        with Image.open(line["img"]) as image:
            assert image.size == (8, 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cap=a red square"], "`img` is a picture, and no file is named for it"),
        (["--data", "rows.jsonl"], "write --out drawn.jsonl"),
        (["--data", "rows.jsonl", "--out", "folder"], "--out folder.jsonl"),
        (["cap=a red square", "--out", "a.pgn"], "a.pgn"),
    ],
)
def test_a_file_that_is_missing_or_of_no_use_is_told(
    place: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "runs/draws", "draw", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_wrong_option_is_told_before_a_missing_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/draws", "draw", "cap=a red square", "beam=3"]) == 1
    told = capsys.readouterr().err
    assert "`beam` does not write codes" in told
    assert "no file is named" not in told


def test_evaluate_writes_sheets_and_the_pictures_of_samples(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run=runs/draws", "tasks=[draw]", "samples=2", "bootstrap=5", "output=seen"]) == 0
    assert str(Path("seen/samples/draw.png")) in capsys.readouterr().out
    assert len(list(Path("seen/samples/draw").glob("*.png"))) == 2
    assert 'alt="model"' in Path("seen/report.html").read_text("utf-8")
    assert main(["report", "runs/draws"]) in (0, 1)


def test_a_prediction_gives_its_picture_and_says_where_there_is_none_or_several(tmp_path: Path) -> None:
    image = Image.new("RGB", (5, 4))
    one = Prediction("t", "0", {"img": image}, 0.0, tools=TOOLS)
    assert one.picture is image
    assert one.text == "<image 5 x 4>"
    assert one.save(tmp_path / "a.jpg").is_file()
    assert json.loads(one.save(tmp_path / "a.json").read_text("utf-8")) == {"img": "a.png"}
    assert one.save(tmp_path / "a.txt").read_text("utf-8") == "<image 5 x 4>\n"
    several = Prediction("t", "0", {"img": image, "pages": [{"img": image, "label": "x"}]}, 0.0, tools=TOOLS)
    assert json.loads(several.text) == {"img": "<image 5 x 4>", "pages": [{"img": "<image 5 x 4>", "label": "x"}]}
    with pytest.raises(DataError, match="2 pictures: img, pages-0-img"):
        several.save(tmp_path / "b.png")
    several.save(tmp_path / "b.json")
    assert {path.name for path in tmp_path.glob("b*")} == {"b.json", "b-img.png", "b-pages-0-img.png"}
    with pytest.raises(DataError, match="this prediction has no picture"):
        _ = Prediction("t", "0", {"a": "text"}, 0.0).picture


def test_a_prediction_is_saved_over_another_file_only_when_told(tmp_path: Path) -> None:
    one = Prediction("t", "0", {"img": Image.new("RGB", (5, 4))}, 0.0, tools=TOOLS)
    for name in ("a.png", "b.json", "c.txt"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(WriteError, match=f"{name} is there already"):
            one.save(tmp_path / name)
        assert (tmp_path / name).read_text() == "precious"
        one.save(tmp_path / name, overwrite=True)
        one.save(tmp_path / name)  # the same once more replaces nothing
    (tmp_path / "d.png").write_text("precious")
    with pytest.raises(WriteError, match=r"d\.png is there already"):
        one.save(tmp_path / "d.json")
    assert not (tmp_path / "d.json").exists()
    with pytest.raises(WriteError, match="it is a folder"):
        Prediction("t", "0", {"a": "text"}, 0.0).save(tmp_path)


def test_a_sound_is_one_value_of_a_prediction_though_it_is_a_pair(tmp_path: Path) -> None:
    """(samples, rate) is no list of two values: it is said and written whole, alone and within a group."""
    sound = (np.zeros(8000, np.float32), 16000)
    tools = {"wav": AudioPreprocess(Context({}, cast(Any, None), adapter="audio"))}
    one = Prediction("t", "0", {"wav": sound}, 0.0, tools=tools)
    assert one.text == "<audio 0.5 s>"
    assert one.save(tmp_path / "one.wav").read_bytes()[:4] == b"RIFF"
    assert one.save(tmp_path / "one.json").read_text() == '{\n "wav": "one.wav"\n}\n'
    several = Prediction("t", "0", {"wavs": [{"wav": sound}, {"wav": sound}]}, 0.0, tools=tools)
    assert json.loads(several.text) == [{"wav": "<audio 0.5 s>"}] * 2
