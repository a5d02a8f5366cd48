"""Translation of dates, numbers and times between five languages, written out by rules."""

from __future__ import annotations

import datetime
import itertools
import random

from ofasys_lite.recipes import spelling
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble

CODES = tuple(spelling.LANGUAGES)
FIRST_DAY, DAYS = datetime.date(1950, 1, 1), 36_524
COUNTS = {"date": 6000, "number": 6000, "time": 144}
PAIRS = {"date": 2, "number": 2, "time": 20}


def _texts(kind: str) -> dict[str, dict[str, str]]:
    """Text by language of every value of a kind, by the value's name."""
    generator = random.Random(f"translation {kind}")
    found: dict[str, dict[str, str]] = {}
    if kind == "time":
        for hour, minute in itertools.product(range(1, 13), range(0, 60, 5)):
            found[f"time {hour}:{minute:02d}"] = {each: spelling.time(hour, minute, each) for each in CODES}
    while len(found) < COUNTS[kind]:
        if kind == "date":
            day = FIRST_DAY + datetime.timedelta(days=int(generator.random() * DAYS))
            found[f"date {day}"] = {each: spelling.date(day, each) for each in CODES}
        else:
            # small numbers are rare among the first ten thousand: drawn more often
            value = int(generator.random() * (1000 if generator.random() < 0.15 else 10_000))
            found[f"number {value}"] = {each: spelling.number(value, each) for each in CODES}
    return found


def build(wheels: Wheels, limits: Limits) -> Built:
    """Several language pairs of every value."""
    del wheels
    every = list(itertools.permutations(CODES, 2))
    rows: list[Row] = []
    for kind, count in PAIRS.items():
        for group, text in _texts(kind).items():
            generator = random.Random(group)
            for one, other in sorted(every, key=lambda _: generator.random())[:count]:
                rows.append(
                    {
                        "group": group,
                        "source": text[one],
                        "target": text[other],
                        "source_language": spelling.LANGUAGES[one],
                        "target_language": spelling.LANGUAGES[other],
                        "kind": kind,
                    }
                )
    return Built(assemble("translation_dates", rows, limits))
