"""Translation of dates, numbers and times between five languages, written out by rules."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable

from ofasys_lite.data.recipes import spelling
from ofasys_lite.data.recipes.base import Built, Column, Limits, Recipe, RecipeInfo, Row, assemble
from ofasys_lite.data.recipes.fetch import Wheels

__all__ = ["RECIPE", "build"]

FIRST_DAY, DAYS = datetime.date(1950, 1, 1), 36_524
COUNTS = {"date": 6000, "number": 6000, "time": 144}
PAIRS = {"date": 2, "number": 2, "time": 20}


def _values(kind: str) -> dict[str, Callable[[str], str]]:
    """Values of a kind by name, each as a function from language to text."""
    generator = random.Random(f"translation {kind}")
    if kind == "time":
        clock = [(hour, minute) for hour in range(1, 13) for minute in range(0, 60, 5)]
        return {f"time {h}:{m:02d}": lambda language, h=h, m=m: spelling.time(h, m, language) for h, m in clock}
    found: dict[str, Callable[[str], str]] = {}
    while len(found) < COUNTS[kind]:
        if kind == "date":
            day = FIRST_DAY + datetime.timedelta(days=int(generator.random() * DAYS))
            found[f"date {day}"] = lambda language, day=day: spelling.date(day, language)
        else:
            # as many numbers below a thousand as above
            value = int(generator.random() * (1000 if generator.random() < 0.15 else 10_000))
            found[f"number {value}"] = lambda language, value=value: spelling.number(value, language)
    return found


def build(wheels: Wheels, limits: Limits) -> Built:
    """Several language pairs of every value."""
    del wheels
    codes = list(spelling.LANGUAGES)
    every = [(one, other) for one in codes for other in codes if one != other]
    rows: list[Row] = []
    for kind, count in PAIRS.items():
        for group, text in _values(kind).items():
            generator = random.Random(group)
            for one, other in sorted(every, key=lambda _: generator.random())[:count]:
                rows.append(
                    {
                        "group": group,
                        "source": text(one),
                        "target": text(other),
                        "source_language": spelling.LANGUAGES[one],
                        "target_language": spelling.LANGUAGES[other],
                        "kind": kind,
                    }
                )
    return Built(assemble("translation_dates", rows, limits))


RECIPE = Recipe(
    RecipeInfo(
        name="translation_dates",
        title="translation of dates, numbers and times between English, German, French, Spanish and Dutch",
        sources=(),
        licence="Apache-2.0 (generated here)",
        columns=(
            Column("source", "text", "text in the source language"),
            Column("target", "text", "the same in the target language"),
            Column("source_language", "text", "English name of the language"),
            Column("target_language", "text", "English name of the language"),
            Column("kind", "text", "date, number or time"),
        ),
        group="the value",
        limits=Limits(train=24_000),
        counts={},
        size_mb=0.0,
        generated="all of it, by the rules of the five languages",
        note="split by value: a date, number or time of the test split occurs in no language in training",
    ),
    build,
)
