"""Whether a model that chats uses what was said before: its answers beside those to another history, and to none.

python benchmarks/chat.py runs/home_chat home_chat --limit 400

The turns before the last question are those of the row, those of another row (its questions and their true answers),
or left out. Equality with the wanted answer, per kind of last turn where the rows have a column `kind`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import ofasys_lite
from ofasys_lite.data.source import spread
from ofasys_lite.report.task_rows import open_task

WAYS = ("own", "another's", "none")


def talks(rows: Sequence[dict[str, Any]], column: str, way: str) -> list[list[dict[str, str]]]:
    """The turns before each answer, without a system turn, in one of the WAYS."""
    plain = [[turn for turn in row[column] if turn["role"] != "system"] for row in rows]
    # half of the rows away: talks of one template stand together
    others = [plain[(number + len(plain) // 2) % len(plain)] for number in range(len(plain))]
    before = {
        "own": [turns[:-2] for turns in plain],
        "another's": [turns[:-2] for turns in others],
        "none": [[] for _ in plain],
    }
    return [[*earlier, turns[-2]] for earlier, turns in zip(before[way], plain, strict=True)]


def main() -> None:
    """Prints the shares, and as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("task")
    parser.add_argument("--limit", type=int, default=400)
    given = parser.parse_args()
    model = ofasys_lite.OFASys.from_pretrained(given.run)
    entry = model.generalist.entry(given.task)
    column = entry.plan.target_slots()[0].column
    source = open_task(entry.card)["test"]
    rows = [dict(source.row(i)) for i in spread(len(source), given.limit)]
    wanted = [row[column][-1]["content"] for row in rows]
    kinds = [str(row.get("kind", "all")) for row in rows]
    results: dict[str, dict[str, float]] = {}
    for way in WAYS:
        asked = [{column: talk} for talk in talks(rows, column, way)]
        said = [prediction.text for prediction in model.predict(given.task, asked)]
        right = defaultdict[str, list[bool]](list)
        for kind, one, other in zip(kinds, said, wanted, strict=True):
            for name in ("all", *([kind] if kind != "all" else ())):
                right[name].append(one == other)
        results[way] = {kind: sum(found) / len(found) for kind, found in sorted(right.items())}
        print(f"history {way}: " + ", ".join(f"{k} {v:.3f} ({len(right[k])})" for k, v in results[way].items()))
    print(json.dumps({"run": given.run, "task": given.task, "rows": len(rows), "right": results}))


if __name__ == "__main__":
    main()
