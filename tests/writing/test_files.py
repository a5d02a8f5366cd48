"""Files appear whole or not at all, keep what they were, and replace nothing without being told."""

import errno
import os
from pathlib import Path

import pytest

from ofasys_lite.errors import OfasysError, WriteError
from ofasys_lite.writing import atomic, claim_file, room_for, sweep, telling, writable, write_atomic


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b.txt", "one\r\ntwo\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"one\r\ntwo\n"
    assert os.listdir(tmp_path / "a") == ["b.txt"]


def test_an_error_in_the_middle_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x.json", "old")

    def broken() -> None:
        with atomic(tmp_path / "x.json") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert (tmp_path / "x.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_replaced_file_keeps_its_mode_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("old")
    script.chmod(0o750)
    write_atomic(script, "new")
    assert script.stat().st_mode & 0o777 == 0o750
    mask = os.umask(0o027)
    try:
        write_atomic(tmp_path / "new", "")
    finally:
        os.umask(mask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_the_part_keeps_the_ending_and_a_long_name_fits(tmp_path: Path) -> None:
    name = "ä" * 120 + ".png"
    with atomic(tmp_path / name) as part:
        assert part.suffix == ".png"
    assert (tmp_path / name).exists()


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(pipe, "through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "you may not write"),
        (errno.EDQUOT, "share of the disk"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_the_path(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "x.bin"

    def full() -> None:
        with atomic(path):
            raise OSError(number, os.strerror(number))

    with pytest.raises(WriteError, match=f"cannot write {path}: .*{words}") as caught:
        full()
    assert isinstance(caught.value, OfasysError)
    assert caught.value.help
    assert os.listdir(tmp_path) == []


def test_an_error_about_another_file_keeps_its_own_words(tmp_path: Path) -> None:
    def read() -> None:
        with telling(tmp_path / "out" / "x.bin"):
            Path("/proc/no/such/file").read_text()

    with pytest.raises(FileNotFoundError):
        read()


def test_an_output_replaces_nothing_unless_told_and_never_an_input(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("precious")
    link = tmp_path / "link.csv"
    link.symlink_to(mine)
    round_about = tmp_path / "sub" / ".." / "mine.csv"
    (tmp_path / "sub").mkdir()
    for path in (mine, link, round_about):
        with pytest.raises(WriteError, match="is there already"):
            claim_file(path, False)
        with pytest.raises(WriteError, match="is read, so it is not written over"):
            claim_file(path, True, [mine])
    claim_file(mine, True)
    with pytest.raises(WriteError, match="it is a folder"):
        claim_file(tmp_path / "sub", True)
    with pytest.raises(WriteError, match="is a file, not a folder"):
        claim_file(mine / "x.csv", True)
    dead = tmp_path / "dead.csv"
    dead.symlink_to(tmp_path / "nowhere")
    with pytest.raises(WriteError, match="is there already"):
        claim_file(dead, False)
    assert mine.read_text() == "precious"


def test_a_path_that_cannot_be_written_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writable(tmp_path / "new" / "deep" / "x.txt")
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(WriteError, match="is a file, not a folder"):
        writable(tmp_path / "file" / "deep" / "x.txt")
    with pytest.raises(WriteError, match="it is a file"):
        writable(tmp_path / "file", folder=True)
    with pytest.raises(WriteError, match="name is too long"):
        writable(tmp_path / ("n" * 300))
    with pytest.raises(WriteError, match="cannot write"):
        writable(Path("/proc/ours/x.txt"))


def test_a_disk_without_room_is_told_with_both_figures(tmp_path: Path) -> None:
    room_for(tmp_path / "new" / "x", 1, "a checkpoint")
    with pytest.raises(WriteError, match=r"a checkpoint takes 1000000.0 GB, and the disk has .* left"):
        room_for(tmp_path / "new" / "x", 10**15, "a checkpoint")


def test_what_killed_writers_left_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    for name in (".part-0123abcd-x.txt", ".part-mine", ".parts", "part-0123abcd-x"):
        (tmp_path / name).write_text("")
    (tmp_path / ".part-0123abcd-files").mkdir()
    sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == 5
    sweep(tmp_path, older=0)
    assert sorted(os.listdir(tmp_path)) == [".part-mine", ".parts", "part-0123abcd-x"]
