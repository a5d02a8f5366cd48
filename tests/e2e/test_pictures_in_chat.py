"""Messages whose content is a list of parts, pictures among the words: OpenAI's and Hugging Face's form, as groups."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from PIL import Image

from ofasys_lite.errors import DataError, OfasysError
from ofasys_lite.generalist.predicting import Request, predict

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def line(picture: str, kind: str) -> str:
    parts = f"([IMAGE:{picture},no_loss] | [TEXT:text,no_loss])*<over=content,by=type({kind}=1,text=2)>"
    return f"-> ({parts} | [TEXT:content,max_length=4])*<over=messages,by=role(user=1,assistant=2)>"


OPENAI, HUGGING_FACE = line("image_url.url", "image_url"), line("image", "image")


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


def openai(colour: str) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(png(colour)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def hugging_face(colour: str) -> dict[str, Any]:
    return {"type": "image", "image": f"pictures/{colour}.png"}


def rows(count: int, seed: int, part: Any = openai) -> list[dict[str, Any]]:
    """Talks of one to three pictures, each named before the next is shown."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        turns: list[dict[str, Any]] = []
        for _ in range(1 + number % 3):
            colour = list(COLOURS)[int(rng.integers(3))]
            turns.append({"role": "user", "content": [part(colour), {"type": "text", "text": "which colour?"}]})
            turns.append({"role": "assistant", "content": colour})
        found.append({"id": str(number), "messages": turns})
    return found


def file_of(folder: Path, held: list[dict[str, Any]]) -> Path:
    """The rows as a file, pictures beside it."""
    (folder / "pictures").mkdir(exist_ok=True)
    for colour in COLOURS:
        (folder / "pictures" / f"{colour}.png").write_bytes(png(colour))
    path = folder / "talks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in held), encoding="utf-8")
    return path


@pytest.mark.parametrize("way", ["openai", "hugging face"])
def test_packed_and_one_by_one_is_the_same(way: str, tmp_path: Path) -> None:
    held: Any = rows(8, 0)
    said = OPENAI
    if way == "hugging face":
        held, said = str(file_of(tmp_path, rows(8, 0, hugging_face))), HUGGING_FACE
    (task,) = worlds.ready([worlds.task("talk", {"train": held, "valid": held, "test": held}, line=said)]).tasks
    model = worlds.generalist(worlds.ready([worlds.task("talk", {"train": held, "valid": held}, line=said)]))
    read = [task.sources["train"].row(number) for number in range(8)]
    one, many = (worlds.gradients(model, task, read, packs) for packs in ([range(8)], [[i] for i in range(8)]))
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=3e-4, atol=3e-6, msg=name)


def test_each_answer_is_of_the_picture_before_it(tmp_path: Path) -> None:
    held = {"train": rows(96, 0), "valid": rows(12, 1), "test": rows(12, 1)}
    more: dict[str, Any] = {"steps": 60, "samples_per_step": 12, "lr": 5e-3, "model": {"encoder_layers": 0}}
    model = worlds.run([worlds.task("talk", held, line=OPENAI)], tmp_path / "run", **more)
    for row in rows(12, 1):
        # what is asked, without any answer
        asked = [turn if turn["role"] == "user" else {"role": "assistant"} for turn in row["messages"]]
        (found,) = predict(model, [Request("talk", {"messages": asked}, row["id"], model.entry("talk").options())])
        assert found is not None
        said = [turn.get("content") for turn in found.values["messages"]]
        assert said[1::2] == [turn["content"] for turn in row["messages"][1::2]]


WRONG = {
    "a part of another type": ({"type": "video", "video": "a.mp4"}, "`type` of a record of `content` is `video`"),
    "a picture that is not there": ({"type": "image", "image": "pictures/none.png"}, "none.png"),
    "a picture without its file": ({"type": "image"}, "no column `image` in this row"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_told(name: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, rows(4, 0, hugging_face))
    (task,) = worlds.ready([worlds.task("talk", {"train": str(path), "valid": str(path)}, line=HUGGING_FACE)]).tasks
    part, told = WRONG[name]
    row = dict(task.sources["train"].row(0))
    row["messages"] = [{"role": "user", "content": [part]}, {"role": "assistant", "content": "red"}]
    with pytest.raises(DataError, match=f"(?s)task talk, id 0: .*{told}"):
        task.maker.example(row, "0", None, False)


def test_words_alone_are_no_list_of_parts() -> None:
    row = {"id": "0", "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]}
    held = {"train": rows(8, 0), "valid": rows(4, 0)}
    (task,) = worlds.ready([worlds.task("talk", held, line=OPENAI)]).tasks
    with pytest.raises(OfasysError, match="column `content` must hold a list; found the text `hello`"):
        task.maker.example(row, "0", None, False)
