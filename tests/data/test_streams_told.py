"""Streams that break off or are none: servers, errors, readers of one's own."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from test_streams import LINES, ROWS, draws, flat, in_tar, opened, walk

from ofasys_lite.api.task import Task
from ofasys_lite.data.readers import stream as readers
from ofasys_lite.data.rows import open_source, open_training
from ofasys_lite.data.splits import open_splits
from ofasys_lite.errors import DataError


class Cutting(http.server.SimpleHTTPRequestHandler):
    """Gives ranges where it is asked to, and breaks every answer off after `most` bytes."""

    ranges = True
    asked: ClassVar[list[str]] = []
    most = 70_000

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range", "")
        self.asked.append(asked)
        start = int(asked[6:-1]) if asked and self.ranges else 0
        self.send_response(206 if asked and self.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.most])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(readers.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(Cutting, "asked", [])
    (tmp_path / "t.jsonl").write_bytes(LINES)
    long = [json.dumps({**row, "q": "x" * 2000}) + "\n" for row in ROWS]
    (tmp_path / "long.jsonl").write_text("".join(long))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Cutting, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_answer_that_breaks_off_is_asked_for_again_from_there(address: str) -> None:
    found = walk(draws(opened(f"{address}/long.jsonl", buffer=1, first=10)))
    assert [id for id, _ in flat(found)] == [f"r{n}" for n in range(102)]
    assert len({asked for asked in Cutting.asked if asked}) >= 2


def test_a_resumed_run_asks_a_server_for_the_rest(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cutting, "most", 10**6)
    states: list[Any] = []
    whole = walk(draws(opened(f"{address}/t.jsonl", buffer=5), 1), 0, states)
    for ranges in (True, False):
        monkeypatch.setattr(Cutting, "ranges", ranges)
        Cutting.asked.clear()
        assert walk(draws(opened(f"{address}/t.jsonl", buffer=5), 1, states[10]), 11) == whole[11:]
        assert Cutting.asked[-1].startswith("bytes=")


def test_a_server_that_gives_nothing_new_ends_the_stream(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cutting, "ranges", False)
    with pytest.raises(DataError, match=r"long.jsonl: the answer cannot be read \(it breaks off\)"):
        walk(draws(opened(f"{address}/long.jsonl", first=10)))


# ------------------------------------------------------------------ mistakes


def first_error(path: Path, **more: Any) -> str:
    with pytest.raises(DataError) as found:
        open_training({"path": str(path), "stream": True, **more})
    return f"{found.value.message} | {found.value.help}"


@pytest.mark.parametrize(
    ("name", "content", "more", "told"),
    [
        ("t.jsonl", LINES, {"buffer": 0}, "a shuffle buffer of 0 rows | `buffer` is a whole number of rows, 1 or more"),
        ("t.jsonl", LINES, {"first": "x"}, "a look at the first x rows"),
        ("t.jsonl", LINES, {"gather": "q"}, "`gather` needs rows by number | leave it out"),
        ("t.jsonl", LINES, {"split": {"train": 90, "valid": 10}}, "`split` needs rows by number"),
        ("t.jsonl", LINES, {"where": {"q": "x"}}, "`where` chooses rows by number; a stream has none"),
        ("t.jsonl", b"", {}, "t.jsonl has no rows | a stream gives at least one row"),
        ("t.csv", b"q,a\n", {}, "t.csv has no rows"),
        ("t.json", b"[]", {}, "t.json is given as a stream, and is json | one list has to be read whole"),
        ("t.jsonl", b"[1]", {}, "holds a list"),
        ("t.jsonl.gz", gzip.compress(LINES)[:300], {}, "t.jsonl.gz is no complete gzip file"),
        ("t.tar", b"x" * 2000, {}, "t.tar is no complete tar"),
        ("t.tar", in_tar("w")[:9000], {}, "t.tar is no complete tar"),
        ("t.parquet", b"PAR1" + b"x" * 99, {}, "t.parquet cannot be read as parquet"),
        ("t.arrow", b"ARROW1" + b"x" * 99, {}, "t.arrow cannot be read as arrow"),
        ("t.csv", b'q,a\n"1,2\n3,4\n', {}, "record 2 (from byte 4): a quote opens and never closes"),
    ],
)
def test_what_cannot_be_a_stream_is_told(
    tmp_path: Path, name: str, content: bytes, more: dict[str, Any], told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert told in first_error(tmp_path / name, **more)


def test_files_of_one_stream_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("q,a\n1,2\n")
    (tmp_path / "1.csv").write_text("a,w\n1,2\n")
    assert re.search(r"1.csv has the columns a, w, and files before it q, a", first_error(tmp_path / "{0,1}.csv"))
    first = opened(tmp_path / "{0,1}.csv", first=1, buffer=1)
    with pytest.raises(DataError, match=r"1.csv has the columns a, w, and files before it q, a"):
        draws(first).draw(0)


def test_keys_of_streams_are_for_streams_and_valid_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(LINES)
    with pytest.raises(DataError, match="`buffer` of a data source is for streams"):
        open_source({"path": str(tmp_path / "t.jsonl"), "buffer": 5})
    with pytest.raises(DataError, match="valid is given as a stream"):
        open_splits({"train": str(tmp_path / "t.jsonl"), "valid": {"path": str(tmp_path / "t.jsonl"), "stream": True}})
    with pytest.raises(DataError, match=r"Task\(..., stream=True\)"):
        Task("t", "[TEXT:q] -> [TEXT:a]", data=iter(ROWS))
    with pytest.raises(DataError, match="list has rows by number"):
        Task("t", "[TEXT:q] -> [TEXT:a]", data=ROWS, stream=True)
    with pytest.raises(DataError, match="t train gives int, which is no rows"):
        Task("t", "[TEXT:q] -> [TEXT:a]", data=lambda: 3, stream=True)
    with pytest.raises(DataError, match="int gives no rows"):
        Task("t", "[TEXT:q] -> [TEXT:a]", data=3, stream=True)


def test_a_broken_row_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n1,"2\n2"\n\n3\n')
    first = opened(tmp_path / "t.csv")
    assert first.row(0) == {"a": "1", "b": "2\n2"}
    with pytest.raises(DataError, match=r"t.csv, line 5: 1 field, and the header has 2"):
        first.row(1)
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(DataError, match=r"t.jsonl, line 3: bad JSON"):
        opened(tmp_path / "t.jsonl").row(1)
    rows = Task("t", "[TEXT:q] -> [TEXT:a]", data=lambda: [{"q": 1}, 3], stream=True).card.data["train"]
    with pytest.raises(DataError, match="t train, row 2: found int, not a dict"):
        rows.row(1)


def own_reader(path: str) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield {"q": line.rstrip()}


def test_a_reader_of_ones_own_may_be_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    (tmp_path / "t.txt").write_text("a\nb\nc\n")
    first = opened(tmp_path / "t.txt", format=f"{Path(__file__).stem}.own_reader")
    assert [first.row(i) for i in range(3)] == [{"q": "a"}, {"q": "b"}, {"q": "c"}]
    with pytest.raises(DataError, match="AttributeError") as found:
        opened(tmp_path / "t.txt", format=f"{Path(__file__).stem}.draws")
    assert f"it is read by {Path(__file__).stem}.draws" in str(found.value.help)


@pytest.mark.parametrize("more", [{}, {"encoding": "utf-16"}, {"encoding": "utf-16-le"}])
def test_utf_16_is_refused_with_what_helps_a_stream(tmp_path: Path, more: dict[str, str]) -> None:
    (tmp_path / "a.csv").write_text("q,a\n" + "x,y\n" * 20, encoding="utf-16")
    with pytest.raises(DataError, match=r"null bytes|cannot be read at random places|UTF-16") as told:
        open_training({"path": str(tmp_path / "a.csv"), "stream": True, **more})
    assert "save it as UTF-8" in told.value.help
