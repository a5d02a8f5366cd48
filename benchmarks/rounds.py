"""Token ids written all together in rounds (Mask-Predict) beside left to right, on one task, of models trained alike.

    for seed in 0 1; do
      ofasys-lite train tasks=[g2p] name=left-$seed seed=$seed ...
      ofasys-lite train tasks=[g2p] name=rounds-$seed seed=$seed ... \\
        'tasks.g2p.instruction="how is \\" [TEXT:word,spelled] \\" pronounced? -> [PHONE:phones,decode=mask_predict]"'
    done
    python benchmarks/rounds.py --left runs/left-0 runs/left-1 --rounds runs/rounds-0 runs/rounds-1

Told per way: the metric of the card on its test rows for each run, passes of the decoder for a row (left to right one
for each id, over the cache; in rounds as many as `steps`, over all ids), and CPU milliseconds a row in batches.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from common import RESULTS, commit, machine

from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.report.task_rows import open_task

#: How each kind of run is asked: greedy and a beam, rounds and lengths that are tried.
LEFT: tuple[dict[str, Any], ...] = ({"beam": 1}, {"beam": 4})
ROUNDS: tuple[dict[str, Any], ...] = (
    *({"steps": steps, "lengths": 1} for steps in (1, 2, 4, 8)),
    {"steps": 4, "lengths": 3},
)


def asked(run: str, tried: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """What the only task of a run gives on its test rows when it is asked that way."""
    model = Generalist.from_pretrained(run, device="cpu")
    (name,) = model.tasks
    card = model.entry(name).card
    source = open_task(card, None)["test"]
    rows = [source.row(number) for number in range(min(limit or len(source), len(source)))]
    metric = card.metrics[0]
    (slot,) = model.entry(name).plan.target_slots()
    options = model.entry(name).options(**tried)
    requests = [
        Request(name, {key: value for key, value in row.items() if key != slot.column}, str(number), options)
        for number, row in enumerate(rows)
    ]
    begin = time.process_time()
    found = predict(model, requests)
    spent = time.process_time() - begin
    said = [None if each is None else each.values[slot.column] for each in found]
    groups = [row[card.group] for row in rows] if card.group else None
    score = evaluate_metric(metric.name, said, [row[slot.column] for row in rows], groups, rows)
    ids = sum(len(str(each).split()) for each in said) / len(said)
    return {
        "score": round(score.value, 4),
        "interval": [round(score.low, 4), round(score.high, 4)],
        "passes": tried.get("steps", round(ids + 1, 1)),
        "ms_a_row": round(1e3 * spent / len(rows), 2),
    }


def main() -> None:
    """Prints a line per way and run, writes benchmarks/results/rounds.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--left", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--rounds", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--limit", type=int, default=None, help="rows of the test split")
    given = parser.parse_args()
    table = []
    for way, runs, tries in (("left to right", given.left, LEFT), ("rounds", given.rounds, ROUNDS)):
        for tried in tries:
            for run in runs:
                table.append({"way": way, **tried, "run": run.rpartition("/")[2], **asked(run, tried, given.limit)})
                print(json.dumps(table[-1]), flush=True)
    text = json.dumps({"benchmark": "rounds", "commit": commit(), "machine": machine(), "table": table}, indent=1)
    (RESULTS / "rounds.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
