"""Text tables to the letter: quotes, headers, encodings; columns, records in cells, lengths from headers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofasys_lite.data.readers.delimited import Dialect
from ofasys_lite.data.readers.lines import scan_records
from ofasys_lite.data.rows import open_source
from ofasys_lite.layout.costs import size_hint
from ofasys_lite.preprocess.audio import AudioPreprocess
from ofasys_lite.preprocess.image import ImagePreprocess


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_progress_is_told_for_large_files(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "x" * 1000 + ",y\n" * 1 + ("z" * 1000 + ",y\n") * 9000)
    told: list[tuple[str, int, int]] = []
    open_source(tmp_path / "t.csv", progress=lambda *one: told.append(one))
    assert told
    assert all("index of" in what and done <= total for what, done, total in told)


def test_a_header_may_be_given_by_the_card(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('1\tcat "x\n2\tdog\n')
    source = open_source({"path": str(tmp_path / "t.tsv"), "header": ["n", "text"]})
    assert [source.row(i) for i in range(2)] == [{"n": "1", "text": 'cat "x'}, {"n": "2", "text": "dog"}]


def test_a_byte_order_mark_and_empty_lines_are_no_content(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfq,a\r\n\r\n1,2\r\n\r\n")
    source = open_source(tmp_path / "t.csv")
    assert source.columns == ("q", "a")
    assert [source.row(i) for i in range(len(source))] == [{"q": "1", "a": "2"}]


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("q,a\nfür,ä\n".encode("latin-1"))
    assert open_source({"path": str(tmp_path / "t.csv"), "encoding": "latin-1"}).row(0) == {"q": "für", "a": "ä"}


CELLS = st.text(st.sampled_from('ab",\n\r; é'), max_size=6)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=8), st.sampled_from([",", ";"]))
@settings(max_examples=150, deadline=None)
def test_records_are_cut_where_the_csv_module_cuts_them(rows: list[list[str]], separator: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
    content = text.getvalue().encode()
    dialect = Dialect(separator)
    records = [record for _, _, record in scan_records(io.BytesIO(content), "x", separator.encode(), b'"')]
    assert [dialect.split(record, "x") for record in records] == rows


def test_cells_longer_than_the_csv_modules_limit_are_read(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "t.csv").write_text('q,a\n"' + "x" * 300_000 + '",b\n')
    assert len(open_source(tmp_path / "t.csv").row(0)["q"]) == 300_000
    assert csv.field_size_limit() == limit


def test_lengths_of_media_come_from_their_headers(tmp_path: Path) -> None:
    import soundfile
    from PIL import Image

    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", np.zeros(1234), 8000)
    (tmp_path / "t.csv").write_text("image,wav\na.png,a.wav\nmissing.png,\n")
    source = open_source(tmp_path / "t.csv")
    assert size_hint(source, 0, "image", ImagePreprocess) == (600,)
    assert size_hint(source, 0, "wav", AudioPreprocess) == (2 * 1234,)  # at 8 kHz
    assert size_hint(source, 1, "image", ImagePreprocess) is None
    assert size_hint(source, 1, "wav", AudioPreprocess) is None
    arrays = open_source(
        [{"wav": {"array": np.zeros(77), "sampling_rate": 8000}, "img": np.zeros((3, 9, 3), np.uint8)}]
    )
    assert size_hint(arrays, 0, "wav", AudioPreprocess) == (2 * 77,)


def test_slot_columns_come_from_data_columns_and_the_exact_name_wins() -> None:
    rows = [{"a.b": "exact", "a": {"b": "nested", "c": ["x", "y"]}, "j": '{"k": [1, 2]}'}]
    source = open_source(rows, columns={"one": "a.b", "two": "a.c", "three": "j.k", "four": "a.zzz"})
    assert source.row(0) == rows[0] | {"one": "exact", "two": ["x", "y"], "three": [1, 2]}
    assert source.value(0, "one") == "exact"
    assert source.columns == ("a.b", "a", "j", "one", "two", "three", "four")


def test_a_slot_may_take_the_name_of_another_column() -> None:
    source = open_source([{"text": "t", "label": "l"}], columns={"text": "label", "label": "text"})
    assert source.row(0) == {"text": "l", "label": "t"}


def test_latin_1_keeps_control_characters_that_are_none_of_windows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"q,a\nf\xfcr,\x81\n")
    assert open_source({"path": str(tmp_path / "t.csv"), "encoding": "latin-1"}).row(0) == {"q": "für", "a": "\x81"}
