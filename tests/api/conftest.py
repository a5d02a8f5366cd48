"""One tiny model, trained once for a few steps, for all tests of the Python API."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_worlds import QUICK, SMALL, tasks, tiny

from ofasys_lite import GeneralistModel, fit


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("OFASYS_CACHE")
    os.environ["OFASYS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("OFASYS_CACHE")
    if before is not None:
        os.environ["OFASYS_CACHE"] = before


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> GeneralistModel:
    """A model that learned `reverse`, `colour` and `find` for three steps; tests use it and leave it as it is."""
    return fit(tiny(), tasks(), steps=3, folder=tmp_path_factory.mktemp("model") / "run", **QUICK, **SMALL)
