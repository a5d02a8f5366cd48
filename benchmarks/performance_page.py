"""docs/performance.md from the JSON files in benchmarks/results: goal, figure, met or not, and why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common import RESULTS, table
from goals import GOALS, Goal, Missing

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
HEAD = """# Speed: goals and figures

Written by `python -m benchmarks --only-page` from the JSON files in benchmarks/results; `python -m benchmarks` measures
them all anew, one script after the other, `python -m benchmarks --rows 10 11` those of some rows. Opponents are set up
as their best users would; [benchmarks/README.md](../benchmarks/README.md) has the protocol. Rows 17 and 18 need a GPU.

Figures are CPU time of one thread. Both sides of a ratio ran A B A B in one process on the same data, so that others on
the machine slow both. The last table has the load while each was measured: where it is above the number of cores, the
cores were shared, ratios hold and absolute seconds are upper bounds.
"""


def stored(subject: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The result of a subject; None where there is none."""
    path = folder / f"{subject}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def line(goal: Goal, found: dict[str, Any] | None) -> list[str]:
    """One row of the table."""
    row = [str(goal.row), goal.metric, goal.shown(goal.must), goal.shown(goal.aim)]
    if found is None:
        return [*row, "not measured", "–", "–", f"`{goal.subject}`"]
    try:
        figures = list(goal.read(found))
    except Missing as missing:
        return [*row, str(missing), "–", "–", f"`{goal.subject}`"]
    except (KeyError, IndexError):
        return [*row, "not in the stored result: it is of an older script", "–", "–", f"`{goal.subject}`"]
    met = ["yes" if goal.met(figures, wanted) else "no" for wanted in (goal.must, goal.aim)]
    return [*row, goal.exact(figures), *met, f"`{goal.subject}`"]


def page(folder: Path = RESULTS) -> str:
    """The whole page as it should be."""
    results = {goal.subject: stored(goal.subject, folder) for goal in GOALS}
    rows = [["row", "what", "must", "aim", "measured", "must met", "aim met", "script"]]
    rows += [line(goal, results[goal.subject]) for goal in GOALS]
    parts = [HEAD, table(rows), "\n## Why not\n"]
    short = [(goal, cells) for goal, cells in zip(GOALS, rows[1:], strict=True) if "no" in cells[5:7]]
    for goal, cells in short:
        found = results[goal.subject]
        assert found is not None
        try:
            why = goal.why(found)
        except KeyError:
            why = "not explained: the stored result is of an older script"
        if "profile" not in found and "profile below" in why:
            why = "not explained: its result was stored before profiles were"
        parts.append(f"- Row {goal.row} ({cells[4]}): {why}.")
    if not short:
        parts.append("Every measured row meets its goals.")
    profiles = [(subject, found["profile"]) for subject, found in results.items() if found and found.get("profile")]
    for subject, profile in profiles:
        parts.append(f"\n### Profile of `{subject}`: {profile['what']}\n")
        parts.append(table([profile["head"], *([str(cell) for cell in each] for each in profile["rows"])]))
    parts += ["\n## What was run where\n", table(machines(results))]
    return "\n".join(parts) + "\n"


def renew() -> Path:
    """Writes the page; returns where."""
    PAGE.write_text(page(), encoding="utf-8")
    return PAGE


def machines(results: dict[str, dict[str, Any] | None]) -> list[list[str]]:
    """Date, commit, CPU and versions of each result."""
    rows = [["script", "date", "commit", "CPU", "versions", "load, cores"]]
    for subject, found in results.items():
        if found is None:
            continue
        of = _machine(found)
        versions = ", ".join(f"{k} {v}" for k, v in of.items() if k not in ("cpu", "flags") and isinstance(v, str))
        cpu = f"{of.get('cpu', '?')} ({', '.join(of.get('flags', [])) or 'no flags noted'})"
        shared = f"{found['load']}, {found['cores']}" if "load" in found else "not noted"
        rows.append([f"`{subject}`", found.get("date", "–"), found.get("commit", "–"), cpu, versions, shared])
    return rows


def _machine(found: dict[str, Any]) -> dict[str, Any]:
    if "tries" in found:
        return dict(found["tries"][-1]["machine"]) if found["tries"] else {}
    if "machine" in found:
        return dict(found["machine"])
    return {k: v for k, v in found.items() if k in ("cpu", "flags", "python", "pillow", "numpy", "libjpeg_turbo")}
