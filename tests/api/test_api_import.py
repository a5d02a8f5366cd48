"""The package's names: there when they are used, free of charge when they are not."""

import subprocess
import sys

import pytest

import ofasys_lite

HEAVY = "{'torch', 'lightning', 'hydra', 'pyarrow', 'datasets', 'sentencepiece', 'PIL'}"


def run(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_importing_the_package_imports_neither_torch_nor_anything_heavy() -> None:
    run(f"import sys, ofasys_lite\nfound = {HEAVY} & set(sys.modules)\nassert not found, found")


def test_a_task_is_declared_and_checked_without_torch() -> None:
    run(
        "import sys\nfrom ofasys_lite import Task\n"
        "task = Task('a', '[TEXT:q] -> [TEXT:a]').add_dataset([{'q': '1', 'a': '2'}])\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )


def test_importing_every_name_of_the_api_imports_no_torch() -> None:
    run(
        "import sys\nfrom ofasys_lite import Task, GeneralistModel, Trainer, fit, evaluate, OfasysError\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )


@pytest.mark.parametrize("name", ofasys_lite.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(ofasys_lite, name).__doc__
    assert name in dir(ofasys_lite)


def test_a_misspelt_name_is_told_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute `GeneralistModle`\. Did you mean `GeneralistModel`"):
        _ = ofasys_lite.GeneralistModle
    with pytest.raises(ImportError, match="cannot import name 'train'"):
        from ofasys_lite import train  # noqa: F401
