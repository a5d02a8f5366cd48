"""Lines with two pictures written in rounds off one encoding, both judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import code_worlds as worlds
import numpy as np
import tiny_worlds

from ofasys_lite.layout.pack import Example

LINE = (
    "two of [TEXT:cap] -> [IMAGE:img,codec=dnd({codec}{judges}),decode=mask_predict(steps=3)] ;; "
    "[IMAGE:sub,codec=dnd({codec}{judges}),decode=mask_predict(steps=3)]"
)


def world(folder: Path, judges: str) -> Any:
    rows = [{**row, "sub": np.flip(row["img"], 1)} for row in worlds.rows(24)]
    line = LINE.replace("{judges}", judges)
    data = {"train": rows, "valid": rows[:4], "test": rows[:4]}
    return worlds.ready([worlds.task("two", worlds.codec(folder / "c"), line, data=data)])


def examples(prepared: Any) -> list[Example]:
    maker, source = prepared.tasks[0].maker, prepared.tasks[0].sources["train"]
    return [maker.example(source.row(n), str(n), np.random.default_rng(n), True) for n in range(24)]


def test_both_pictures_are_written_the_same_with_judges_and_without(tmp_path: Path) -> None:
    plain, judged = (examples(world(tmp_path / name, judges)) for name, judges in (("a", ""), ("b", ",judges=0.3")))
    shown = 0
    for one, two in zip(plain, judged, strict=True):
        assert len(one.targets) == 2
        for a, b in zip(one.targets, two.targets, strict=False):
            assert np.array_equal(a.pieces[0].arrays["hidden"], b.pieces[0].arrays["hidden"])
            assert [item.objective.name for item in b.learned] == ["depth_cross_entropy"]
        shown += len(two.targets) - 2
    assert shown > 4


def test_verdicts_of_both_pictures_count_for_terms_of_their_own(tmp_path: Path) -> None:
    prepared = world(tmp_path, ",judges=0.3")
    batch = worlds.pack(examples(prepared))
    losses = worlds.generalist(prepared).network(batch)
    (judged,) = tiny_worlds.learned(batch, "judges")
    units = len(batch.terms_U) - len(tiny_worlds.learned(batch, "depth_cross_entropy")[0].rows_R)
    assert len(losses.values_U) == len(batch.terms_U)
    assert units > len(judged.counts) > 4
    assert {batch.terms[i].slot for i in batch.terms_U[-units:]} == {
        f"{column}:{head}" for column in ("img", "sub") for head in ("relevance", "fidelity")
    }
    assert bool(losses.values_U.isfinite().all())
