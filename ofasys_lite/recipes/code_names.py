"""Names in Python source: what comes next, out of 10,000; Django's own code, as its wheel ships it."""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, digest, numbered, split_of

#: Names that may come next; every other one reads as RARE.
ITEMS = 10_000
RARE = "(rare)"
#: Names before the one that is asked for: at least, at most.
FEWEST, LONGEST = 4, 20
#: Most rows of a file that is not trained on.
OF_FILE = 25


def names_of(source: str) -> list[str]:
    """Identifiers of Python source in order, without keywords; none of a file that does not parse."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return []
    return [t.string for t in tokens if t.type == tokenize.NAME and not keyword.iskeyword(t.string)]


def read_files(wheels: Wheels) -> dict[str, list[str]]:
    """Names of every file of Django that has some, without those of its languages."""
    paths = [n for n in wheels.names("django") if re.fullmatch(r"django/.*\.py", n) and "/locale/" not in n]
    found = {path: names_of(text.decode("utf-8")) for path, text in wheels.read_all("django", paths).items()}
    return {path: names for path, names in found.items() if len(names) > FEWEST}


def frequent(files: Sequence[Sequence[str]], count: int = ITEMS) -> set[str]:
    """The most frequent names that have a row of their own: those that stand behind enough others."""
    counts = Counter(name for names in files for name in names)
    asked = {name for names in files for name in names[FEWEST:]}
    return set(sorted(asked, key=lambda name: (-counts[name], name))[:count])


def rows_of(files: Mapping[str, Sequence[str]], items: set[str], most: int | None) -> Iterator[Row]:
    """A row for each name of the set that stands behind enough others; of a file at most `most`, by hash."""
    for path, names in files.items():
        places = [p for p in range(FEWEST, len(names)) if names[p] in items]
        if most is not None:
            places = sorted(sorted(places, key=lambda p: digest(f"{path} {p}"))[:most])
        for place in places:
            before = [name if name in items else RARE for name in names[max(0, place - LONGEST) : place]]
            yield {"group": path, "history": before, "name": names[place], "place": place}


def chosen(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows by hash, one of every name among them."""
    ordered = sorted(rows, key=lambda row: digest(f"{row['group']} {row['place']}"))
    first = {row["name"]: number for number, row in reversed(list(enumerate(ordered)))}
    kept = set(first.values())
    for number in range(len(ordered)):
        if len(kept) >= most:
            break
        kept.add(number)
    return [ordered[number] for number in sorted(kept)[:most]]


def build(wheels: Wheels, limits: Limits) -> Built:
    """Rows by file: which name comes next."""
    files = read_files(wheels)
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "valid": {}, "test": {}}
    for path, names in files.items():
        parts[split_of(path)][path] = names
    items = frequent(list(parts["train"].values()))
    splits = {"train": chosen(list(rows_of(parts["train"], items, None)), limits.train)}
    trained = {(*row["history"], row["name"]) for row in splits["train"]}
    for split in ("valid", "test"):
        # imports and heads of classes are alike in many files
        asked = rows_of(parts[split], items, OF_FILE)
        splits[split] = [row for row in asked if (*row["history"], row["name"]) not in trained]
    for rows in splits.values():
        for row in rows:
            del row["place"]
    return Built(numbered("code_names", splits, limits))
