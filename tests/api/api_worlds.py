"""Tiny tasks and a tiny model: what tests of the Python API share."""

from typing import Any

from PIL import Image

from ofasys_lite import GeneralistModel, Task

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
WORDS = ("cat", "dog", "bird", "house", "tree", "moon", "sun", "river", "stone", "cloud")
REVERSE = "what is the reverse of [TEXT:word]? -> [TEXT:answer]"
COLOUR = "[IMAGE:img] which colour? -> [TEXT:label,closed_set]"
FIND = '[IMAGE:img] which region does the text " [TEXT:cap] " describe? -> [BOX:patch_boxes]'
QUICK: dict[str, Any] = {"samples_per_step": 8, "workers": 0, "valid_every": 0, "log_every": 1, "progress": False}
SMALL: dict[str, Any] = {"pieces": 320, "bins": 20}


def picture(colour: str = "red", side: int = 16) -> Image.Image:
    return Image.new("RGB", (side, side), COLOURS[colour])


def word_rows() -> list[dict[str, Any]]:
    return [{"word": word, "answer": word[::-1]} for word in WORDS * 3]


def colour_rows() -> list[dict[str, Any]]:
    return [{"img": picture(name), "label": name} for name in list(COLOURS) * 8]


def box_rows() -> list[dict[str, Any]]:
    return [{"img": picture(c), "cap": c, "patch_boxes": [2.0, 2.0, 9.0, 9.0]} for c in list(COLOURS) * 8]


def tiny() -> GeneralistModel:
    return GeneralistModel("tiny", width=32, encoder_layers=1, decoder_layers=1, heads=2)


def tasks() -> list[Task]:
    return [
        Task("reverse", REVERSE, micro_batch_size=4, data=word_rows()),
        Task("colour", COLOUR, micro_batch_size=2, data=colour_rows()),
        Task("find", FIND, micro_batch_size=2, data=box_rows()),
    ]
