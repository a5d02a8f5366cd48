"""Coloured shapes with questions (easy-vqa), and what follows from their answers: entailment and captions.

The official test images stay the test split of all three data sets; the official training images are split into
train and valid by image.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import SPLITS, Built, Limits, Row, assemble, split_of

FOLDER = "easy_vqa/data"
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")
TRIES = 1000


@dataclass(frozen=True, slots=True)
class Scene:
    """One image of the source: its group, PNG bytes, shape and colour as its answers tell, and its questions."""

    group: str
    image: bytes
    shape: str
    colour: str
    questions: tuple[tuple[str, str], ...]


def read_scenes(wheels: Wheels) -> list[Scene]:
    """All images with their questions; groups are `train-<n>` and `test-<n>`, as the source splits them."""
    scenes = []
    for part in ("train", "test"):
        questions: dict[int, list[tuple[str, str]]] = {}
        for question, answer, image in json.loads(wheels.read("easy-vqa", f"{FOLDER}/{part}/questions.json")):
            questions.setdefault(image, []).append((question, answer))
        images = wheels.read_all("easy-vqa", [f"{FOLDER}/{part}/images/{image}.png" for image in questions])
        for (image, asked), content in zip(questions.items(), images.values(), strict=True):
            shape, colour = _facts(asked)
            scenes.append(Scene(f"{part}-{image}", content, shape, colour, tuple(asked)))
    return scenes


def _facts(asked: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Shape and colour of an image as far as its questions and answers tell; empty where they do not."""
    shape = colour = ""
    for question, answer in asked:
        words = question.rstrip("?").split()
        denied = "not" in words or "no" in words
        if answer in (*COLOURS, *SHAPES, "no" if denied else "yes"):
            told = (answer, *words)
            shape = next((word for word in told if word in SHAPES), shape)
            colour = next((word for word in told if word in COLOURS), colour)
    return shape, colour


def official_split(group: str) -> str:
    """The official test images test; of the others 95 % train and 5 % validate, by sha1 of the image."""
    if group.startswith("test-"):
        return "test"
    return "train" if split_of(group, (95, 5, 0)) == "train" else "valid"


def build_vqa(wheels: Wheels, limits: Limits) -> Built:
    """One row per question."""
    rows: list[Row] = [
        {"group": scene.group, "image": scene.image, "question": question, "answer": answer}
        for scene in read_scenes(wheels)
        for question, answer in scene.questions
    ]
    return Built(assemble("easy_vqa", rows, limits, official_split))


def build_caption(wheels: Wheels, limits: Limits) -> Built:
    """One row per image whose shape and colour are known: `a red circle`."""
    rows: list[Row] = [
        {"group": scene.group, "image": scene.image, "caption": f"a {scene.colour} {scene.shape}"}
        for scene in read_scenes(wheels)
        if scene.shape and scene.colour
    ]
    return Built(assemble("shape_captions", rows, limits, official_split))


# one hypothesis of each kind per image, affirmed or denied; {0} is the fact
KINDS: tuple[tuple[str, Callable[[Scene], str], tuple[str, str]], ...] = (
    ("shape", lambda scene: scene.shape, ("there is a {0}", "there is no {0}")),
    ("colour", lambda scene: scene.colour, ("the shape is {0}", "the shape is not {0}")),
    ("both", lambda scene: f"{scene.colour} {scene.shape}", ("this is a {0}", "this is not a {0}")),
)


def deranged(facts: list[str], seed: str) -> list[str]:
    """The same facts in another order, so that none stands where it is true.

    Every fact is then as often false as it is true: the hypothesis alone tells nothing. Facts that cannot be placed
    (one value holds more than half) are returned as empty strings.
    """
    generator = random.Random(seed)
    given = sorted(facts, key=lambda _: generator.random())
    for place, fact in enumerate(facts):
        for _ in range(TRIES if given[place] == fact else 0):
            other = int(generator.random() * len(facts))
            if given[other] != fact and given[place] != facts[other]:
                given[place], given[other] = given[other], given[place]
                break
    return ["" if found == fact else found for found, fact in zip(given, facts, strict=True)]


def build_entailment(wheels: Wheels, limits: Limits) -> Built:
    """Three kinds of hypothesis per image, each once true and once false; labels are balanced for every sentence."""
    scenes = [scene for scene in read_scenes(wheels) if scene.shape and scene.colour]
    rows: list[Row] = []
    for split in SPLITS:
        part = [scene for scene in scenes if official_split(scene.group) == split]
        for kind, fact, forms in KINDS:
            for polarity, form in enumerate(forms):
                # an image meets the affirmed or the denied form of a kind, by its hash
                half = ("train", "valid")[polarity]
                chosen = [s for s in part if split_of(f"{kind} {s.group}", (50, 50, 0)) == half]
                true = [fact(scene) for scene in chosen]
                for scene, right, wrong in zip(chosen, true, deranged(true, f"{split} {kind} {polarity}"), strict=True):
                    if wrong:
                        rows += _pair(scene, form, right, wrong, denied=bool(polarity))
    rows.sort(key=lambda row: row["hypothesis"])
    return Built(assemble("entailment", rows, limits, official_split))


def _pair(scene: Scene, form: str, right: str, wrong: str, denied: bool) -> list[Row]:
    labels = ("contradiction", "entailment") if denied else ("entailment", "contradiction")
    return [
        {"group": scene.group, "image": scene.image, "hypothesis": form.format(fact), "label": label}
        for fact, label in zip((right, wrong), labels, strict=True)
    ]
