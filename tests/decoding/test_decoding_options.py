"""Decoding options of a card are checked before a model is built."""

from __future__ import annotations

from typing import Any

import pytest

from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, Place


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beem": 4}, "unknown key `beem`\n  help: did you mean `beam`"),
        ({"method": "grdy"}, "did you mean `greedy`"),
        ({"beam": 0}, "beam is 0\n  help: allowed: whole numbers from 1"),
        ({"beam": True}, "beam is True"),
        ({"beam": "4"}, "beam is '4'"),
        ({"temperature": 0}, "temperature is 0\n  help: allowed: 0.001 to 100, or for codes one for each depth"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 3, "min_length": 4}, "max_length 3 is below min_length 4"),
        ({"method": "sample", "beam": 2}, "write method: beam"),
        ({"beam": 2, "n_best": 3}, "n_best is at most beam"),
        ({"exact": 1}, "exact is 1"),
        ({"candidates": 0}, "candidates is 0\n  help: allowed: whole numbers from 1"),
        ({"patience": -1}, "patience is -1"),
        ({"method": "sample", "candidates": 2}, "`candidates` does nothing: sample has none"),
        ({"method": "greedy", "patience": 2}, "`patience` does nothing: greedy has none"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        DecodeOptions.of(values)


def test_a_wrong_option_carries_its_place() -> None:
    place = Place("tasks/x.yaml", 7, 3)
    with pytest.raises(CardError, match=r"tasks/x\.yaml:7:3"):
        DecodeOptions.of({"top_k": -1}, place)


def test_a_beam_above_one_means_beam_search() -> None:
    assert DecodeOptions.of({"beam": 4}).method == "beam"
    assert DecodeOptions.of({}) == DecodeOptions()
