"""What a user would take for one task alone, trained on the very splits of the quickstart and scored alike.

    pip install phonetisaurus sklearn-crfsuite scikit-learn
    OMP_NUM_THREADS=1 python benchmarks/references.py                # all, one after the other, about 10 CPU minutes
    OMP_NUM_THREADS=1 python benchmarks/references.py g2p slots      # these
    python benchmarks/references.py --page                           # docs/references.md anew, nothing is trained

The data must be prepared (`ofasys-lite data prepare easy_vqa g2p intents digits sudoku detection`). Whatever is chosen
(strength of a penalty, a threshold) is chosen on the validation split; the test split is read once. Scores and 95 %
intervals are those of the metric and the groups that the task's card names, as `ofasys-lite evaluate` computes them.
Networks are trained once for each of `--seeds`; the median run is shown, with the scores of all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from common import RESULTS, commit, machine
from reference_networks import (
    CentreNet,
    EasyVQA,
    LeNet,
    SudokuLSTM,
    centres,
    detector_loss,
    found,
    outputs,
    parameters,
    pictures,
    train,
)
from reference_page import PAGE, page
from reference_taggers import SentenceClassifier, SlotTagger
from torch.nn import functional as F

from ofasys_lite.cards.find import find_task
from ofasys_lite.metrics import Score, evaluate_metric
from ofasys_lite.report.task_rows import open_task

STORE = RESULTS / "references.json"
Rows = list[dict[str, Any]]
#: Predictions of valid and test rows, and what should be said of the model.
Answers = tuple[list[Any], dict[str, Any]]


class Task:
    """Rows of a task's splits, and its metric."""

    def __init__(self, name: str) -> None:
        self.card = find_task(name)
        sources = open_task(self.card)
        self.split: dict[str, Rows] = {
            split: [source.row(i) for i in range(len(source))] for split, source in sources.items()
        }

    def score(self, predictions: Sequence[Any], references: Sequence[Any], split: str = "test") -> Score:
        """The score of the task's headline metric, its groups left out in turn."""
        rows = self.split[split]
        groups = [str(row[self.card.group]) for row in rows]
        light = [{k: v for k, v in row.items() if not isinstance(v, bytes)} for row in rows]
        return evaluate_metric(self.card.metrics[0].name, predictions, references, groups, light)

    def column(self, split: str, column: str) -> list[Any]:
        """One column of a split."""
        return [row[column] for row in self.split[split]]


def numbered(values: Sequence[Any], names: Sequence[Any]) -> torch.Tensor:
    """Places of the values among the names; -100 (no loss) for those that are not there."""
    place = {name: i for i, name in enumerate(names)}
    return torch.tensor([place.get(value, -100) for value in values])


def vqa(task: Task, seed: int) -> Answers:
    """easy-VQA's own kind of network, trained as published: 8 epochs of Adam at .0005, 32 questions an update."""
    answers = sorted(set(task.column("train", "answer")))
    words = sorted({word for question in set(task.column("train", "question")) for word in split_words(question)})
    parts: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
    for split in ("train", "test"):
        files, questions = task.column(split, "image"), task.column(split, "question")
        unique = list(dict.fromkeys(files))  # a picture has some ten questions
        bag = torch.zeros(len(questions), len(words))
        for n, question in enumerate(questions):
            bag[n, [words.index(word) for word in split_words(question) if word in words]] = 1
        parts[split] = (pictures(unique, "RGB"), numbered(files, unique), bag)
    torch.manual_seed(seed)
    model = EasyVQA(len(words), len(answers))

    def inputs(split: str) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
        x, place, bag = parts[split]
        return lambda numbers: (x[place[numbers]], bag[numbers])

    labels = numbered(task.column("train", "answer"), answers)
    loss = lambda out, n: F.cross_entropy(out, labels[n])  # noqa: E731
    train(model, inputs("train"), loss, len(labels), 8, 5e-4, 32, falling=False)
    said = outputs(model, inputs("test"), len(task.split["test"])).argmax(1)
    return [answers[i] for i in said.tolist()], {"parameters": parameters(model)}


def split_words(text: str) -> list[str]:
    """Words of a question in lower case, without its punctuation."""
    return text.lower().replace("?", " ").replace(",", " ").split()


def digits(task: Task, seed: int) -> Answers:
    """LeNet with ReLU, 20 epochs, random shifts of up to 2 pixels."""
    names = sorted(set(task.column("train", "label")))
    x, test = (pictures(task.column(split, "image"), "L") for split in ("train", "test"))
    labels = numbered(task.column("train", "label"), names)
    torch.manual_seed(seed)
    model = LeNet(len(names))
    train(model, lambda n: (x[n],), lambda out, n: F.cross_entropy(out, labels[n]), len(x), 20, 2e-3, 64)
    said = outputs(model, lambda n: (test[n],), len(test)).argmax(1).tolist()
    return [names[i] for i in said], {"parameters": parameters(model)}


def sudoku(task: Task, seed: int) -> Answers:
    """A bidirectional LSTM of two layers over the cells, 10 epochs; it knows no rule of the game."""
    grids = {s: torch.tensor(task.column(s, "puzzle")).flatten(1) for s in ("train", "test")}
    solved = torch.tensor(task.column("train", "solution")).flatten(1) - 1
    torch.manual_seed(seed)
    model = SudokuLSTM()
    loss = lambda out, n: F.cross_entropy(out, solved[n])  # noqa: E731
    train(model, lambda n: (grids["train"][n],), loss, len(solved), 10, 3e-3, 64)
    said = outputs(model, lambda n: (grids["test"][n],), len(grids["test"])).argmax(1) + 1
    return said.view(-1, 4, 4).tolist(), {"parameters": parameters(model)}


def detection(task: Task, seed: int) -> Answers:
    """CenterNet's kind: seven small convolutions, a heat map at a quarter of the size, 12 epochs."""
    labels = sorted({each["label"] for scene in task.column("train", "objects") for each in scene})
    x = {s: pictures(task.column(s, "image"), "L") for s in ("train", "valid", "test")}
    side = x["train"].shape[-1]
    heat, boxes, there = centres(task.column("train", "objects"), labels, side)
    torch.manual_seed(seed)
    model = CentreNet(1, len(labels))
    loss = lambda out, n: detector_loss(out, heat[n], boxes[n], there[n])  # noqa: E731
    train(model, lambda n: (x["train"][n],), loss, len(heat), 12, 2e-3, 64)
    out = {s: outputs(model, lambda n, s=s: (x[s][n],), len(x[s])) for s in ("valid", "test")}
    truth = task.column("valid", "objects")
    levels = [0.1, 0.2, 0.3, 0.4, 0.5]
    least = max(levels, key=lambda v: task.score(found(out["valid"], labels, v), truth, "valid").value)
    return found(out["test"], labels, least), {"parameters": parameters(model), "least score, by valid": least}


def g2p(task: Task, seed: int) -> Answers:
    """phonetisaurus: letters and phones aligned by EM, joint n-grams of order 8 as a transducer."""
    import phonetisaurus

    lexicon = {row["word"]: [p.split() for p in row["pronunciations"]] for row in task.split["train"]}
    words = task.column("test", "word")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.fst"
        phonetisaurus.train(lexicon, model)
        said: dict[str, str] = {}
        for word, phones in phonetisaurus.predict(list(dict.fromkeys(words)), model):
            said.setdefault(word, " ".join(phones))
        size = model.stat().st_size
    return [said.get(word, "") for word in words], {"unanswered": sum(w not in said for w in words), "bytes": size}


def intent(task: Task, seed: int) -> Answers:
    """TF-IDF of words, pairs and pieces of words with logistic regression, its penalty by the validation split."""
    texts, truth = ({s: task.column(s, c) for s in task.split} for c in ("text", "intent"))

    def fitted(strength: float) -> SentenceClassifier:
        return SentenceClassifier(strength).fit(texts["train"], truth["train"])

    models = {c: fitted(c) for c in (10.0, 100.0)}
    best = max(models, key=lambda c: task.score(models[c].predict(texts["valid"]), truth["valid"], "valid").value)
    return models[best].predict(texts["test"]), {"C, by valid": best}


def slots(task: Task, seed: int) -> Answers:
    """CRF tags for what is said word by word, TF-IDF and logistic regression for the intent and for implied values."""
    records = {s: [{k: v for k, v in r.items() if v is not None} for r in task.column(s, "record")] for s in task.split}
    texts = {s: task.column(s, "text") for s in task.split}
    model = SlotTagger()
    model.fit(texts["train"], records["train"])
    valid = task.score(model.predict(texts["valid"]), records["valid"], "valid").value
    return model.predict(texts["test"]), {"by the classifier": model.classified, "on valid": round(valid, 3)}


#: task -> (how, column of the truth, packages, whether it is trained with several seeds)
REFERENCES: dict[str, tuple[Callable[[Task, int], Answers], str, tuple[str, ...], bool]] = {
    "vqa": (vqa, "answer", ("torch",), True),
    "g2p": (g2p, "phones", ("phonetisaurus",), False),
    "slots": (slots, "record", ("sklearn-crfsuite", "scikit-learn"), False),
    "intent": (intent, "intent", ("scikit-learn",), False),
    "digits": (digits, "label", ("torch",), True),
    "sudoku": (sudoku, "solution", ("torch",), True),
    "detection": (detection, "objects", ("torch",), True),
}


def measured(name: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The score of one reference, of its median run where it was trained several times."""
    how, column, packages, drawn = REFERENCES[name]
    task = Task(name)
    truth = task.column("test", column)
    if name == "slots":
        truth = [{k: v for k, v in record.items() if v is not None} for record in truth]
    runs = []
    for seed in seeds if drawn else seeds[:1]:
        begin = os.times()
        answers, facts = how(task, seed)
        end = os.times()
        spent = sum(end[:4]) - sum(begin[:4])  # of children, too: phonetisaurus is a few programs
        score = task.score(answers, truth)
        print(f"{name}, seed {seed}: {score}, {spent:.0f} CPU s, {facts}", file=sys.stderr, flush=True)
        runs.append((score, facts, spent))
    score, facts, spent = sorted(runs, key=lambda run: run[0].rank)[len(runs) // 2]
    return {
        "what": " ".join((how.__doc__ or "").split()),
        "metric": {key: getattr(score, key) for key in ("name", "value", "low", "high", "groups", "higher_is_better")},
        "runs": [run[0].value for run in runs],
        "rows": {split: len(rows) for split, rows in task.split.items()},
        "cpu_seconds": round(spent, 1),
        "facts": facts,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "machine": machine(*packages),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is asked and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=[*REFERENCES, []], help="which references; none: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of networks, each trained anew")
    parser.add_argument("--page", action="store_true", help="only write docs/references.md")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name in [] if asked.page else asked.tasks or list(REFERENCES):
        row = measured(name, asked.seeds)
        stored = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {"benchmark": "references"}
        stored.setdefault("tasks", {})[name] = row  # each as it is done, so that a failure does not lose the others
        STORE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
