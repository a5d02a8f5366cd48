"""An answer in text calls nothing of codes, of judges, of what is filled in or written in rounds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tiny_worlds as worlds

import ofasys_lite
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request

PACKAGE = Path(ofasys_lite.__file__).parent
OTHERS = (
    "adapters/codes.py",
    "adapters/depth_heads.py",
    "adapters/in_rounds.py",
    "adapters/judging.py",
    "decoding/coding.py",
    "decoding/mask_predict.py",
    "generalist/rendering.py",
)


def test_an_answer_in_text_calls_nothing_of_codes(tmp_path: Path) -> None:
    model = worlds.run([worlds.task("spell")], tmp_path / "run", steps=1)
    row = worlds.rows(1)[0]
    called: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(PACKAGE)):
            called.add(Path(file).relative_to(PACKAGE).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for options in (DecodeOptions(), DecodeOptions("beam", beam=3)):
            predict(model, [Request("spell", row, options=options)])
    finally:
        sys.setprofile(before)
    assert "decoding/search.py" in called
    assert not called & set(OTHERS)
