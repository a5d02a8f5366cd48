"""Settings that modalities' cards leave open, found in the training rows of all tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ofasys_lite.data.attributes import overrides, preprocess_class
from ofasys_lite.data.groups import raw_values
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import DataError
from ofasys_lite.plan import Plan
from ofasys_lite.plan.segments import Options

#: Rows that are looked at of each task, spread evenly over its training split.
ROWS = 2000


def open_settings(
    plans: Sequence[Plan],
    sources: Sequence[RowSource | None],
    settings: Mapping[str, Mapping[str, Any]],
    rows: int = ROWS,
) -> dict[str, dict[str, Any]]:
    """By modality, what its Preprocess finds of the settings that its card leaves open.

    Args:
        sources: The training rows of each plan; None where there are none.
        settings: Of each modality, overrides merged in.
    """
    tools: dict[tuple[str, str], None] = {}
    for plan in plans:
        tools.update(dict.fromkeys((s.modality, s.preprocess) for s in plan.all_slots() if s.preprocess))
    found: dict[str, dict[str, Any]] = {}
    for modality, path in tools:
        tool = preprocess_class(path)
        if overrides(tool, "found_settings"):
            values = _values(plans, sources, (modality, path), rows)
            known = {**settings[modality], **found.get(modality, {})}
            found.setdefault(modality, {}).update(tool.found_settings(values, known))
    return {name: own for name, own in found.items() if own}


def _values(
    plans: Sequence[Plan], sources: Sequence[RowSource | None], tool: tuple[str, str], rows: int
) -> Iterator[tuple[Any, Options, str | None]]:
    """(value, options, folder) of every value that a Preprocess reads or learns to write."""
    for plan, source in zip(plans, sources, strict=True):
        if source is None:
            continue
        first = plan.templates[0]
        sides = (first.source, *first.targets)
        for index in range(0, len(source), max(1, -(-len(source) // rows))):
            try:
                row = source.row(index)
                for side in sides:
                    for slot, value in raw_values(side, row):
                        if (slot.modality, slot.preprocess) == tool:
                            yield value, slot.options, source.base or None
            except DataError:
                continue  # told, or put into quarantine, where it is used
