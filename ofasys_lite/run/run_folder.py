"""What a run leaves behind, written so that a kill at any moment leaves the last complete state usable."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ofasys_lite.errors import CheckpointError
from ofasys_lite.writing import (
    begun_by_us,
    claim_folder,
    current,
    finish,
    locked,
    other_rank,
    sweep,
    telling,
    write_atomic,
)

#: Name of the file that says which rows each task is trained on.
ROWS = "rows.safetensors"
#: What an export consists of.
EXPORT = ("config.json", "model.safetensors", ROWS, "tokenizer.model", "vocabulary.json")

#: What trainings and evaluations write into a run's folder.
_WRITTEN = (
    *("config.yaml", "plans.json", "plans.txt", "closed_sets.json", "start.json", "metrics.jsonl", "quarantine.jsonl"),
    *("parameters.json", "parts.json"),
    *("checkpoints", ROWS, "tokenizer", "export", "logs", "metrics.json", "evaluation.json", "report.html", "samples"),
)


def _ours(folder: Path) -> bool:
    # runs of earlier versions have no lock
    return begun_by_us(folder) or (folder / "plans.json").is_file()


def run_holding(folder: Path) -> Path | None:
    """The run in one of whose own folders (`checkpoints`, `export` ...) this one is or lies; None where there is none.

    What stands beside them in the run's folder is the user's.
    """
    place = folder.resolve()
    found = (above for above in place.parents if RunFolder(above).trained())
    return next((run for run in found if place.relative_to(run).parts[0] in _WRITTEN), None)


class RunFolder:
    """Paths of runs/<name>/ and the rows of its metrics.jsonl.

    Args:
        path: The folder; made when something is written into it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def trained(self) -> bool:
        """Whether the folder holds work: a checkpoint, the best weights or an export."""
        return self.last.exists() or self.best.exists() or current(self.export, "config.json").exists()

    def claim(self, resume: bool = False, overwrite: bool = False) -> None:
        """Returns if a training may write into the folder; asked before any work is done.

        Ranks beside rank 0 do not ask: what they find there is rank 0's.

        Raises:
            CheckpointError: It holds a run, which is neither to be resumed nor to be replaced; or both at once.
            WriteError: It holds files of somebody else under our names, is a file, or cannot be written.
        """
        if resume and overwrite:
            raise CheckpointError("resume and overwrite exclude each other", help="go on with the run, or replace it")
        if other_rank():
            return
        if self.trained() and not resume and not overwrite:
            raise CheckpointError(
                f"{self.path} already holds a run",
                help="resume=true goes on with it, name=NEW starts another one, overwrite=true replaces it",
            )
        around = next((f for f in self.path.absolute().parents if _trained(f)), None)
        if around is not None and not self.trained():
            raise CheckpointError(
                f"{self.path} lies in the folder of another run, {_from_here(around)}",
                help="a run's folder holds that run alone; give another name",
            )
        claim_folder(self.path, _ours, "a run", "name another run, or move them away", _WRITTEN)

    @contextmanager
    def held(self, resume: bool = False, overwrite: bool = False) -> Iterator[None]:
        """The time in which this process alone writes into the folder, claimed as by `claim`; may be nested.

        Raises:
            WriteError: Another process holds it; says which.
        """
        self.claim(resume, overwrite)
        with locked(self.path):
            self.claim(resume, overwrite)  # another process may have trained here meanwhile
            if not other_rank():
                for folder in (self.path, self.last.parent, self.export):
                    sweep(folder, older=0)
            yield

    def clear(self) -> None:
        """Takes away what earlier runs wrote into the folder; logs and files of others stay."""
        finish(self.export)
        found = [self.last, self.best, self.reference, self.rows, self.metrics, self.quarantine, self.parts]
        written = ("plans.json", "plans.txt", "closed_sets.json", "start.json", "config.yaml", "parameters.json")
        found += [self.path / name for name in written]
        found += [self.path / "tokenizer" / name for name in ("tokenizer.model", "vocabulary.json")]
        found += [self.export / name for name in EXPORT]
        for evaluation in self.path.glob("evaluation*.json"):
            tail = evaluation.stem.removeprefix("evaluation")
            found += [evaluation, self.path / f"metrics{tail}.json", self.path / f"report{tail}.html"]
            found += list((self.path / f"samples{tail}").glob("*.png"))
        for path in found:
            path.unlink(missing_ok=True)

    @property
    def last(self) -> Path:
        """The checkpoint a resume starts from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def reference(self) -> Path:
        """Weights that preference pairs are compared with (`training/reference.py`)."""
        return self.path / "checkpoints" / "reference.safetensors"

    @property
    def export(self) -> Path:
        """The self-contained export."""
        return self.path / "export"

    @property
    def rows(self) -> Path:
        """Which rows each task is trained on (`data/contents.py`)."""
        return self.path / ROWS

    @property
    def parts(self) -> Path:
        """What weights of others it began with (`training/begun_parts.py`)."""
        return self.path / "parts.json"

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

    def log(self, *rows: Mapping[str, Any]) -> None:
        """Appends rows to metrics.jsonl."""
        with telling(self.metrics):
            self.path.mkdir(parents=True, exist_ok=True)
            with self.metrics.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

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


def _trained(folder: Path) -> bool:
    try:
        return RunFolder(folder).trained()
    except OSError:  # an `export` of somebody else, which may not be looked into
        return False


def _from_here(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def environment(data: Mapping[str, Any]) -> None:
    """Puts the data and cache folders of a configuration where the readers look."""
    # Compute threads wait for each other by spinning. Without a limit that burns the time of whatever else runs (a
    # loader worker, other programs): two threads on two busy cores were 3 times slower than one. Without any spinning
    # a step takes 2.5 times as long on a quiet machine. This many turns cost a tenth there and bound the loss elsewhere
    # (measured on 2 cores). libgomp reads it once, when torch is imported, which has not happened yet.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    for key, variable in (("root", "OFASYS_DATA"), ("cache", "OFASYS_CACHE")):
        if data.get(key):
            os.environ[variable] = str(data[key])
