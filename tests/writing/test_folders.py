"""A folder of several files is claimed before it is written, and holds its old or its new files at any moment."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from ofasys_lite.errors import WriteError
from ofasys_lite.writing import claim_folder, current, finish, staged


def ours(folder: Path) -> bool:
    return (folder / "mark").exists()


def test_a_folder_is_ours_if_it_is_absent_empty_or_marked(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        claim_folder(folder, ours, "a data set", "name another")
    (tmp_path / "mark").write_text("")
    (tmp_path / "more").write_text("")
    claim_folder(tmp_path, ours, "a data set", "name another")
    assert not (tmp_path / "absent").exists()


def test_a_folder_with_files_of_a_user_is_refused_and_they_are_named(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").write_text("")
    claim_folder(tmp_path, ours, "a data set", "name another")
    (tmp_path / "mine.csv").write_text("precious")
    (tmp_path / "sub").mkdir()
    with pytest.raises(WriteError, match=r"not of a data set: mine.csv, sub\n  help: name another"):
        claim_folder(tmp_path, ours, "a data set", "name another")
    claim_folder(tmp_path, ours, "a model", "name another", names=["model"])
    with pytest.raises(WriteError, match=r"not of a model: mine.csv\n"):
        claim_folder(tmp_path, ours, "a model", "name another", names=["mine.csv"])


def test_a_path_that_is_a_file_or_a_dead_link_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WriteError, match="it is a file"):
        claim_folder(tmp_path / "file", ours, "a model", "")
    with pytest.raises(WriteError, match="link to nothing"):
        claim_folder(tmp_path / "link", ours, "a model", "")


def write(folder: Path, text: str) -> None:
    with staged(folder) as stage:
        for name in ("a", "b"):
            (stage / name).write_text(text)


def read(folder: Path) -> set[str]:
    return {current(folder, name).read_text() for name in ("a", "b")}


def test_staged_files_come_into_place_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    write(tmp_path, "old")
    write(tmp_path, "new")
    assert read(tmp_path) == {"new"}
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "mine"]


def test_a_kill_at_any_moment_leaves_all_old_or_all_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    for stop in range(12):
        folder = tmp_path / str(stop)
        write(folder, "old")
        calls = 0

        def counted(real: object, stop: int = stop) -> object:
            def call(*given: object, **named: object) -> object:
                nonlocal calls
                calls += 1
                if calls > stop:
                    raise Killed
                return real(*given, **named)  # type: ignore[operator]

            return call

        with monkeypatch.context() as patch:
            for name in ("replace", "rename", "rmdir", "mkdir"):
                patch.setattr(os, name, counted(getattr(os, name)))
            with suppress(Killed):
                write(folder, "new")
        assert read(folder) in ({"old"}, {"new"})
        finish(folder)
        assert {(folder / name).read_text() for name in ("a", "b")} == read(folder)
        write(folder, "third")
        assert read(folder) == {"third"}


def test_an_error_while_files_are_written_leaves_the_old_ones(tmp_path: Path) -> None:
    write(tmp_path, "old")

    def broken() -> None:
        with staged(tmp_path) as stage:
            (stage / "a").write_text("new")
            raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match="the disk is full"):
        broken()
    assert read(tmp_path) == {"old"}
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_moves(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(WriteError, match="it is a folder"):
        write(tmp_path, "new")
    assert os.listdir(tmp_path) == ["b"]


def test_a_folder_behind_a_link_is_written_through_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert read(tmp_path / "real") == {"new"}
