"""Check looks into pictures, sounds and boxes: what cannot be decoded, what lies outside, what is made smaller."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_worlds as worlds
from check_tables import CARDS, report_of
from PIL import Image

from ofasys_lite.cards import load_task_card
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.errors import DataError, InstructionError
from ofasys_lite.layout.analyze import analyze
from ofasys_lite.layout.ready import DataSettings, make_ready


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def noise(side: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8))


def wave(samples: np.ndarray[Any, Any], rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


SOUND = wave(np.sin(np.arange(8000) / 9).astype(np.float32))
BROKEN_MEDIA: dict[str, tuple[str, Any, str]] = {
    "a truncated JPEG": ("IMAGE", encoded(noise(), "JPEG")[:-200], "is broken or truncated"),
    "a truncated PNG": ("IMAGE", encoded(noise(), "PNG")[:-900], "is broken or truncated"),
    "a picture of no bytes": ("IMAGE", b"", "empty"),
    "a picture by its header only": ("IMAGE", encoded(noise(), "PNG")[:40], "no image of a known format"),
    "a picture of too many pixels": ("IMAGE", encoded(Image.new("1", (20_000, 20_000)), "PNG"), "are too many"),
    "a strip": ("IMAGE", encoded(Image.new("RGB", (900, 2)), "PNG"), "more than 200 times"),
    "an empty sound": ("AUDIO", wave(np.zeros(0, dtype=np.float32)), "it has no samples"),
    "a very short sound": ("AUDIO", wave(np.ones(100, dtype=np.float32)), "6 ms are too short"),
    "a sound that ends early": ("AUDIO", SOUND[:9000], "ends early, 8,920 of 32,000 bytes of sound are there"),
    "a sound with NaN": ("AUDIO", wave(np.array([np.nan] * 8000, dtype=np.float32)), "infinite or no numbers"),
    "a sound with inf": ("AUDIO", wave(np.array([np.inf] * 8000, dtype=np.float32)), "infinite or no numbers"),
    "a sound of no bytes": ("AUDIO", b"", "empty"),
    "a sound of another format": ("AUDIO", b"RIFF" + b"x" * 90, "no sound of a known format"),
    "an array of NaN": ("AUDIO", {"array": np.full(8000, np.nan), "rate": 16_000}, "infinite or no numbers"),
    "an array of a strange rate": ("AUDIO", {"array": np.ones(8000), "rate": 3}, "an array with the rate 3"),
}


@pytest.mark.parametrize(
    ("kind", "name", "content", "wanted"),
    [
        ("IMAGE", "torn.png", encoded(noise(), "PNG")[:-900], "cannot read image torn.png: the PNG image of 48 x 48"),
        ("IMAGE", "strip.png", encoded(Image.new("RGB", (900, 2)), "PNG"), "cannot read image strip.png: 900 x 2"),
        ("AUDIO", "long.wav", wave(np.zeros(31 * 16_000, np.float32)), "cannot read audio long.wav: it lasts 31.0 s"),
        ("AUDIO", "none.wav", b"RIFF" + b"x" * 90, "none.wav is broken or no sound of a known format (Format not"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str, name: str, content: bytes, wanted: str) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "rows.csv").write_text(f"m,a\n{name},x\n")
    card = load_task_card({"instruction": f"[{kind}:m] -> [TEXT:a]", "data": str(tmp_path / "rows.csv")}, name="t")
    (error,) = check_tasks([card], CARDS, tolerate=0.0).errors
    assert wanted in error.message.replace(f"{tmp_path}/", "")
    assert "object at 0x" not in error.message
    assert error.message.count(name) == 1


def test_bytes_that_are_no_sound_are_described_without_our_objects() -> None:
    (error,) = report_of("[AUDIO:m] -> [TEXT:a]", [{"m": b"\x89PNG" + b"x" * 90, "a": "x"}]).errors
    assert "(Format not recognised)" in error.message


GOOD = {"IMAGE": encoded(noise(), "PNG"), "AUDIO": SOUND}


@pytest.mark.parametrize("name", BROKEN_MEDIA)
@pytest.mark.parametrize("shape", ["plain", "group", "optional", "written"])
def test_what_training_cannot_decode_is_told_with_its_row(name: str, shape: str) -> None:
    kind, value, message = BROKEN_MEDIA[name]
    good = GOOD[kind]
    rows: list[dict[str, Any]] = [{"m": good, "a": "x"} for _ in range(7)] + [{"m": value, "a": "x"}]
    line = f"[{kind}:m] -> [TEXT:a]"
    if shape == "group":
        line = f"([{kind}:m])*<over=shots> -> [TEXT:a]"
        rows = [{"shots": [{"m": good}, {"m": row["m"]}], "a": "x"} for row in rows]
    elif shape == "optional":
        line = f"[{kind}:m?] [TEXT:a] -> [TEXT:a]"
    elif shape == "written":
        if kind != "IMAGE" or name == "a strip":
            return
        line = "[TEXT:a] -> [IMAGE:m,size=16,codec=dnd(depth=1,factor=4)]"
    (error,) = report_of(line, rows).errors
    assert error.code == "E304"
    assert message in error.message
    assert "row 8; 1 of 8 rows looked at" in error.message
    card = load_task_card({"instruction": line, "data": {"train": rows, "valid": rows, "test": rows}}, name="t")
    tolerant = check_tasks([card], CARDS)
    assert tolerant.errors == ()
    assert any(message in note and note.endswith("Training leaves such rows out.") for note in tolerant.notes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: encoded(noise().convert("CMYK"), "JPEG"),
        lambda: encoded(Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 60), "PNG"),
        lambda: encoded(noise().convert("RGBA"), "PNG"),
        lambda: encoded(noise().convert("P"), "GIF"),
    ],
    ids=["CMYK", "16 bit", "RGBA", "palette"],
)
def test_pictures_of_other_colours_are_read_by_check_and_training_alike(make: Callable[[], bytes]) -> None:
    rows = [{"m": make(), "a": "x"}] * 3
    assert report_of("[IMAGE:m] -> [TEXT:a]", rows).errors == ()


def test_how_many_rows_were_decoded_is_known_and_bounded_by_work() -> None:
    rows = [{"m": GOOD["IMAGE"], "a": "x"}] * 40
    card = load_task_card({"instruction": "[IMAGE:m] -> [TEXT:a]", "data": {"train": rows}}, name="t")
    assert check_tasks([card], CARDS).whole == {"t": 40}
    some = check_tasks([card], CARDS, work=48 * 48 * 10)
    assert some.whole == {"t": 10}
    assert some.rows == {"t": 40}


def test_pictures_that_are_made_smaller_are_told_as_texts_that_are_cut() -> None:
    rows = [{"m": encoded(noise(200 if i % 2 else 40), "PNG"), "a": "x"} for i in range(8)]
    line = "[IMAGE:m] -> [TEXT:a]"
    told = "slot [IMAGE:m]: max_pixels=16384 reduces 50.0 % of the values in {}, such as 200 x 200 to 128 x 128"
    assert f"task line: {told.format('list')}" in report_of(line, rows).notes
    assert not any("reduces" in note for note in report_of("[IMAGE:m,max_pixels=65536] -> [TEXT:a]", rows).notes)
    assert not any("reduces" in note for note in report_of("[IMAGE:m,size=64] -> [TEXT:a]", rows).notes)
    card = load_task_card({"instruction": line, "data": {"train": rows, "valid": rows, "test": rows}}, name="t")
    assert told.format("train") in analyze(make_ready([card], CARDS, DataSettings(pieces=300)).tasks[0], 8).remarks


def test_animations_and_sounds_of_another_rate_are_remarks() -> None:
    moving = encoded(noise(), "GIF", save_all=True, append_images=[Image.new("RGB", (48, 48), "red")] * 3)
    notes = report_of("[IMAGE:m] -> [TEXT:a]", [{"m": moving, "a": "x"}] * 2).notes
    assert any("the first of several pictures is read in 100.0 % of the values in list" in note for note in notes)
    rows = [{"m": wave(np.ones(8000, dtype=np.float32), 8000), "a": "x"}]
    notes = report_of("[AUDIO:m,max_length=50] -> [TEXT:a]", rows).notes
    assert any("sample_rate=16000 resamples 100.0 % of the values in list, such as 8000 Hz" in note for note in notes)
    assert any("max_length=50 cuts 100.0 % of the values in list, such as 98 frames" in note for note in notes)


PIXELS = np.zeros((40, 60, 3), dtype=np.uint8)
WRONG_BOXES: dict[str, tuple[Any, str, str]] = {
    "outside": ([10, 10, 900, 30], "", "lies outside its image of 60 x 40 pixels"),
    "negative": ([-5, 2, 10, 10], "", "lies outside its image of 60 x 40 pixels"),
    "too low": ([10, 10, 30, 60], "", "lies outside its image of 60 x 40 pixels"),
    "reversed": ([30, 20, 10, 10], "", "has its corners reversed"),
    "not a number": ([float("nan"), 2, 3, 4], "", "no finite number"),
    "infinite": ([1, 2, float("inf"), 4], "", "no finite number"),
    "a point": ([5, 5, 5, 9], "", "has no area"),
    "corners read as a size": ([10, 10, 55, 35], ",format=xywh", "lies outside"),
    "of a size": ([1, 1, 1001, 900], ",size=900", "lies outside its image of 900 x 900"),
    "no width": ([5, 5, 0, 9], ",format=xywh", "has no area"),
    "a width below 0": ([5, 5, -3, 9], ",format=xywh", "has a width or height below 0"),
}


@pytest.mark.parametrize("name", WRONG_BOXES)
@pytest.mark.parametrize("grouped", [False, True])
def test_boxes_are_held_against_their_picture_by_check_as_by_training(name: str, grouped: bool) -> None:
    box, more, message = WRONG_BOXES[name]
    good = [1, 1, 9, 9]
    line = f"[IMAGE:i] where? -> [BOX:b{more}]"
    rows: list[dict[str, Any]] = [{"i": PIXELS, "b": good}] * 9 + [{"i": PIXELS, "b": box}]
    if grouped:
        line = f"[IMAGE:i] where? -> ([BOX:b{more}])*<over=os>"
        rows = [{"i": PIXELS, "os": [{"b": good}, {"b": row["b"]}]} for row in rows]
    (error,) = report_of(line, rows).errors
    assert (error.code, message in error.message) == ("E304", True), error.message
    assert "row 10; 1 of 10 rows looked at" in error.message
    card = load_task_card({"instruction": line, "data": {"train": rows, "valid": rows, "test": rows}}, name="t")
    maker = worlds.ready([card]).tasks[0].maker
    with pytest.raises(DataError, match=message):
        maker.example(rows[-1], "9", None, True)


def test_regions_that_are_read_are_held_against_their_picture_too() -> None:
    rows = [{"i": PIXELS, "b": [1, 1, 9, 9], "a": "x"}] * 9 + [{"i": PIXELS, "b": [1, 1, 99, 9], "a": "x"}]
    (error,) = report_of("[IMAGE:i] [BOX:b] what? -> [TEXT:a]", rows).errors
    assert "lies outside its image of 60 x 40 pixels" in error.message


def test_kinds_of_wrong_boxes_are_told_apart_with_their_rows() -> None:
    rows = [{"i": PIXELS, "b": box} for box in ([1, 1, 9, 9], [1, 1, 99, 9], [9, 9, 1, 1], [1, 1, 77, 9])]
    first, second = report_of("[IMAGE:i] where? -> [BOX:b]", rows).errors
    assert "(list, rows 2, 4; 2 of 4 rows looked at)" in first.message
    assert "(list, row 3; 1 of 4 rows looked at)" in second.message


@pytest.mark.parametrize("line", ["[IMAGE:i] where? -> [BOX:b]", "[IMAGE:i] where? -> ([BOX:b])*<over=os>"])
def test_boxes_that_are_all_shares_of_the_picture_are_a_note_that_names_the_attribute(line: str) -> None:
    rows = [{"i": PIXELS, "b": [0.1, 0.2, 0.5, 1.0], "os": [{"b": [0.1, 0.2, 0.5, 1.0]}]}] * 4
    report = report_of(line, rows)
    assert report.errors == ()
    assert any("read as pixels; shares of the picture are written [BOX:b,size=1]" in note for note in report.notes)
    held = report_of(line.replace("[BOX:b]", "[BOX:b,size=1]"), rows)
    assert not any("shares of the picture" in note for note in held.notes)
    mixed = report_of(line, [*rows, {"i": PIXELS, "b": [1, 1, 9, 9], "os": [{"b": [1, 1, 9, 9]}]}])
    assert not any("shares of the picture" in note for note in mixed.notes)


def test_a_thin_box_that_is_written_spans_a_bin_at_least() -> None:
    card = worlds.task("find")
    maker = worlds.ready([card]).tasks[0].maker
    row = dict(worlds.rows(1)[0])
    for box in ([3.0, 3.0, 3.01, 9.0], [15.99, 15.99, 16.0, 16.0], [0.0, 0.0, 0.001, 0.001]):
        row.update(img=np.zeros((16, 16, 3), dtype=np.uint8), box=box)
        ids = maker.example(row, "0", None, True).targets[0].pieces[0].arrays["ids"]
        assert ids[0] < ids[2]
        assert ids[1] < ids[3]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("[IMAGE:i,size=70] what? -> [TEXT:a]", "size=70"),
        ("[TEXT:a] -> [STRUCT:s,schema=grdi(rows=2)]", "schema=grdi(rows=2)"),
        ("([IMAGE:i,size=70])*<over=os> -> [TEXT:a]", "size=70"),
        ("[IMAGE:i,max_pixels=3] what? -> [TEXT:a]", "max_pixels=3"),
    ],
)
def test_attributes_that_only_their_modality_can_judge_are_told_with_their_place(line: str, column: str) -> None:
    rows = [{"i": PIXELS, "a": "x", "s": [[1]], "os": [{"i": PIXELS}]}] * 3
    report = report_of(line, rows)
    (error,) = report.errors
    assert isinstance(error, InstructionError)
    assert error.place is not None
    assert f"  {line}\n  {' ' * line.index(column)}{'^' * len(column)}" in error.render()
    card = load_task_card({"instruction": line, "data": {"train": rows, "valid": rows, "test": rows}}, name="line")
    with pytest.raises(InstructionError) as raised:
        make_ready([card], CARDS, DataSettings(pieces=300))
    assert raised.value.render() == error.render()
