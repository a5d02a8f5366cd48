"""Every command of the page on data is typed."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from ofasys_lite.commands.check import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
COMMANDS = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    ofasys-lite check ")]
QA = "q,a\n" + "".join(f"question {n},answer {n}\n" for n in range(60))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)
    Path("qa.csv").write_text(QA)
    Path("qa.jsonl").write_text(
        "".join(json.dumps({"q": f"question {n}", "a": f"answer {n}"}) + "\n" for n in range(60))
    )
    Path("qa.csv.gz").write_bytes(gzip.compress(QA.encode()))
    Path("semicolons.csv").write_text(QA.replace(",", ";"))
    marks = "q,a,split\n" + "".join(f"question {n},answer {n},{'test' if n % 3 else 'train'}\n" for n in range(180))
    Path("marked.csv").write_text(marks)
    for number in range(24):
        picture = Path(f"pics/{'red' if number % 2 else 'black'}/{number}.png")
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(picture)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(f"{number}.png")
    images = [{"id": n, "file_name": f"{n}.png", "width": 16, "height": 16} for n in range(24)]
    notes = [{"id": n, "image_id": n, "category_id": n % 2, "bbox": [1, 1, 4, 5]} for n in range(24)]
    classes = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    Path("coco.json").write_text(json.dumps({"images": images, "annotations": notes, "categories": classes}))
    boxes = "".join(f"{n % 12}.png,1,1,5,6,{'dog' if n % 2 else 'cat'}\n" for n in range(24))
    Path("boxes.csv").write_text(f"image,xmin,ymin,xmax,ymax,class\n{boxes}")


def parquet() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"q": f"question {n}", "a": f"answer {n}"} for n in range(60)]
    for part in range(3):
        pq.write_table(pa.Table.from_pylist(rows[20 * part : 20 * part + 20]), f"part-{part}.parquet")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("world")
def test_a_command_of_the_page_does_what_it_says(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "part-" in command:
        parquet()
    assert main(shlex.split(command)[2:]) == 0
    out = capsys.readouterr().out
    assert out.endswith(", nothing wrong\n")


def test_the_page_has_them_all() -> None:
    assert len(COMMANDS) == 10
