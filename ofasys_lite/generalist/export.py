"""Exports: config.json + model.safetensors + tokenizer, loadable without Hydra and without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ofasys_lite.cards import modalities as all_modalities
from ofasys_lite.cards.stored import portable_path, stored_card, stored_modalities
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.contents import Contents
from ofasys_lite.data.spec import is_paths
from ofasys_lite.errors import CheckpointError, OfasysError, WriteError
from ofasys_lite.generalist.model_card import may_write_card, model_card, write_card
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.trained import TaskEntry, read_contents, write_contents
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model import ModelConfig, pick_device
from ofasys_lite.plan import build_plan, freeze
from ofasys_lite.plan.codecs import MODEL_KEYS, adapter_facts, codec_slots, with_codecs
from ofasys_lite.preprocess.foreign_vocabulary import load_vocabulary
from ofasys_lite.preprocess.vocabulary import Vocabulary
from ofasys_lite.run.find_run import begin_with_others
from ofasys_lite.run.run_folder import EXPORT, ROWS
from ofasys_lite.version import __version__
from ofasys_lite.writing import atomic, claim_folder, current, staged, write_atomic
from ofasys_lite.writing.plain_values import as_plain

# 2: logits and rows of the token table are scaled by its deviation; interleaved rotary axes
_FORMAT = 2


@dataclass(eq=False)
class Export:
    """What an export holds.

    Attributes:
        modalities: Modality cards by name and alias.
        data: Settings of preprocessors (box bins and the modalities' overrides).
        contents: Per task, which rows it was trained on, where that is known.
        parts: By modality, what weights of others its part of the model began with: `house`, `source`, `licence`.
        results: What an evaluation of all rows said of these weights: `split`, `facts`, `tasks`, as in metrics.json.
        licence: Under which the model may be used, as its author says; empty where nobody said.
    """

    network: Network
    vocabulary: Vocabulary
    tasks: dict[str, TaskEntry]
    modalities: Mapping[str, ModalityCard]
    data: DataSettings
    contents: dict[str, Contents] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""


def _source(source: Any) -> Any:
    """A data source as the card names it; rows in memory are described, not stored."""
    if isinstance(source, (str, Path, Mapping)) or (isinstance(source, (list, tuple)) and is_paths(source)):
        return as_plain(source)
    return f"<{type(source).__name__} in memory>"


def _card(card: TaskCard) -> dict[str, Any]:
    stored = {f.name: as_plain(getattr(card, f.name)) for f in fields(card) if f.name not in ("origin", "data")}
    data = {split: _source(source) for split, source in card.data.items()}
    return {**stored, "data": data, "path": portable_path("tasks", card.path)}


def _config(model: Export) -> dict[str, Any]:
    used = {s.modality for e in model.tasks.values() for s in e.plan.slots()}
    cards = {c.name: c for c in model.modalities.values()}
    tasks = {}
    for name, entry in model.tasks.items():
        closed = {s.key: list(s.closed.values) for s in entry.plan.slots() if s.closed and s.closed.kind == "column"}
        codecs = {s.key: as_plain(adapter_facts(s)) for s in codec_slots(entry.plan)}
        tasks[name] = {"card": _card(entry.card), "closed": closed, "codecs": codecs, "plan": entry.plan.hash}
    return {
        "format": _FORMAT,
        "ofasys_lite": __version__,
        "model": model.network.config.stored(),
        "vocabulary": {"rows": len(model.vocabulary), "hash": model.vocabulary.hash},
        "adapters": {n: {"path": s.path, "settings": as_plain(s.settings)} for n, s in model.network.specs.items()},
        "data": as_plain(model.data),
        # where a type was declared says nothing to who loads it, and would tell of the author's machine
        "modalities": {n: {**as_plain(asdict(cards[n])), "path": Path(cards[n].path).name} for n in sorted(used)},
        "tasks": tasks,
        **({"parts": as_plain(model.parts)} if model.parts else {}),
        **({"results": as_plain(model.results)} if model.results else {}),
        **({"licence": model.licence} if model.licence else {}),
    }


def save_weights(network: Network, path: Path) -> None:
    """Writes the weights, as they are without converters, to `path` (safetensors), atomically."""
    tensors = {n: t.cpu().contiguous() for n, t in network.plain_weights().items()}
    with atomic(path, sync=True) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})


def save(model: Export, folder: Path, overwrite: bool = False) -> Path:
    """Writes the export into `folder`, whose other files stay; an older export stays until the new one is complete.

    Raises:
        WriteError: The folder holds a model and `overwrite` is not said, or files of others with names of ours, or it
            cannot be written.
    """
    help = "name another folder, or replace what is there: overwrite=True"
    if _ours(folder) and not overwrite:
        raise WriteError(f"{folder} already holds a model", help=help)
    claim_folder(folder, lambda _: overwrite, "a model of ours", help, EXPORT)
    text = json.dumps(_config(model), indent=1, ensure_ascii=False)
    card = may_write_card(folder)
    with staged(folder) as stage:
        save_weights(model.network, stage / "model.safetensors")
        model.vocabulary.save(stage)
        write_contents(model.contents, stage / ROWS)
        write_atomic(stage / "config.json", text)
        if card:
            write_card(_card_text(model, folder), stage)
    return folder


def add_results(folder: Path, results: Mapping[str, Any]) -> bool:
    """Puts the results of an evaluation into an export's config.json and card; whether the card was written.

    Args:
        results: `split`, `facts` and `tasks` of metrics.json.

    Raises:
        CheckpointError: The export is damaged.
    """
    model = load(folder, "cpu")
    model.results = results
    place = current(folder, "config.json")
    content = {**json.loads(place.read_text(encoding="utf-8")), "results": as_plain(results)}
    write_atomic(place, json.dumps(content, indent=1, ensure_ascii=False))
    return write_card(_card_text(model, folder), folder)


def _card_text(model: Export, folder: Path) -> str:
    """The model card; a run's export is called as the run."""
    place = folder.resolve()
    name = place.parent.name if place.name == "export" else place.name
    return model_card(
        name, model.network, model.tasks, model.parts, model.results, model.licence, model.vocabulary.reads_text
    )


def _ours(folder: Path) -> bool:
    """Whether the folder holds an export, of any version."""
    try:
        return "ofasys_lite" in json.loads(current(folder, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _find(path: str | Path) -> Path:
    place = Path(path)
    for folder in (place, place / "export"):
        if current(folder, "config.json").exists():
            return folder
    if place.exists():
        held = ", ".join(sorted(p.name for p in place.iterdir())[:8]) if place.is_dir() else "a file"
        raise CheckpointError(
            f"{path} holds no model: config.json is missing (found: {held or 'nothing'})",
            help="name a finished run (runs/x) or a folder written by save_pretrained",
        )
    text = str(path)
    if text.count("/") == 1 and not text.startswith((".", "/", "~", "runs/")):
        return _download(text)
    raise CheckpointError(f"{path}: no such folder", help="name a finished run (runs/x) or an export folder")


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{name} is not a folder; to load it from Hugging Face the package huggingface_hub is needed",
            help="pip install huggingface_hub",
        ) from None
    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{name} is neither a folder nor a repository that can be reached: {error}",
            help="check the name, or download it elsewhere and name the folder",
        ) from None


def load(path: str | Path, device: str | torch.device = "auto") -> Export:
    """What lies in a run folder, an export folder, or a Hugging Face repository, on a device (`pick_device`)."""
    place = pick_device(device)
    folder = _find(path)
    config = _read_config(current(folder, "config.json"))
    vocabulary = load_vocabulary(folder)
    try:
        model = _described(config, vocabulary)
    except OfasysError as error:
        raise CheckpointError(
            f"{folder}/config.json: {error.message}", code=error.code, place=error.place, help=error.help
        ) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/config.json is damaged ({type(error).__name__}: {error})",
            help="copy it, or export the run again",
        ) from None
    load_weights(model.network, current(folder, "model.safetensors"))
    model.contents = read_contents(current(folder, ROWS))
    model.network.to(place).eval()
    return model


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        if isinstance(config, dict) and "model_type" in config:
            raise CheckpointError(f"{path} is of Hugging Face, no export of ours", help=begin_with_others(path.parent))
        raise CheckpointError(
            f"{path} has format {found!r}; this version reads {_FORMAT}",
            help="is it an ofasys_lite export?" if found is None else "load it with the version that wrote it",
        )
    return config


def _described(config: Mapping[str, Any], vocabulary: Vocabulary) -> Export:
    """The model that config.json describes, its weights not yet read."""
    if vocabulary.hash != config["vocabulary"]["hash"]:
        raise CheckpointError("it and the tokenizer do not belong together", help="do not mix files of two exports")
    specs = {n: AdapterSpec(v["path"], v["settings"]).stored() for n, v in config["adapters"].items()}
    network = Network(ModelConfig.of_export(config["model"]), len(vocabulary), specs)
    modalities = stored_modalities(config["modalities"])
    tasks = {name: _entry(name, value, modalities) for name, value in config["tasks"].items()}
    # lines may name modalities that the export does not use: those are today's
    known = {**all_modalities(), **modalities}
    data = DataSettings(**config["data"])
    more = {key: dict(config.get(key, {})) for key in ("parts", "results")}
    return Export(network, vocabulary, tasks, known, data, **more, licence=str(config.get("licence", "")))


def load_weights(network: Network, path: Path) -> None:
    """Fills the network with the weights in `path`; CheckpointError if the file is missing, damaged or does not fit."""
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing", help="the export is not whole: copy it again, or train on"
        ) from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}", help="copy it again, or export the run again") from None
    own = dict(network.state_dict(keep_vars=True))
    buffers = {n for n, _ in network.named_buffers()}
    wanted = ({n for n, _ in network.named_parameters()} | buffers) & set(own)
    missing, extra = sorted(wanted - set(tensors)), sorted(set(tensors) - set(own) - buffers)
    wrong = [n for n in wanted & set(tensors) if own[n].shape != tensors[n].shape]
    if missing or extra or wrong:
        what = f"missing {missing[:3]}" if missing else f"unknown {extra[:3]}" if extra else f"other sizes {wrong[:3]}"
        raise CheckpointError(f"{path} does not fit config.json: {what}", help="do not mix files of two exports")
    network.load_state_dict(tensors, strict=False)


def _entry(name: str, value: Mapping[str, Any], modalities: Mapping[str, ModalityCard]) -> TaskEntry:
    card = stored_card(value["card"])
    plan = freeze(build_plan(card, modalities), {k: tuple(v) for k, v in value["closed"].items()})
    plan = with_codecs(plan, codec_facts(value.get("codecs", {})))
    if plan.hash != value["plan"]:
        raise CheckpointError(
            f"task {name}: this version reads its line in another way (plan {plan.hash}, trained with {value['plan']})",
            help="load it with the version that wrote it, or train the task again",
        )
    return TaskEntry(card, plan)


def codec_facts(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a plan holds of its codecs, without what the line itself says (`weights` and the like)."""
    return {slot: {k: v for k, v in facts.items() if k not in MODEL_KEYS} for slot, facts in stored.items()}
