"""Values that stand in files of their own (pictures, sounds ...): found in a prediction, named, written, replaced.

Which values these are, how they are written and what stands for them in text is what their modality's Preprocess says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ofasys_lite.plan.segments import GroupSegment, Segment, SlotSegment, ToolKey, walk
from ofasys_lite.preprocess.base import Preprocess
from ofasys_lite.writing import as_utf8, behind, claim_file, holds, write_atomic

#: What knows the values of a column.
Tools = Mapping[str, Preprocess]


def tools_of(segments: tuple[Segment, ...], preprocess: Mapping[ToolKey, Preprocess]) -> dict[str, Preprocess]:
    """Column -> what knows its values, of the slots of one side; a group of an unnamed slot by its list's name."""
    found = {slot.column: preprocess[slot.tool_key] for slot in walk(segments)}
    for segment in segments:
        if isinstance(segment, GroupSegment) and segment.over is not None:
            slots = [s for s in walk((segment,)) if isinstance(s, SlotSegment)]
            if len(slots) == 1 and slots[0].column.isdigit():
                found[segment.over] = preprocess[slots[0].tool_key]
    return found


def _walked(value: Any, tools: Tools, by: Callable[[str, Any, Preprocess], Any], name: str, tool: Any) -> Any:
    """The value with `by(name, inner, its tool)` in the place of each one that stands in a file."""
    if isinstance(value, Mapping):
        inner = ((key, each, f"{name}-{key}" if name else str(key)) for key, each in value.items())
        return {key: _walked(each, tools, by, way, tools.get(str(key), tool)) for key, each, way in inner}
    own = tool is not None and bool(tool.ending)
    # a tuple is a value of its own where files hold such values: (samples, rate) of a sound
    if isinstance(value, list) or (isinstance(value, tuple) and not own):
        ways = (f"{name}-{number}" if name else str(number) for number in range(len(value)))
        return [_walked(each, tools, by, way, tool) for each, way in zip(value, ways, strict=True)]
    return by(name, value, tool) if value is not None and own else value


def replaced(values: Any, tools: Tools, by: Callable[[str, Any, Preprocess], str]) -> Any:
    """Values by column, with `by(name, value, tool)` in the place of each that stands in a file of its own.

    The name is the way to it: `img`, or `pages-0-img` in a group.
    """
    return _walked(values, tools, by, "", None)


def files_in(values: Mapping[str, Any], tools: Tools) -> Iterator[tuple[str, Any, Preprocess]]:
    """(name, value, tool) of every value that stands in a file of its own."""
    found: list[tuple[str, Any, Preprocess]] = []

    def noted(name: str, value: Any, tool: Preprocess) -> str:
        found.append((name, value, tool))
        return name

    replaced(values, tools, noted)
    return iter(found)


def save_value(value: Any, tool: Preprocess, path: str | Path, overwrite: bool = False) -> Path:
    """Writes a value to a file of its own; the path, with the modality's ending where it has none.

    Raises:
        DataError: No file of the modality ends like that.
        WriteError: The file is there and `overwrite` is not said, or it cannot be written.
    """
    place = tool.place(path if Path(path).suffix else f"{path}{tool.ending}")
    return write_file(tool.save(value, place.suffix.lower()), place, overwrite)


def write_file(content: bytes | str, place: Path, overwrite: bool) -> Path:
    """Writes a file that is not what it should be; the path."""
    content = content if isinstance(content, bytes) else as_utf8(content)
    if not holds(place, content):
        claim_file(place, overwrite, flag="overwrite=True")
        write_atomic(behind(place), content)
    return place


def written(
    values: Mapping[str, Any], tools: Tools, folder: Path, stem: str, whole: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The values with those of files written to `folder` and their names (`whole`: paths) in their place.

    The only picture is `STEM.png`, several are `STEM-column.png`.
    """
    several = len(list(files_in(values, tools))) > 1

    def by(name: str, value: Any, tool: Preprocess) -> str:
        place = folder / f"{stem}{'-' + name if several else ''}{tool.ending}"
        path = save_value(value, tool, place, overwrite)
        return str(path) if whole else path.name

    found: dict[str, Any] = replaced(dict(values), tools, by)
    return found
