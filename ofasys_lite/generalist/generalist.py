"""One model with everything it needs to be used: weights, vocabulary, the tasks it learned and their modalities."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.attributes import preprocess_class
from ofasys_lite.data.codec_facts import named_codec
from ofasys_lite.data.contents import Contents
from ofasys_lite.errors import CardError, CheckpointError, OfasysError, did_you_mean
from ofasys_lite.generalist.calls import learned_line
from ofasys_lite.generalist.export import Export, load, save, save_weights
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.trained import TaskEntry
from ofasys_lite.layout.examples import ExampleMaker
from ofasys_lite.layout.ready import DataSettings, adapter_name, makers_for, settings_of
from ofasys_lite.model import ModelConfig, pick_precision
from ofasys_lite.plan import Plan, SlotSegment, build_plan, freeze
from ofasys_lite.plan.codecs import adapter_facts, codec_of, codec_slots, with_codecs
from ofasys_lite.plan.language import ALIGN_ADAPTER, ROUNDS_ADAPTER
from ofasys_lite.plan.prefixes import wrong_with_prefix
from ofasys_lite.plan.segments import option
from ofasys_lite.preprocess.vocabulary import WORDS, Vocabulary

#: The model that is asked for another precision in this thread, and for which.
_ASKED: ContextVar[tuple[Any, str]] = ContextVar("asked", default=(None, ""))


@dataclass(eq=False)
class Generalist(Export):
    """A network and what gives its rows a meaning."""

    def __post_init__(self) -> None:
        #: Lines that were only used, not learned: known by name like tasks, but neither saved nor evaluated.
        self._lines: dict[str, TaskEntry] = {}
        self._makers: dict[str, ExampleMaker] = {}
        self._precision = "fp32"
        for name, entry in self.tasks.items():
            wrong = self._unreadable(entry.plan)
            if wrong is not None:
                raise CardError(f"task {name}: {wrong[0]}", help=wrong[1])

    def _unreadable(self, plan: Plan) -> tuple[str, str] | None:
        """(message, help) of why this model cannot read or write as the line says; None where it can."""
        return wrong_with_prefix(plan, self.modalities) if self.network.config.source == "prefix" else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.embedding.weight.device

    @property
    def precision(self) -> str:
        """Of its predictions here: `fp32`, `bf16` or `int8`; CheckpointError if its device has no such precision."""
        model, asked = _ASKED.get()
        return pick_precision(asked if model is self else self._precision, self.device)

    @precision.setter
    def precision(self, wanted: str) -> None:
        self._precision = pick_precision(wanted, self.device)

    @contextmanager
    def in_precision(self, wanted: str | None) -> Iterator[None]:
        """Inside it, and in this thread, predictions are of this precision, or `auto`; None: of what they were.

        Raises:
            CheckpointError: There is no such precision, or none on its device.
        """
        token = _ASKED.set((self, self.precision if wanted is None else pick_precision(wanted, self.device)))
        try:
            yield
        finally:
            _ASKED.reset(token)

    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.network.parameters())

    def entry(self, name: str) -> TaskEntry:
        """A task by name; CheckpointError with the nearest name if the model has not learned it."""
        if name in self._lines:
            return self._lines[name]
        if name not in self.tasks:
            raise CheckpointError(
                f"this model has not learned the task `{name}`", help=did_you_mean(name, self.tasks, "it learned")
            )
        return self.tasks[name]

    def maker(self, name: str, folder: str | None = None) -> ExampleMaker:
        """The ExampleMaker of a task; media paths are looked up in `folder`."""
        entry = self.entry(name)
        key = f"{name}\n{folder}"
        if key not in self._makers:
            self._makers[key] = makers_for(entry.plan, entry.card, self.modalities, self.vocabulary, self.data, folder)
        return self._makers[key]

    def task_of_line(self, line: str, like: TaskCard | None = None) -> str:
        """Name of the task that a line stands for: one the model learned with this line, or a new entry for it.

        A paraphrase of a learned line is that task read in its own words: with its own columns, and the task's
        closed sets. A new line may use closed sets of its own (`closed_set=(yes,no)`), and adapters the model has.
        Where a slot's closed set is that of the training column, the set of a learned task with an equal target is
        taken.

        Args:
            like: A card whose sets, settings and decoding the line takes.
        """
        key = f"{like.name}\n{line}" if like is not None else line
        name = "line-" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        if name in self._lines:
            return name
        lines = {task: entry.plan.line for task, entry in self.tasks.items()}
        learned = learned_line(line, lines, frozenset(self.modalities))
        if learned is not None:
            task, number = learned
            if number == 0:
                return task
            entry = self.tasks[task]
            plan = replace(entry.plan, line=line, templates=(entry.plan.templates[number],))
            self._lines[name] = TaskEntry(entry.card, plan)
            return name
        card = TaskCard(name=name, instruction=line) if like is None else replace(like, name=name, instruction=line)
        card = replace(card, data={}, origin=None)
        plan = build_plan(card, self.modalities)
        if plan.cannot_train:
            raise OfasysError(f"this line cannot be used yet: {'; '.join(plan.cannot_train)}")
        plan = self._borrow_codecs(card, self._borrow_sets(plan))
        wrong = self._unreadable(plan)
        if wrong is not None:
            raise CheckpointError(wrong[0], help=wrong[1])
        if plan.alignment is not None and ALIGN_ADAPTER not in self.network.adapters:
            help = "train it with such a task: [IMAGE:img] <-> a photo of [TEXT:cap]"
            raise CheckpointError("this model has learned no line with `<->`, and makes no vectors", help=help)
        if any(slot.in_rounds for slot in plan.slots()) and ROUNDS_ADAPTER not in self.network.adapters:
            help = "train it with such a task: [TEXT:question] -> [TEXT:answer,decode=mask_predict]"
            raise CheckpointError("this model has learned to write token ids from left to right alone", help=help)
        for slot in plan.slots():
            if not self._reads(slot):
                help = f"it was trained with: {', '.join(self.network.adapters)}"
                raise CheckpointError(f"this model has no adapter for {slot.modality}", help=help)
        self._know_names(plan)
        self._lines[name] = TaskEntry(card, plan)
        return name

    def _know_names(self, plan: Plan) -> None:
        """Gives names that were never trained on a row of zeros, where vectors of names know their words."""
        slots = [s for s in plan.slots() if WORDS in preprocess_class(s.preprocess).rows_of_slot(s.options)]
        values = (v for s in slots if s.closed is not None and s.learned for v in s.closed.values)
        names = [name for v in values if self.vocabulary.find(name := f"={v}") is None]
        if not names or self.vocabulary.find(WORDS) is None:
            return
        self.vocabulary = self.vocabulary.extended(names)
        self.network.grow(len(self.vocabulary), zeros=True)
        self.network.know(self.vocabulary)
        self._makers.clear()

    def _reads(self, slot: SlotSegment) -> bool:
        """Whether the model has the slot's adapter; a shared one was made for the modalities of the training."""
        modality = self.modalities[slot.modality]
        spec = self.network.specs.get(adapter_name(slot, modality))
        return spec is not None and (slot.tokens or settings_of(modality, self.data).keys() <= spec.settings.keys())

    def _borrow_sets(self, plan: Plan) -> Plan:
        wanted = [s for s in plan.slots() if s.closed is not None and s.closed.kind == "column"]
        found: dict[str, tuple[str, ...]] = {}
        for slot in wanted:
            sets = {
                s.closed.values
                for entry in self.tasks.values()
                for s in entry.plan.slots()
                if s.closed is not None and s.column == slot.column and s.modality == slot.modality
            }
            if len(sets) != 1:
                what = "no learned task has" if not sets else "several learned tasks have different"
                raise CheckpointError(
                    f"slot [{slot.modality}:{slot.column},closed_set]: {what} a closed set for `{slot.column}`",
                    help="write the values: closed_set=(yes,no)",
                )
            found[slot.key] = sets.pop()
        return freeze(plan, found)

    def _borrow_codecs(self, card: TaskCard, plan: Plan) -> Plan:
        """The plan with the codec of a learned task whose sizes agree with what the line says."""
        facts: dict[str, dict[str, Any]] = {}
        for slot in codec_slots(plan):
            call = codec_of(slot)
            named = named_codec(card, slot)
            said = {} if call is None else {k: v for k, v in call.keyed if k != "steps"}
            size = option(slot.options, "size")
            wanted = {**said, **({} if size is None else {"size": size})}
            wanted |= {} if named is None else {"hash": named.facts["hash"]}
            known = {
                tuple(sorted(adapter_facts(other).items()))
                for entry in self.tasks.values()
                for other in codec_slots(entry.plan)
                if other.modality == slot.modality and all(adapter_facts(other).get(k) == v for k, v in wanted.items())
            }
            if len(known) != 1:
                what = "no learned task writes" if not known else "learned tasks have several codecs that write"
                help = "say less, or more, of the codec: codec=dnd(depth=2)"
                raise CheckpointError(f"slot [{slot.modality}:{slot.column}]: {what} {wanted or 'codes'}", help=help)
            facts[slot.key] = dict(next(iter(known)))
        return with_codecs(plan, facts)

    def extended(
        self,
        vocabulary: Vocabulary,
        adapters: Mapping[str, AdapterSpec],
        tasks: Mapping[str, TaskEntry],
        modalities: Mapping[str, ModalityCard],
        data: DataSettings,
        config: ModelConfig | None = None,
    ) -> Generalist:
        """This model, ready to learn further tasks: rows appended, adapters added, what it knows kept.

        `config` may switch gradient checkpointing and compiling, not change sizes; None keeps the model's own.
        """
        old = self.network
        # an adapter that a further modality shares learns its settings, too: what they add to it begins anew
        new = {name: spec.settings for name, spec in adapters.items()}
        known = {
            name: AdapterSpec(spec.path, {**new.get(name, {}), **spec.settings}).stored()
            for name, spec in old.specs.items()
        }
        specs = {**known, **{n: s for n, s in adapters.items() if n not in known}}
        network = Network(config or old.config, len(self.vocabulary), specs)
        state = network.state_dict()
        state.update(old.state_dict())
        network.load_state_dict(state)
        network.grow(len(vocabulary))
        network.know(vocabulary)
        cards = {**self.modalities, **modalities}
        merged = replace(data, bins=vocabulary.bins, modalities={**self.data.modalities, **data.modalities})
        known_tasks = {**self.tasks, **tasks}
        return Generalist(network, vocabulary, known_tasks, cards, merged, dict(self.contents), self.parts)

    def learns(self, contents: Mapping[str, Contents]) -> None:
        """Notes the rows of a training, beside those of earlier ones."""
        for task, held in contents.items():
            old = self.contents.get(task)
            self.contents[task] = held if old is None else held.after(old)

    def save_pretrained(self, folder: str | Path, overwrite: bool = False, licence: str | None = None) -> Path:
        """Writes a self-contained export: config.json, model.safetensors, tokenizer; returns the folder.

        Other files in the folder stay; a model that it holds is replaced if `overwrite` says so.
        """
        if licence is not None:
            self.licence = licence
        return save(self, Path(folder).expanduser(), overwrite)

    def save_weights(self, path: str | Path) -> None:
        """Writes the weights alone (safetensors), atomically."""
        save_weights(self.network, Path(path))

    @staticmethod
    def from_pretrained(path: str | Path, device: str | torch.device = "auto", precision: str = "fp32") -> Generalist:
        """The model in a run folder, an export folder, or a Hugging Face repository (downloaded once), on a device.

        `auto` takes a CUDA device where there is one, and the precision of predictions that a probe finds fastest.
        """
        found = Generalist(**vars(load(path, device)))
        found.precision = precision
        return found
