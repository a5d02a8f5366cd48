"""A user's folder outside the package: a modality's card and a module of his own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def users_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, card: str, module: str, content: str
) -> Iterator[Path]:
    """The folder `place`/mine with modalities/NAME.yaml and MODULE.py, which can be imported while it is open."""
    folder = place / "mine"
    (folder / "modalities").mkdir(parents=True)
    (folder / "modalities" / f"{name}.yaml").write_text(card, encoding="utf-8")
    (folder / f"{module}.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop(module, None)
