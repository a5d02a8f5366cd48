"""`decode=` of a target and `decoding` of a card: what they may say, and what is said about what they may not."""

from __future__ import annotations

import pytest
from plan_lines import DRAW, plan_of, told

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError
from ofasys_lite.plan import build_plan

SEVERAL = ", or for codes one for each depth: (1,0.5)"
SEVERAL_WHOLE = ", or for codes one for each depth: (50,10)"

#: Arguments of `decode=sample(...)` of a picture -> code, message, help.
BAD_DECODE = {
    "cfg=abc": ("E106", "decode: `cfg` takes a number", "allowed: 0 to 100"),
    "cfg=true": ("E106", "decode: `cfg` takes a number", "allowed: 0 to 100"),
    "cfg=(1,2)": ("E106", "decode: `cfg` takes a number", "allowed: 0 to 100"),
    "cfg=-1": ("E107", "decode: `cfg=-1` is out of range", "allowed: 0 to 100"),
    "cfg=101": ("E107", "decode: `cfg=101` is out of range", "allowed: 0 to 100"),
    "cfg_from=2": ("E107", "decode: `cfg_from=2` is out of range", "allowed: 0 to 1"),
    "cfg_until=-0.1": ("E107", "decode: `cfg_until=-0.1` is out of range", "allowed: 0 to 1"),
    "temperature=hot": ("E106", "decode: `temperature` takes a number", "allowed: 0.001 to 100" + SEVERAL),
    "temperature=0": ("E107", "decode: `temperature=0` is out of range", "allowed: 0.001 to 100" + SEVERAL),
    "top_k=1.5": ("E106", "decode: `top_k` takes a whole number", "allowed: whole numbers from 0" + SEVERAL_WHOLE),
    "top_k=-1": ("E107", "decode: `top_k=-1` is out of range", "allowed: whole numbers from 0" + SEVERAL_WHOLE),
    "top_p=1.5": ("E107", "decode: `top_p=1.5` is out of range", "allowed: 1e-06 to 1" + SEVERAL),
    "top_p=(0.9,2)": ("E107", "decode: `top_p=(0.9, 2)` is out of range", "allowed: 1e-06 to 1" + SEVERAL),
    "top_k=(5,x)": ("E106", "decode: `top_k` takes a whole number", "allowed: whole numbers from 0" + SEVERAL_WHOLE),
    "seed=x": ("E106", "decode: `seed` takes a whole number", "allowed: whole numbers from 0"),
    "cfg=2,cfg=3": ("E108", "decode: `cfg` is given twice", "keep one of them"),
    "cfg=2,cfg_from=0.5,cfg_until=0.5": (
        "E207",
        "decode: cfg_from 0.5 is not below cfg_until 0.5",
        "then there is no guidance; leave them out",
    ),
}


@pytest.mark.parametrize("arguments", list(BAD_DECODE))
def test_a_mistake_in_decode_is_told_when_the_line_is_planned(arguments: str) -> None:
    assert told(DRAW.format(f",decode=sample({arguments})")) == BAD_DECODE[arguments]


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        ("mask_predict(steps=0)", ("E107", "decode: `steps=0` is out of range", "allowed: whole numbers from 1")),
        ("mask_predict(steps=few)", ("E106", "decode: `steps` takes a whole number", "allowed: whole numbers from 1")),
        ("greedy(seed=-1)", ("E107", "decode: `seed=-1` is out of range", "allowed: whole numbers from 0")),
    ],
)
def test_arguments_of_other_ways_are_held_against_their_ranges_too(decode: str, message: tuple[str, str, str]) -> None:
    assert told(DRAW.format(f",decode={decode}")) == message


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        ("beam(beam=0)", ("E107", "decode: `beam=0` is out of range", "allowed: whole numbers from 1")),
        ("beam(exact=1)", ("E106", "decode: `exact` takes true or false", "allowed: true, false")),
        ("beam(length_penalty=11)", ("E107", "decode: `length_penalty=11` is out of range", "allowed: 0 to 10")),
        ("beam(beam=2,n_best=3)", ("E207", "decode: n_best 3 of a beam of 2", "n_best is at most beam")),
        ("sample(beam=2)", ("E207", "decode: beam 2 with method sample", "write decode=beam")),
        (
            "greedy(min_length=4,max_length=3)",
            ("E207", "decode: max_length 3 is below min_length 4", "nothing is that long"),
        ),
    ],
)
def test_arguments_of_text_are_held_against_their_ranges(decode: str, message: tuple[str, str, str]) -> None:
    assert told(f"[TEXT:t] -> [TEXT:a,decode={decode}]") == message


def test_what_may_be_said_is_what_decoding_gets() -> None:
    line = "[TEXT:t] -> [TEXT:a,decode=beam(beam=4,exact=true)]"
    assert DecodeOptions.of(plan_of(line).decoding()) == DecodeOptions("beam", beam=4, exact=True)
    line = DRAW.format(",decode=sample(cfg=3,cfg_from=0.2,temperature=0.5,top_k=10,top_p=0.9,seed=3)")
    wanted = DecodeOptions("sample", cfg=3, cfg_from=0.2, temperature=0.5, top_k=10, top_p=0.9, seed=3)
    assert DecodeOptions.of(plan_of(line).decoding()) == wanted


def test_temperature_top_k_and_top_p_may_be_given_for_each_depth() -> None:
    said = "decode=sample(temperature=(1,0.8),top_k=(50,10),top_p=0.9)"
    options = DecodeOptions.of(plan_of(DRAW.format(f",codec=dnd(depth=2),{said}")).decoding())
    assert (options.temperature, options.top_k, options.top_p) == ((1, 0.8), (50, 10), 0.9)
    assert DecodeOptions.of({"method": "sample", "top_k": [3, 4]}).top_k == (3, 4)
    help = "give one value, or one for each depth"
    wrong = ("E207", "decode: 2 values of `temperature` for codes of depth 4", help)
    assert told(DRAW.format(f",codec=dnd(depth=4),{said}")) == wrong
    flat = told(DRAW.format(f",codec=dnd(depth=2,layers=flat),{said}"))
    assert flat == ("E207", "decode: 2 values of `temperature` for a flat sequence, which has depth 1", help)
    text = told(f"[TEXT:t] -> [TEXT:a,{said}]")
    assert text == (
        "E207",
        "decode: `temperature` is given for each depth, and token ids have none",
        "write one number",
    )


def test_a_line_is_decoded_in_one_way() -> None:
    one = "decode=sample(top_k=5,cfg=1)"
    message = "`b` is decoded in another way than `a`, and a line has one"
    for line in (
        "[TEXT:a,decode=beam(beam=4)] and [TEXT:b,decode=sample]",
        "[TEXT:a,decode=beam] ;; [TEXT:b,decode=greedy]",
    ):
        assert told(f"[TEXT:t] -> {line}")[:2] == ("E207", message)
    plan = plan_of(f"[TEXT:t] -> [IMAGE:a,{one}] ;; [IMAGE:b,decode=sample(cfg=1,top_k=5)]")
    assert plan.decoding() == {"method": "sample", "top_k": 5, "cfg": 1}
    assert plan_of("[TEXT:t] -> [TEXT:a,decode=beam(beam=4)] ;; [TEXT:b]").decoding() == {"method": "beam", "beam": 4}


#: Line, a card's `decoding` -> message, help.
BAD_CARDS = [
    (DRAW.format(""), {"method": "beam"}, "`beam` does not write codes", "decode=greedy or sample or mask_predict"),
    (DRAW.format(""), {"beam": 3}, "`beam` does not write codes", "decode=greedy or sample or mask_predict"),
    (
        DRAW.format(",decode=sample(cfg=2)"),
        {"method": "mask_predict"},
        "mask_predict: this line was learned from left to right",
        "decode=greedy or sample",
    ),
    (
        "[TEXT:t] -> [IMAGE:a]",
        {"cfg": 2},
        "cfg compares with an emptied source, and this line has no slot with `drop=`",
        "",
    ),
    (
        "[TEXT:t] -> [TEXT:a]",
        {"cfg": 2},
        "`cfg` does nothing: greedy of token ids has none",
        "it takes: beam, diversity, exact, length_penalty, max_length, method, min_length, n_best, no_repeat,\n"
        "        no_repeat_ngram, renormalize, seed, temperature, top_k, top_p",
    ),
    ("[TEXT:t] -> [TEXT:a]", {"beam": "4"}, "beam is '4'", "allowed: whole numbers from 1"),
    ("[TEXT:t] -> [TEXT:a,decode=sample]", {"beam": 4}, "beam 4 with method sample", "write method: beam"),
    (
        DRAW.format(",decode=mask_predict(steps=8)"),
        {"candidates": 4},
        "candidates, patience: this line was learned without judges",
        "train it with codec=dnd(...,judges=0.1), or leave them out",
    ),
    (
        DRAW.format(",decode=mask_predict(steps=8)"),
        {"patience": 2},
        "candidates, patience: this line was learned without judges",
        "train it with codec=dnd(...,judges=0.1), or leave them out",
    ),
    (
        DRAW.format(",decode=greedy"),
        {"steps": 4},
        "`steps` does nothing: greedy of codes has none",
        "it takes: cfg, cfg_from, cfg_until, method, negative, seed",
    ),
    (
        DRAW.format(",decode=greedy"),
        {"max_length": 9},
        "`max_length` does nothing: greedy of codes has none",
        "it takes: cfg, cfg_from, cfg_until, method, negative, seed",
    ),
    (
        "[TEXT:t] -> [TEXT:a]",
        {"steps": 4},
        "`steps` does nothing: greedy of token ids has none",
        "it takes: beam, diversity, exact, length_penalty, max_length, method, min_length, n_best, no_repeat,\n"
        "        no_repeat_ngram, renormalize, seed, temperature, top_k, top_p",
    ),
    (
        DRAW.format(",codec=dnd(depth=2),decode=sample"),
        {"method": "sample", "top_k": [4, 3, 2]},
        "3 values of `top_k` for codes of depth 2",
        "give one value, or one for each depth",
    ),
    (
        "[TEXT:t] -> [TEXT:a]",
        {"method": "sample", "top_p": [0.9, 0.8]},
        "`top_p` is given for each depth, and token ids have none",
        "write one number",
    ),
]


@pytest.mark.parametrize(("line", "decoding", "message", "help"), BAD_CARDS)
def test_decoding_of_a_card_is_held_against_its_line(
    line: str, decoding: dict[str, object], message: str, help: str
) -> None:
    card = load_task_card({"instruction": line, "decoding": decoding}, name="draw")
    with pytest.raises(CardError) as caught:
        build_plan(card, modalities())
    assert (caught.value.message, str(caught.value.help)) == (f"task draw: decoding: {message}", help)
    # `check` tells it too, before any row is looked at
    (error,) = check_tasks([card], modalities()).errors
    assert error.message == caught.value.message


@pytest.mark.parametrize(
    ("line", "decoding"),
    [
        (DRAW.format(",codec=dnd(judges=0.3),decode=mask_predict(steps=8)"), {"candidates": 4, "patience": 2}),
        (DRAW.format(",decode=sample"), {"cfg": 2, "cfg_from": 0.5, "top_k": 5, "seed": 1}),
        # the text beside the picture has a length
        ("[TEXT:t,drop=0.1] -> [IMAGE:a] called [TEXT:b]", {"max_length": 9, "cfg": 2}),
    ],
)
def test_decoding_of_a_card_that_its_line_has_a_use_for_is_taken(line: str, decoding: dict[str, object]) -> None:
    build_plan(load_task_card({"instruction": line, "decoding": decoding}, name="draw"), modalities())
