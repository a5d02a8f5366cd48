"""Cards -> tasks ready to be drawn from: plans with frozen closed sets, sources, one vocabulary for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ofasys_lite.cards.overrides import overrides_of
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.attributes import preprocess_class, wrong_attributes
from ofasys_lite.data.codec_facts import CodecFinder, Known, named_codec
from ofasys_lite.data.open_settings import open_settings
from ofasys_lite.data.passing_rows import FirstRows
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.splits import open_card
from ofasys_lite.errors import CardError, OfasysError, raise_all
from ofasys_lite.layout.examples import ExampleMaker
from ofasys_lite.layout.objectives import objective_of
from ofasys_lite.layout.scan import Progress, Scan, pieces
from ofasys_lite.layout.written_back import notes_of, refuse_lossy
from ofasys_lite.plan import Plan, SlotSegment, build_plan, freeze
from ofasys_lite.plan.codecs import adapter_facts, adapter_suffix, codec_of, codec_slots, with_codecs
from ofasys_lite.plan.decoding import uneven
from ofasys_lite.plan.language import ALIGN_ADAPTER, ALIGN_PATH, ROUNDS_ADAPTER, ROUNDS_PATH, TEXT_ADAPTER
from ofasys_lite.plan.segments import ToolKey
from ofasys_lite.preprocess.base import TOKEN_ADAPTER, Context, Preprocess
from ofasys_lite.preprocess.foreign_vocabulary import load_vocabulary
from ofasys_lite.preprocess.vocabulary import VECTOR, Vocabulary
from ofasys_lite.writing import current


@dataclass(frozen=True, slots=True)
class DataSettings:
    """How a run reads its data; CardError if a number is none.

    Attributes:
        tokenizer: Folder of a run or export whose vocabulary is used again, or None.
        modalities: Per modality name, settings that override its card's.
    """

    pieces: int = 2000
    bins: int = 1000
    tokenizer: str | None = None
    modalities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("pieces", "bins"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise CardError(f"data: {key} is {value!r}", help="a whole number from 2")


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """One task ready to be drawn from.

    Attributes:
        plan: Its plan, closed sets frozen.
        notes: What the user should be told (splits made by rule, order not reproducible ...).
    """

    card: TaskCard
    plan: Plan
    sources: Mapping[str, RowSource]
    maker: ExampleMaker
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> FirstRows | None:
        """The beginning of the stream that it is trained on; None where it is trained on rows by number."""
        source = self.sources["train"]
        return source if isinstance(source, FirstRows) else None

    @property
    def rows(self) -> int | None:
        """Number of its training rows; None where it is trained on a stream."""
        return None if self.first is not None else len(self.sources["train"])


@dataclass(frozen=True, slots=True)
class Ready:
    """All tasks of a run, their vocabulary, and the adapters the model needs.

    Attributes:
        adapters: Per adapter name, its dotted path and settings.
        codecs: Per adapter that writes codes, the folder of its codec.
        modalities: Their cards by name and alias, settings that were open filled with what was found in their rows.
    """

    tasks: tuple[ReadyTask, ...]
    vocabulary: Vocabulary
    adapters: Mapping[str, tuple[str, Mapping[str, Any]]]
    codecs: Mapping[str, Path] = field(default_factory=dict)
    modalities: Mapping[str, ModalityCard] = field(default_factory=dict)


def adapter_name(slot: SlotSegment, modality: ModalityCard) -> str:
    """Name under which the slot's adapter stands in the model: `text`, `image`, `image:timm` ..."""
    if slot.tokens:
        return TOKEN_ADAPTER
    base = modality.adapter_name or modality.name.lower()
    if codec_of(slot) is not None and slot.learned:
        return base + adapter_suffix(slot)
    return base if slot.adapter == modality.adapter["default"] else f"{base}:{slot.adapter.rpartition('.')[2].lower()}"


def settings_of(modality: ModalityCard, settings: DataSettings) -> Mapping[str, Any]:
    """The card's settings with the preset's overrides merged in."""
    return {**modality.settings, **overrides_of(modality, settings.modalities)}


def makers_for(
    plan: Plan,
    card: TaskCard,
    modalities: Mapping[str, ModalityCard],
    vocabulary: Vocabulary,
    settings: DataSettings,
    folder: str | None = None,
    counts: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> ExampleMaker:
    """The ExampleMaker of a plan: one Preprocess per modality, preprocess and adapter that its slots name.

    Args:
        counts: By slot key, training rows of each value of its closed set.
    """
    raise_all(wrong_attributes(card, plan, {m.name: settings_of(m, settings) for m in modalities.values()}))
    tools: dict[ToolKey, Preprocess] = {}
    for slot in plan.all_slots():
        key = slot.tool_key
        if key not in tools:
            modality = modalities[slot.modality]
            context = Context(
                settings_of(modality, settings), vocabulary, adapter_name(slot, modality), folder, card.settings
            )
            tools[key] = preprocess_class(slot.preprocess)(context)
    objectives = {(s.tool_key, loss): objective_of(s, loss, modalities) for s in plan.all_slots() for loss in s.losses}
    return ExampleMaker(plan, tools, vocabulary, objectives, counts)


def make_ready(
    cards: Sequence[TaskCard],
    modalities: Mapping[str, ModalityCard],
    settings: DataSettings,
    vocabulary: Vocabulary | None = None,
    progress: Progress | None = None,
    find_codec: CodecFinder | None = None,
) -> Ready:
    """Tasks ready to be drawn from; every mistake of every card and source is told at once.

    Args:
        settings: Tokenizer and box bins.
        vocabulary: The vocabulary of a trained model, which grows by what the tasks declare; None trains one.
        progress: Called with (what, done, all) while data is read.
        find_codec: Finds or trains the codec of a slot whose line names none; None leaves such slots without.
    """
    plans, sources, notes = _open_all(cards, modalities)
    plans, codecs = _coded(cards, plans, sources, modalities, find_codec)
    if settings.tokenizer is not None and vocabulary is None:
        vocabulary = _vocabulary_in(Path(settings.tokenizer))
    of_modality = {
        slot.modality: settings_of(modalities[slot.modality], settings) for plan in plans for slot in plan.all_slots()
    }
    found = open_settings(plans, [source["train"] for source in sources], of_modality)
    modalities = {
        key: replace(card, settings={**card.settings, **found.get(card.name, {})}) for key, card in modalities.items()
    }
    scans = [
        Scan(plan, source["train"], of_modality, vocabulary is None, progress)
        for plan, source in zip(plans, sources, strict=True)
    ]
    plans = [freeze(plan, scan.closed) for plan, scan in zip(plans, scans, strict=True)]
    declared = dict.fromkeys(name for scan in scans for name in scan.declared)
    for plan in plans:
        if plan.alignment is not None:
            declared[VECTOR] = None
        for slot in plan.all_slots():
            declared.update(dict.fromkeys(preprocess_class(slot.preprocess).rows_of_slot(slot.options)))
        for slot in plan.slots():
            most = preprocess_class(slot.preprocess).most_rows
            values = slot.closed.values if slot.closed is not None and slot.learned else ()
            if most is None or len(values) <= most:
                declared.update(dict.fromkeys(f"={value}" for value in values))
    if vocabulary is None:
        model = pieces(scans, plans, settings.pieces, progress)
        vocabulary = Vocabulary(model, settings.bins, tuple(declared))
    else:
        vocabulary = vocabulary.extended(declared)
    refuse_lossy(plans, modalities, vocabulary)
    tasks = []
    for card, plan, source, note, scan in zip(cards, plans, sources, notes, scans, strict=True):
        folder = source["train"].base or None
        maker = makers_for(plan, card, modalities, vocabulary, settings, folder, scan.counts)
        note = (*note, *notes_of(plan, maker, source["train"], vocabulary))
        tasks.append(ReadyTask(card, plan, source, maker, note))
    adapters = adapters_of(plans, modalities, settings)
    words = vocabulary.words_of_names()
    if words is not None:
        adapters[TOKEN_ADAPTER] = (TEXT_ADAPTER, {**adapters.get(TOKEN_ADAPTER, ("", {}))[1], "names": words})
    return Ready(tuple(tasks), vocabulary, adapters, codecs, modalities)


def _coded(
    cards: Sequence[TaskCard],
    plans: Sequence[Plan],
    sources: Sequence[Mapping[str, RowSource]],
    modalities: Mapping[str, ModalityCard],
    find_codec: CodecFinder | None,
) -> tuple[list[Plan], dict[str, Path]]:
    """The plans with their codecs known, and the codec's folder per adapter; folders that lines name come first."""
    named: dict[tuple[str, str], Known] = {}
    errors: list[OfasysError] = []
    for card, plan in zip(cards, plans, strict=True):
        for slot in codec_slots(plan):
            try:
                found = named_codec(card, slot)
            except OfasysError as error:
                errors.append(error)
                continue
            if found is not None:
                named[plan.task, slot.key] = found
    raise_all(errors)
    coded, folders = list[Plan](), dict[str, Path]()
    for card, plan, source in zip(cards, plans, sources, strict=True):
        facts: dict[str, Known] = {}
        for slot in codec_slots(plan):
            known = named.get((plan.task, slot.key))
            if known is None and find_codec is not None:
                known = find_codec(card, slot, source["train"])
            if known is not None:
                facts[slot.key] = known
        plan = with_codecs(plan, {key: known.facts for key, known in facts.items()})
        wrong = uneven(plan, {**plan.decoding(), **card.decoding})
        if wrong is not None:  # a codec's depth is known only now
            raise CardError(f"task {card.name}: decoding: {wrong[0]}", help=wrong[1])
        for slot in codec_slots(plan):
            if slot.key in facts:
                folders[adapter_name(slot, modalities[slot.modality])] = facts[slot.key].folder
        coded.append(plan)
    return coded, folders


def adapters_of(
    plans: Sequence[Plan], modalities: Mapping[str, ModalityCard], settings: DataSettings
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Adapter name -> (dotted path, settings) of all slots of the plans.

    Raises:
        CardError: Two modalities share an adapter, and its class or a setting that both give is not the same.
    """
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    first: dict[str, str] = {}
    for plan in plans:
        if plan.alignment is not None:
            found[ALIGN_ADAPTER] = (ALIGN_PATH, {})
        for slot in plan.all_slots():
            if slot.in_rounds:
                found[ROUNDS_ADAPTER] = (ROUNDS_PATH, {})
            modality = modalities[slot.modality]
            own = settings_of(modality, settings)
            if codec_of(slot) is not None and slot.learned:
                own = {**own, "codec": adapter_facts(slot)}
            name = adapter_name(slot, modality)
            if found.setdefault(name, (slot.adapter, own))[0] != slot.adapter:
                raise CardError(
                    f"{found[name][0]} and {slot.adapter} would both be the adapter `{name}` of the model",
                    help="give one of the two classes another name",
                )
            if not slot.tokens:  # which has no settings
                known = found[name][1].get("objectives", ())
                wanted = [] if slot.learned else [x.name for x in slot.losses if x.name in modality.objectives]
                asked = sorted({*known, *wanted})
                _agree(name, found[name][1], own, (first.setdefault(name, modality.name), modality.name))
                # what shares an adapter may have settings that only its own Preprocess reads
                found[name] = slot.adapter, {**own, **found[name][1], **({"objectives": asked} if asked else {})}
    return found


def _agree(name: str, one: Mapping[str, Any], two: Mapping[str, Any], cards: tuple[str, str]) -> None:
    """Raises CardError if two modalities that share an adapter give one of its settings two values."""
    for key in one.keys() & two.keys() if cards[0] != cards[1] else ():
        if one[key] != two[key]:
            raise CardError(
                f"{cards[0]} and {cards[1]} share the adapter `{name}`, and their cards differ: "
                f"`{key}` is {one[key]!r} and {two[key]!r}",
                help=f"give both the same `{key}`, or one of them another `adapter_name`",
            )


def _open_all(
    cards: Sequence[TaskCard], modalities: Mapping[str, ModalityCard]
) -> tuple[list[Plan], list[Mapping[str, RowSource]], list[tuple[str, ...]]]:
    plans: list[Plan] = []
    sources: list[Mapping[str, RowSource]] = []
    notes: list[tuple[str, ...]] = []
    errors: list[OfasysError] = []
    for card in cards:
        try:
            plan = build_plan(card, modalities)
            if plan.cannot_train:
                raise CardError(f"task {card.name} cannot be trained yet: {'; '.join(plan.cannot_train)}")
            opened, told = open_card(card)
            plans.append(plan)
            sources.append(opened)
            train = opened["train"]
            order = (train.order_note(card.epochs),) if isinstance(train, FirstRows) else ()
            notes.append((*plan.notes, *told, *order))
        except OfasysError as error:
            errors.append(error)
    raise_all(errors)
    return plans, sources, notes


def _vocabulary_in(folder: Path) -> Vocabulary:
    for place in (folder, folder / "tokenizer", folder / "export"):
        if current(place, "vocabulary.json").exists():
            return load_vocabulary(place)
    return load_vocabulary(folder)
