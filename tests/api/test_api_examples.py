"""Every example and every Python block of the API's page runs."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["python_api", "add_a_task", "boxes", "ofasys_readme"])
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    assert example(name).main(steps=2, folder=tmp_path / "run")


@pytest.mark.slow
def test_the_first_example_learns_its_tasks(tmp_path: Path) -> None:
    module = example("python_api")
    model = module.main(folder=tmp_path / "run")
    import random

    assert model("colour", img=module.patch("blue", random.Random(1))).text == "blue"


def test_the_blocks_of_the_page_run_one_after_another() -> None:
    page = (ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python no-run[^\n]*\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python_api.md", "exec"), names)
