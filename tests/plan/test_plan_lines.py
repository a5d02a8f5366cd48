"""Every line of the language plans; what each plan says stands in plans.txt, word for word."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from plan_lines import CARDS, HERE, good_lines, plan_of, text_of

from ofasys_lite.cards import load_task_card
from ofasys_lite.errors import InstructionError
from ofasys_lite.instruction import parse, unparse
from ofasys_lite.plan import build_plan, freeze
from ofasys_lite.plan.segments import GroupSegment, SlotSegment, option

BLOCKS = ("\n" + (HERE / "plans.txt").read_text(encoding="utf-8")).split("\n=== ")[1:]
PLANS = [(line, text.rstrip("\n")) for line, _, text in (block.partition("\n") for block in BLOCKS)]

#: What comes in a later version, and the sentence that says so.
LATER = {
    "[TEXT:q] -> [SCENE:i]": "generating SCENE",
}


@pytest.mark.parametrize(("line", "text"), PLANS, ids=[line for line, _ in PLANS])
def test_a_line_plans_as_the_table_says(line: str, text: str) -> None:
    assert text_of(plan_of(line)) == text


def test_the_table_holds_every_line_of_the_language() -> None:
    assert set(good_lines()) <= {line for line, _ in PLANS}


@pytest.mark.parametrize(("line", "reason"), LATER.items(), ids=LATER)
def test_what_comes_later_plans_and_says_so(line: str, reason: str) -> None:
    plan = plan_of(line)
    assert any(sentence.startswith(reason) for sentence in plan.cannot_train)
    assert all(sentence.endswith("planned for a later version") for sentence in plan.cannot_train)


@pytest.mark.parametrize("line", good_lines())
def test_the_canonical_form_of_a_line_has_the_same_plan(line: str) -> None:
    plan = plan_of(line)
    again = plan_of(plan.line)
    assert text_of(again) == text_of(plan)
    assert again.hash == plan.hash


@pytest.mark.parametrize("line", good_lines())
def test_plans_hash_pickle_and_print(line: str) -> None:
    plan = plan_of(line)
    assert len({plan, plan_of(line)}) == 1
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan.task in repr(plan)


LINE = "[TEXT:q] what? -> [TEXT:a,max_length=30]"


@pytest.mark.parametrize(
    "other",
    ["[ TEXT : q ]what?->[TEXT:a, max_length=30]", "[TEXT:q]\n what? -> [TEXT:a,\nmax_length=30]"],
)
def test_the_hash_is_that_of_a_line_spaced_otherwise(other: str) -> None:
    assert plan_of(other).hash == plan_of(LINE).hash


@pytest.mark.parametrize(
    "other",
    [
        "[TEXT:q] what?? -> [TEXT:a,max_length=30]",
        "[TEXT:q] what? -> [TEXT:a,max_length=31]",
        "[TEXT:q] what? -> [TEXT:a]",
        "[TEXT:q] what? -> [TEXT:b,max_length=30]",
        "[TEXT:q?] what? -> [TEXT:a,max_length=30]",
        "[TEXT:q] what? -> [TEXT:a,max_length=30,weight=2]",
        "[TEXT:q] what? -> [TEXT:a,max_length=30,closed_set=labels]",
        "[TEXT:q] what? -> [TEXT:a,max_length=30] ||| [TEXT:q] -> [TEXT:a,max_length=30]",
    ],
)
def test_the_hash_changes_with_words_options_and_columns(other: str) -> None:
    assert plan_of(other).hash != plan_of(LINE).hash


def test_the_hash_changes_with_a_cards_set_its_words_with_loss_and_a_cards_default() -> None:
    line = "[TEXT:q] -> [TEXT:a,closed_set=labels]"
    hashes = {plan_of(line).hash, plan_of(line, sets={"labels": ["cat", "fox"]}).hash}
    hashes.add(plan_of(line, loss_on_words=True).hash)
    other = load_task_card({"instruction": line, "sets": {"labels": ["cat", "dog"]}}, name="t")
    text = CARDS["TEXT"]
    changed = {**CARDS, "TEXT": type(text)(**{**_fields(text), "preprocess": {"default": "my.Preprocess"}})}
    hashes.add(build_plan(other, changed).hash)
    assert len(hashes) == 4


def _fields(card: object) -> dict[str, object]:
    return {name: getattr(card, name) for name in type(card).__dataclass_fields__}  # type: ignore[attr-defined]


def test_a_closed_set_of_the_column_is_frozen_and_changes_the_hash() -> None:
    plan = plan_of("[TEXT:q] -> [TEXT:a,closed_set] ([TEXT:b,closed_set])*<over=c>")
    frozen = freeze(plan, {"a": ("no", "yes"), "c.b": ("x",)})
    assert [s.closed.values for s in frozen.target_slots() if s.closed] == [("no", "yes"), ("x",)]
    assert len({plan.hash, frozen.hash, freeze(plan, {"a": ("yes",)}).hash}) == 3


def test_freezing_leaves_other_sets_as_they_are() -> None:
    plan = plan_of("[TEXT:q] -> [TEXT:a,closed_set=(no,yes)] [TEXT:b,closed_set=labels]")
    assert freeze(plan, {"a": ("x",), "b": ("y",)}) == plan


def test_a_closed_set_of_a_file_stands_beside_the_card(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("yes\r\nno\n\n007\n", encoding="utf-8")
    card = tmp_path / "mine.yaml"
    card.write_text("instruction: |\n  [TEXT:q] -> [TEXT:a,closed_set=labels.txt]\n", encoding="utf-8")
    (slot,) = build_plan(load_task_card(card), CARDS).target_slots()
    assert slot.closed is not None
    assert slot.closed.values == ("yes", "no", "007")


def test_values_of_attributes_have_the_type_that_the_card_declares() -> None:
    (slot,) = plan_of("[IMAGE:i] -> [TEXT:a,max_length=30,closed_set=(007,yes),weight=1]").target_slots()
    assert option(slot.options, "max_length") == 30
    assert slot.weight == 1.0
    assert slot.closed is not None
    assert slot.closed.values == ("007", "yes")


def test_places_of_columns_and_lists_point_into_the_line() -> None:
    line = "[IMAGE:img] -> ([TEXT:label])*<max=3,over=objects>"
    plan = plan_of(line)
    (group,) = plan.templates[0].targets[0]
    assert isinstance(group, GroupSegment)
    assert line[group.over_span.start : group.over_span.end] == "over=objects"
    (slot,) = group.alternatives[0]
    assert isinstance(slot, SlotSegment)
    assert line[slot.column_span.start : slot.column_span.end] == "label"


def test_paraphrases_may_read_a_column_in_another_way() -> None:
    plan = plan_of("[IMAGE:i] -> [TEXT:a] ||| [IMAGE:i,adapter=timm] -> [TEXT:a]")
    assert len({slot.adapter for slot in plan.all_slots() if slot.modality == "IMAGE"}) == 2


def test_decode_of_a_slot_gives_the_names_of_a_cards_decoding() -> None:
    line = "[TEXT:q] -> [TEXT:a,decode=beam(beam=4,length_penalty=0.6)]"
    assert plan_of(line).decoding() == {"method": "beam", "beam": 4, "length_penalty": 0.6}


def test_old_spellings_are_read_and_one_of_them_is_noted() -> None:
    assert plan_of("[IMAGE:i,adaptor=timm] -> [TEXT:a]").notes == ()
    assert plan_of("[IMAGE:i,preprocessor=imagenet] -> [TEXT:a]").notes == ("`preprocessor=` is read as `preprocess=`",)


def test_a_name_of_two_alternatives_tells_nothing_and_a_given_one_comes_first() -> None:
    plan = plan_of("[TEXT:q] -> ([TEXT:a] | [TEXT:b] | [BOX:c])*<over=x,by=kind(box=1)>")
    (group,) = plan.templates[0].targets[0]
    assert isinstance(group, GroupSegment)
    assert dict(group.spellings) == {"box": 0, "a": 0, "b": 1, "c": 2}
    assert group.spellings[0] == ("box", 0)


def test_an_alternative_without_slots_keeps_its_number() -> None:
    plan = plan_of("[TEXT:q] -> ( | [TEXT:b])*<over=x,by=kind(none=1)>")
    (group,) = plan.templates[0].targets[0]
    assert isinstance(group, GroupSegment)
    assert [len(a) for a in group.alternatives] == [0, 1]
    assert dict(group.spellings) == {"none": 0, "text": 1, "b": 1}


@pytest.mark.parametrize("line", good_lines())
def test_a_plan_of_a_line_in_a_card_is_that_of_the_line(line: str, tmp_path: Path) -> None:
    card = tmp_path / "t.yaml"
    card.write_text(f"instruction: |\n  {line}\nsets: {{labels: [cat, dog], items: [a, b, c]}}\n", encoding="utf-8")
    assert build_plan(load_task_card(card), CARDS).hash == plan_of(line).hash


def test_planning_needs_the_line_to_parse() -> None:
    with pytest.raises(InstructionError, match="E011"):
        plan_of("[TXET:q] -> [TEXT:a]")
    assert unparse(parse("[TEXT:q]->[TEXT:a]")) == plan_of("[TEXT:q]->[TEXT:a]").line


@pytest.mark.parametrize(
    "line",
    [
        "[TEXT:q] -> ([TEXT:a])+<over=x>",
        "[TEXT:q] -> ([TEXT:a])+",
        "[TEXT:q] -> ([TEXT:a]) *<over=x>",
        "[TEXT:q] -> ([TEXT:a]) {2}",
        "[TEXT:q] -> ([TEXT:a])?",
        "[TEXT:q] -> [TEXT:a] <over=x>",
    ],
)
def test_words_that_look_like_a_group_are_told_of(line: str) -> None:
    (note,) = plan_of(line).notes
    assert "is read as words: a group is ( ... )*" in note


@pytest.mark.parametrize(
    "line", ["what is ([TEXT:q])? -> [TEXT:a]", "[TEXT:q] (a) + b < c -> [TEXT:a]", "[TEXT:a]+1 -> [TEXT:b]"]
)
def test_prose_with_parentheses_is_not(line: str) -> None:
    assert plan_of(line).notes == ()
