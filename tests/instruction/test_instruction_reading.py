"""What lines mean: slots, words, groups, values, escapes and reading order, each as a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest
from instruction_lines import good_lines

from ofasys_lite.instruction import parse, unparse
from ofasys_lite.instruction.syntax_tree import (
    Argument,
    Attribute,
    Bare,
    Call,
    Group,
    ListValue,
    Node,
    Number,
    Quoted,
    Sentence,
    Slot,
    Value,
    Words,
)


def told(value: Value | None) -> object:
    if isinstance(value, ListValue):
        return [told(item) for item in value.items]
    if isinstance(value, Call):
        return (value.name, [(argument.key, told(argument.value)) for argument in value.arguments])
    return None if value is None else value.text


def slots_of(sentence: Sentence) -> list[object]:
    """(type, column, {attribute: value}) of every slot; a group is a list of its alternatives."""
    out: list[object] = []
    for node in sentence.nodes:
        if isinstance(node, Slot):
            out.append((node.type, node.column, {a.key: told(a.value) for a in node.attributes}))
        elif isinstance(node, Group):
            out.append([slots_of(alternative) for alternative in node.alternatives])
    return out


def text(column: str | None, **attributes: object) -> tuple[str, str | None, dict[str, object]]:
    return ("TEXT", column, attributes)


IMG = ("IMAGE", "img", {})
VQGAN = {"preprocess": "image_vqgan", "adaptor": "image_vqgan"}
MEANINGS: list[tuple[list[object], list[object]]] = [
    ([("IMAGE", "image_url", {})], [text("caption")]),
    ([text("sentence", mask_ratio="0.3")], [text("sentence")]),
    ([IMG, text("cap")], [("BOX", "patch_boxes", {})]),
    ([IMG, ("BOX", "patch_boxes", {})], [text("cap")]),
    ([IMG], [[[("BOX", None, {}), text(None)]]]),
    ([text("src")], [text("tgt", noise_ratio="0.2")]),
    ([("STRUCT", "database", {"uncased": None})], [text("tgt")]),
    ([text("src"), ("STRUCT", "database", {"max_length": "876"})], [text("tgt")]),
    ([text("src")], [text("tgt")]),
    ([("VIDEO", "video", {}), text("question")], [text("answer", closed_set=None)]),
    ([("AUDIO", "wav", {})], [text("text", preprocess="text_phone")]),
    ([("PHONE", "text", {})], [("AUDIO", "fbank", {"adaptor": "audio_tgt_fbank"})]),
    ([text("text")], [("IMAGE", None, VQGAN)]),
    ([("IMAGE", "img", {"mask_ratio": "0.5"})], [("IMAGE", None, VQGAN)]),
    ([text("text")], [("MOTION", "bvh_frames", {"preprocess": "motion_6d", "adaptor": "motion_6d"})]),
    (
        [text("sent1"), text("sent2")],
        [text("sent1", no_loss=None), text("sent2", no_loss=None), text("label", closed_set=None)],
    ),
    ([text("instruction"), text("examples"), text("src")], [text("tgt", max_length="128")]),
    ([], [[[("IMAGE", None, {}), text(None)]]]),
]


@pytest.mark.parametrize(("line", "meaning"), list(zip(good_lines(), MEANINGS, strict=False)))
def test_an_ofasys_line_gives_the_slots_its_documents_mean(line: str, meaning: tuple[object, object]) -> None:
    template = parse(line).templates[0]
    assert (slots_of(template.source), slots_of(template.targets[0])) == meaning
    assert len(template.targets) == 1


def source(line: str) -> tuple[Node, ...]:
    return parse(line + " -> [TEXT:end]").templates[0].source.nodes


def words(line: str) -> str:
    """The prompt text of a source that is prose alone."""
    (node,) = source(line)
    assert isinstance(node, Words)
    return node.text


def slot(line: str) -> Slot:
    (node,) = source(line)
    assert isinstance(node, Slot)
    return node


def group(line: str) -> Group:
    (node,) = source(line)
    assert isinstance(node, Group)
    return node


def value(written: str) -> Value | None:
    return slot(f"[TEXT:a,k={written}]").attributes[0].value


@pytest.mark.parametrize(
    "prose",
    [
        *("[1]", "[see below]", "[A>B]", "[why?]", "]", ")", "( [", "f(x)*", "(a|b)*", "a | b", "a;b"),
        *("{x}", "* {3}", "a -x> b"),
        *("50% < x", "[ ]", "[]", "[[1]]", "é [“quote”]", "(see [1])*", "\\alpha \\frac{1}{2}", "#1 ${x}"),
        *("[TEXTURE map]", "`a`", "i < 3"),
    ],
)  # fmt: skip
def test_prose_that_holds_no_mark_is_kept_as_it_is(prose: str) -> None:
    assert words(prose) == prose


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"\[sic\]", "[sic]"),
        (r"\[TEXT:a\]", "[TEXT:a]"),
        (r"x\->y", "x->y"),
        (r"a \<-> b", "a <-> b"),
        (r"a \;; b", "a ;; b"),
        (r"a \||| b", "a ||| b"),
        (r"\( \) \{ \} \| \* \< \\", "( ) { } | * < \\"),
        (r"\\-\->", "\\-->"),
        (r"\x \-> \\[sic\]", r"\x -> \[sic]"),
        (r"\;", "\\;"),
    ],
)
def test_escapes_give_the_mark_and_other_backslashes_stay(written: str, meant: str) -> None:
    assert words(written) == meant


def test_white_space_is_dropped_at_both_ends_of_words_and_kept_inside() -> None:
    nodes = source("  a \t b\n c  [TEXT:x]\n")
    assert [node.text if isinstance(node, Words) else "slot" for node in nodes] == ["a \t b\n c", "slot"]


def test_a_question_mark_and_a_plus_after_a_slot_are_prose() -> None:
    assert [type(node).__name__ for node in source("[TEXT:a]? [TEXT:b]+")] == ["Slot", "Words", "Slot", "Words"]


def test_white_space_and_line_breaks_inside_a_slot_are_free() -> None:
    spaced = slot("[\n TEXT : a > b ,\n max_length = 3 , loss = dpo ( beta = 0.1 , ( 1 , 2 ) ) ]")
    assert spaced == slot("[TEXT:a>b,max_length=3,loss=dpo(beta=0.1,(1,2))]")


def test_marks_inside_a_slot_or_its_quotes_are_not_looked_at() -> None:
    quoted = slot('[TEXT:"a]->b|||;;",k="[x]",j=\'(\']')
    assert (quoted.column, quoted.exact) == ("a]->b|||;;", True)
    assert [a.value for a in quoted.attributes] == [Quoted("[x]"), Quoted("(")]


@pytest.mark.parametrize("column", ["a", "a.b", "a.0.b", "0", "user-id", "user-id.first-name", "नाम", "größe.x", "_"])
def test_columns_may_be_nested_and_in_any_script(column: str) -> None:
    assert slot(f"[TEXT:{column}]").column == column


def test_optional_preference_and_unnamed_slots() -> None:
    assert slot("[TEXT:sub?]").optional
    pair = slot("[TEXT:chosen>'rejected one']")
    assert (pair.column, pair.rejected, pair.exact, pair.rejected_exact) == ("chosen", "rejected one", False, True)
    assert slot("[TEXT]").column is None
    assert slot("[TEXT,uncased]").attributes == (Attribute("uncased", None),)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3", Number("3")),
        ("007", Number("007")),
        ("-2.5e-3", Number("-2.5e-3")),
        ("yes", Bare("yes")),
        ("1.2.3", Bare("1.2.3")),
        ("@choices", Bare("@choices")),
        ("s3://a-b/labels.txt", Bare("s3://a-b/labels.txt")),
        (r'"a \"b\" \\ \n"', Quoted('a "b" \\ \\n')),
        ("(007,yes)", ListValue((Number("007"), Bare("yes")))),
        ("f()", Call("f", ())),
        (
            "type(image_url=1,(a),'b c'=g(2))",
            Call(
                "type",
                (
                    Argument("image_url", Number("1")),
                    Argument(None, ListValue((Bare("a"),))),
                    Argument("b c", Call("g", (Argument(None, Number("2")),))),
                ),
            ),
        ),
    ],
)
def test_values_keep_their_spelling(written: str, meant: Value) -> None:
    assert value(written) == meant


def test_an_attribute_given_twice_stays_in_the_tree_for_the_plan_to_refuse() -> None:
    assert [a.key for a in slot("[TEXT:a,k=1,k=2]").attributes] == ["k", "k"]


def test_three_spellings_of_a_group_make_the_same_node() -> None:
    assert group("([TEXT:a])*") == group("[TEXT:a]*") == group("[[TEXT:a]]*")
    assert group("[[BOX] [TEXT]]*") == group("( [BOX] [TEXT] )*")


@pytest.mark.parametrize(
    ("written", "bounds"),
    [
        ("*", (0, None)),
        ("{0,}", (0, None)),
        ("{3}", (3, 3)),
        ("{ 2 , }", (2, None)),
        ("{2,5}", (2, 5)),
        ("{ 02 }", (2, 2)),
    ],
)
def test_quantifiers(written: str, bounds: tuple[int, int | None]) -> None:
    quantifier = group(f"([TEXT:a]){written}").quantifier
    assert (quantifier.least, quantifier.most) == bounds


def test_parentheses_without_a_slot_or_without_a_quantifier_are_prose() -> None:
    assert [type(node).__name__ for node in source("(see [TEXT:a]) (x)* [TEXT:b] )*")] == ["Words", "Slot"] * 2 + [
        "Words"
    ]
    assert [type(node).__name__ for node in source("([TEXT:a]){x}")] == ["Words", "Slot", "Words"]
    assert [type(node).__name__ for node in source("([TEXT:a]) *")] == ["Words", "Slot", "Words"]


def test_groups_pair_innermost_first_and_nest() -> None:
    nodes = source("( unpaired (outer ([TEXT:a] b)* c){2}")
    assert [type(node).__name__ for node in nodes] == ["Words", "Group"]
    outer = nodes[1]
    assert isinstance(outer, Group)
    assert slots_of(outer.alternatives[0]) == [[[text("a")]]]
    assert isinstance(nodes[0], Words)
    assert nodes[0].text == "( unpaired"


def test_a_bar_separates_alternatives_inside_a_group_only() -> None:
    both = group("([IMAGE:url] | text: [TEXT:text] | [BOX])*<over=content,by=type>")
    assert [len(alternative.nodes) for alternative in both.alternatives] == [1, 2, 1]
    assert words("a | b") == "a | b"
    assert len(group(r"([TEXT:a] \| b)*").alternatives) == 1
    inner = group("([TEXT:a] ([TEXT:b] | [TEXT:c])* d)*")
    assert len(inner.alternatives) == 1


def test_a_less_than_at_once_after_a_quantifier_opens_attributes_unless_it_is_an_arrow() -> None:
    assert [a.key for a in group("[TEXT:a]*<over=x,max=3>").quantifier.attributes] == ["over", "max"]
    template = parse("[TEXT:a]*<->[IMAGE:b]").templates[0]
    assert template.align
    assert isinstance(template.source.nodes[0], Group)


def test_paraphrases_targets_and_alignment_have_their_places_in_the_tree() -> None:
    tree = parse("[IMAGE:i] a -> [TEXT:t] ;; [TEXT:u]\n||| b [IMAGE:i] -> [TEXT:t] ;; [TEXT:u]")
    assert [len(template.targets) for template in tree.templates] == [2, 2]
    assert not tree.templates[0].align
    assert parse("[IMAGE:i] <-> [TEXT:t]").templates[0].align


def test_either_side_of_the_arrow_may_be_empty() -> None:
    assert parse("-> [TEXT:a]").templates[0].source.nodes == ()
    assert parse("[TEXT:a,loss=mlm] ->").templates[0].targets[0].nodes == ()


def test_every_node_has_the_span_of_its_text() -> None:
    line = "ask: [TEXT:q , max_length = 3] ([BOX:b] [TEXT:l])*<over=o> -> [TEXT:a>b]"
    template = parse(line).templates[0]
    ask, question, boxes = template.source.nodes
    assert isinstance(question, Slot)
    assert isinstance(boxes, Group)
    (target,) = template.targets[0].nodes
    assert isinstance(target, Slot)
    attribute = question.attributes[0]
    assert attribute.value is not None
    spans = [ask.span, question.span, question.type_span, question.column_span, attribute.span, attribute.key_span]
    spans += [attribute.value.span, boxes.span, boxes.quantifier.span, boxes.alternatives[0].span, template.source.span]
    assert [line[s.start : s.end] for s in spans] == [
        "ask:", "[TEXT:q , max_length = 3]", "TEXT", "q", "max_length = 3", "max_length",
        "3", "([BOX:b] [TEXT:l])*<over=o>", "*<over=o>", "[BOX:b] [TEXT:l]", line.partition(" ->")[0],
    ]  # fmt: skip
    assert line[target.column_span.start : target.column_span.end] == "a"
    assert template.span.end == len(line)


def test_trees_are_equal_whatever_their_spacing_and_hashable() -> None:
    assert parse("[TEXT:a]->[TEXT:b]") == parse(" [ TEXT:a ]  -> \n [TEXT:b] ")
    assert len({parse("[TEXT:a]->[TEXT:b]"), parse("[TEXT : a] -> [TEXT:b]")}) == 1


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("( [ BOX ] [TEXT] ){0,}->", "([BOX] [TEXT])* ->"),
        ("([TEXT:a]){2,2} -> x", "[TEXT:a]{2} -> x"),
        (r"\(what\) \[1\] if (any) -> [TEXT:a]", "(what) [1] if (any) -> [TEXT:a]"),
        (r"x\->y -> [TEXT:'a b',k='c']", r'x\->y -> [TEXT:"a b",k="c"]'),
        ("[1] ( -> ([TEXT:a] \\( )*", "[1] ( -> ([TEXT:a] \\()*"),
        ("a->b|||c->d;;e", "a -> b ||| c -> d ;; e"),
    ],
)
def test_the_canonical_form(written: str, canonical: str) -> None:
    assert unparse(parse(written)) == canonical


def test_the_room_imports_neither_torch_nor_yaml_nor_numpy() -> None:
    code = "import sys, ofasys_lite.instruction; print(sorted({'torch', 'yaml', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
