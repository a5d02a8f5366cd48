"""What a run leaves behind, written so that a kill at any moment leaves the last complete state usable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.trained import ROWS
from ofasys_lite.writing import write_atomic

__all__ = ["RunFolder"]


class RunFolder:
    """Paths of runs/<name>/ and the rows of its metrics.jsonl.

    Args:
        path: The folder; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def last(self) -> Path:
        """The checkpoint a resume starts from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def export(self) -> Path:
        """The self-contained export."""
        return self.path / "export"

    @property
    def rows(self) -> Path:
        """Which rows each task is trained on (`data/contents.py`)."""
        return self.path / ROWS

    @property
    def metrics(self) -> Path:
        """One JSON row per log or validation."""
        return self.path / "metrics.jsonl"

    @property
    def quarantine(self) -> Path:
        """One JSON row per data row that could not be read."""
        return self.path / "quarantine.jsonl"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes config.yaml, everything resolved."""
        write_atomic(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """config.yaml; CheckpointError if the folder holds no run."""
        path = self.path / "config.yaml"
        if not path.exists():
            raise CheckpointError(f"{self.path} holds no run: config.yaml is missing", help="name a folder under runs/")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(found)

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one row to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All complete rows of metrics.jsonl; a last line that a kill cut off is left out."""
        if not self.metrics.exists():
            return []
        rows: list[dict[str, Any]] = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def cut_history(self, step: int) -> None:
        """Drops rows after `step`: a resumed run logs them again."""
        rows = [r for r in self.history() if r.get("step", 0) <= step]
        if self.metrics.exists():
            write_atomic(self.metrics, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
