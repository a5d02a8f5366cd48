"""Executed accuracy of text-to-SQL with the grammar of the row's schema and without, of one trained model.

    ofasys-lite train tasks=[text_to_sql] model=quick steps=150 minutes=null name=text_to_sql \
        'trainer.optimizer={path: muon, lr: 3.0}' trainer.lr=0.0008 trainer.clip=5.0 trainer.precision=fp32 \
        trainer.samples_per_step=16 data.pieces=2000 evaluate=false
    python benchmarks/sql_grammar.py runs/text_to_sql

An early stage, at which the model still errs; `--name sql_grammar_learned` for another. It learned the line without a
grammar; what is learned is the same with it. Also told: which share of all queries of the data the grammar accepts, how
many predictions SQLite refuses, and what a written token costs.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from common import RESULTS, commit, machine

from ofasys_lite import GeneralistModel
from ofasys_lite.errors import DataError
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.preprocess.sql_schema import read_sql_schema
from ofasys_lite.preprocess.sql_text import sql_text
from ofasys_lite.preprocess.text_grammar import check_spelt
from ofasys_lite.report.task_rows import open_task


def accepted(sources: Any) -> dict[str, Any]:
    """How many of the data's queries the grammar accepts, in how many microseconds each."""
    count = right = 0
    begin = time.process_time()
    for source in sources:
        for number in range(len(source)):
            row = source.row(number)
            count += 1
            try:
                check_spelt(sql_text(read_sql_schema(row["schema"])), row["sql"])
                right += 1
            except DataError as error:
                print(row["sql"], "|", error.message)
    return {"queries": count, "accepted": right, "us_each": round(1e6 * (time.process_time() - begin) / count)}


def main() -> None:
    """Prints the table, writes it to benchmarks/results/sql_grammar.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--name", default="sql_grammar", help="of the JSON in benchmarks/results")
    given = parser.parse_args()
    model = GeneralistModel.from_pretrained(given.run)
    card = model.generalist.entry("text_to_sql").card
    splits = open_task(card, None)
    test = splits["test"]
    chosen = np.random.default_rng(0).permutation(len(test))[: given.limit]
    rows = [{**test.row(int(i)), "db": f"{test.base}/{test.row(int(i))['db']}"} for i in chosen]
    line = card.instruction.strip()
    tried = {"free": line, "grammar": line.replace("[TEXT:sql]", "[TEXT:sql,grammar=sql(schema)]")}
    table = []
    for name, each in tried.items():
        for beam in (1, 4):
            begin = time.process_time()
            asked = [{key: row[key] for key in ("question", "schema")} for row in rows]
            said = [
                prediction.text for prediction in model.predict(each, asked, **({"beam": beam} if beam > 1 else {}))
            ]
            spent = time.process_time() - begin
            wanted = [row["sql"] for row in rows]
            found = evaluate_metric("sql_execution", said, wanted, [row["group"] for row in rows], rows=rows)
            tokens = sum(len(model.generalist.vocabulary.encode(text or "")) + 1 for text in said)
            table.append(
                {
                    "written": name,
                    "beam": beam,
                    "accuracy": round(found.value, 3),
                    "low": round(found.low, 3),
                    "high": round(found.high, 3),
                    "refused": found.details["failed_predictions"],
                    "ms_a_token": round(1e3 * spent / tokens, 2),
                }
            )
            print(json.dumps(table[-1]), flush=True)
    gold = accepted(splits.values())
    print(json.dumps(gold))
    found_all = {"benchmark": "sql_grammar", "commit": commit(), "machine": machine(), "rows": len(rows)}
    text = json.dumps({**found_all, "table": table, "data": gold}, indent=1)
    (RESULTS / f"{given.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
