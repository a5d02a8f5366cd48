"""User interface strings of Django: free translation, hard to learn from so few pairs; text infilling in English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.intents import read_sentences
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, numbered, split_of
from ofasys_lite.recipes.spelling import LANGUAGES

TARGETS = ("de", "fr", "es", "nl")
LONGEST = 200


def parse_po(text: str) -> Iterator[tuple[str, str]]:
    """(msgid, msgstr) of every translated entry of a gettext file, without plurals, fuzzy and obsolete ones."""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.startswith("#~")]
        if any(line.startswith("#,") and "fuzzy" in line for line in lines):
            continue
        fields: dict[str, str] = {}
        key = ""
        for line in lines:
            found = re.match(r'(?:(msg\w+(?:\[\d+\])?)\s+)?(".*")\s*$', line)
            if found is not None:
                key = found.group(1) or key
                fields[key] = fields.get(key, "") + str(ast.literal_eval(found.group(2)))
        if fields.get("msgid") and fields.get("msgstr") and "msgid_plural" not in fields:
            yield fields["msgid"], fields["msgstr"]


def read_strings(wheels: Wheels, language: str) -> dict[str, str]:
    """Translation of every English string of the wheel, the first found one kept, white space made single."""
    names = [n for n in wheels.names("django") if re.search(rf"/locale/{language}/LC_MESSAGES/\w+\.po$", n)]
    strings: dict[str, str] = {}
    for content in wheels.read_all("django", names).values():
        for source, target in parse_po(content.decode("utf-8")):
            strings.setdefault(" ".join(source.split()), " ".join(target.split()))
    return {source: target for source, target in strings.items() if len(source) <= LONGEST and len(target) <= LONGEST}


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row per string and target language."""
    rows: list[Row] = [
        {
            "group": source.casefold(),
            "source": source,
            "target": target,
            "source_language": LANGUAGES["en"],
            "target_language": LANGUAGES[language],
        }
        for language in TARGETS
        for source, target in sorted(read_strings(wheels, language).items())
    ]
    return Built(assemble("ui_translation", rows, limits))


FEWEST_WORDS = 4
PER_TEMPLATE = {"train": 14, "valid": 6, "test": 8}


def build_infilling(wheels: Wheels, limits: Limits) -> Built:
    """Short English sentences: Home Assistant's commands by template, and Django's strings."""
    rows: dict[str, list[Row]] = {
        split: [{"group": each.template, "text": each.text, "kind": "command"} for each in sentences]
        for split, sentences in read_sentences(wheels, PER_TEMPLATE).items()
    }
    for text in sorted(read_strings(wheels, "de")):
        group = text.casefold()
        rows[split_of(group)].append({"group": group, "text": text, "kind": "interface"})
    long = {split: [row for row in part if len(row["text"].split()) >= FEWEST_WORDS] for split, part in rows.items()}
    return Built(numbered("infilling", long, limits))
