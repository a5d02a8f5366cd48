"""Tables and media behind http: servers without ranges, addresses with queries, every way in which a fetch fails."""

from __future__ import annotations

import gzip
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ofasys_lite.data.rows import open_source
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess import web
from ofasys_lite.preprocess.image_decode import open_image

CSV = b"q,a\nhello,yes\nbye,no\n"


def picture() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (6, 4)).save(out, "PNG")
    return out.getvalue()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"q": ["hello"], "a": ["yes"]}), out)
    return out.getvalue()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `files` whole, as a server does that knows no ranges."""

    files: dict[str, bytes]
    tag = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0][1:]
        if path.isdigit():
            self.send_error(int(path))
        elif path == "moved.csv":
            self.send_response(302)
            self.send_header("Location", "/x.csv")
            self.end_headers()
        elif path not in self.files:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.files[path]) + (9 if path == "cut.csv" else 0)))
            if self.tag:
                self.send_header("ETag", self.tag)
            self.end_headers()
            if path == "silent.csv":
                stop.wait(5)
            self.wfile.write(self.files[path])

    def log_message(self, *arguments: object) -> None:
        pass


stop = threading.Event()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("no_proxy", "*")
    Server.files = {
        "x.csv": CSV,
        "x.jsonl": b'{"q": "hello", "a": "yes"}\n',
        "x.parquet": parquet(),
        "x.csv.gz": gzip.compress(CSV),
        "cut.csv": CSV,
        "silent.csv": CSV,
        "page.csv": b"<!DOCTYPE html><html><body>log in</body></html>",
        "pictures.csv": b"file\np/1.png\n",
        "p/1.png": picture(),
    }
    Server.tag = ""
    stop.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "name", ["x.csv", "x.jsonl", "x.parquet", "x.csv.gz", "x.csv?download=true", "x.csv?a=b/c.d#e", "moved.csv"]
)
def test_a_file_is_read_whole_from_a_server_without_ranges(name: str, address: str) -> None:
    source = open_source(f"{address}/{name}")
    assert source.row(len(source) - 1)["a"] in ("no", "yes")
    assert source.row(0) == {"q": "hello", "a": "yes"}
    assert source.place(0) == f"{address}/{name}, row 1"


WRONG = {
    "403": ("the server answers 403 Forbidden", "fetch the file yourself"),
    "404": ("the server answers 404 Not Found", "check the address"),
    "500": ("the server answers 500 Internal Server Error", "try again later"),
    "cut.csv": ("the answer breaks off", "try again"),
    "page.csv": ("is a web page", "a login"),
    "silent.csv": ("the server is silent for 0.2 seconds", "try again"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fetch_that_fails_says_status_and_reason(name: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_PATIENCE", 0.2)
    spec = {"path": f"{address}/{name}", "format": "csv"}
    with pytest.raises(DataError) as caught:
        open_source(spec)
    assert caught.value.message.startswith(f"{address}/{name}")
    assert WRONG[name][0] in caught.value.message
    assert WRONG[name][1] in caught.value.help
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9/x.csv", "no connection (Connection refused)"),
        ("http://nowhere.invalid/x.csv", "no connection"),
        ("http://[bad/x.csv", "cannot be read"),
        ("ftp://127.0.0.1:9/x.csv", "cannot be opened"),
        ("gopher://x/y.csv", "cannot be opened"),
        ("s4://bucket/x.csv", "cannot be opened"),
        ("ssh://127.0.0.1:9/x.csv", "cannot be opened"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(url: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        open_source(url)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_is_fetched_again_when_the_server_cannot_say_that_it_is_the_same(address: str) -> None:
    assert len(open_source(f"{address}/x.csv")) == 2
    Server.files["x.csv"] = b"q,a\nnew,yes\nnew,no!\n"  # as long as before
    assert open_source(f"{address}/x.csv").row(0)["q"] == "new"


def test_a_file_that_the_server_knows_is_fetched_once(address: str, tmp_path: Path) -> None:
    Server.tag = '"1"'
    open_source(f"{address}/x.csv")
    (copy,) = (tmp_path / ".cache" / "fetched").iterdir()
    before = copy.stat().st_ino
    assert len(open_source(f"{address}/x.csv")) == 2
    assert copy.stat().st_ino == before
    Server.tag, Server.files["x.csv"] = '"2"', b"q,a\nnew,yes\n"
    assert open_source(f"{address}/x.csv").row(0)["q"] == "new"


def test_pictures_beside_a_table_are_fetched_from_there(address: str) -> None:
    source = open_source(f"{address}/pictures.csv")
    assert open_image(source.row(0)["file"], source.base, 1).size == (6, 4)
    with pytest.raises(DataError, match=r"cannot read image http://127.*: the server answers 404"):
        open_image("p/2.png", source.base, 1)
