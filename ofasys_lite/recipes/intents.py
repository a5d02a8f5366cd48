"""Home Assistant's English commands: sentence -> intent and slots, test sentences of wordings that training lacks.

Templates of sentences are expanded by chance: `(a|b)` one of them, `[a]` maybe, `(a;b)` all in any order, `<rule>` a
named template, `{list}` or `{list:slot}` a value.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.fetch import Wheels, contents
from ofasys_lite.recipes.recipe import Built, Limits, Row, digest, numbered, pick, split_of

Value = Callable[[str, random.Random], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of a template: kind is text, rule, slot (with a value in `text`), all, any, maybe or order."""

    kind: str
    text: str = ""
    parts: tuple[Node, ...] = ()


_TOKEN = re.compile(r"[()\[\]|;]|<[^>]*>|\{[^}]*\}|[^()\[\]|;<{]+")


def parse(template: str) -> Node:
    """The tree of a template; DataError: brackets that do not pair."""
    tokens = _TOKEN.findall(template)
    node, end = _sequence(tokens, 0, template)
    if end != len(tokens):
        raise DataError(f"template `{template}`: unpaired `{tokens[end]}`")
    return node


def _sequence(tokens: list[str], at: int, template: str) -> tuple[Node, int]:
    """Alternatives up to the closing bracket or the end."""
    parts: list[list[Node]] = [[]]
    marks = set()
    while at < len(tokens) and tokens[at] not in ")]":
        token = tokens[at]
        at += 1
        if token in "|;":
            marks.add(token)
            parts.append([])
        elif token in "([":
            inner, at = _sequence(tokens, at, template)
            if at >= len(tokens) or tokens[at] != {"(": ")", "[": "]"}[token]:
                raise DataError(f"template `{template}`: `{token}` is not closed")
            at += 1
            parts[-1].append(inner if token == "(" else Node("maybe", parts=(inner,)))
        elif token[0] == "<":
            parts[-1].append(Node("rule", token[1:-1]))
        elif token[0] == "{":
            parts[-1].append(Node("slot", token[1:-1]))
        else:
            parts[-1].append(Node("text", token))
    pieces = tuple(Node("all", parts=tuple(part)) for part in parts)
    if not marks:
        return pieces[0], at
    return Node("order" if marks == {";"} else "any", parts=pieces), at


def expand(node: Node, rules: Mapping[str, Node], value: Value, generator: random.Random, slots: dict[str, str]) -> str:
    """One sentence of a template; the slot values it used are put into `slots`."""
    if node.kind == "text":
        return node.text
    if node.kind == "rule":
        return expand(rules[node.text], rules, value, generator, slots)
    if node.kind == "slot":
        name, _, slot = node.text.partition(":")
        spoken, meant = value(name, generator)
        slots[slot or name] = meant
        return spoken
    if node.kind == "any":
        return expand(pick(node.parts, generator), rules, value, generator, slots)
    if node.kind == "maybe":
        return expand(node.parts[0], rules, value, generator, slots) if generator.random() < 0.5 else ""
    parts = list(node.parts)
    if node.kind == "order":
        parts.sort(key=lambda _: generator.random())
    joint = " " if node.kind == "order" else ""
    return joint.join(expand(part, rules, value, generator, slots) for part in parts)


# the source leaves names to the user's home and free text to the user: these fill them
_FILLINGS = contents("intents.json")
WILDCARDS: Mapping[str, list[str]] = _FILLINGS["wildcards"]
NAMES: Mapping[str, list[str]] = _FILLINGS["names"]
SENTENCES_PER_TEMPLATE = {"train": 18, "valid": 8, "test": 14}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence with its template, its intent and the values of its slots."""

    template: str
    text: str
    intent: str
    slots: dict[str, str] = field(default_factory=dict)


class _Values:
    """Gives a spoken and a meant value for every list of the source."""

    def __init__(self, lists: dict[str, Any], domains: tuple[str, ...]) -> None:
        self.lists = lists
        known = [NAMES[domain] for domain in domains if domain in NAMES] or list(NAMES.values())
        self.names = [name for names in known for name in names]

    def __call__(self, name: str, generator: random.Random) -> tuple[str, str]:
        listed = self.lists.get(name, {})
        if "range" in listed:
            span = listed["range"]
            step = span.get("step", 1)
            low, high = (5, 30) if span.get("type") == "temperature" else (span["from"], span["to"])
            number = low + step * int(generator.random() * ((high - low) // step + 1))
            return str(number), str(number * span.get("multiplier", 1))
        if "values" in listed:
            chosen = pick(listed["values"], generator)
            return expand(parse(chosen["in"]), {}, self, generator, {}), str(chosen["out"])
        value = pick(self.names if name == "name" else WILDCARDS.get(name, WILDCARDS["area"]), generator)
        return value, value


def _domains(block: dict[str, Any]) -> tuple[str, ...]:
    """The device domains a block of sentences is about."""
    found = block.get("requires_context", {}).get("domain") or block.get("slots", {}).get("domain") or ()
    return (found,) if isinstance(found, str) else tuple(str(each) for each in found if isinstance(each, str))


def _templates(source: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(intent, template, block) of every different template."""
    seen = set()
    for intent in sorted(source["intents"]):
        for block in source["intents"][intent]["data"]:
            for template in block["sentences"]:
                if template not in seen:
                    seen.add(template)
                    yield intent, template, block


def template_splits(templates: list[tuple[str, str]]) -> dict[str, str]:
    """Split of every (intent, template): by sha1 of the template, but each intent's first by hash is for training."""
    first: dict[str, str] = {}
    for intent, template in sorted(templates, key=lambda pair: digest(pair[1])):
        first.setdefault(intent, template)
    return {template: "train" if first[intent] == template else split_of(template) for intent, template in templates}


def read_sentences(wheels: Wheels, per_template: dict[str, int]) -> dict[str, list[Sentence]]:
    """Different sentences per split; no wording of valid or test (a sentence but for its values) is in another split.

    Two templates can give one wording: in valid and test each wording belongs to one template, so that the templates
    are independent of each other there, too.
    """
    source = json.loads(wheels.read("home-assistant-intents", "home_assistant_intents/data/en.json"))
    rules = {name: parse(template) for name, template in source["expansion_rules"].items()}
    blocks = list(_templates(source))
    splits = template_splits([(intent, template) for intent, template, _ in blocks])
    found: dict[str, list[Sentence]] = {"train": [], "valid": [], "test": []}
    seen: set[str] = set()
    owners: dict[str, str] = {}
    for split in found:
        for intent, template, block in blocks:
            if splits[template] == split:
                values = _Values(source["lists"], _domains(block))
                fixed = {key: str(value) for key, value in block.get("slots", {}).items()}
                owned = None if split == "train" else owners
                made = _expanded(intent, template, fixed, rules, values, per_template[split], seen, owned)
                found[split] += [sentence for sentence, _ in made]
                owners.update({each: owners.get(each, template) for _, wordings in made for each in wordings})
    return found


def _expanded(
    intent: str,
    template: str,
    fixed: dict[str, str],
    rules: dict[str, Node],
    values: _Values,
    count: int,
    seen: set[str],
    owners: Mapping[str, str] | None,
) -> list[tuple[Sentence, tuple[str, ...]]]:
    """Up to `count` sentences of one template that are not in `seen`, which grows, each with its wordings.

    With `owners` (wording -> template) a sentence is left out if one of its wordings is another template's.
    """

    def marked(name: str, generator: random.Random) -> tuple[str, str]:
        spoken, meant = values(name, generator)
        return f"{_OPEN}{spoken}{_CLOSE}", meant

    generator = random.Random(f"intents {template}")
    tree = parse(template)
    found: list[tuple[Sentence, tuple[str, ...]]] = []
    for _ in range(count * 4):
        slots = dict(fixed)
        text = re.sub(r"\s+", " ", expand(tree, rules, marked, generator, slots)).strip()
        wordings = _wordings(text, slots)
        text = text.replace(_OPEN, "").replace(_CLOSE, "")
        if text in seen or len(found) == count:
            continue
        if owners is None or all(owners.get(each, template) == template for each in wordings):
            seen.add(text)
            found.append((Sentence(template, text, intent, dict(sorted(slots.items()))), wordings))
    return found


#: Around a spoken value, in sentences that are not finished yet.
_OPEN, _CLOSE = "\x02", "\x03"


def _wordings(marked: str, slots: Mapping[str, str]) -> tuple[str, ...]:
    """The sentence with `_` for numbers and words that are a slot's value: once with its spoken values, once without.

    Both, as one template writes out what another takes from a list ("the windows").
    """
    meant = sorted(filter(None, slots.values()), key=len, reverse=True)
    found = []
    for text in (re.sub(f"{_OPEN}[^{_CLOSE}]*{_CLOSE}", "_", marked), marked.replace(_OPEN, "").replace(_CLOSE, "")):
        for value in (*map(re.escape, meant), r"[0-9]+"):
            text = re.sub(rf"(?<!\w){value}(?!\w)", "_", text)
        found.append(text)
    return tuple(found)


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row per sentence."""
    rows: dict[str, list[Row]] = {
        split: [
            {
                "group": each.template,
                "text": each.text,
                "intent": each.intent,
                "slots": each.slots,
                "record": {"intent": each.intent, **each.slots},
                "slots_json": json.dumps(each.slots, ensure_ascii=False),
            }
            for each in sentences
        ]
        for split, sentences in read_sentences(wheels, SENTENCES_PER_TEMPLATE).items()
    }
    return Built(numbered("intents", rows, limits))
