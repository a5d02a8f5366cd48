import jiwer
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from ofasys_lite.metrics import evaluate_metric

LINES = st.lists(st.tuples(*[st.text("ab cdé.,!漢", max_size=14)] * 2), min_size=1, max_size=6)


def value(name, predictions, references):
    return evaluate_metric(name, predictions, references, samples=2).value


def test_accuracy_keeps_case_and_exact_match_does_not():
    assert value("accuracy", ["Yes", " no "], ["yes", "no"]) == 0.5
    assert value("exact_match", ["Yes!", "it's  so"], ["yes", "Its so."]) == 1.0


def test_a_list_of_texts_as_reference_holds_alternatives():
    assert value("accuracy", ["grey", "red"], [["gray", "grey"], ["blue", "green"]]) == 0.5
    assert value("chrf", ["a grey cat"], [["something else", "a grey cat"]]) == pytest.approx(100)


def test_token_accuracy_is_by_place_and_counts_the_longer_text():
    assert value("token_accuracy", ["a b c d"], ["a x c"]) == pytest.approx(2 / 4)


def test_macro_f1_weighs_rare_classes_like_frequent_ones():
    references = ["a"] * 9 + ["b"]
    assert value("macro_f1", ["a"] * 10, references) == pytest.approx((2 * 9 / 19) / 2)


@settings(max_examples=40, deadline=None)
@given(LINES)
def test_chrf_and_bleu_equal_sacrebleu_on_any_text(pairs):
    predictions, references = (list(side) for side in zip(*pairs, strict=True))
    assert value("chrf", predictions, references) == pytest.approx(
        sacrebleu.corpus_chrf(predictions, [references]).score
    )
    assert value("bleu", predictions, references) == pytest.approx(
        sacrebleu.corpus_bleu(predictions, [references]).score
    )


@settings(max_examples=40, deadline=None)
@given(LINES)
def test_error_rates_equal_those_of_jiwer(pairs):
    pairs = [(p, r) for p, r in pairs if r.strip()]
    if not pairs:
        return
    predictions, references = (["  ".join(text.split()) for text in side] for side in zip(*pairs, strict=True))
    clean = [[" ".join(text.split()) for text in side] for side in (predictions, references)]
    assert value("wer", predictions, references) == pytest.approx(jiwer.wer(clean[1], clean[0]))
    assert value("cer", predictions, references) == pytest.approx(jiwer.cer(clean[1], clean[0]))


def test_words_against_an_empty_reference_are_insertions():
    score = evaluate_metric("wer", ["a b", "c"], ["", "c"], samples=2)
    assert score.value == 2.0
    assert score.details["insertions"] == 2


def test_phone_errors_are_counted_per_phone_in_texts_and_lists():
    assert value("per", ["HH AH0 L OW1"], ["HH EH0 L OW1"]) == 0.25
    assert value("per", [["K", "AE1"]], ["K AE1 T"]) == pytest.approx(1 / 3)
