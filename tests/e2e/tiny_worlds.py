"""Tiny tasks over every modality, and tiny models: what tests of training, decoding and files share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.generalist.trained import TaskEntry
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch
from ofasys_lite.layout.ready import DataSettings, Ready, ReadyTask, make_ready
from ofasys_lite.model import ModelConfig
from ofasys_lite.training.accounting import RunTerms, unit_weights
from ofasys_lite.training.fit import TrainingRun, train
from ofasys_lite.training.settings import TrainSettings

LABELS = ("red", "green", "blue")
WORDS = ("sun", "moon", "star", "sky", "rain", "snow")
PHONES = {"sun": "S AH N", "moon": "M UW N", "star": "S T AA R", "sky": "S K AY", "rain": "R EY N", "snow": "S N OW"}

#: Task -> line. Together they read and write every modality.
LINES = {
    "caption": "[IMAGE:img] what is shown? -> [TEXT:cap]",
    "restore": "[IMAGE:img,mask_ratio=0.5] what was shown? -> [TEXT:cap]",
    "find": "[IMAGE:img] where is the [TEXT:label] one? -> [BOX:box]",
    "region": "[IMAGE:img] region: [BOX:box] which colour? -> [TEXT:label,closed_set]",
    "detect": "[IMAGE:img] detect. -> ([BOX:box] [TEXT:label,closed_set=labels])*<over=objects,max=4,order=random>",
    "speech": "[AUDIO:wav,loss=ctc(text,weight=0.3)] what is said? -> [TEXT:text]",
    "record": 'what does " [TEXT:text] " ask for? -> [STRUCT:record]',
    "puzzle": "[STRUCT:puzzle,schema=grid(rows=2,columns=2,values=(1,2))] solve. -> "
    "[STRUCT:solution,schema=grid(rows=2,columns=2,values=(1,2))]",
    "sound": "[TEXT:text] sounds like -> [PHONE:phones]",
    "spell": "[PHONE:phones] is written -> [TEXT:text]",
    "next": "history: ([TEXT:title] [CATEGORY:action])*<over=events,max=2,keep=last> -> [CATEGORY:item,closed_set]",
    "fill": 'complete " [TEXT:cap,mask_ratio=0.3] " -> [TEXT:cap] ||| what is missing in [TEXT:cap,mask_ratio=0.5]? '
    "-> [TEXT:cap]",
    "both": "[TEXT:cap] hint: [TEXT:sub?] -> of [TEXT:text,no_loss] say [TEXT:cap] ;; "
    "[TEXT:label,closed_set,weight=0.5]",
}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with a column for every slot of LINES; images and sounds differ in size."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = LABELS[int(rng.integers(3))]
        text = WORDS[int(rng.integers(6))]
        high, wide = (int(v) for v in rng.integers(16, 33, 2))
        pixels = rng.integers(0, 256, (high, wide, 3)).astype(np.uint8)
        x, y = (float(v) for v in rng.integers(0, 8, 2))
        box = [x, y, x + 6.0, y + 5.0]
        cells = [[int(v) for v in line] for line in rng.integers(1, 3, (2, 2))]
        found.append(
            {
                "id": f"row-{number}",
                "img": pixels,
                "cap": f"a {label} {text} number {number}",
                "label": label,
                "box": box,
                "objects": [{"box": box, "label": label}] * int(rng.integers(1, 4)),
                "wav": {"array": rng.normal(0, 0.1, int(rng.integers(6000, 12000))).astype(np.float32), "rate": 16000},
                "text": text,
                "record": {"intent": label, "slots": [{"name": text, "count": number}], "sure": number % 2 == 0},
                "puzzle": [[cells[0][0], None], [None, cells[1][1]]],
                "solution": cells,
                "phones": PHONES[text],
                "events": [{"title": w, "action": "like" if w > "s" else "skip"} for w in WORDS[: 1 + number % 3]],
                "item": text,
                "sub": None if number % 2 else label,
            }
        )
    return found


def learned(batch: Batch, objective: str = "cross_entropy") -> tuple[LossRows, ...]:
    """What a pack learns by objectives of a name, adapter by adapter."""
    return tuple(rows for rows in batch.losses if rows.objective.name == objective)


def labels(batch: Batch) -> Any:
    """(L,) ids that a pack is to predict."""
    return np.concatenate([np.zeros(0, np.int64), *(rows.arrays["labels"] for rows in learned(batch))])


def token_rows(batch: Batch) -> Any:
    """(L,) target rows that are to predict an id."""
    return np.concatenate([np.zeros(0, np.int64), *(rows.rows_R for rows in learned(batch))])


def task(name: str, data: Any = None, **more: Any) -> TaskCard:
    """The card of one of LINES (or of `line=`) on rows in memory."""
    line = more.pop("line", None) or LINES[name]
    held = rows(24, seed=sum(map(ord, name))) if data is None else data
    splits = dict(held) if isinstance(held, dict) else {"train": held, "valid": held[:4], "test": held[:4]}
    sets = {"labels": list(LABELS), **more.pop("sets", {})}
    return load_task_card({"instruction": line, "data": splits, "sets": sets, **more}, name=name)


def tasks(*names: str) -> list[TaskCard]:
    """Cards of the named tasks, of all without names."""
    return [task(name) for name in names or LINES]


def tiny(**more: Any) -> ModelConfig:
    """One layer on each side, width 32."""
    sizes = {"width": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "ffn": 64}
    return ModelConfig(**{**sizes, "norm": "layernorm", "mlp": "gelu", **more})


def small_data() -> DataSettings:
    """A small tokenizer, few bins, small media."""
    media = {"IMAGE": {"patch": 4, "widths": [8, 8]}, "AUDIO": {"channels": 16}}
    return DataSettings(pieces=400, bins=32, modalities=media)


def ready(cards: Sequence[TaskCard]) -> Ready:
    """The tasks, ready to be drawn from."""
    return make_ready(cards, modalities(), small_data())


def generalist(prepared: Ready, seed: int = 0, **more: Any) -> Generalist:
    """An untrained model for the tasks."""
    torch.manual_seed(seed)
    specs = {name: AdapterSpec(path, dict(values)) for name, (path, values) in prepared.adapters.items()}
    network = Network(tiny(**more), len(prepared.vocabulary), specs)
    entries = {t.card.name: TaskEntry(t.card, t.plan) for t in prepared.tasks}
    return Generalist(network, prepared.vocabulary, entries, prepared.modalities, small_data())


def run(cards: Sequence[TaskCard], folder: Path, **more: Any) -> Generalist:
    """Trains on the CPU in fp32, quietly; keywords of TrainSettings, TrainingRun and ModelConfig are told apart."""
    accepted = ("ignore_plans", "changed_rows", "overwrite")
    own = {k: more.pop(k) for k in ("resume", *accepted, "start", "config", "notes") if k in more}
    console = more.pop("console", None) or Console(file=io.StringIO())
    model = tiny(**more.pop("model", {}))
    validate = more.pop("validate", None)
    data = more.pop("data", small_data())
    cards_of_modalities = more.pop("modalities", None) or modalities()
    settings = {"steps": 4, "samples_per_step": 8, "workers": 0, "precision": "fp32", "accelerator": "cpu"}
    settings = {**settings, "progress": False, "log_every": 2, "warmup": 0.2, "lr": 5e-3, **more}
    what = TrainingRun(cards, cards_of_modalities, model, TrainSettings(**settings), folder, data, **own)
    return train(what, console, validate=validate)


def gradients(
    model: Generalist, task: ReadyTask, rows: Sequence[Any], packs: Sequence[Sequence[int]]
) -> dict[str, torch.Tensor]:
    """Gradients of a step over some rows, in packs, each row with its own generator; the losses stand at `losses`."""
    batches = [
        collate([task.maker.example(rows[i], str(i), np.random.default_rng(i), True) for i in pack]) for pack in packs
    ]
    terms = RunTerms(task.maker.terms(), [task.card.name])
    counts = terms.count(batches)
    model.network.eval()
    model.network.zero_grad(set_to_none=True)
    found = []
    for batch in batches:
        losses = model.network(to_device(batch, torch.device("cpu")))
        (losses.values_U * torch.from_numpy(unit_weights(batch, terms, counts, "share")[0])).sum().backward()
        found.append(losses.values_U.detach().sort().values)
    grads = {n: p.grad.clone() for n, p in model.network.named_parameters() if p.grad is not None}
    return {**grads, "losses": torch.cat(found).sort().values}


def weights(model: Generalist) -> dict[str, torch.Tensor]:
    """All parameters by name, detached."""
    return {n: p.detach().clone() for n, p in model.network.named_parameters()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are the same bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)
