"""A path of a picture or sound that leads nowhere says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.media import locate


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "Cat.png").write_bytes(b"x")
    (tmp_path / "pics" / "~odd.png").write_bytes(b"x")
    (tmp_path / "pics" / "dead.png").symlink_to("nowhere.png")


@pytest.mark.parametrize(
    ("name", "message", "help"),
    [
        ("pics/dead.png", "it is a link to nowhere.png, which is not there", "mend the link"),
        ("pics\\Cat.png", "a backslash is a part of a name", "pics/Cat.png`?"),
        ("pics/cat.png", "capitals count, and there is Cat.png", "pics/Cat.png`?"),
        ("pics", "it is a folder", "give the path of one image file"),
        ("pics/Cot.png", "no such file", "did you mean `Cat.png`?"),
        ("none/Cat.png", "no such file", "does not exist; relative paths start at the folder of the data file"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(name: str, message: str, help: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        locate(name, str(tmp_path), "image")
    assert message in caught.value.message
    assert help in caught.value.help


def test_the_home_is_a_tilde_and_a_name_may_begin_with_one(tmp_path: Path) -> None:
    assert locate("~/pics/Cat.png", str(tmp_path / "pics"), "image") == tmp_path / "pics" / "Cat.png"
    assert locate("~odd.png", str(tmp_path / "pics"), "image") == tmp_path / "pics" / "~odd.png"
