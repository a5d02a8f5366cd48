"""What a card holds, once read and checked: modality cards say how a modality is read, task cards what to learn.

Loading lives in `ofasys_lite.cards.load`; nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ofasys_lite.instruction.places import Origin


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """One attribute a slot of a modality takes.

    Attributes:
        key: Name in the line.
        type: `flag`, `int`, `float`, `str`, `choice`, `list`, `call` or `any`; `flag` stands without a value
            (`key=true|false` is accepted too).
        low: Smallest number allowed, or None.
        high: Largest number allowed, or None.
        choices: Names allowed for `choice`, and names of calls allowed for `call`.
        side: `source`, `target` or `both`.
        help: One sentence for explain and for error messages.
        default: Value used where the line gives none; None means absent.
        required: A target slot that is learned must give it.
        column: Its value, or what its call is given, names columns that the row must have where the slot is written.
    """

    key: str
    type: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    side: str = "both"
    help: str = ""
    default: Any = None
    required: bool = False
    column: bool = False


@dataclass(frozen=True, slots=True)
class ObjectiveCard:
    """An objective that a modality's card brings along; its adapter has the function of the same name.

    Attributes:
        side: `source`: of the encoder's states of what is read; `target`: of the decoder's states of what is written.
        unit: What one loss unit is: `token`, `frame`, `position`, `sample` or `pair`.
        objective: Dotted path of the Objective that says which rows are learned; empty: all rows of a piece.
        arguments: What `loss=name(...)` takes beside `weight`.
        standard: A target slot without `loss=` is learned by it.
        together: Its targets are written in one go.
        writer: Which of the card's `writers` writes what it learned; empty: the first one.
    """

    side: str
    unit: str = "token"
    objective: str = ""
    arguments: tuple[str, ...] = ()
    standard: bool = False
    together: bool = False
    writer: str = ""


@dataclass(frozen=True, slots=True)
class ModalityCard:
    """How one modality is read, embedded and written.

    Attributes:
        name: Type name in capitals.
        aliases: Other type names that mean this one (`BOUNDING_BOX`).
        preprocess: Dotted path per preprocess name; without `preprocess=` it is `written` where a slot is written and
            there is one, else `default`.
        adapter: Dotted path per adapter name, likewise.
        attributes: What its slots take beside the language's own attributes.
        reads: `now`, `later` (plans and explains, `cannot be trained yet`) or `never` on the source side.
        writes: `now`, `later` (plans and explains, `cannot be trained yet`) or `never` on the target side.
        losses: Names of `loss=` objectives it takes, each `now` or `later`.
        objectives: Those among them that the card brings along.
        settings: Free settings for its preprocess and adapter; presets may override single keys.
        metric: Default metric of a target slot of this modality; empty if it has none.
        codecs: Codecs its target slots are written with, the first one where a line names none: name -> dotted paths
            of `preprocess` and `adapter`.
        writers: Ways in which its adapter writes a target all at once, the first one where a line names none: what
            `decode=name(...)` takes.
        adapter_name: Name of the adapter in the model, which other modalities may name too and then share; empty: the
            modality's own, in small letters.
        like: Modality whose adapter it shares, and whose settings it has where its card gives none: what a run changes
            there, changes here; empty for most.
        shared: Names of the settings that come from there.
        starts: Dotted path of what reads weights of others for its part of the model: from a source (a folder, a file)
            to a `Part` or a `Body` (generalist/parts.py); empty: it begins fresh.
        path: The file it came from.
    """

    name: str
    preprocess: Mapping[str, str]
    adapter: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    attributes: tuple[AttributeSpec, ...] = ()
    reads: str = "now"
    writes: str = "now"
    losses: Mapping[str, str] = field(default_factory=dict)
    objectives: Mapping[str, ObjectiveCard] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    codecs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    writers: Mapping[str, tuple[AttributeSpec, ...]] = field(default_factory=dict)
    adapter_name: str = ""
    like: str = ""
    shared: tuple[str, ...] = ()
    starts: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric of a task: its name, the column it judges, the trivial baselines and classical references beside it.

    Attributes:
        column: Target column judged; empty means the only learned target.
        baselines: Names of trivial baselines (majority, question_only, copy, mean_box ...); empty: the metric's own.
        references: Names of classical references (nearest_pixels, nearest_tfidf ...): printed beside, beaten or not.
        better: `high` or `low`, for a function of one's own that does not say it itself; empty for built-in ones.
    """

    name: str
    column: str = ""
    baselines: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    better: str = ""


@dataclass(frozen=True, slots=True)
class TaskCard:
    """One task: a line, its data, how it is judged, how often it is drawn.

    Attributes:
        name: Task name, unique in a run.
        instruction: The line, as text (unresolved, byte for byte).
        data: Source per split; `train` is needed for training, `valid` and `test` come from it by the
            sha1 rule if absent.
        columns: Slot column -> data column.
        sets: Named closed sets for `closed_set=name`.
        metrics: Metrics; the first one is the task's headline. Empty: the modality's default.
        decoding: Decoding options (beam, temperature, length_penalty, max_length ...).
        weight: How often the task is drawn: a number, or [[step, weight], ...] piecewise.
        epochs: Cap on passes over the data, or None.
        group: Data column that names the group a sample is split by and that intervals leave out as a whole; empty:
            each row its own.
        crossed: Data column of a second kind of groups, each met by many of the first (phrases that every voice says);
            intervals take both into account.
        loss_on_words: True lets words right of the arrow carry loss.
        stream: True accepts a source without length or random access.
        version: Card version.
        reference: Paper or source the task comes from.
        help: One sentence.
        origin: Where the instruction text stands, for error places.
        path: The file it came from; empty for tasks given on the command line or in Python.
        settings: Anything a user's own preprocess wants; handed through.
    """

    name: str
    instruction: str
    data: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: tuple[MetricSpec, ...] = ()
    decoding: Mapping[str, Any] = field(default_factory=dict)
    weight: Any = 1.0
    epochs: int | None = None
    group: str = ""
    crossed: str = ""
    loss_on_words: bool = False
    stream: bool = False
    version: int = 1
    reference: str = ""
    help: str = ""
    origin: Origin | None = None
    path: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
