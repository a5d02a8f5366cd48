"""`codec=` of a target: what it may say, and exactly what is said about what it may not."""

from __future__ import annotations

import pytest
from plan_lines import DRAW, plan_of, told

from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.codecs import MODEL_KEYS, TOKENIZER_KEYS, codec_of, with_codecs
from ofasys_lite.plan.segments import option

KEYS = ", ".join((*TOKENIZER_KEYS, *MODEL_KEYS))

#: What stands behind `[IMAGE:img` -> code, message, help.
BAD = {
    ",codec=dmd": ("E113", "`codec` cannot be `dmd`", "did you mean `dnd`? IMAGE has: dnd"),
    ",codec=3": ("E113", "`codec` cannot be `3`", "IMAGE has: dnd"),
    ",codec=dnd(deph=2)": ("E113", "codec dnd has no `deph`", f"did you mean `depth`? allowed: {KEYS}"),
    ",codec=dnd(size=8)": ("E113", "codec dnd has no `size`", f"allowed: {KEYS}"),
    ",codec=dnd(depth=two)": ("E106", "codec: `depth` takes a whole number", "allowed: 1 to 16"),
    ",codec=dnd(depth=2.0)": ("E106", "codec: `depth` takes a whole number", "allowed: 1 to 16"),
    ",codec=dnd(depth=0)": ("E107", "codec: `depth=0` is out of range", "allowed: 1 to 16"),
    ",codec=dnd(depth=17)": ("E107", "codec: `depth=17` is out of range", "allowed: 1 to 16"),
    ",codec=dnd(factor=3)": ("E107", "codec: `factor=3` is no power of two", "write 2, 4, 8, 16, 32 or 64"),
    ",codec=dnd(factor=128)": ("E107", "codec: `factor=128` is out of range", "allowed: 2 to 64"),
    ",codec=dnd(codes=1)": ("E107", "codec: `codes=1` is out of range", "allowed: 2 to 65536"),
    ",codec=dnd(a,b)": (
        "E106",
        "`codec=dnd` takes one folder, and sizes by name",
        "write codec=dnd(codecs/mine,depth=2), or codec=dnd(depth=2)",
    ),
    ",codec=dnd(3)": (
        "E106",
        "`codec=dnd` takes one folder, and sizes by name",
        "write codec=dnd(codecs/mine,depth=2), or codec=dnd(depth=2)",
    ),
    ",codec=dnd(feedback)": (
        "E106",
        "codec: `feedback` has no value",
        "write feedback=..., or ./feedback for a folder",
    ),
    ",codec=dnd(depth=2,depth=3)": ("E108", "codec: `depth` is given twice", "keep one of them"),
    ",codec=dnd(codecs/a,steps=3)": (
        "E207",
        "`steps` trains a codec, and one is named",
        "leave one of them out",
    ),
    ",size=17,codec=dnd(depth=2)": (
        "E207",
        "no codec has `size=17`",
        "positions are 2, 4, ... 64 pixels wide (`factor`): write size=16",
    ),
    ",size=1": ("E207", "no codec has `size=1`", "positions are 2, 4, ... 64 pixels wide (`factor`): write size=4"),
    ",codec=dnd(layers=frist)": (
        "E113",
        "codec: `layers` cannot be `frist`",
        "allowed: last, even, parallel, flat",
    ),
    ",codec=dnd(layers=parallel,feedback=true)": (
        "E207",
        "`layers=parallel` has no feedback",
        "heads on one layer do not see each other's codes; write layers=last, or leave `feedback` out",
    ),
    ",codec=dnd(feedback=no)": ("E113", "codec: `feedback` cannot be `no`", "allowed: true, false"),
    ",codec=dnd(weights=2)": ("E106", "codec: `weights` takes numbers of at least 0", "write weights=(1,0.5)"),
    ",codec=dnd(weights=(1,x))": ("E106", "codec: `weights` takes numbers of at least 0", "write weights=(1,0.5)"),
    ",codec=dnd(weights=(1,-1))": ("E106", "codec: `weights` takes numbers of at least 0", "write weights=(1,0.5)"),
    ",codec=dnd(weights=(0,0))": (
        "E107",
        "codec: all `weights` are 0",
        "then nothing is learned; give one of them more",
    ),
    ",codec=dnd(depth=3,weights=(1,1))": ("E207", "2 weights for codes of depth 3", "give one weight a depth"),
    ",codec=dnd(order=zigzag)": ("E113", "codec: `order` cannot be `zigzag`", "allowed: raster, random"),
    ",codec=dnd(correct=2)": ("E107", "codec: `correct=2` is out of range", "allowed: 0 to 1"),
    ",codec=dnd(correct=nan)": ("E106", "codec: `correct` takes a number", "allowed: 0 to 1"),
    ",codec=dnd(judges=0),decode=mask_predict": (
        "E107",
        "codec: `judges=0` is out of range",
        "allowed: 0.001 to 100",
    ),
    ",codec=dnd(judges=yes),decode=mask_predict": ("E106", "codec: `judges` takes a number", "allowed: 0.001 to 100"),
    ",codec=dnd(judges=0.1,correct=0.1),decode=mask_predict": (
        "E207",
        "`judges` beside `correct`, which makes codes wrong",
        "judges learn what real codes are; leave one of them out",
    ),
    ",codec=dnd(judges=0.1)": (
        "E207",
        "`judges` judge pictures that are written in rounds",
        "write decode=mask_predict(steps=8,candidates=4), or leave `judges` out",
    ),
    ",codec=dnd(judges=0.1),decode=sample": (
        "E207",
        "`judges` judge pictures that are written in rounds",
        "write decode=mask_predict(steps=8,candidates=4), or leave `judges` out",
    ),
    ",codec=dnd,decode=mask_predict(candidates=4)": (
        "E207",
        "`candidates` asks judges, and the codec has none",
        "write codec=dnd(...,judges=0.1), or leave `candidates` out",
    ),
    ",decode=mask_predict(patience=2)": (
        "E207",
        "`patience` asks judges, and the codec has none",
        "write codec=dnd(...,judges=0.1), or leave `patience` out",
    ),
    ",codec=dnd(order=random),decode=mask_predict": (
        "E207",
        "`order=random` means nothing where positions are written in rounds",
        "leave `order` and `anneal` out, or write from left to right",
    ),
    ",decode=sample(candidates=4)": (
        "E113",
        "`decode=sample` has no `candidates`",
        "sample takes: temperature, top_k, top_p, cfg, cfg_from, cfg_until, negative, seed",
    ),
    ",size=30,codec=dnd(factor=4)": ("E207", "`size=30` is not divisible by `factor=4`", "write size=32"),
    ",size=2,codec=dnd(factor=8)": ("E207", "`size=2` is not divisible by `factor=8`", "write size=8"),
    ",codec=dnd,no_loss": (
        "E207",
        "`codec` means nothing beside `no_loss`",
        "leave one of them out: a slot with `no_loss` is read, not learned, and given in decoding",
    ),
    ",decode=beam(beam=4)": ("E113", "`decode` cannot be `beam`", "allowed: greedy, sample, mask_predict"),
    ",decode=sample(beam=3)": (
        "E113",
        "`decode=sample` has no `beam`",
        "sample takes: temperature, top_k, top_p, cfg, cfg_from, cfg_until, negative, seed",
    ),
}


@pytest.mark.parametrize("attributes", list(BAD))
def test_a_mistake_of_a_codec_is_told_with_what_to_do(attributes: str) -> None:
    line = DRAW.format(attributes) + (" [TEXT:a]" if "no_loss" in attributes else "")
    assert told(line) == BAD[attributes]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[TEXT:t,codec=dnd] -> [TEXT:a]", ("E109", "`codec` belongs to a target slot (right of `->`)")),
        ("[TEXT:t] -> [TEXT:a,codec=dnd]", ("E112", "TEXT is not written by a codec")),
        ("[TEXT:t] -> [IMAGE:a,codec]", ("E106", "`codec` takes a value; got no value")),
        (
            "[TEXT:t] -> [IMAGE:a,decode=sample(cfg=3)]",
            ("E207", "`cfg` compares with a source that is emptied, and training empties none"),
        ),
        ("[TEXT:t] -> [IMAGE:a,codec=dnd(depth=2)] [IMAGE:b]", ("E207", "one line is written with one codec")),
        ("[TEXT:t] -> [IMAGE:a] ;; [IMAGE:b,codec=dnd(depth=2)]", ("E207", "one line is written with one codec")),
        ("[TEXT:t] -> [IMAGE:a?,decode=mask_predict]", ("E208", "what is written in one go is always there")),
    ],
)
def test_a_codec_where_it_cannot_stand_is_told(line: str, message: tuple[str, str]) -> None:
    assert told(line)[:2] == message


def test_the_help_names_who_takes_a_codec() -> None:
    assert told("[TEXT:t] -> [TEXT:a,codec=dnd]")[2] == "IMAGE takes it; leave `codec` out"


def test_an_image_that_is_written_has_a_codec_and_is_learned_by_position() -> None:
    (slot,) = plan_of("[TEXT:t] -> [IMAGE:img]").target_slots()
    assert codec_of(slot) == CallValue("dnd")
    assert slot.preprocess.endswith("ImageCodesPreprocess")
    assert slot.adapter.endswith("ImageCodesAdapter")
    assert [(loss.name, loss.unit) for loss in slot.losses] == [("cross_entropy", "position")]


def test_an_image_that_is_read_on_the_target_side_has_none() -> None:
    first, _ = plan_of("[TEXT:t] -> ([IMAGE:img,no_loss])*<over=pages> [TEXT:a]").templates[0].targets[0]
    slot = first.alternatives[0][0]  # type: ignore[union-attr]
    assert codec_of(slot) is None  # type: ignore[arg-type]
    assert slot.preprocess.endswith(".ImagePreprocess")  # type: ignore[union-attr]


def test_arguments_are_sorted_so_that_equal_codecs_have_equal_plans() -> None:
    one = plan_of("[TEXT:t] -> [IMAGE:img,codec=dnd(depth=2,factor=4)]")
    two = plan_of("[TEXT:t] -> [IMAGE:img,codec=dnd(factor=4,depth=2)]")
    assert codec_of(one.target_slots()[0]) == codec_of(two.target_slots()[0])
    assert plan_of("[TEXT:t] -> [IMAGE:a,codec=dnd(depth=2,codes=8)] [IMAGE:b,codec=dnd(codes=8,depth=2)]")


def test_length_of_an_image_in_codes_is_noted_as_idle() -> None:
    notes = plan_of("[TEXT:t] -> [IMAGE:a,size=8,length=4]").notes
    assert notes == ("`length` does nothing: an image has as many codes as the grid of its codec",)


FACTS = {"hash": "ab12", "size": 8, "factor": 2, "depth": 2, "codes": 16, "decay": 0.99}


def test_a_known_codec_takes_the_place_of_its_folder_and_keeps_the_models_side() -> None:
    plan = plan_of("[TEXT:t] -> [IMAGE:img,codec=dnd(codecs/mine,depth=2,layers=even,weights=(1,0.5))] as [TEXT:a]")
    known = with_codecs(plan, {"img": FACTS})
    slot = known.target_slots()[0]
    call = codec_of(slot)
    assert call is not None
    assert call.positional == ()
    assert dict(call.keyed) == {**FACTS, "layers": "even", "weights": (1, 0.5)}
    assert option(slot.options, "size") == 8
    assert known.target_slots()[1] == plan.target_slots()[1]


def test_the_codec_is_part_of_the_plans_hash_and_its_folder_is_not() -> None:
    one = plan_of("[TEXT:t] -> [IMAGE:img,codec=dnd(codecs/a)]")
    known = with_codecs(one, {"img": FACTS})
    assert known.hash != one.hash
    assert known.hash == with_codecs(one, {"img": dict(reversed(FACTS.items()))}).hash
    assert known.hash != with_codecs(one, {"img": {**FACTS, "hash": "cd34"}}).hash
    assert known.hash != with_codecs(one, {"img": {**FACTS, "depth": 3}}).hash


def test_codecs_of_group_elements_and_of_every_paraphrase_become_known() -> None:
    line = "tell [TEXT:t] -> ([IMAGE:img] [TEXT:a])*<over=pages> ||| [TEXT:t] -> ([IMAGE:img] [TEXT:a])*<over=pages>"
    known = with_codecs(plan_of(line), {"pages.img": FACTS})
    for template in known.templates:
        (group,) = template.targets[0]
        slot = group.alternatives[0][0]  # type: ignore[union-attr]
        assert dict(codec_of(slot).keyed)["hash"] == "ab12"  # type: ignore[union-attr, arg-type]
