"""Clips in every kind of source: paths in tables, members of tars, features of Hugging Face data sets."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.data.rows import open_source
from ofasys_lite.layout.costs import size_hint
from ofasys_lite.preprocess.video import VideoPreprocess

sys.path.insert(0, str(Path(__file__).parents[1] / "preprocess"))
from video_files import animation, film, frames

LINE = "[VIDEO:clip] -> [TEXT:a]"


def mistakes(line: str, data: Any) -> list[str]:
    card = load_task_card({"instruction": line, "data": {"train": data}}, name="t")
    return [error.message for error in check_tasks([card], modalities(), tolerate=0.0).errors]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    film(tmp_path / "a.mp4", frames(10))
    (tmp_path / "b.gif").write_bytes(animation(frames(6), "GIF"))
    for number, each in enumerate(frames(2)):
        Image.fromarray(each).save(tmp_path / f"{number}.png")
    return tmp_path


def test_paths_in_a_table_start_at_its_folder(folder: Path) -> None:
    (folder / "t.csv").write_text("clip,a\na.mp4,x\nb.gif,y\n")
    assert mistakes(LINE, str(folder / "t.csv")) == []
    source = open_source(str(folder / "t.csv"))
    assert [size_hint(source, i, "clip", VideoPreprocess) for i in (0, 1)] == [(10, 1000, 48, 64), (6, 600, 48, 64)]
    (folder / "t.csv").write_text("clip,a\na.mp4,x\nb.fig,y\n")
    (told,) = mistakes(LINE, str(folder / "t.csv"))
    assert "cannot read video" in told
    rows = [{"clip": ["0.png", "1.png"], "a": "x"}, {"clip": {"frames": ["0.png", "1.png"], "fps": 5}, "a": "x"}]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert mistakes(LINE, str(folder / "t.jsonl")) == []


def test_members_of_a_tar_are_clips(folder: Path) -> None:
    held = {"mp4": (folder / "a.mp4").read_bytes(), "gif": (folder / "b.gif").read_bytes(), "txt": b"left"}
    with tarfile.open(folder / "w.tar", "w") as tar:
        for number in range(3):
            for ending, content in held.items():
                member = tarfile.TarInfo(f"{number:03}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    assert mistakes("[VIDEO:mp4] [VIDEO:gif] -> [TEXT:txt]", str(folder / "w.tar")) == []


def test_features_of_hugging_face_data_sets_are_clips(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    text = datasets.Value("string")
    content = (folder / "a.mp4").read_bytes()
    clips = [{"bytes": content, "path": None}, {"bytes": None, "path": str(folder / "a.mp4")}]
    found = [
        datasets.Dataset.from_dict({"clip": clips, "a": ["x", "y"]}),
        datasets.Dataset.from_dict(
            {"clip": clips, "a": ["x", "y"]}, features=datasets.Features({"clip": datasets.Video(), "a": text})
        ),
        datasets.Dataset.from_dict(
            {"clip": [[Image.fromarray(each) for each in frames(4)]] * 2, "a": ["x", "y"]},
            features=datasets.Features({"clip": [datasets.Image()], "a": text}),
        ),
        datasets.Dataset.from_dict({"clip": [frames(4, 8, 8).tolist()] * 2, "a": ["x", "y"]}),
    ]
    for data in found:
        assert mistakes(LINE, data) == []


def test_rows_of_python_hold_arrays() -> None:
    assert mistakes(LINE, [{"clip": frames(3), "a": "x"}, {"clip": (frames(3), 25), "a": "y"}]) == []
    (told,) = mistakes(LINE, [{"clip": frames(1)[0], "a": "x"}])
    assert "one picture" in told
    (told,) = mistakes(LINE, [{"clip": np.float64(3.0), "a": "x"}])
    assert "found a value of type float" in told
