"""Rows to examples and back: split(join(row)) = row, what is learned, groups, optional, dropped and forced slots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from example_worlds import CARDS, SETTINGS, ids_of, learned_of, maker_of, picture, written
from random_walks import random_walk

from ofasys_lite.cards import find_task, task_names
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import DataError
from ofasys_lite.layout.learned import Term
from ofasys_lite.layout.ready import make_ready
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS
from ofasys_lite.recipes import data_root

BOX = [3.0, 4.0, 20.0, 49.0]
RECORD = {"name": "cat", "legs": 4, "likes": ["mat", None, True], "where": {"x": -1.5}}

#: Lines, a row for each, and the columns that its targets write.
LINES: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "[TEXT:q] -> [TEXT:a]": ({"q": "the cat", "a": " two  spaces, ünïcode\tand 中文 "}, ("a",)),
    "[TEXT:q] say [TEXT:q] -> so: [TEXT:a] or [TEXT:b].": ({"q": "x", "a": "yes", "b": "no"}, ("a", "b")),
    "[TEXT:q] -> [TEXT:a,closed_set] [TEXT:b,closed_set=(yes,no)]": ({"q": "x", "a": "the cat", "b": "no"}, ("a", "b")),
    "[TEXT:q] -> [TEXT:a,closed_set=@c]": ({"q": "x", "a": "on a mat", "c": ["on", "on a mat"]}, ("a",)),
    "[TEXT:q] -> [CATEGORY:a,closed_set]": ({"q": "x", "a": "left"}, ("a",)),
    "[IMAGE:i] -> [BOX:b]": ({"i": picture(), "b": BOX}, ("b",)),
    "[IMAGE:i] -> [BOX:b,format=xywh]": ({"i": picture(), "b": [3.0, 4.0, 17.0, 45.0]}, ("b",)),
    "[TEXT:q] -> [STRUCT:s]": ({"q": "x", "s": RECORD}, ("s",)),
    "[TEXT:q] -> [STRUCT:s,schema=grid(2,2,values=(1,2))]": ({"q": "x", "s": [[1, 2], [2, 1]]}, ("s",)),
    "[TEXT:q] -> [PHONE:p]": ({"q": "x", "p": "K AE T"}, ("p",)),
    "[TEXT:q] -> [TEXT:a?] [TEXT:b?,closed_set]": ({"q": "x", "b": "yes"}, ("a", "b")),
    "[TEXT:q] -> [TEXT:q,no_loss] [TEXT:a]": ({"q": "the cat", "a": "sat"}, ("a",)),
    "[TEXT:q] -> [TEXT:a] ;; [TEXT:b,closed_set,weight=0.2]": ({"q": "x", "a": "sat", "b": "yes"}, ("a", "b")),
    "[IMAGE:i] -> ([BOX:b] is [TEXT:l,closed_set])*<over=os>": (
        {"i": picture(), "os": [{"b": BOX, "l": "cat"}, {"b": [0.0, 0.0, 49.0, 49.0], "l": "dog"}]},
        ("os",),
    ),
    "[TEXT:q] -> ([TEXT:a] [TEXT:b,closed_set])*": ({"q": "x", "a": ["one", "two"], "b": ["yes", "no"]}, ("a", "b")),
    "[TEXT:q] -> ([TEXT])*<over=tags>": ({"q": "x", "tags": ["one", "two", "yellow dog"]}, ("tags",)),
    "[TEXT:q] -> [TEXT:a]*": ({"q": "x", "a": []}, ("a",)),
    "[TEXT:q] -> ([STRUCT])*<over=rows>": ({"q": "x", "rows": [{"x": 1}, {"x": 2, "y": "z"}]}, ("rows",)),
    "[TEXT:q] -> ([TEXT:text] | [PHONE:p])*<over=c,by=kind(p=2)>": (
        {"q": "x", "c": [{"kind": "p", "p": "K AE"}, {"kind": "text", "text": "and"}]},
        ("c",),
    ),
    "[TEXT:q] -> ([TEXT:a] ([TEXT:b])*<over=inner>){1,3}<over=outer> end": (
        {"q": "x", "outer": [{"a": "one", "inner": [{"b": "two"}, {"b": "yes"}]}, {"a": "no", "inner": []}]},
        ("outer",),
    ),
    "[TEXT:q] -> ([TEXT:a?])*<over=c>": ({"q": "x", "c": [{"a": "one"}, {"a": None}]}, ("c",)),
    "-> [TEXT:a]": ({"a": "the cat"}, ("a",)),
}


@pytest.mark.parametrize(("line", "case"), LINES.items(), ids=LINES)
def test_what_is_written_is_read_back(line: str, case: tuple[Mapping[str, Any], tuple[str, ...]]) -> None:
    row, columns = case
    maker = maker_of(line, [row])
    found = written(maker, maker.example(row, "0", None, False), row)
    if "BOX" in line and "b" in columns:
        found["b"] = pytest.approx(found["b"])
        assert row["b"] == found.pop("b")
        return
    if "os" in columns:
        for record, wanted in zip(found["os"], row["os"], strict=True):
            assert record["b"] == pytest.approx(wanted["b"])
            assert record["l"] == wanted["l"]
        return
    assert found == {column: row.get(column) for column in columns}


@pytest.mark.parametrize(("line", "case"), LINES.items(), ids=LINES)
def test_every_legal_output_splits_into_columns(line: str, case: tuple[Mapping[str, Any], tuple[str, ...]]) -> None:
    row, columns = case
    maker, rng = maker_of(line, [row]), np.random.default_rng(0)
    for _ in range(10):
        found: dict[str, Any] = {}
        for number in range(len(maker.plan.templates[0].targets)):
            automaton = compile(maker.constraint(number, row))
            found.update(maker.values(number, automaton.split(random_walk(automaton, rng, 60)), row))
        assert set(found) == set(columns)


@pytest.mark.parametrize("name", task_names())
def test_what_a_card_writes_is_read_back(name: str) -> None:
    card = find_task(name)
    if not all((data_root() / str(spec).partition(":")[0] / "test.parquet").exists() for spec in card.data.values()):
        pytest.skip("its data is not prepared here")
    pytest.importorskip("pyarrow")
    from dataclasses import replace

    from ofasys_lite.data.attributes import slot_class
    from ofasys_lite.data.readers.memory import ListSource
    from ofasys_lite.data.rows import open_source

    source = open_source(card.data["test"])
    rows = ListSource([source.row(i) for i in range(0, len(source), max(1, len(source) // 20))], base=source.base)
    # closed sets of the few rows alone: what they spell is what counts here
    few = replace(card, data={"train": rows, "valid": rows, "test": rows})
    maker = make_ready([few], CARDS, SETTINGS).tasks[0].maker
    if not maker.plan.target_slots():
        pytest.skip("both of its sides are read, none is written")
    if any(codec_of(slot) is not None for slot in maker.plan.target_slots()):
        pytest.skip("its codec is trained by a run; pictures have their own round trip, tests/generalist")
    if not all(slot.tokens for slot in maker.plan.target_slots()):
        pytest.skip("its rows are written all at once; they have round trips of their own")
    rng = np.random.default_rng(0)
    for number in range(len(rows)):
        row = rows.row(number)
        example = maker.example(row, str(number), rng, False)
        first = written(maker, example, row)
        again = {**row, **first}
        # an answer goes on from its conversation: it is no conversation itself
        goes_on = any(slot_class(slot).goes_on for slot in maker.plan.target_slots())
        if not goes_on and not any(slot.modality == "BOX" for slot in maker.plan.target_slots()):
            second = maker.example(again, str(number), rng, False)
            assert [ids_of(t) for t in second.targets] == [ids_of(t) for t in example.targets]
        assert {slot.column for slot in maker.plan.target_slots() if slot.learned} or first
        assert written(maker, example, row) == first


def test_words_and_given_slots_carry_no_loss() -> None:
    row = {"q": "the cat", "a": "sat"}
    maker = maker_of("[TEXT:q] -> it is [TEXT:q,no_loss] so [TEXT:a]", [row])
    (target,) = maker.example(row, "0", None, False).targets
    vocabulary = maker.vocabulary
    assert learned_of(target) == [*vocabulary.encode("sat"), CONTROL_IDS["close"]]
    assert maker.terms() == (Term("t", "a", "token", 1.0),)


def test_a_card_may_put_loss_on_words() -> None:
    row = {"q": "x", "a": "sat"}
    maker = maker_of("[TEXT:q] -> it is [TEXT:a]", [row], loss_on_words=True)
    (target,) = maker.example(row, "0", None, False).targets
    assert learned_of(target) == ids_of(target)
    assert {term.slot for term in maker.terms()} == {"words", "a"}


def test_terms_name_every_slot_group_and_objective_with_its_weight() -> None:
    line = "[AUDIO:w,loss=ctc(a,weight=0.3)] -> [TEXT:a,weight=2] ([TEXT:b] [TEXT:p?])*<over=c> ;; [TEXT:d]"
    row = {"w": (np.zeros(16000, dtype=np.float32), 16000), "a": "x", "c": [], "d": "y"}
    terms = {(t.slot, t.weight) for t in maker_of(line, [row]).terms()}
    assert terms == {("a", 2.0), ("c:next", 1.0), ("c.b", 1.0), ("c.p", 1.0), ("d", 1.0), ("w:ctc", 0.3)}


def test_a_closed_answer_is_one_element_and_a_label_outside_is_refused_with_the_near_name() -> None:
    rows = [{"q": "x", "a": "yes"}, {"q": "x", "a": "not at all"}]
    maker = maker_of("[TEXT:q] -> [TEXT:a,closed_set]", rows)
    assert [len(ids_of(maker.example(row, "0", None, False).targets[0])) for row in rows] == [1, 1]
    with pytest.raises(DataError, match="task t, id 7: column `a`: `yse` is not in the closed set") as caught:
        maker.example({"q": "x", "a": "yse"}, "7", None, False)
    assert "did you mean `yes`?" in caught.value.help


def test_an_optional_slot_is_dropped_from_the_source_and_announced_in_the_target() -> None:
    full, bare = {"q": "x", "s": "mat", "a": "yes"}, {"q": "x", "s": float("nan"), "a": None}
    maker = maker_of("[TEXT:q] [TEXT:s?] -> [TEXT:a?]", [full])
    example = maker.example(full, "0", None, False)
    assert ids_of(example.targets[0])[0] == CONTROL_IDS["present"]
    assert learned_of(example.targets[0]) == ids_of(example.targets[0])
    example = maker.example(bare, "0", None, False)
    assert ids_of(example.targets[0]) == [CONTROL_IDS["absent"]]
    assert len(example.sources[0].pieces) == 1


def test_mass_learns_the_hidden_span_only_and_is_fed_what_the_encoder_cannot_read() -> None:
    row = {"s": "the cat sat on a mat with seven other animals"}
    maker = maker_of("[TEXT:s,mask_ratio=0.5,mask_style=mass] -> [TEXT:s]", [row])
    mask = CONTROL_IDS["mask"]
    for seed in range(20):
        example = maker.example(row, "0", np.random.default_rng(seed), True)
        shown = example.sources[0].pieces[0].arrays["ids"]
        piece = example.targets[0].pieces[0]
        ids, fed, learn_P = piece.arrays["ids"], piece.arrays["inputs"], piece.learn_P
        assert learn_P is not None
        assert learn_P[:-1].tolist() == (shown == mask).tolist()
        assert learn_P[-1] == learn_P[-2]
        assert 0.4 < learn_P.mean() < 0.6
        assert fed.tolist() == np.where(learn_P, ids, mask).tolist()
        # the shown text and the learned span are the whole text
        assert np.where(learn_P[:-1], ids[:-1], shown).tolist() == maker.vocabulary.encode(row["s"])
        assert written(maker, example, row) == row


def test_other_styles_of_masking_learn_the_whole_text_and_so_does_mass_where_nothing_is_drawn() -> None:
    row = {"s": "the cat sat on a mat", "t": "yes"}
    for line, rng in (
        ("[TEXT:s,mask_ratio=0.5,mask_style=token] -> [TEXT:s]", np.random.default_rng(0)),
        ("[TEXT:s,mask_ratio=0.5,mask_style=mass] -> [TEXT:s]", None),
        ("[TEXT:s,mask_ratio=0.5,mask_style=mass] -> [TEXT:t]", np.random.default_rng(0)),
    ):
        piece = maker_of(line, [row]).example(row, "0", rng, True).targets[0].pieces[0]
        assert piece.learn_P is None
        assert set(piece.arrays) == {"ids"}


def test_labels_within_a_written_group_are_the_record_s_own_else_the_row_s() -> None:
    line = "[TEXT:q] -> ([TEXT:a,closed_set=@c])*<over=o>"
    own = {"q": "x", "o": [{"a": "y", "c": ["y", "z"]}, {"a": "w", "c": ["w"]}]}
    constraint = maker_of(line, [own]).constraint(0, own)
    (group,) = constraint.parts  # type: ignore[union-attr]
    assert group.part.given
    assert [len(element.parts[0].part.sequences) for _, element in group.part.elements] == [2, 1]
    row = {"q": "x", "c": ["y", "w"], "o": [{"a": "y"}, {"a": "w"}]}
    (group,) = maker_of(line, [row]).constraint(0, {"q": "x", "c": ["y", "w"]}).parts  # type: ignore[union-attr]
    assert not group.part.given
    with pytest.raises(DataError, match="`v` is not in the closed set"):
        maker_of(line, [row]).example({**row, "o": [{"a": "v"}]}, "0", None, False)


def test_dropped_slots_of_a_line_go_together_and_only_in_training() -> None:
    row = {"a": "the", "b": "cat", "c": "sat", "d": "on"}
    maker = maker_of("[TEXT:a,drop=0.5] [TEXT:b,drop=0.5] [TEXT:c] -> [TEXT:d]", [row])
    counts = [len(maker.example(row, "0", np.random.default_rng(i), True).sources[0].pieces) for i in range(60)]
    assert set(counts) == {1, 3}
    assert 15 < counts.count(1) < 45
    assert {len(maker.example(row, "0", np.random.default_rng(i), False).sources[0].pieces) for i in range(9)} == {3}


def test_paraphrases_are_drawn_in_training_and_the_first_stands_elsewhere() -> None:
    row = {"q": "x", "a": "y"}
    maker = maker_of("[TEXT:q] -> [TEXT:a] ||| please [TEXT:q] -> [TEXT:a] ||| [TEXT:q] now -> [TEXT:a]", [row])

    def words(train: bool) -> set[tuple[int, ...]]:
        examples = [maker.example(row, "0", np.random.default_rng(i), train) for i in range(40)]
        return {tuple(int(i) for p in e.sources[0].pieces for i in p.arrays["ids"]) for e in examples}

    assert len(words(True)) == 3
    assert len(words(False)) == 1


ELEMENTS = [{"b": word} for word in ("the", "cat", "sat", "on", "mat")]


def elements(maker: Any, seed: int | None, train: bool = True) -> list[str]:
    row = {"q": "x", "c": ELEMENTS}
    rng = None if seed is None else np.random.default_rng(seed)
    return [record["b"] for record in written(maker, maker.example(row, "0", rng, train), row)["c"]]


def test_longer_lists_are_cut_as_keep_says() -> None:
    row = {"q": "x", "c": ELEMENTS}
    line = "[TEXT:q] -> ([TEXT:b])*<over=c,max=2"
    assert elements(maker_of(f"{line}>", [row]), 0) == ["the", "cat"]
    assert elements(maker_of(f"{line},keep=last>", [row]), 0) == ["on", "mat"]
    drawn = maker_of(f"{line},keep=random>", [row])
    found = {tuple(elements(drawn, seed)) for seed in range(30)}
    order = [each["b"] for each in ELEMENTS]
    assert len(found) > 5
    assert all(order.index(one) < order.index(two) for one, two in found)
    assert elements(drawn, None, False) == ["the", "cat"]


def test_elements_are_shuffled_in_training_alone_and_by_the_samples_generator() -> None:
    maker = maker_of("[TEXT:q] -> ([TEXT:b])*<over=c,order=random>", [{"q": "x", "c": ELEMENTS}])
    given = [each["b"] for each in ELEMENTS]
    assert elements(maker, 1) == elements(maker, 1)
    assert {tuple(sorted(elements(maker, seed))) for seed in range(9)} == {tuple(sorted(given))}
    assert len({tuple(elements(maker, seed)) for seed in range(9)}) > 5
    assert elements(maker, 1, train=False) == given


def test_elements_open_and_close_with_controls_that_carry_loss() -> None:
    row = {"q": "x", "c": [{"kind": "b", "b": "the"}, {"kind": "p", "p": "K"}]}
    maker = maker_of("[TEXT:q] -> ([TEXT:b] | [PHONE:p])*<over=c,by=kind>", [row])
    (target,) = maker.example(row, "0", None, False).targets
    singles = [int(piece.arrays["ids"][0]) for piece in target.pieces if piece.count == 1]
    assert singles[0] == CONTROL_IDS["alternative 0"]
    assert CONTROL_IDS["alternative 1"] in singles
    assert ids_of(target)[-1] == CONTROL_IDS["end"]
    assert learned_of(target) == ids_of(target)


def test_a_group_on_the_source_marks_where_elements_begin() -> None:
    row = {"c": [{"b": "the"}, {"b": "cat"}], "a": "x"}
    maker = maker_of("([TEXT:b])*<over=c> -> [TEXT:a]", [row])
    pieces = maker.example(row, "0", None, False).sources[0].pieces
    following = CONTROL_IDS["next"]
    assert [p.arrays["ids"].tolist() == [following] for p in pieces] == [True, False, True, False]


@pytest.mark.parametrize(
    ("line", "row", "message"),
    [
        ("[TEXT:q] -> ([TEXT:b]){2}<over=c>", {"q": "x", "c": ELEMENTS}, "group `c` has 5 elements; promised 2 to 2"),
        (
            "[TEXT:q] -> ([TEXT:b])*<over=c>",
            {"q": "x", "c": "cat"},
            "column `c` must hold a list; found the text `cat`",
        ),
        ("[TEXT:q] -> ([TEXT:b])*<over=d>", {"q": "x", "c": []}, "no column `d` in this row"),
        ("[TEXT:q] -> ([TEXT:a] [TEXT:b])*", {"q": "x", "a": ["1"], "b": []}, "`a` has 1, `b` has 0"),
        (
            "[TEXT:q] -> ([TEXT:b] | [BOX:x])*<over=c,by=k>",
            {"q": "x", "c": [{"k": "z"}]},
            "`k` of a record of `c` is `z`",
        ),
        ("[TEXT:q] -> [TEXT:b]", {"q": None, "b": "x"}, "column `q` is empty in this row"),
        ("[TEXT:q] -> [TEXT:b]", {"q": "x", "b": ["x"]}, "column `b`: TEXT reads text or a number; found a list"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_task_id_and_column(
    line: str, row: Mapping[str, Any], message: str
) -> None:
    good = {"q": "x", "c": [], "d": [], "a": [], "b": []} if "*" in line or "{2}" in line else {"q": "x", "b": "y"}
    maker = maker_of(line, [good])
    with pytest.raises(DataError) as caught:
        maker.example(row, "0012", None, False)
    assert caught.value.message.startswith("task t, id 0012: ")
    assert message in caught.value.message


def test_columns_open_records_lists_and_their_json_texts() -> None:
    maker = maker_of("[TEXT:u.name] [TEXT:turns.1.text] -> [TEXT:a.b]", [{"u": {"name": "x"}, "a.b": "y"}])
    plain = {"u": {"name": "cat"}, "turns": [{"text": "no"}, {"text": "yes"}], "a.b": "mat", "a": {"b": "wrong"}}
    texts = {**plain, "u": json.dumps(plain["u"]), "turns": json.dumps(plain["turns"])}
    for row in (plain, texts):
        example = maker.example(row, "0", None, False)
        ids = [p.arrays["ids"].tolist() for p in example.sources[0].pieces]
        assert ids == [maker.vocabulary.encode("cat"), maker.vocabulary.encode("yes")]
        assert written(maker, example, row) == {"a.b": "mat"}


def test_slots_without_a_name_are_filled_by_position() -> None:
    maker = maker_of("[TEXT] say -> [TEXT]", [{"q": "the cat", "a": "sat"}])
    row = {"q": "the cat", "a": "sat"}
    assert written(maker, maker.example(row, "0", None, False), row) == {"1": "sat"}
    assert written(maker, maker.example({"0": "x", "1": "y"}, "0", None, False), {"0": "x", "1": "y"}) == {"1": "y"}


def test_ctc_reads_its_column_as_its_slot_is_read_and_needs_a_row_per_label() -> None:
    row = {"w": (np.zeros(16000, dtype=np.float32), 16000), "a": "the cat"}
    maker = maker_of("[AUDIO:w,loss=ctc(a,weight=0.3)] what? -> [TEXT:a]", [row])
    (loss,) = maker.example(row, "0", None, False).sources[0].learned
    assert loss.arrays["labels"].tolist() == maker.vocabulary.encode("the cat")
    assert (loss.objective.name, loss.piece) == ("ctc", 0)
    assert loss.terms == (Term("t", "w:ctc", "token", 0.3),)
    with pytest.raises(DataError, match=r"rows cannot be aligned with \d+ labels of `a`"):
        maker.example({**row, "a": "the cat sat on a mat " * 20}, "0", None, False)


def test_a_source_for_inference_asks_for_no_labels_of_ctc() -> None:
    row = {"w": (np.zeros(32_000, np.float32), 16_000), "a": "the cat"}
    maker = maker_of("[AUDIO:w,loss=ctc(a)] what? -> [TEXT:a]", [row])
    example = maker.source({"w": row["w"]}, "0")
    assert example.sources[0].learned == ()
    assert len(example.sources[0].pieces) == 2


def test_ctc_of_phones_and_of_a_column_without_a_slot() -> None:
    row = {"w": (np.zeros(16000, dtype=np.float32), 16000), "a": "yes", "p": "K AE T"}
    maker = maker_of("[AUDIO:w,loss=ctc(p)] [PHONE:p] -> [TEXT:a]", [row])
    (loss,) = maker.example(row, "0", None, False).sources[0].learned
    assert [maker.vocabulary.name(int(i)) for i in loss.arrays["labels"]] == ["phone:K", "phone:AE", "phone:T"]
    bare = maker_of("[AUDIO:w,loss=ctc(p)] -> [TEXT:a]", [row])
    (loss,) = bare.example(row, "0", None, False).sources[0].learned
    assert bare.vocabulary.decode(loss.arrays["labels"]) == "K AE T"


def test_inference_needs_no_target_columns() -> None:
    maker = maker_of("[TEXT:q] -> [TEXT:a]", [{"q": "the cat", "a": "sat"}])
    example = maker.source({"q": "the cat"}, "0")
    assert example.targets == ()
    assert example.sources[0].count == len(maker.vocabulary.encode("the cat"))
    with pytest.raises(DataError, match="task t, id 3: no column `q`"):
        maker.source({"Q": "the cat"}, "3")


def test_masking_defines_the_task_in_every_split_and_follows_the_generator() -> None:
    row = {"q": "the cat sat on a mat with seven other animals", "a": "x"}
    maker = maker_of("[TEXT:q,mask_ratio=0.5] -> [TEXT:a]", [row])
    mask = CONTROL_IDS["mask"]

    def ids(seed: int, train: bool) -> list[int]:
        piece = maker.example(row, "0", np.random.default_rng(seed), train).sources[0].pieces[0]
        return [int(i) for i in piece.arrays["ids"]]

    assert mask in ids(0, False)
    assert ids(0, True) == ids(0, True)
    assert len({tuple(ids(seed, True)) for seed in range(9)}) > 3


def test_lengths_are_estimated_without_decoding() -> None:
    rows = [{"q": "the cat " * 10, "a": "yes", "c": [{"b": "x"}] * 3, "i": picture()}]
    maker = maker_of("[IMAGE:i] [TEXT:q] -> [TEXT:a,closed_set] ([TEXT:b])*<over=c>", rows)
    from ofasys_lite.data.readers.memory import ListSource

    source, target = maker.lengths(ListSource(rows), 0)
    example = maker.example(rows[0], "0", None, False)
    assert 0.4 < source / example.sources[0].count < 2.5
    assert 0.4 < target / example.targets[0].count < 2.5
