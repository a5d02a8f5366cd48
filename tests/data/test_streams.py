"""Streams: each row once per epoch, in the same order in every process, and on from any step of a checkpoint."""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import itertools
import json
import os
import pickle
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ofasys_lite.api.task import Task
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.data.passing_rows import FirstRows
from ofasys_lite.data.rows import open_source, open_training
from ofasys_lite.data.spec import is_stream
from ofasys_lite.data.splits import open_splits
from ofasys_lite.data.stream_draws import StreamDraws, Walker
from ofasys_lite.errors import DataError

ROWS = [{"id": f"r{n}", "q": f"q {n}", "a": str(n)} for n in range(103)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
STEP = 6
Keys = list[list[tuple[str, int]]]


def table() -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(ROWS)


def in_tar(mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for row in ROWS:
            for column in ("q", "a"):
                member = tarfile.TarInfo(f"{row['id']}.{column}.txt")
                member.size = len(row[column])
                tar.addfile(member, io.BytesIO(row[column].encode()))
    return out.getvalue()


def in_parquet() -> bytes:
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table(), out, row_group_size=10)
    return out.getvalue()


def in_arrow(kind: str) -> bytes:
    import pyarrow as pa

    out = io.BytesIO()
    with getattr(pa.ipc, kind)(out, table().schema) as writer:
        writer.write_table(table(), max_chunksize=7)
    return out.getvalue()


def in_csv() -> bytes:
    # a quoted field over two lines, and an empty line: rows are not lines
    rows = "".join(f'{row["id"]},"{row["q"]}\n",{row["a"]}\n\n' for row in ROWS)
    return f"id,q,a\n{rows}".encode()


def compressed(content: bytes) -> bytes:
    import pyarrow as pa

    found: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return found


FILES: dict[str, Callable[[], bytes]] = {
    "t.jsonl": lambda: LINES,
    "t.csv": in_csv,
    "t.tsv": lambda: b"id\tq\ta\n" + "".join("\t".join(row.values()) + "\n" for row in ROWS).encode(),
    "t.jsonl.gz": lambda: gzip.compress(LINES),
    "t.csv.bz2": lambda: bz2.compress(in_csv()),
    "t.jsonl.zst": lambda: compressed(LINES),
    "t.tar": lambda: in_tar("w"),
    "t.tar.gz": lambda: in_tar("w:gz"),
    "t.parquet": in_parquet,
    "t.arrow": lambda: in_arrow("new_file"),
    "s.arrow": lambda: in_arrow("new_stream"),
}


def draws(first: FirstRows, epochs: int | None = 1, state: Any = None, weights: tuple[float, ...] = ()) -> StreamDraws:
    """A mixture of one stream, and ordinary tasks of these weights."""
    others = [MixtureTask(f"o{n}", 10, weight) for n, weight in enumerate(weights)]
    mixture = Mixture([MixtureTask("t", None), *others], 0, STEP)
    return StreamDraws(mixture, {0: Walker(first, "t", 0, epochs, state)})


def keys(found: Any) -> list[tuple[str, int]]:
    """(id, epoch) of the samples of a step that are of the stream."""
    return [(found[1][0].ids(draw.index), draw.epoch) for draw in found[0] if draw.task == 0]


def walk(drawing: StreamDraws, first: int = 0, states: list[Any] | None = None) -> Keys:
    """The samples of all steps up to the end."""
    found: Keys = []
    for step in itertools.count(first):
        drawn = drawing.draw(step)
        if drawn is None:
            return found
        found.append(keys(drawn))
        if states is not None:
            states.append(json.loads(json.dumps(drawing.states()["t"])))
    raise AssertionError


def opened(path: Path | str, **more: Any) -> FirstRows:
    found = open_training({"path": str(path), "stream": True, **more})
    assert isinstance(found, FirstRows)
    return found


def flat(found: Keys) -> list[tuple[str, int]]:
    return [key for step in found for key in step]


def test_a_stream_is_asked_for_by_key() -> None:
    assert is_stream({"path": "x", "stream": True})
    assert not is_stream({"path": "x"})
    assert not is_stream("x.csv")


@pytest.mark.parametrize("buffer", [1, 8])
@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_each_row_once_and_goes_on_from_any_step(tmp_path: Path, name: str, buffer: int) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    states: list[Any] = []
    whole = walk(draws(opened(path, buffer=buffer), 2), 0, states)
    # a last step that cannot be filled is not drawn
    assert len(flat(whole)) == 2 * len(ROWS) // STEP * STEP
    first = [id for id, epoch in flat(whole) if epoch == 0]
    assert sorted(first) == sorted(row["id"] for row in ROWS)
    assert (first == [row["id"] for row in ROWS]) is (buffer == 1)
    for step in (0, 2, 16, 17, 30):
        assert walk(draws(opened(path, buffer=buffer), 2, states[step]), step + 1) == whole[step + 1 :]


def test_values_are_those_of_the_same_file_read_by_number(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content())
        source, first = open_source(tmp_path / name), opened(tmp_path / name)
        assert [first.row(i) for i in range(len(first))] == [source.row(i) for i in range(len(source))], name
        assert [first.ids(i) for i in range(9)] == [source.ids(i) for i in range(9)], name
        assert set(first.columns) == set(source.columns), name


def test_several_loaders_draw_what_one_does_each_row_once(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(LINES)
    whole = walk(draws(opened(tmp_path / "t.jsonl", buffer=10)))
    for count in (2, 3):
        loaders = [draws(opened(tmp_path / "t.jsonl", buffer=10)) for _ in range(count)]
        assert [keys(loaders[step % count].draw(step)) for step in range(len(whole))] == whole
        assert all(loader.draw(len(whole)) is None for loader in loaders)


def test_shards_come_in_another_order_each_epoch_and_all_of_them(tmp_path: Path) -> None:
    for shard in range(5):
        part = ROWS[shard * 20 : shard * 20 + 20]
        (tmp_path / f"s{shard}.csv").write_text("id,q\n" + "".join(f"{r['id']},{r['q']}\n" for r in part))
    first = opened(tmp_path / "s{0..4}.csv", buffer=4)
    states: list[Any] = []
    found = walk(draws(first, 3), 0, states)
    epochs = [[id for id, epoch in flat(found) if epoch == number] for number in range(2)]
    assert all(sorted(each) == sorted(f"r{n}" for n in range(100)) for each in epochs)
    shards = [[int(id[1:]) // 20 for id in each][::20] for each in epochs]
    assert shards[0] != shards[1]
    assert walk(draws(first, 3, states[20]), 21) == found[21:]
    assert first.name.endswith("s0.csv and 4 more")


def test_the_end_of_a_stream_gives_its_share_to_the_other_tasks() -> None:
    task = Task("t", "[TEXT:q] -> [TEXT:a]", data=lambda: ROWS[:10], stream=True)
    first = task.card.data["train"]
    drawing = draws(first, 1, None, (1.0,))
    per_step = [Counter(draw.task for draw in drawing.draw(step)[0]) for step in range(6)]  # type: ignore[index]
    assert [counts[0] for counts in per_step] == [3, 3, 3, 1, 0, 0]
    assert all(sum(counts.values()) == STEP for counts in per_step)
    assert drawing.states()["t"]["rows"] == 10
    late = draws(first, 1, None, (1.0,))  # a loader that meets the end in a later step draws the same
    assert late.draw(5)[0] == drawing.draw(5)[0]  # type: ignore[index]
    assert drawing.mixture.fingerprint == late.mixture.fingerprint == draws(first, 1, None, (1.0,)).mixture.fingerprint


def test_two_streams_that_end_in_one_step_leave_the_others_their_shares() -> None:
    firsts = [
        Task(name, "[TEXT:q] -> [TEXT:a]", data=lambda n=count: ROWS[:n], stream=True).card.data["train"]
        for name, count in (("s", 7), ("t", 8))
    ]

    def made() -> StreamDraws:
        tasks = [MixtureTask("s", None), MixtureTask("t", None), MixtureTask("o", 10)]
        return StreamDraws(Mixture(tasks, 0, STEP), {n: Walker(f, "st"[n], 0, 1) for n, f in enumerate(firsts)})

    drawing = made()
    drawn = [drawing.draw(step) for step in range(8)]
    counts = Counter(draw.task for each in drawn if each for draw in each[0])
    assert (counts[0], counts[1]) == (7, 8)
    late = made()
    assert late.draw(7)[0] == drawn[7][0]  # type: ignore[index]


def test_without_epochs_a_stream_is_read_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(LINES)
    drawing = draws(opened(tmp_path / "t.jsonl", buffer=50), None)
    found = [keys(drawing.draw(step)) for step in range(60)]
    assert {epoch for _, epoch in flat(found)} == {0, 1, 2, 3}
    orders = [[id for id, epoch in flat(found) if epoch == number] for number in (0, 1)]
    assert orders[0] != orders[1]


# ------------------------------------------------------------------ what stands for it before the training


def test_valid_and_test_are_its_first_rows_and_are_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(LINES)
    sources, notes = open_splits({"train": {"path": str(tmp_path / "t.jsonl"), "stream": True, "buffer": 7}})
    ids = {split: [source.ids(i) for i in range(len(source))] for split, source in sources.items()}
    assert ids["valid"] == [f"r{n}" for n in range(5)]
    assert ids["test"] == [f"r{n}" for n in range(5, 10)]
    train = sources["train"]
    assert isinstance(train, FirstRows)
    epochs = walk(draws(train, 2))
    assert Counter(id for id, epoch in flat(epochs) if not epoch) == Counter(f"r{n}" for n in range(10, 103))
    assert not {"r0", "r9"} & {id for id, _ in flat(epochs)}
    assert f"valid and test are the first 10 rows of {train.name}, which are not trained on (5 each)" in notes


def test_rows_that_are_set_aside_stay_so_where_shards_are_shuffled(tmp_path: Path) -> None:
    for shard in range(4):
        part = ROWS[shard * 20 : shard * 20 + 20]
        (tmp_path / f"{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    spec = {"path": str(tmp_path / "{0..3}.jsonl"), "stream": True}
    train = open_splits({"train": spec})[0]["train"]
    assert isinstance(train, FirstRows)
    assert sorted(id for id, _ in flat(walk(draws(train)))) == sorted(f"r{n}" for n in range(8, 80))


def test_the_first_rows_are_as_many_as_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(LINES)
    assert len(opened(tmp_path / "t.jsonl", first=7)) == 7
    mapped = open_training({"path": str(tmp_path / "t.jsonl"), "stream": True}, columns={"text": "q"})
    assert mapped.row(1) == {**ROWS[1], "text": "q 1"}
    with pytest.raises(DataError, match=r"column `text` is to come from `w`, which .*t.jsonl does not have"):
        open_training({"path": str(tmp_path / "t.jsonl"), "stream": True}, columns={"text": "w"})


# ------------------------------------------------------------------ Python objects


def data_set(shuffled: bool = False) -> Any:
    import datasets

    found = datasets.Dataset.from_list(ROWS).to_iterable_dataset(num_shards=4)
    return found.shuffle(seed=3, buffer_size=9) if shuffled else found


@pytest.mark.parametrize("shuffled", [False, True])
def test_an_iterable_data_set_goes_on_by_its_own_state(shuffled: bool) -> None:
    def first() -> FirstRows:
        found = Task("t", "[TEXT:q] -> [TEXT:a]", data=data_set(shuffled), stream=True).card.data["train"]
        found.stream.buffer = 5
        return found  # type: ignore[no-any-return]

    states: list[Any] = []
    whole = walk(draws(first(), 2), 0, states)
    assert Counter(id for id, epoch in flat(whole) if not epoch) == Counter(row["id"] for row in ROWS)
    for step in (0, 9, 20):
        assert walk(draws(first(), 2, states[step]), step + 1) == whole[step + 1 :]
    assert (states[9]["cursor"].get("state") is None) is shuffled


def test_a_generator_function_is_called_anew_and_what_was_drawn_is_dropped() -> None:
    first = Task("t", "[TEXT:q] -> [TEXT:a]", data=lambda: iter(ROWS), stream=True).card.data["train"]
    states: list[Any] = []
    whole = walk(draws(first, 2), 0, states)
    assert walk(draws(first, 2, states[11]), 12) == whole[12:]


def test_an_iterator_gives_what_was_looked_at_first_and_ends_its_task() -> None:
    first = Task("t", "[TEXT:q] -> [TEXT:a]", data=iter(ROWS), stream=True).card.data["train"]
    assert first.stream.once
    assert len(first) == 103
    found = {id for id, _ in flat(walk(draws(first, None)))}
    assert len(found) == 102
    assert found < {row["id"] for row in ROWS}
    with pytest.raises(DataError, match="can be read once, and was"):
        draws(first).draw(0)
    assert "its order is not reproducible" in first.order_note(None)
    assert copy.deepcopy(first) is first  # configurations are copied


def test_a_stream_that_is_being_read_is_not_handed_to_another_process() -> None:
    first = Task("t", "[TEXT:q] -> [TEXT:a]", data=(row for row in ROWS), stream=True).card.data["train"]
    drawing = draws(first)
    drawing.draw(0)
    with pytest.raises(DataError, match="is being read"):
        pickle.dumps(drawing)


# ------------------------------------------------------------------ pipes


def test_a_pipe_gives_the_check_and_the_training_the_same_rows(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with open(tmp_path / "pipe", "wb") as out:
            out.write(gzip.compress(LINES))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    checked = opened(tmp_path / "pipe", format="jsonl", first=20, buffer=1)
    trained = opened(tmp_path / "pipe", format="jsonl", first=20, buffer=1)
    assert [checked.ids(i) for i in range(20)] == [trained.ids(i) for i in range(20)] == [f"r{n}" for n in range(20)]
    assert [id for id, _ in flat(walk(draws(trained)))] == [f"r{n}" for n in range(102)]
    thread.join()
    sources, notes = open_splits({"train": {"path": str(tmp_path / "pipe"), "stream": True, "format": "jsonl",
                                            "first": 20, "buffer": 1}})  # fmt: skip
    assert len(sources["valid"]) == len(sources["test"]) == 0
    assert any("its test split has no rows" in note for note in notes)


def test_a_resumed_run_takes_what_comes_through_the_pipe_then() -> None:
    first = Task("t", "[TEXT:q] -> [TEXT:a]", data=iter(ROWS), stream=True).card.data["train"]
    drawing = draws(first)
    drawing.draw(0)
    state = drawing.states()["t"]
    later = Task("t", "[TEXT:q] -> [TEXT:a]", data=iter(ROWS[50:]), stream=True).card.data["train"]
    found = walk(draws(later, 1, state), 1)
    ids = [id for id, _ in flat(found)]
    assert len(ids) == len(set(ids)) == 53 // STEP * STEP
    assert set(ids) < {row["id"] for row in ROWS[50:]}


# ------------------------------------------------------------------ addresses
