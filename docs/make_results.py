"""Puts the table of a run's metrics.json into README.md, between its markers, and draws a sheet of its samples.

    python docs/make_results.py runs/quickstart

copies runs/quickstart/metrics.json to docs/results/quickstart.json, writes the table from it and docs/references.md,
and draws docs/results/quickstart.png from the run's evaluation, or takes its sheet of drawn pictures.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def table(results: dict[str, Any]) -> str:
    """A Markdown table: task, metric, score with interval, strongest trivial baseline, margin, reference."""
    lines = [
        "| task | metric | score (95 % interval) | groups | strongest trivial baseline | margin | clear "
        "| classical reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, task in results["tasks"].items():
        metric, arrow = task["metric"], "↑" if task["metric"]["higher_is_better"] else "↓"
        trivial = [b for b in task["baselines"] if b["kind"] == "trivial"]
        best = max if metric["higher_is_better"] else min
        strongest = best(trivial, key=lambda b: b["value"]) if trivial else None
        others = [b for b in task["baselines"] if b["kind"] != "trivial"]
        references = ", ".join(f"{b['baseline']} {b['value']:.3g}" for b in others)
        margin = task.get("margin")
        shown = "–" if margin is None else f"{margin['value']:+.3g} [{margin['low']:+.3g}, {margin['high']:+.3g}]"
        shown += "" if margin is None or margin.get("paired", True) else " (not paired)"
        lines.append(
            f"| {name} | {metric['name']} {arrow} | {metric['value']:.3g} [{_number(metric['low'])}, "
            f"{_number(metric['high'])}] | {' x '.join(map(str, metric.get('ways') or [metric['groups']]))} | "
            + ("–" if strongest is None else f"{strongest['baseline']} {strongest['value']:.3g}")
            + f" | {shown} | {_clear(margin)} | {references or '–'} |"
        )
    return "\n".join(lines)


def _clear(margin: dict[str, Any] | None) -> str:
    if margin is not None and not margin.get("known", True):
        return "too few groups"
    return "yes" if margin and margin["clear"] else "no"


def sheet(evaluation: Path, target: Path) -> None:
    """A picture of the first test samples of each task: two with an image, one without."""
    from ofasys_lite.report import sample_sheet
    from ofasys_lite.report.saved import load_results

    samples = []
    for task in load_results(evaluation).tasks:
        pictured = any(i.modality == "IMAGE" for s in task.samples[:1] for i in s.inputs)
        samples += list(task.samples)[: 2 if pictured else 1]
    sample_sheet(samples[:16], target, columns=4)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def main(run: str) -> None:
    """Copies the run's metrics and rewrites the README's table."""
    source = Path(run) / "metrics.json"
    results = json.loads(source.read_text(encoding="utf-8"))
    name = results["name"]
    shutil.copy(source, ROOT / "docs" / "results" / f"{name}.json")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"README.md has no markers {begin} ... {end}")
    picture, drawn = ROOT / "docs" / "results" / f"{name}.png", sorted((source.parent / "samples").glob("*.png"))
    if len(drawn) == 1:  # the run's own sheet of what its model drew
        shutil.copy(drawn[0], picture)
    else:
        sheet(source.parent / "evaluation.json", picture)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import reference_page  # docs/references.md has these scores beside their goals

    reference_page.PAGE.write_text(reference_page.page(), encoding="utf-8")
    readme.write_text(pattern.sub(lambda _: f"{begin}\n{table(results)}\n{end}", text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
