import io
import sqlite3
import wave

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import CardError
from ofasys_lite.metrics import baseline_kind, baseline_names, copied_column, evaluate_metric, fit_predict, iou
from ofasys_lite.metrics.baselines.problem import media_kind
from ofasys_lite.metrics.baselines.rankings import RANKINGS


def png(colour, size=(32, 24)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def tone(hertz, seconds=0.5, rate=8000):
    samples = np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples * 20000).astype("<i2").tobytes())
    return file.getvalue()


def rows(column, values, target, answers):
    return [{column: value, target: answer} for value, answer in zip(values, answers, strict=True)]


def test_an_unknown_baseline_or_kind_is_refused_with_the_nearest_name():
    with pytest.raises(CardError, match="did you mean `majority`"):
        fit_predict("majorty", [], [], ["q"], "a", "text")
    with pytest.raises(CardError, match="did you mean `detection`"):
        fit_predict("majority", [], [], ["q"], "a", "detections")
    with pytest.raises(CardError, match="baseline `mean_box` predicts box, but `a` is text"):
        fit_predict("mean_box", [], [], ["q"], "a", "text")
    with pytest.raises(CardError, match="`nearest_pixels` needs a column of image"):
        fit_predict("nearest_pixels", [{"q": "x", "a": "y"}], [{"q": "x"}], ["q"], "a", "text")


def test_every_baseline_is_trivial_or_a_reference():
    assert {baseline_kind(name) for name in baseline_names()} == {"trivial", "reference"}
    assert baseline_kind("nearest_tfidf") == "reference"


@pytest.mark.parametrize("name", sorted(set(baseline_names()) - set(RANKINGS)))  # which need none
def test_without_training_rows_every_baseline_answers_nothing(name):
    kinds = {
        "mean_box": "box",
        "best_box": "box",
        "label_blind_box": "box",
        "constant_list": "detection",
        "greedy_list": "detection",
    }
    kinds["mean_clip"] = "numbers"
    kinds |= dict.fromkeys(("most_popular", "latest", "next_of_last", "item_knn", "ngram_cache"), "ranking")
    kinds["mean_frames"] = "video"
    kinds |= dict.fromkeys(("common_image", "mean_fill", "mean_image", "random_image"), "image")
    assert len(fit_predict(name, [], [{"q": "a"}, {"q": "b"}], ["q"], "a", kinds.get(name, "text"))) == 2


def test_majority_serves_values_of_any_kind():
    train = rows("q", "abc", "a", [{"x": [1, 2]}, {"x": [1, 2]}, {}])
    assert fit_predict("majority", train, train[:2], ["q"], "a", "struct") == [{"x": [1, 2]}] * 2


def test_unigram_repeats_the_commonest_token_to_the_usual_length():
    train = rows("q", "abc", "a", ["the cat", "the dog", "a cat the"])
    assert fit_predict("unigram", train, train[:1], ["q"], "a", "text") == ["the the"]


def test_copy_takes_the_first_text_column_not_the_image():
    test = [{"img": png("red"), "q": "hello"}]
    assert fit_predict("copy", test, test, ["img", "q"], "a", "text") == ["hello"]


def test_the_question_alone_answers_by_frequency_then_by_words():
    train = [
        {"img": png("red"), "q": question, "a": answer}
        for question, answer in [
            ("what colour is it?", "red"),
            ("what colour is it?", "red"),
            ("what colour is it?", "blue"),
            ("is it round?", "yes"),
            ("is it square?", "yes"),
        ]
    ]
    test = [{"img": png("red"), "q": question} for question in ("what colour is it?", "is it big?", "which colour?")]
    assert fit_predict("question_only", train, test, ["img", "q"], "a", "category") == ["red", "yes", "red"]


def test_with_many_answers_the_nearest_question_answers():
    train = rows("q", [f"item {i} of the list" for i in range(300)], "a", [f"answer {i}" for i in range(300)])
    test = [{"q": "the list, item 217"}]
    assert fit_predict("question_only", train, test, ["q"], "a", "text") == ["answer 217"]
    assert fit_predict("nearest_tfidf", train, test, ["q"], "a", "text") == ["answer 217"]


def test_the_mean_box_scales_with_the_image():
    train = [
        {"img": png("red", (100, 50)), "box": [10, 10, 30, 20]},
        {"img": png("red", (200, 100)), "box": [60, 20, 100, 60]},
    ]
    test = [{"img": png("red", (10, 10))}]
    (box,) = fit_predict("mean_box", train, test, ["img"], "box", "box")
    assert box == pytest.approx([2, 2, 4, 5])
    without = fit_predict("mean_box", train, [{"q": "x"}], ["q"], "box", "box")
    assert without[0] == pytest.approx([35, 15, 65, 40])


def test_the_best_constant_box_beats_the_mean_of_two_far_apart():
    left, right = [0, 0, 10, 10], [90, 0, 100, 10]
    train = rows("q", "abcde", "box", [left, left, left, right, right])
    (mean,) = fit_predict("mean_box", train, train[:1], ["q"], "box", "box")
    (best,) = fit_predict("best_box", train, train[:1], ["q"], "box", "box")
    assert iou(mean, left) == 0
    assert best == left


def test_blind_to_the_label_a_random_object_of_the_scene_is_named():
    scene = [{"box": [i * 10, 0, i * 10 + 9, 9], "label": str(i)} for i in range(4)]
    test = [{"label": str(i % 4), "objects": scene, "box": scene[i % 4]["box"]} for i in range(400)]
    found = fit_predict("label_blind_box", test, test, ["label"], "box", "box")
    share = evaluate_metric("iou_at_0.5", found, [row["box"] for row in test], samples=2).value
    assert share == pytest.approx(0.25, abs=0.07)
    bare = [{"label": "1"}]
    assert fit_predict("label_blind_box", test, bare, ["label"], "box", "box") == fit_predict(
        "best_box", test, bare, ["label"], "box", "box"
    )


def test_the_constant_list_holds_the_usual_labels_at_their_mean_places():
    def scene(shift):
        return [{"box": [20, 0, 30 + shift, 9], "label": "b"}, {"box": [0, 0, 9, 9], "label": "a"}]

    train = rows("q", "abc", "objects", [scene(0), scene(2), [{"box": [0, 0, 1, 1], "label": "z"}]])
    (found,) = fit_predict("constant_list", train, train[:1], ["q"], "objects", "detection")
    assert found == [{"box": [0, 0, 9, 9], "label": "a"}, {"box": [20, 0, 31, 9], "label": "b"}]


def test_letters_get_the_phones_they_usually_stand_for():
    words = ["bad", "dab", "cab", "bead", "dace", "abbacad", "add", "back", "deck"]
    phones = ["B A D", "D A B", "K A B", "B E D", "D A S", "A B A K A D", "A D", "B A K", "D E K"]
    train = rows("word", words, "phones", phones)
    (found,) = fit_predict("letter_phones", train, [{"word": "bacd"}], ["word"], "phones", "phone")
    assert found == "B A K D"


@pytest.mark.parametrize("whole", [True, False])
def test_blanks_are_filled_from_both_neighbours(whole):
    train = [
        {"q": f"{a} ___ {c}", "a": f"{a} {b} {c}" if whole else b}
        for a, b, c in [("red", "hot", "soup"), ("red", "big", "car"), ("ice", "cold", "soup"), ("one", "big", "car")]
    ]
    test = [{"q": "red ___ car"}, {"q": "ice <mask> soup"}]
    expected = ["red big car", "ice cold soup"] if whole else ["big", "cold"]
    assert fit_predict("bigram_infill", train, test, ["q"], "a", "text") == expected


def test_the_nearest_picture_answers_among_those_with_the_same_question():
    train = [
        {"img": png(colour), "q": question, "a": f"{question}:{colour}"}
        for colour in ("red", "blue") for question in ("x", "y")
    ]  # fmt: skip
    test = [{"img": png((0, 0, 200)), "q": "y"}, {"img": png((200, 0, 0)), "q": "new"}]
    found = fit_predict("nearest_pixels", train, test, ["img", "q"], "a", "text")
    assert found == ["y:blue", "x:red"]


def test_an_unreadable_picture_is_answered_all_the_same():
    train = [{"img": png("red"), "a": "red"}]
    test = [{"img": png("red")[:40]}, {"img": None}]
    assert fit_predict("nearest_pixels", train, test, ["img"], "a", "text") == ["red"] * 2


def test_the_nearest_sound_answers_by_its_spectrum_in_every_form():
    train = [{"wav": tone(hertz), "a": str(hertz)} for hertz in (300, 900, 2500)]
    array = np.sin(2 * np.pi * 2400 * np.arange(4000) / 8000)
    test = [
        {"wav": tone(880)},
        {"wav": (array, 8000)},
        {"wav": {"array": array, "sampling_rate": 8000}},
        {"wav": b"RIFF"},
    ]
    assert fit_predict("nearest_audio", train, test, ["wav"], "a", "text")[:3] == ["900", "2500", "2500"]


def test_a_text_too_long_for_a_file_name_is_text():
    assert media_kind("what stands in a.png, b.png or c.png? " * 9 + "d.png") == "text"


def test_media_are_known_by_their_bytes_types_and_files(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png("red"))
    images = [png("red"), Image.new("L", (2, 2)), np.zeros((2, 2)), str(path), {"bytes": png("red"), "path": None}]
    assert [media_kind(value) for value in images] == ["image"] * 5
    sounds = [tone(100), np.zeros(9), (np.zeros(9), 8000)]
    assert [media_kind(value) for value in sounds] == ["audio"] * 3
    assert [media_kind(value) for value in ("absent.png", {"a": 1}, [1, 2], 3, b"text")] == ["text"] * 5


def test_copy_takes_the_input_that_is_like_the_target_not_the_first():
    train = [
        {"language": "French" if i % 2 else "German", "source": f"the {i} of May", "target": f"le {i} mai"}
        for i in range(40)
    ]
    test = [{"language": "French", "source": "the 99 of May"}]
    columns = ["language", "source"]
    assert fit_predict("copy", train, test, columns, "target", "text") == ["the 99 of May"]
    assert copied_column(train, test, columns, "target") == "source"
    assert fit_predict("copy", train, test, columns[::-1], "target", "text") == ["the 99 of May"]
    assert fit_predict("copy", train[:0], test, columns[:1], "target", "text") == ["French"]


def test_the_best_constant_is_chosen_by_the_metric_on_training_rows():
    # every training text occurs once: the commonest one says nothing, the medoid most
    train = rows("q", range(30), "a", [f"set the {'red' if i % 3 else 'blue'} lamp {i}" for i in range(29)] + ["no"])
    test = [{"q": "x"}] * 2
    best, _ = fit_predict("best_constant", train, test, ["q"], "a", "text", metric="wer")
    assert best.startswith("set the red lamp")
    with pytest.raises(CardError, match="`best_constant` is chosen by a metric"):
        fit_predict("best_constant", train, test, ["q"], "a", "text")


def test_the_best_constant_of_queries_is_chosen_by_what_they_return(tmp_path):
    path = tmp_path / "some.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (x)")
        connection.executemany("insert into t values (?)", [(i,) for i in range(9)])
    connection.close()
    queries = [f"select x from t where x = {i}" for i in range(8)] + [
        f"select count(*) from t where x < {i}" for i in (3,)
    ]
    queries += ["select 3", "select max(x) - 5 from t"]  # all three give 3
    train = [{"q": str(i), "sql": query, "db": str(path)} for i, query in enumerate(queries)]
    (found,) = fit_predict("best_constant", train, [{"q": "?"}], ["q"], "sql", "text", metric="sql_execution")
    with sqlite3.connect(path) as connection:
        assert connection.execute(found).fetchall() == [(3,)]
    connection.close()


def test_the_greedy_list_finds_more_than_the_mean_boxes():
    generator = np.random.default_rng(0)
    # a cat is left or right, never in the middle, where the mean box is
    sides = [[0, 0, 20, 20], [60, 60, 80, 80]]
    scenes = [[{"box": sides[generator.integers(2)], "label": "cat"}] for _ in range(60)]
    train, test = rows("q", range(60), "a", scenes), [{"q": 0}] * 60
    greedy, mean = (
        fit_predict(name, train, test, ["q"], "a", "detection") for name in ("greedy_list", "constant_list")
    )
    assert {tuple(each["box"]) for each in greedy[0]} == {tuple(map(float, side)) for side in sides}
    scores = [evaluate_metric("detection_f1", found, scenes).value for found in (greedy, mean)]
    assert scores[0] == pytest.approx(2 / 3)
    assert scores[1] == 0


def test_the_common_image_is_one_picture_of_the_commonest_text():
    pictures = [png((shade, 0, 0)) for shade in range(5)]
    train = [{"label": label, "p": picture} for label, picture in zip("abbcb", pictures, strict=True)]
    assert fit_predict("common_image", train, [{"label": "c"}] * 2, ["label"], "p", "image") == [pictures[1]] * 2


def test_of_several_accepted_texts_the_first_is_the_answer():
    train = rows("q", "abc", "a", [["yes", "yeah"], ["yes", "yeah"], ["no"]])
    assert fit_predict("majority", train, [{"q": "x"}], ["q"], "a", "text") == ["yes"]


def test_an_empty_cell_gets_the_most_frequent_digit_that_no_clue_forbids():
    solved = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]
    train = [{"p": None, "s": solved}] * 3
    puzzle = [[0, 2, 3, 4], [0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]
    (found,) = fit_predict("legal_digit", train, [{"p": puzzle}], ["p"], "s", "struct")
    assert found[0] == [1, 2, 3, 4]
    # at (1, 1) training has 4, which nothing there forbids; at (1, 2) 3 and 4 stand in the box, and 1 is in training
    assert found[1][1:3] == [4, 1]
    assert found[2][0] == 2
    other = [{"p": None, "s": [[1] * 4] * 4}]
    (found,) = fit_predict("legal_digit", other, [{"p": puzzle}], ["p"], "s", "struct")
    # 1 wherever it is legal
    assert [row[3] for row in found] == [4, 1, 1, 1]
    assert fit_predict("legal_digit", train, [{"p": "no grid"}], ["p"], "s", "struct") == [None]
