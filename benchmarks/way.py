"""PERFORMANCE rows 23 and 24: Python calls for one more written token, distinct functions from a row to its loss.

    python benchmarks/way.py

What `structure.py` counts of this checkout (`walk.py` says how), without its limits, and the rooms of the functions.
Counts, so it does not matter who else uses the machine.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import machine, write_row
from structure import walked
from two_checkouts import HERE


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Counts, prints and stores; returns the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    asked = parser.parse_args(argv)
    counts, calls, token = walked(HERE)
    rooms = Counter(Path(file).parts[0] for file, _ in set(calls))
    files: Counter[str] = Counter()
    for function, count in token.items():
        files[function.partition(" ")[0]] += count  # type: ignore[assignment]
    row: dict[str, Any] = {
        "per_token": counts.per_token,
        "functions": counts.functions,
        "profile": {
            "what": "functions of the package from a row to its loss by room, calls of one more token by file",
            "head": ["row", "where", "functions or calls"],
            "rows": [
                *([24, room, count] for room, count in rooms.most_common()),
                *([23, file, round(count, 1)] for file, count in files.most_common() if count >= 0.5),
            ],
        },
        "machine": machine("torch"),
    }
    print(row)
    print("stored in", write_row("way", row, asked.out))
    return row


if __name__ == "__main__":
    main()
