"""What several processes want at once is made by one of them."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.rows import open_source
from ofasys_lite.layout import costs
from ofasys_lite.layout.costs import size_hint
from ofasys_lite.preprocess.text import TextPreprocess


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))


def _wanted(log: Path, results: multiprocessing.Queue[int]) -> None:
    def build() -> dict[str, np.ndarray]:
        with log.open("a") as out:
            out.write("built\n")
        time.sleep(0.2)
        return {"a": np.arange(7)}

    results.put(len(cached_arrays("test-1", "key", build)["a"]))


def test_ranks_that_want_the_same_index_wait_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[int] = context.Queue()
    ranks = [context.Process(target=_wanted, args=(tmp_path / "log", results)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    assert [results.get(timeout=20) for _ in ranks] == [7] * 4
    for rank in ranks:
        rank.join()
    assert (tmp_path / "log").read_text() == "built\n"
    assert [path.suffix for path in (tmp_path / "cache" / "index").iterdir()] == [".npz"]  # no lock is left


def test_an_index_may_need_another_one() -> None:
    inner = lambda: {"b": cached_arrays("test-1", "inner", lambda: {"a": np.arange(2)})["a"]}  # noqa: E731
    assert cached_arrays("test-1", "outer", inner)["b"].tolist() == [0, 1]


def test_a_process_that_fails_gives_its_turn_back() -> None:
    def fails() -> dict[str, np.ndarray]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cached_arrays("test-1", "key", fails)
    assert cached_arrays("test-1", "key", lambda: {"a": np.arange(3)})["a"].tolist() == [0, 1, 2]


def test_lengths_that_were_measured_travel_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "t.csv").write_text("q\nhello\n")
    pq.write_table(pa.table({"q": ["hello"]}), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        source = open_source(tmp_path / name)
        assert size_hint(source, 0, "q", TextPreprocess) == (5,)
        monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "another"))
        with monkeypatch.context() as patch:
            patch.setattr(costs, "_measure", None)
            assert size_hint(pickle.loads(pickle.dumps(source)), 0, "q", TextPreprocess) == (5,)
