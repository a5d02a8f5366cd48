"""Task and modality cards: from a YAML file or plain values to frozen dataclasses, every mistake with its place."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ofasys_lite.cards.card_fields import Fields, is_null, kind_name
from ofasys_lite.cards.line_files import instruction_text
from ofasys_lite.cards.types import AttributeSpec, MetricSpec, ModalityCard, ObjectiveCard, TaskCard
from ofasys_lite.cards.ways import BUILT_IN as WAYS
from ofasys_lite.cards.yaml_nodes import Item, item_of, overlay, plain, read_yaml
from ofasys_lite.errors import did_you_mean
from ofasys_lite.recipes.recipe import SPLITS


def _keys(card: type, *not_said: str) -> tuple[str, ...]:
    """What a file may say of a card: all its fields but those that loading fills in."""
    return tuple(field.name for field in fields(card) if field.name not in not_said)


TASK_KEYS = _keys(TaskCard, "origin", "path")
METRIC_KEYS = _keys(MetricSpec)
MODALITY_KEYS = _keys(ModalityCard, "objectives", "shared", "path")
ATTRIBUTE_KEYS = _keys(AttributeSpec, "key")
OBJECTIVE_KEYS = _keys(ObjectiveCard)
BUILT_IN = ("cross_entropy", "ctc")  # objectives of the package
ATTRIBUTE_TYPES = ("flag", "int", "float", "str", "choice", "list", "call", "any")
STATES = ("now", "later", "never")


def read_tree(source: str | Path | Mapping[str, Any] | Item) -> tuple[Item, str]:
    """The item tree of a card and the path it came from (empty for plain values)."""
    if isinstance(source, Item):
        return source, (source.place.file or "") if source.place is not None else ""
    if isinstance(source, Mapping):
        return item_of(source), ""
    return read_yaml(Path(source)), str(source)


def load_task_card(
    source: str | Path | Mapping[str, Any] | Item,
    *,
    name: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> TaskCard:
    """The task card of a YAML file or of plain values.

    Args:
        source: Path of a card, or its content.
        name: Task name; the file's name without ending if not given.
        overrides: The card's whole content as a run changed it (from the command line); what is as in the file keeps
            its place there.

    Raises:
        CardError: One mistake, with file, line and column; several come as an ErrorGroup.
    """
    item, path = read_tree(source)
    if overrides is not None:
        item = overlay(item, overrides)
    given = item.get("name") if item.kind == "map" else None
    found = name or (Path(path).stem if path else "") or (str(given.value) if given is not None else "")
    fields = Fields(item, f"task {found}" if found else "the task card")
    if not found:
        fields.wrong(None, "a task needs a name", "give name=...")
    fields.only(TASK_KEYS)
    if given is not None and str(given.value) != found:
        fields.wrong(given, f"`name` says `{given.value}`, the task is `{found}`", "leave `name` out")
    text, origin = instruction_text(fields)
    card = TaskCard(
        name=found,
        instruction=text,
        data=_data(fields),
        columns=fields.text_map("columns"),
        sets=_sets(fields),
        metrics=_metrics(fields),
        decoding=fields.plain_map("decoding"),
        weight=_weight(fields),
        epochs=fields.integer("epochs", None, low=1),
        group=fields.text("group"),
        crossed=fields.text("crossed"),
        loss_on_words=fields.flag("loss_on_words"),
        stream=fields.flag("stream"),
        version=fields.integer("version", 1, low=1) or 1,
        reference=fields.text("reference"),
        help=fields.text("help").strip(),
        origin=origin,
        path=path,
        settings=fields.plain_map("settings"),
    )
    fields.finish()
    return card


def _data(fields: Fields) -> dict[str, Any]:
    """Source per split; a source alone is the training data."""
    item = fields.get("data")
    if item is None:
        return {}
    if item.kind != "map" or item.get("path") is not None or item.get("hf") is not None:
        return {"train": plain(item)}
    for key, value in item.pairs():
        if key.text not in SPLITS:
            help = did_you_mean(key.text, SPLITS, "splits")
            fields.wrong(key, f"unknown split `{key.text}` in {fields.owner}", help)
        elif not is_null(value) and value.kind == "scalar" and not str(value.value).strip():
            fields.wrong(value, f"the source of `{key.text}` is empty", "name a file, a folder or a data set")
    return {key.text: plain(value) for key, value in item.pairs() if not is_null(value)}


def _sets(fields: Fields) -> dict[str, tuple[str, ...]]:
    """Named closed sets; labels are text even where YAML would say boolean or number."""
    item = fields.get("sets")
    if item is None:
        return {}
    inner = Fields(item, "`sets`", fields.errors)
    found: dict[str, tuple[str, ...]] = {}
    for key, value in inner.item.pairs():
        if value.kind != "list" or not value.value:
            what = "empty" if value.kind == "list" else kind_name(value)
            inner.wrong(value, f"set `{key.text}` is {what}", "it is a list of labels: [yes, no]")
            continue
        labels = inner.as_texts(value, key.text)
        doubled = next((label for label in labels if labels.count(label) > 1), None)
        if doubled is not None:
            inner.wrong(value, f"label `{doubled}` stands twice in set `{key.text}`", "keep one of them")
        found[key.text] = labels
    return found


def _metrics(fields: Fields) -> tuple[MetricSpec, ...]:
    item = fields.get("metrics")
    if item is None:
        return ()
    items = item.value if item.kind == "list" else (item,)
    return tuple(_metric(fields, each) for each in items)


def _metric(fields: Fields, item: Item) -> MetricSpec:
    if item.kind != "map":
        return MetricSpec(fields.as_text(item, "metrics"))
    inner = Fields(item, f"a metric of {fields.owner}", fields.errors)
    inner.only(METRIC_KEYS)
    if not inner.has("name"):
        inner.wrong(item, f"{inner.owner} has no `name`", "write - name: accuracy")
    return MetricSpec(
        name=inner.text("name"),
        column=inner.text("column"),
        baselines=inner.texts("baselines"),
        references=inner.texts("references"),
        better=inner.one_of("better", ("high", "low"), ""),
    )


def _weight(fields: Fields) -> Any:
    """A number of at least 0, or ((step, weight), ...) with rising steps that begin at 0."""
    item = fields.get("weight")
    if item is None:
        return 1.0
    if item.kind != "list":
        weight = fields.as_number(item, "weight", 1.0)
        if weight is not None and weight < 0:
            fields.wrong(item, f"`weight` is {weight:g}", "it is at least 0")
        return weight
    points: list[tuple[int, float]] = []
    for each in item.value:
        point = _point(plain(each))
        first = not points
        if point is None or (point[0] != 0 if first else point[0] <= points[-1][0]):
            help = "write [[0, 1.0], [5000, 0.2]]: from each step on, that weight; steps rise from 0"
            fields.wrong(each, "a point of `weight` does not fit", help)
            return 1.0
        points.append(point)
    return tuple(points) or 1.0


def _point(pair: Any) -> tuple[int, float] | None:
    """(step, weight) of one point, None if it is anything else."""
    if not isinstance(pair, list) or len(pair) != 2:
        return None
    step, weight = pair
    if type(step) is not int or type(weight) not in (int, float) or weight < 0:
        return None
    return step, float(weight)


def load_modality_card(source: str | Path | Mapping[str, Any] | Item, *, name: str = "") -> ModalityCard:
    """The modality card of a YAML file or of plain values.

    Raises:
        CardError: One mistake, with file, line and column; several come as an ErrorGroup.
    """
    item, path = read_tree(source)
    given = item.get("name") if item.kind == "map" else None
    found = name or (str(given.value) if given is not None else "") or (Path(path).stem.upper() if path else "")
    fields = Fields(item, f"modality {found}" if found else "the modality card")
    fields.only(MODALITY_KEYS)
    aliases = fields.texts("aliases")
    for each in (found, *aliases):
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", each):
            where = fields.get("aliases") if each in aliases else given
            fields.wrong(where, f"a modality cannot be called `{each}`", "its name is in capitals: letters, digits, _")
    card = ModalityCard(
        name=found,
        preprocess=_paths(fields, "preprocess"),
        adapter=_paths(fields, "adapter"),
        aliases=aliases,
        attributes=_attributes(fields),
        reads=fields.one_of("reads", STATES, "now"),
        writes=fields.one_of("writes", STATES, "never"),
        losses=_losses(fields),
        objectives=_objectives(fields),
        settings=fields.plain_map("settings"),
        metric=fields.text("metric"),
        codecs=_codecs(fields),
        writers=_writers(fields),
        adapter_name=fields.text("adapter_name"),
        like=fields.text("like"),
        starts=_dotted(fields, "starts"),
        path=path,
    )
    if "now" in (card.reads, card.writes):
        for key, paths in (("preprocess", card.preprocess), ("adapter", card.adapter)):
            if not paths.get("default"):
                fields.wrong(fields.get(key) or item, f"modality {found} has no default {key}", "name a class")
    fields.finish()
    return card


def _paths(fields: Fields, key: str) -> dict[str, str]:
    """Dotted path of a class per name; a path alone is the default. Empty where the modality comes later."""
    item = fields.get(key)
    if item is None:
        return {"default": ""}
    if item.kind != "map":
        paths = {"default": fields.as_text(item, key)}
    else:
        paths = fields.text_map(key)
    for name, path in paths.items():
        if path and not _is_dotted(path):
            place = item.get(name) if item.kind == "map" else item
            fields.wrong(place, f"{key} `{path}` is not a dotted path", "write package.module.Class")
    return {"default": "", **paths}


def _is_dotted(path: str) -> bool:
    parts = path.split(".")
    return len(parts) > 1 and all(p.isidentifier() and not keyword.iskeyword(p) for p in parts)


def _dotted(fields: Fields, key: str) -> str:
    """The dotted path of a function; empty where none is named."""
    path = fields.text(key)
    if path and not _is_dotted(path):
        fields.wrong(fields.get(key), f"{key} `{path}` is not a dotted path", "write package.module.function")
        return ""
    return path


def _codecs(fields: Fields) -> dict[str, dict[str, str]]:
    """Dotted paths of preprocess and adapter per codec name."""
    item = fields.get("codecs")
    if item is None:
        return {}
    outer, found = Fields(item, "`codecs`", fields.errors), dict[str, dict[str, str]]()
    for key, value in outer.item.pairs():
        inner = Fields(value, f"codec `{key.text}`", fields.errors)
        inner.only(("preprocess", "adapter"))
        found[key.text] = {name: _paths(inner, name)["default"] for name in ("preprocess", "adapter")}
        for name, path in found[key.text].items():
            if not path:
                inner.wrong(value, f"codec `{key.text}` has no `{name}`", "name a class: package.module.Class")
    return found


def _losses(fields: Fields) -> dict[str, str]:
    item = fields.get("losses")
    if item is None:
        return {}
    inner = Fields(item, "`losses`", fields.errors)
    return {
        key.text: "now" if value.kind == "map" else inner.one_of(key.text, ("now", "later"), "later")
        for key, value in inner.item.pairs()
    }


def _objectives(fields: Fields) -> dict[str, ObjectiveCard]:
    item = fields.get("losses")
    if item is None or item.kind != "map":
        return {}
    found: dict[str, ObjectiveCard] = {}
    for key, value in item.pairs():
        if value.kind != "map":
            continue
        inner = Fields(value, f"objective `{key.text}`", fields.errors)
        inner.only(OBJECTIVE_KEYS)
        if key.text in BUILT_IN:
            help = f"the package has it; give yours another name than {', '.join(BUILT_IN)}"
            inner.wrong(key, f"an objective cannot be called `{key.text}`", help)
        if not inner.has("side"):
            inner.wrong(value, f"objective `{key.text}` has no `side`", "source: of the encoder's states; target")
        found[key.text] = ObjectiveCard(
            side=inner.one_of("side", ("source", "target"), "source"),
            unit=inner.one_of("unit", ("token", "frame", "position", "sample", "pair"), "token"),
            objective=inner.text("objective"),
            arguments=inner.texts("arguments"),
            standard=inner.flag("standard"),
            together=inner.flag("together"),
            writer=_writer(fields, inner),
        )
    return found


def _writer(fields: Fields, inner: Fields) -> str:
    """Which of the card's writers writes what an objective learned."""
    name, writers = inner.text("writer"), fields.get("writers")
    known = [] if writers is None or writers.kind != "map" else [key.text for key, _ in writers.pairs()]
    if name and name not in known:
        help = did_you_mean(name, known, "its card has") if known else "list it under `writers`"
        inner.wrong(inner.get("writer") or inner.item, f"the card has no writer `{name}`", help)
    return name


def _writers(fields: Fields) -> dict[str, tuple[AttributeSpec, ...]]:
    found: dict[str, tuple[AttributeSpec, ...]] = {}
    if (item := fields.get("writers")) is None:
        return found
    outer = Fields(item, "`writers`", fields.errors)
    for name, value in outer.item.pairs():
        if name.text in WAYS:
            help = f"the package has {', '.join(WAYS)}; give yours another name"
            outer.wrong(name, f"a writer cannot be called `{name.text}`", help)
        inner = Fields(value, f"writer `{name.text}`", fields.errors)
        found[name.text] = tuple(_attribute(inner, key.text, each) for key, each in inner.item.pairs())
        for key, each in inner.item.pairs():
            if not Fields(each, f"option `{key.text}`", fields.errors).has("default"):
                inner.wrong(each, f"option `{key.text}` of writer `{name.text}` has no `default`", "say what it is")
            if key.text in ("method", "beam", "n_best"):
                inner.wrong(key, f"an option of a writer cannot be called `{key.text}`", "search has it; rename yours")
    return found


def _attributes(fields: Fields) -> tuple[AttributeSpec, ...]:
    item = fields.get("attributes")
    if item is None:
        return ()
    inner = Fields(item, "`attributes`", fields.errors)
    return tuple(_attribute(inner, key.text, value) for key, value in inner.item.pairs())


def _attribute(fields: Fields, key: str, item: Item) -> AttributeSpec:
    inner = Fields(item, f"attribute `{key}`", fields.errors)
    inner.only(ATTRIBUTE_KEYS)
    kind = inner.one_of("type", ATTRIBUTE_TYPES, "any")
    choices = inner.texts("choices")
    if not inner.has("type"):
        inner.wrong(item, f"attribute `{key}` has no `type`", f"allowed: {', '.join(ATTRIBUTE_TYPES)}")
    if not inner.has("help"):
        inner.wrong(item, f"attribute `{key}` has no `help`", "say in one sentence what it does")
    if kind in ("choice", "call") and not choices:
        inner.wrong(item, f"attribute `{key}` has no `choices`", "name what is allowed: choices: [a, b]")
    return AttributeSpec(
        key=key,
        type=kind,
        low=inner.number("low"),
        high=inner.number("high"),
        choices=choices,
        side=inner.one_of("side", ("source", "target", "both"), "both"),
        help=inner.text("help").strip(),
        default=_default(inner, kind, choices),
        required=inner.flag("required"),
        column=inner.flag("column"),
    )


def _default(fields: Fields, kind: str, choices: tuple[str, ...]) -> Any:
    """The default value, of the attribute's own type."""
    item = fields.get("default")
    if item is None:
        return None
    if kind == "flag":
        return fields.flag("default")
    if kind == "int":
        return fields.integer("default", None)
    if kind == "float":
        return fields.number("default")
    if kind == "choice":
        return fields.one_of("default", choices, choices[0] if choices else "")
    if kind == "list":
        return fields.texts("default")
    return fields.text("default")
