"""Writers that a modality's card declares: what a line may say of them, and what a card may declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.commands.app import main
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.generalist.calls import decode_options
from ofasys_lite.plan import Plan, build_plan
from ofasys_lite.plan.segments import written_together

CARD = """
name: WAVE
preprocess: wave_parts.WavePreprocess
adapter: wave_parts.WaveAdapter
reads: never
writes: now
losses:
  flow: {side: target, unit: frame, standard: true, together: true}
writers:
  flow:
    steps: {type: int, low: 1, high: 100, default: 8, help: "passes of the decoder"}
    noise: {type: float, low: 0, default: 1.0, help: "deviation of what it starts from"}
    cfg: {type: float, low: 0, high: 10, default: 1.0, help: "guidance"}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user's folder with the card; its classes are not there, and nobody asks for them."""
    (tmp_path / "modalities").mkdir()
    (tmp_path / "modalities" / "wave.yaml").write_text(CARD)
    return tmp_path


@pytest.mark.parametrize(
    ("decode", "told"),
    [
        ("flow(step=4)", "did you mean `steps`"),
        ("flow(steps=0)", "`steps=0` is out of range"),
        ("flow(steps=1.5)", "`steps` takes a whole number"),
        ("flow(steps=1,steps=2)", "given twice"),
        ("flow(4)", "takes arguments by name"),
        ("greedy", "`decode` cannot be `greedy`"),
    ],
)
def test_options_of_its_writer_are_held_against_the_card(place: Path, decode: str, told: str) -> None:
    card = load_task_card({"instruction": f"draw [TEXT:name] -> [WAVE:wave,decode={decode}]"}, name="waves")
    with pytest.raises(OfasysError, match=told):
        build_plan(card, modalities([place]))


def test_a_line_that_names_no_writer_has_the_first_one_with_its_defaults(place: Path) -> None:
    plan = build_plan(load_task_card({"instruction": "[TEXT:name] -> [WAVE:wave]"}, name="w"), modalities([place]))
    assert plan.decoding() == {"method": "flow", "steps": 8, "noise": 1.0, "cfg": 1.0}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (" default: 8,", "", "option `steps` of writer `flow` has no `default`"),
        ("  flow:\n    steps", "  beam:\n    steps", "a writer cannot be called `beam`"),
        ("    steps:", "    n_best:", "an option of a writer cannot be called `n_best`"),
    ],
)
def test_a_writer_without_a_default_or_with_a_name_of_the_package_is_refused(
    place: Path, old: str, new: str, told: str
) -> None:
    (place / "modalities" / "wave.yaml").write_text(CARD.replace(old, new))
    with pytest.raises(CardError, match=told):
        modalities([place])


def test_a_card_of_codes_may_have_writers_beside_those_of_the_package(place: Path) -> None:
    card = Path(modalities()["IMAGE"].path).read_text().replace("name: IMAGE", "name: SKETCH")
    writers = "writers:\n  halves:\n    parts: {type: int, low: 1, default: 2, help: how many}\n"
    (place / "modalities" / "sketch.yaml").write_text(card + writers)

    def plan(slot: str) -> Plan:
        cards = modalities([place])
        return build_plan(load_task_card({"instruction": f"[TEXT:t] -> [SKETCH:a{slot}]"}, name="s"), cards)

    mine = plan(",decode=halves")
    assert written_together(mine.target_slots()[0].options)
    assert decode_options(mine, {}, {"seed": 3, "parts": 4}) == DecodeOptions(
        "halves", seed=3, settings=(("parts", 4),)
    )
    # what is learned all at once may be written by any writer of that kind
    assert decode_options(mine, {"method": "mask_predict"}, {"steps": 3}) == DecodeOptions("mask_predict", steps=3)
    with pytest.raises(CardError, match="sample: this line was learned with halves"):
        decode_options(mine, {}, {"method": "sample"})
    with pytest.raises(CardError, match="halves: this line was learned from left to right"):
        decode_options(plan(",decode=sample"), {}, {"method": "halves"})
    assert plan("").decoding() == {}


def test_explain_lists_its_writer_with_the_defaults(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "WAVE", "--config-dir", str(place)]) == 0
    assert "flow(steps=8, noise=1.0, cfg=1.0)" in " ".join(capsys.readouterr().out.split())
