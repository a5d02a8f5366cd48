"""Cards as exports keep them: plain values that need no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ofasys_lite.cards.find import content_folder
from ofasys_lite.cards.types import AttributeSpec, MetricSpec, ModalityCard, ObjectiveCard, TaskCard


def portable_path(kind: str, path: str) -> str:
    """The file of a card as an export keeps it; of the project's own ones only the name, which is found anywhere."""
    return Path(path).name if path and Path(path).parent == content_folder(kind) else path


def stored_modalities(values: Mapping[str, Any]) -> dict[str, ModalityCard]:
    """Modality cards by name and alias, from the fields of each as JSON gives them back."""
    found: dict[str, ModalityCard] = {}
    for name, value in values.items():
        given = dict(value)
        given["attributes"] = _attributes(given["attributes"])
        given["aliases"] = tuple(given["aliases"])
        given["shared"] = tuple(given.get("shared", ()))
        # older exports have none
        objectives = given.get("objectives", {}).items()
        given["objectives"] = {n: ObjectiveCard(**{**o, "arguments": tuple(o["arguments"])}) for n, o in objectives}
        given["writers"] = {n: _attributes(options) for n, options in given.get("writers", {}).items()}
        card = ModalityCard(**given)
        for alias in (name, *card.aliases):
            found[alias] = card
    return found


def _attributes(values: Iterable[Mapping[str, Any]]) -> tuple[AttributeSpec, ...]:
    def spec(each: Mapping[str, Any]) -> AttributeSpec:
        # JSON knows lists only, and defaults are part of a plan's hash
        default = each["default"]
        default = tuple(default) if isinstance(default, list) else default
        return AttributeSpec(**{**each, "choices": tuple(each["choices"]), "default": default})

    return tuple(map(spec, values))


def stored_card(value: Mapping[str, Any]) -> TaskCard:
    """A task card, from its fields as JSON gives them back."""
    given = dict(value)
    given["sets"] = {k: tuple(v) for k, v in given["sets"].items()}
    given["metrics"] = tuple(
        MetricSpec(**{**m, "baselines": tuple(m["baselines"]), "references": tuple(m["references"])})
        for m in given["metrics"]
    )
    if given.get("path") and not Path(given["path"]).is_absolute():
        given["path"] = str(content_folder("tasks") / given["path"])
    return TaskCard(**given)
