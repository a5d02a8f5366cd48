"""Tests that cannot fail are found by planting faults: each of faults.yaml must be noticed by the tests it names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FAULTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "tests" / "faults.yaml").read_text(encoding="utf-8"))
NAMES = [fault["fault"] for fault in FAULTS]


def planted(fault: dict[str, Any]) -> str:
    """The file with the fault in it."""
    text = (ROOT / "ofasys_lite" / fault["file"]).read_text(encoding="utf-8")
    found = text.count(fault["old"])
    assert found == 1, f"{fault['file']} holds `{fault['old']}` {found} times"
    return text.replace(fault["old"], fault["new"])


@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
def test_every_fault_can_be_planted_and_names_tests_that_exist(fault: dict[str, Any]) -> None:
    assert fault["new"] != fault["old"]
    compile(planted(fault), fault["file"], "exec")
    assert all((ROOT / path.partition("::")[0]).exists() for path in fault["tests"].split())


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
def test_a_planted_fault_is_noticed(fault: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "ofasys_lite", tmp_path / "ofasys_lite", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ofasys_lite" / fault["file"]).write_text(planted(fault), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    where = [str(ROOT / path) for path in fault["tests"].split()]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-c", str(ROOT / "setup.cfg"), *where]
    # not in the checkout: `-m` would put it before the copy
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    # 1: tests ran and some failed; anything else says nothing about the tests
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-1000:]
    assert "Error" in done.stdout
