"""The training benchmark runs, and its mixture has the counted shares of padding."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def _python(*arguments: str) -> str:
    path = os.pathsep.join([str(ROOT), str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=True, cwd=ROOT
    )
    return done.stdout


def test_the_ragged_mixture_is_drawn_as_written() -> None:
    code = (
        "import json; from ragged import *; d = draw(64); b, t = bucket(d), bucket(d, 128); "
        "print(json.dumps([len(d), useful(d), useful(b), useful(t), padding(d), padding(b), padding(t)]))"
    )
    batches, tokens, by_source, by_both, (source, target), one, two = json.loads(_python("-c", code))
    assert (batches, tokens, tokens) == (64, by_source, by_both)
    assert 0.55 < source < 0.65
    assert 0.42 < target < 0.50
    assert one[0] < 0.1
    assert two[0] < 0.15
    assert two[1] < 0.15 < one[1]


@pytest.mark.parametrize(("repetitions", "each"), [(5, 3), (6, 4), (1, 1), (2, 32)])
def test_bucketed_batches_are_taken_from_the_shortest_to_the_longest(repetitions: int, each: int) -> None:
    code = (
        "import json; from ragged import *; b = bucket(draw(64)); "
        f"print(json.dumps([[b.index(x) for x in p] for p in deal(b, {repetitions}, {each})]))"
    )
    dealt = json.loads(_python("-c", code))
    assert [len(part) for part in dealt] == [each] * repetitions
    taken = sorted(i for part in dealt for i in part)
    assert len(set(taken)) == repetitions * each
    assert taken[0] == 0
    if len(taken) > 1:
        assert taken[-1] == 63
        assert max(b - a for a, b in pairwise(taken)) <= 64 // len(taken) + 1


@pytest.mark.slow
def test_the_training_benchmark_runs_in_small_and_stores_its_row(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    out = _python("benchmarks/training_bart.py", "--smoke", "--precisions", "fp32", "--out", str(tmp_path))
    row = json.loads((tmp_path / "training_bart_smoke.json").read_text())
    result = row["results"]["fp32"]
    assert result["random"]["ours_padding"] == [0.0, 0.0]
    assert len(result["bucketed by source"]["seconds"]["hf"]) == len(result["bucketed by both"]["seconds"]["hf"]) == 2
    for together, alone in result["loss_packed_and_one_by_one"].values():
        assert together == pytest.approx(alone, rel=1e-4)
    assert "HF padding src / tgt" in out


@pytest.mark.slow
def test_the_decoding_benchmark_runs_in_small_and_every_side_writes_what_was_asked(tmp_path: Path) -> None:
    sides = ["ours fp32"]
    if importlib.util.find_spec("transformers"):
        sides += ["HF fp32"]
        sides += ["CTranslate2 int8"] if importlib.util.find_spec("ctranslate2") else []
    _python("benchmarks/decoding.py", "--smoke", "--out", str(tmp_path), "--sides", *sides)
    row = json.loads((tmp_path / "decoding_smoke.json").read_text())
    assert set(row["results"]) == {f"{p}, {b}" for p in ("drawn", "sorted", "stops") for b in ("greedy", "beam 4")}
    assert row["results"]["drawn, greedy"]["tokens"] == [512, 512]
    assert all("ours fp32" in result["tokens_per_s"] for result in row["results"].values())


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_on_a_cpu_and_says_what_it_skips(tmp_path: Path) -> None:
    out = _python("benchmarks/gpu.py", "--device", "cpu", "--out", str(tmp_path))
    row = json.loads((tmp_path / "gpu_cpu_toy.json").read_text())
    assert row["failed"] == {}
    assert all(check["passed"] for check in row["checks"])
    assert {c["name"] for c in row["checks"] if c["reason"]} == {
        "attention varlen float32",
        "attention varlen bfloat16",
    }
    assert list(row["tasks"]) == ["plain"]
    assert row["tasks"]["plain"]["said"]["export says the same"] == "True"
    assert len(row["steps"]) == 2
    assert "skipped: tasks, compiled: takes minutes on a CPU" in out
