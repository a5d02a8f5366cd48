"""The training benchmark runs, and its mixture has the counted shares of padding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def _python(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(BENCHMARKS)])}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=True, cwd=ROOT
    )
    return done.stdout


def test_the_ragged_mixture_is_drawn_as_written() -> None:
    code = (
        "import json; from ragged import *; d = draw(64); b = [x for p in bucket(d, 1) for x in p]; "
        "print(json.dumps([len(d), useful(d), useful(b), padding(d), padding(b)]))"
    )
    batches, tokens, same_tokens, (source, target), (bucketed, _) = json.loads(_python("-c", code))
    assert (batches, tokens) == (64, same_tokens)
    assert 0.55 < source < 0.65
    assert 0.42 < target < 0.50
    assert bucketed < 0.1


@pytest.mark.slow
def test_the_training_benchmark_runs_in_small_and_stores_its_row(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    out = _python("benchmarks/training_bart.py", "--smoke", "--precisions", "fp32", "--out", str(tmp_path))
    row = json.loads((tmp_path / "training_bart_smoke.json").read_text())
    result = row["results"]["fp32"]
    assert result["random"]["ours_padding"] == [0.0, 0.0]
    assert len(result["bucketed"]["seconds"]["hf"]) == 2
    for together, alone in result["loss_packed_and_one_by_one"].values():
        assert together == pytest.approx(alone, rel=1e-4)
    assert "HF padding src / tgt" in out
