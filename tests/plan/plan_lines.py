"""What the tests of this room share: the lines that must plan, a plan as text, and how a line of a table is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofasys_lite.cards import ModalityCard, load_task_card, modalities
from ofasys_lite.errors import ErrorGroup, InstructionError
from ofasys_lite.plan import GroupSegment, Plan, SlotSegment, WordsSegment, build_plan
from ofasys_lite.plan.explanation import in_words
from ofasys_lite.plan.segments import Segment

HERE = Path(__file__).parent
LINES = HERE.parent / "instruction" / "lines.txt"
#: A line that draws; what the slot of the picture says goes into the braces.
DRAW = "[TEXT:t,drop=0.1] -> [IMAGE:img{}]"
SETS = {"labels": ["cat", "dog"], "items": ["a", "b", "c"]}

#: A modality that can only be read, as a user's own folder may bring one.
MOLECULE = ModalityCard(
    "MOLECULE", {"default": "chem.Molecule"}, {"default": "chem.Adapter"}, writes="never", losses={"mae": "now"}
)
#: One that is written in a later version.
SCENE = ModalityCard("SCENE", {"default": ""}, {"default": ""}, writes="later")


def cards() -> dict[str, ModalityCard]:
    """The project's modality cards, MOLECULE and SCENE."""
    return {**modalities(), "MOLECULE": MOLECULE, "SCENE": SCENE}


CARDS = cards()


def good_lines() -> list[str]:
    """Every line of the language that must plan."""
    text = LINES.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def plan_of(line: str, **card: object) -> Plan:
    """The plan of a line typed by hand, with the sets `labels` and `items`."""
    return build_plan(load_task_card({"instruction": line, "sets": SETS, **card}, name="t"), CARDS)


def text_of(plan: Plan) -> str:
    """A plan as text: a line a segment, then what cannot be trained."""
    rows: list[str] = []
    for template in plan.templates:
        sides = [("left" if template.align else "source", template.source)]
        sides += [("right" if template.align else "target", target) for target in template.targets]
        for name, segments in sides:
            rows += [f"{name}: {row}" for segment in segments for row in _rows(segment)]
    if plan.alignment is not None:
        one = plan.alignment
        rows.append(f"pairs: {one.name} per {one.unit} x {one.weight:g}, blocks of {plan.block}")
    return "\n".join([*rows, *(f"cannot be trained yet: {reason}" for reason in plan.cannot_train)])


def _rows(segment: Segment) -> list[str]:
    if isinstance(segment, WordsSegment):
        return [f"words {segment.text!r}"]
    if isinstance(segment, SlotSegment):
        return [_slot(segment)]
    return _group(segment)


def _slot(slot: SlotSegment) -> str:
    parts = [slot.modality, slot.key, "learned" if slot.learned else "read"]
    parts += ["optional"] * slot.optional + ([f"over {slot.rejected}"] if slot.rejected else [])
    parts += [f"by {slot.preprocess.rpartition('.')[2] or '-'} and {slot.adapter.rpartition('.')[2] or '-'}"]
    for loss in slot.losses:
        parts.append(f"{loss.name} per {loss.unit} x {slot.weight * loss.weight:g} ({in_words(loss.options)})")
    if slot.closed is not None:
        parts.append(f"set {slot.closed.kind} {slot.closed.name} {list(slot.closed.values)}")
    parts += [f"drop {slot.drop:g}"] if slot.drop else []
    parts += [in_words(slot.options)] if slot.options else []
    return "; ".join(parts)


def _group(group: GroupSegment) -> list[str]:
    bounds = f"{group.least} to {group.most}, cut {group.cut}, keep {group.keep}, order {group.order}"
    by = f", by {group.by} {dict(group.spellings)}" if group.by else ""
    rows = [f"group over {group.over}, {bounds}{by}"]
    for number, alternative in enumerate(group.alternatives):
        rows += [f"  {number}: {row}" for segment in alternative for row in _rows(segment)]
    return rows


def told(line: str) -> tuple[str, str, str]:
    """(code, message, help) of the only mistake of a line; its place is told too."""
    with pytest.raises(InstructionError) as caught:
        plan_of(line)
    error = caught.value.errors[0] if isinstance(caught.value, ErrorGroup) else caught.value
    assert "^" in error.render()
    return str(error.code), error.message, str(error.help)
