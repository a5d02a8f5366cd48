"""Dotted paths of cards: what is wrong with one is said, whatever it is."""

from pathlib import Path

import pytest

from ofasys_lite.cards.classes import load_class
from ofasys_lite.errors import CardError


class Base:
    """What a class must be derived from."""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("MyAdapter", "adapter `MyAdapter` names no module"),
        (".parts.MyAdapter", "adapter `.parts.MyAdapter` names no module"),
        ("nowhere_at_all.parts.MyAdapter", "no module `nowhere_at_all`"),
        ("own_parts.Absent", "the module has no `Absent`"),
        ("own_parts.Path", "is not a Base"),
        ("needs_more.Own", "needs the package `not_installed_at_all`"),
    ],
)
def test_a_path_that_leads_nowhere_is_told(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_parts.py").write_text("from pathlib import Path\n")
    (tmp_path / "needs_more.py").write_text("import not_installed_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CardError) as error:
        load_class(path, Base, "adapter")
    assert message in str(error.value)


def test_a_class_of_a_module_is_found() -> None:
    assert load_class("pathlib.PurePath", object, "preprocess").__name__ == "PurePath"
