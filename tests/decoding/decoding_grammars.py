"""Constraints that the tests of the decoding room share; ids are small and made up."""

from __future__ import annotations

import numpy as np

from ofasys_lite.plan.constraints import (
    Constraint,
    Corners,
    Forced,
    Free,
    Json,
    OneOf,
    Optional,
    Placed,
    Range,
    Repeat,
    Series,
    Slotted,
)

CLOSE, END, NEXT, PRESENT, ABSENT = 2, 3, 4, 6, 5
TEXT = (40, 80)
SIZE = 120
CONTROLS = {
    "record": 10,
    "list": 11,
    "key": 12,
    "string": 13,
    "number": 14,
    "true": 15,
    "false": 16,
    "null": 17,
    "close": CLOSE,
    "end": END,
}
DIGITS = {c: 40 + i for i, c in enumerate("0123456789+-.eE")}


def json(most: int = 40, depth: int = 3) -> Json:
    return Json(*TEXT, tuple(CONTROLS.items()), tuple(DIGITS.items()), most, depth)


def free(least: int = 0, most: int = 5) -> Free:
    return Free(*TEXT, least, most, CLOSE)


def grid(rows: int, columns: int) -> Placed:
    cells = Series((OneOf(((90,), (91,), (92,))),) * (rows * columns))
    return Placed(cells, tuple((0, r, c) for r in range(rows) for c in range(columns)))


BOX = Series((Range(100, 110),) * 4)
SET = OneOf(((20,), (21, 22, CLOSE), (21, 23, CLOSE), (24, CLOSE)))
GROUP = Slotted(
    "objects",
    Repeat(
        (Series((Slotted("objects.box", BOX), Slotted("objects.label", SET))), Series((Slotted("objects.t", free()),))),
        openers=(30, 31),
        end=END,
        least=1,
        most=3,
    ),
)

GRAMMARS: dict[str, Constraint] = {
    "free": Slotted("a", free(1, 4)),
    "set": Slotted("a", SET),
    "box": Slotted("a", BOX),
    "corners": Slotted("a", Corners(100, 110)),
    "grid": Series((Forced((50,)), Slotted("a", grid(2, 3)), Forced((51,)))),
    "optional": Series((Slotted("a", Optional(free(), PRESENT, ABSENT)), Slotted("b", BOX))),
    "group": Series((Forced((50, 51)), GROUP, Slotted("b", free(0, 2)))),
    "nested": Slotted(
        "g", Repeat((Series((Slotted("g.x", free(0, 1)), GROUP, Slotted("g.y", SET))),), (NEXT,), END, 0, 2)
    ),
    "json": Slotted("a", json()),
    "words only": Forced((50, 51)),
    "nothing": Series(()),
}


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
