"""The code does not become more tangled than it is: names of modalities, circles, file names, the way of a row."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import names
import pytest
import structure
import walk

ROOT = Path(__file__).parents[1]
#: How far a walk may be above its limit: a step more in one place is no tangle.
SLACK = 1.05
HELP = "python benchmarks/structure.py --exceptions"


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    stored = json.loads((ROOT / "benchmarks" / "results" / "structure.json").read_text(encoding="utf-8"))
    return dict(stored["limits"])


@pytest.fixture(scope="module")
def found() -> tuple[names.Place, ...]:
    return names.places(ROOT)


def test_no_other_place_asks_for_the_name_of_a_modality_or_an_adapter(found: tuple[names.Place, ...]) -> None:
    allowed = Counter(text for _, text, _ in structure.exceptions())
    new = Counter(place.text for place in found) - allowed
    told = "\n".join(f"{p.file}:{p.line}: {p.text}" for p in found if p.text in new)
    assert not new, f"a Preprocess or an Adapter should say this; else give a reason in {structure.EXCEPTIONS}:\n{told}"


def test_exceptions_that_are_gone_are_not_kept(found: tuple[names.Place, ...]) -> None:
    gone = Counter(text for _, text, _ in structure.exceptions()) - Counter(place.text for place in found)
    assert not gone, f"these places are gone ({HELP} takes them out):\n" + "\n".join(gone)


def test_every_exception_has_a_reason() -> None:
    assert all(len(reason) > 10 for _, _, reason in structure.exceptions())


def test_circles_repeated_names_and_the_largest_room_stay_within_their_limits(limits: dict[str, Any]) -> None:
    form = structure.form(ROOT)
    over = {key: getattr(form, key) for key in ("circles", "repeated") if getattr(form, key) > limits[key]}
    assert not over, f"limits are {limits}: python benchmarks/structure.py --list circles (or files) names them"
    assert form.largest <= limits["largest"] + 0.01, f"{form.largest_room} holds {form.largest:.1%} of all lines"


def test_the_way_from_a_row_to_its_loss_and_of_a_token_does_not_become_longer(limits: dict[str, Any]) -> None:
    passed, *_ = walk.walk()
    for key in ("functions", "file_changes", "room_changes", "per_token"):
        assert getattr(passed, key) <= SLACK * limits[key], (
            f"{key}: python benchmarks/structure.py --list walk shows it"
        )


def test_comparisons_are_found_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "modalities").mkdir()
    (tmp_path / "modalities" / "colour.yaml").write_text(
        "name: COLOUR\naliases: [COLOR]\nadapter:\n  default: ofasys_lite.adapters.colour.ColourAdapter\n"
    )
    package = tmp_path / "ofasys_lite"
    for room in ("adapters", "plan"):
        (package / room).mkdir(parents=True)
    source = """
def f(a, kind):
    if a.modality == "COLOUR" or kind in ("text", "colour") or isinstance(a, ColourAdapter):
        return {"COLOR": 1}
    match kind:
        case "colour":
            return a.get("COLOUR")
    return isinstance(a, Adapter) or kind == "COLOURFUL" or "ofasys_lite.adapters.colour.ColourAdapter"
"""
    (package / "plan" / "x.py").write_text(source)
    (package / "adapters" / "colour.py").write_text(source)
    (package / "adapters" / "colour_stem.py").write_text(source)
    places = names.places(tmp_path)
    assert {p.file for p in places} == {"plan/x.py"}
    assert [(p.line, p.kind) for p in places] == [
        (3, "compared"),
        (3, "compared"),
        (3, "compared"),
        (4, "listed"),
        (6, "compared"),
        (7, "listed"),
        (8, "path"),
    ]


def test_circles_within_functions_and_for_types_count(tmp_path: Path) -> None:
    package = tmp_path / "p"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from p.b import x\n")
    (package / "b.py").write_text("def x():\n    from p import c\n")
    (package / "c.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import y\n")
    assert structure.circles(package) == [["p.a", "p.b", "p.c"]]
