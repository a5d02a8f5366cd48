"""docs/images/motion.png: clips of the data beside what a model wrote for the same words, as curves; and
docs/images/text_to_motion.png: poses of a skeleton that a model wrote.

`python docs/make_motion_picture.py runs/motion runs/mocap` (runs of motion_writing and of text_to_motion), in the
folder where the data is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from ofasys_lite.data.rows import open_source
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.preprocess.clips import read_clip
from ofasys_lite.preprocess.motion_pictures import strip
from ofasys_lite.writing.contact_sheet import ContactSheet

IMAGES = Path(__file__).parent / "images"
TEXTS = {"a kick": 1, "a cartwheel, mirrored": 1, "walking": 2}
SHEET = ContactSheet(width=320, gap=10, lines=2)


def curves(run: str) -> None:
    """Writes motion.png."""
    source = open_source(f"{os.environ.get('OFASYS_DATA', 'data')}/basic_motions/test.parquet")
    model = Generalist.from_pretrained(run, "cpu")
    options = model.entry("motion_writing").options(seed=1)
    cells: list[Any] = []
    labels = sorted({source.row(i)["label"] for i in range(len(source))})
    for label in labels:
        real = next(row["clip"] for i in range(len(source)) if (row := source.row(i))["label"] == label)
        (written,) = predict(model, [Request("motion_writing", {"label": label}, label, options)])
        if written is None:
            raise SystemExit(f"nothing was written for {label}")
        for head, clip in (("recorded", read_clip(real, None)), ("written", written.values["clip"])):
            picture = strip(clip)
            picture.thumbnail((SHEET.inner, SHEET.inner), Image.Resampling.LANCZOS)
            cells.append(SHEET.cell([SHEET.text(f"{label}, {head}", "#212529", 14), picture]))
    place = SHEET.save(cells, IMAGES / "motion.png", 2)
    with Image.open(place) as sheet:
        small = sheet.convert("RGB").quantize(64)
    small.save(place, optimize=True)


def poses(run: str) -> None:
    """Writes text_to_motion.png."""
    model = Generalist.from_pretrained(run, "cpu")
    shots = []
    for text, seed in TEXTS.items():
        options = model.entry("text_to_motion").options(seed=seed)
        (written,) = predict(model, [Request("text_to_motion", {"text": text}, text, options)])
        if written is None:
            raise SystemExit(f"nothing was written for {text}")
        shots.append(strip(written.values["clip"]))
    sheet = Image.new("RGB", (max(shot.width for shot in shots), sum(shot.height for shot in shots)), "white")
    for number, shot in enumerate(shots):
        sheet.paste(shot, (0, number * shot.height))
    sheet.quantize(32).save(IMAGES / "text_to_motion.png", optimize=True)


if __name__ == "__main__":
    curves(sys.argv[1])
    poses(sys.argv[2])
