"""What was measured stands in files that say by which commit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def commits(value: Any) -> Iterator[str]:
    """Every value of a key `commit`, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "commit":
                yield inner
            else:
                yield from commits(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from commits(inner)


def test_a_commit_of_a_result_is_a_commit_and_nothing_else() -> None:
    files = [*(ROOT / "benchmarks" / "results").glob("*.json"), *(ROOT / "docs" / "results").glob("*.json")]
    assert files
    for path in files:
        for found in commits(json.loads(path.read_text(encoding="utf-8"))):
            assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", found), f"{path.name}: {found}"
