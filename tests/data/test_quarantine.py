from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofasys_lite.data.quarantine import Quarantine, Quarantined
from ofasys_lite.errors import DataError


def add(ledger: Quarantine, task: str, row: int, id: str, reason: str) -> str:
    return ledger.merge([Quarantined(task, row, id, reason)])[0]


def test_a_noted_row_gives_the_line_of_the_log() -> None:
    ledger = Quarantine({"asr": 812})
    line = add(ledger, "asr", 811, "1272-0003", "cannot read audio: file is empty")
    assert line == (
        "task asr, row 812 (id 1272-0003): cannot read audio: file is empty. Quarantined (1 of 812 rows, limit 1 %)."
    )


def test_a_row_of_a_file_is_named_by_its_place_there() -> None:
    ledger = Quarantine({"asr": 812})
    (line,) = ledger.merge([Quarantined("asr", 7, "9", "broken", place="a.csv, row 10")])
    assert line.startswith("task asr, a.csv, row 10 (id 9): broken.")


def test_the_end_of_a_run_says_how_many_rows_were_lost() -> None:
    ledger = Quarantine({"asr": 812, "vqa": 300, "tts": 9})
    assert ledger.summary() == []
    ledger.merge(Quarantined("asr", row, f"{row}", "broken.", place=f"a.csv, row {row + 3}") for row in (7, 5))
    add(ledger, "vqa", 1, "1", "cannot read image x.png: it is empty")
    assert ledger.summary() == [
        "task asr: 2 of 812 training rows could not be read and were replaced by others: "
        "the first is a.csv, row 8: broken",
        "task vqa: 1 of 300 training rows could not be read and was replaced by others: "
        "row 2: cannot read image x.png: it is empty",
    ]


def test_a_row_met_again_counts_once_and_its_attempts_add_up() -> None:
    ledger = Quarantine({"asr": 812})
    for _ in range(3):
        add(ledger, "asr", 7, "x", "broken")
    assert ledger.counts == {"asr": 1}
    assert ledger.entries == (Quarantined("asr", 7, "x", "broken", 3),)


def test_above_the_limit_the_run_stops_with_the_last_row_and_what_to_do() -> None:
    ledger = Quarantine({"asr": 400, "vqa": 10}, limit=0.01)
    add(ledger, "asr", 0, "a", "broken")
    ledger.merge(Quarantined("asr", row, "b", "broken") for row in (1, 2, 3))
    with pytest.raises(
        DataError, match=r"task asr, row 5 \(id c\): broken. Quarantined \(5 of 400 rows, limit 1 %\)"
    ) as caught:
        add(ledger, "asr", 4, "c", "broken")
    assert "mend or remove them" in caught.value.help
    assert "trainer.quarantine=0.2" in caught.value.help
    assert len(ledger) == 5


def test_a_small_task_loses_a_few_rows_before_it_stops_and_with_a_limit_of_0_none() -> None:
    ledger = Quarantine({"tiny": 24, "few": 5}, limit=0.01)
    line = [add(ledger, "tiny", row, "x", "broken") for row in range(3)][-1]
    assert line.endswith("Quarantined (3 of 24 rows, limit 1 %, and 3 rows in any case).")
    with pytest.raises(DataError, match="4 of 24 rows"):
        add(ledger, "tiny", 3, "x", "broken")
    assert add(ledger, "few", 0, "x", "broken")
    with pytest.raises(DataError, match="2 of 5 rows, limit 1 %, and 1 row in any case"):
        add(ledger, "few", 1, "x", "broken")
    with pytest.raises(DataError, match="1 of 24 rows, limit 0 %"):
        add(Quarantine({"tiny": 24}, limit=0), "tiny", 0, "x", "broken")


def test_reports_of_workers_are_all_noted_before_the_run_stops() -> None:
    ledger = Quarantine({"asr": 100})
    with pytest.raises(DataError, match="4 of 100"):
        ledger.merge([Quarantined("asr", row, "a", "x") for row in (1, 2, 3, 4)])
    assert [entry.row for entry in ledger.entries] == [1, 2, 3, 4]


def test_a_ledger_goes_through_a_checkpoint(tmp_path: Path) -> None:
    ledger = Quarantine({"asr": 1000})
    add(ledger, "asr", 5, "e", "käputt")
    add(ledger, "asr", 2, "b", "broken")
    other = Quarantine({"asr": 1000})
    other.load_state_dict(json.loads(json.dumps(ledger.state_dict())))
    assert other.entries == ledger.entries
    assert other.counts == {"asr": 2}
    other.write(tmp_path / "runs" / "quarantine.jsonl")
    lines = (tmp_path / "runs" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["b", "e"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["quarantine.jsonl"]


def test_a_limit_that_is_no_share_is_refused() -> None:
    with pytest.raises(DataError, match="a quarantine limit of 5"):
        Quarantine({}, limit=5)


def test_a_task_that_is_not_in_the_run_is_refused() -> None:
    with pytest.raises(DataError, match="knows no task `asr`"):
        add(Quarantine({"vqa": 3}), "asr", 0, "a", "x")
