"""What is told of inputs that are cut: in the slot's own units, and without opening what cannot be cut."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ofasys_lite.cards import TaskCard, modalities
from ofasys_lite.generalist.cut_inputs import CutInputs
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.plan import build_plan
from ofasys_lite.preprocess.audio import AudioPreprocess
from ofasys_lite.preprocess.image import ImagePreprocess


class Pairs:
    """A vocabulary whose pieces are two characters each."""

    def encode(self, text: str) -> list[int]:
        return [0] * -(-len(text) // 2)


def told(line: str, row: dict[str, Any], folder: str | None = None) -> list[str]:
    cards = modalities()
    entry = SimpleNamespace(plan=build_plan(TaskCard("t", line), cards))
    model: Any = SimpleNamespace(entry=lambda _: entry, modalities=cards, vocabulary=Pairs())
    return list(CutInputs(model).see([Request("t", row, "1", folder=folder)]).lines())


@pytest.mark.parametrize(
    ("slot", "text", "cut"),
    [
        ("TEXT:q,max_length=10", "a" * 20, False),
        ("TEXT:q,max_length=10", "a" * 21, True),
        ("TEXT:q,max_length=10,spelled", "a" * 10, False),
        ("TEXT:q,max_length=10,spelled", "a" * 11, True),
        ("TEXT:q,max_length=10,no_punctuation", "a, " * 7, False),
        ("TEXT:q,max_length=10,no_punctuation", "a, " * 11, True),
    ],
)
def test_a_text_is_as_long_as_it_is_read(slot: str, text: str, cut: bool) -> None:
    expected = f"slot [{slot.split(',')[0]}]: max_length=10 cuts 1 of 1 value: what stands behind is not read"
    assert told(f"[{slot}] -> [TEXT:a]", {"q": text}) == ([expected] if cut else [])


def test_media_are_opened_only_where_something_may_be_cut_of_them_and_fetched_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was opened")

    for tool in (AudioPreprocess, ImagePreprocess):
        monkeypatch.setattr(tool, "look", never)
    assert told("[IMAGE:q] -> [TEXT:a]", {"q": "a.png"}, str(tmp_path)) == []
    assert told("[AUDIO:q] -> [TEXT:a]", {"q": "a.wav"}, str(tmp_path)) == []
    assert told("[AUDIO:q,max_length=10] -> [TEXT:a]", {"q": "a.wav"}, "https://example.org/data") == []
