"""Every line of the language, OFASys' own among them, is trained with all others in one model, validated and used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.segments import GroupSegment, Segment, SlotSegment
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training import missing_codecs

TEXT = (Path(__file__).parents[1] / "instruction" / "lines.txt").read_text(encoding="utf-8")
LINES = {f"t{i}": line for i, line in enumerate(x for x in TEXT.splitlines() if x and not x.startswith("#"))}
SETS = {"labels": list(worlds.LABELS), "items": list(worlds.WORDS)}
DATA = DataSettings(
    pieces=400,
    bins=32,
    modalities={
        "IMAGE": {"patch": 4, "widths": [8, 8], "codec": {"width": 8, "channels": 4, "codes": 8}},
        "VIDEO": {"patch": 4, "widths": [8, 8]},
        "AUDIO": {"channels": 16, "mels": 20, "sample_rate": 8000, "max_seconds": 1.0},
    },
)


def value(modality: str, column: str, number: int) -> Any:
    """A value of a modality, for row `number`."""
    rng = np.random.default_rng([number, len(column)])
    word, label = worlds.WORDS[number % 6], worlds.LABELS[number % 3]
    made: dict[str, Any] = {
        "TEXT": f"a {label} {word}" if column not in ("label", "answer") else label,
        "IMAGE": rng.integers(0, 256, (16, 16, 3)).astype(np.uint8),
        "BOX": [1.0, 2.0, 9.0, 12.0],
        "VIDEO": rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8),
        "AUDIO": {"array": rng.normal(0, 0.1, 6000).astype(np.float32), "rate": 8000},
        "PHONE": worlds.PHONES[word],
        "STRUCT": {"name": word, "count": number},
        "CATEGORY": word,
        "MOTION": rng.normal(size=(12, 4)).round(3).tolist(),
        "CHAT": [{"role": "user", "content": f"a {label}?"}, {"role": "assistant", "content": word}],
    }
    return made[modality]


def fill(row: dict[str, Any], segments: tuple[Segment, ...], number: int) -> None:
    """A value for every slot of a side of a line; a group has two elements."""
    for segment in segments:
        if isinstance(segment, SlotSegment):
            row[segment.column] = value(segment.modality, segment.column, number)
            if segment.rejected is not None:
                row[segment.rejected] = value(segment.modality, segment.rejected, number + 1)
        elif isinstance(segment, GroupSegment):
            elements: list[dict[str, Any]] = [{}, {}]
            for place, element in enumerate(elements):
                fill(element, segment.alternatives[0], number + place)
            if segment.over is not None:
                row[segment.over] = elements
            else:
                row.update({column: [element[column] for element in elements] for column in elements[0]})


def rows(line: str, count: int) -> list[dict[str, Any]]:
    plan = build_plan(load_task_card({"instruction": line, "sets": SETS}, name="t"), modalities())
    found = []
    for number in range(count):
        row: dict[str, Any] = {"id": str(number)}
        template = plan.templates[0]
        for side in (*template.read, *template.written):
            fill(row, side, number)
        found.append(row)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """One model of all lines, a few steps old."""
    folder = tmp_path_factory.mktemp("lines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(missing_codecs, "STEPS", 2)
        patch.setenv("OFASYS_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        cards = []
        for name, line in LINES.items():
            aligned = "<->" in line  # which is drawn in blocks of 32
            held = rows(line, 36 if aligned else 12)
            data = {"train": held, "valid": held[:2], "test": held[:2]}
            card = {"instruction": line, "data": data, "sets": SETS, "weight": 30 if aligned else 1}
            cards.append(load_task_card(card, name=name))
        more: dict[str, Any] = {
            "steps": 4,
            "samples_per_step": 64,
            "log_every": 1,
            "data": DATA,
            "model": {"decoder_layers": 2},
        }
        return worlds.run(cards, folder / "run", **more), folder / "run"


def test_no_line_waits_for_a_later_version() -> None:
    for line in LINES.values():
        assert not build_plan(load_task_card({"instruction": line, "sets": SETS}, name="t"), modalities()).cannot_train


def test_every_line_is_trained(run: tuple[Generalist, Path]) -> None:
    logged = [row for row in RunFolder(run[1]).history() if row["kind"] == "train"]
    assert {row["task"] for row in logged} == set(LINES)
    assert all(np.isfinite(row["loss"]) for row in logged)


def test_every_line_is_validated(run: tuple[Generalist, Path]) -> None:
    model, folder = run
    Validator(RunFolder(folder), samples=2)(model, 4, 0.0)
    valid = {row["task"]: row for row in RunFolder(folder).history() if row["kind"] == "valid"}
    assert set(valid) == set(LINES)
    for row in valid.values():
        assert row["loss"]
        assert all(np.isfinite(loss) for loss in row["loss"].values())
        assert "value" in row or LINES[row["task"]].rstrip().endswith("->")  # what writes nothing has no answers


def test_every_line_is_used(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    loaded = Generalist.from_pretrained(run[1])
    for name, line in LINES.items():
        if "<->" in line:
            continue  # its sides become vectors: docs/alignment.md, tests of its own
        targets = model.entry(name).plan.target_slots()
        (row,) = rows(line, 1)
        # ids that are written all together have a length of their own
        counted = targets and all(s.tokens and "decode=mask_predict" not in line for s in targets)
        given = model.entry(name).options(**({"max_length": 6} if counted else {}))
        (found,) = predict(loaded, [Request(name, row, "0", given)])
        assert found is not None, line
        assert found.values or not any(slot.learned for slot in targets), line
