"""The contract of a modality's CPU side: `Preprocess` turns a raw value into a `Piece`, and ids back into a value.

Shapes: P rows of one piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError, ShapeError
from ofasys_lite.plan.constraints import Constraint
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.vocabulary import Vocabulary

Array = npt.NDArray[Any]
#: Name of the adapter of token ids, which every model has.
TOKEN_ADAPTER = "text"
#: Raw values of a row by column.
Row = Mapping[str, Any]
#: Where a line is looked at without a row.
NO_ROW: Row = MappingProxyType({})

#: Size of a raw value, in what its Preprocess measures: bytes, pixels, samples, or (frames, height, width).
Size = tuple[int, ...]
#: (frames, lines, columns) of rows, each at least 1.
Grid = tuple[int, int, int]


def line_positions(count: int) -> npt.NDArray[np.int64]:
    """(P, 3) positions of `count` rows in a line: 0, 1, 2 ... equal on the three axes, as text has them (Qwen2-VL)."""
    return np.repeat(np.arange(count, dtype=np.int64)[:, None], 3, axis=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """One value after preprocessing: the rows it will fill in a stream, and the arrays its adapter fills them from.

    Attributes:
        adapter: Name under which the generalist holds the adapter that fills the rows (`text` for everything made of
            token ids; otherwise the modality's name in small letters, plus `:name` for a named adapter).
        positions_P3: Relative (time, row, column) positions; collation adds the running start (M-RoPE).
        arrays: What the adapter needs. Arrays of the same name are concatenated along axis 0 over all pieces of a pack.
            `ids` (P,) int64 are token ids of the vocabulary; beside them `inputs` (P,) may be what is fed back where
            that differs from what is learned (`noise_ratio`).
        learn_P: For target pieces: True where the row carries loss; None learns all rows of a learned slot.
        grid: (frames, lines, columns) of what lies in a grid, its rows frame by frame and line by line; else None.
    """

    adapter: str
    positions_P3: npt.NDArray[np.int64]
    arrays: Mapping[str, Array]
    learn_P: npt.NDArray[np.bool_] | None = None
    grid: Grid | None = None

    def __post_init__(self) -> None:
        if self.positions_P3.ndim != 2 or self.positions_P3.shape[1] != 3:
            raise ShapeError(
                f"{self.adapter} piece: positions have shape {self.positions_P3.shape}, expected (rows, 3)"
            )
        if self.grid is not None and math.prod(self.grid) != len(self.positions_P3):
            raise ShapeError(f"{self.adapter} piece: a grid of {self.grid} for {len(self.positions_P3)} rows")
        if self.tokens and len(self.arrays["ids"]) != len(self.positions_P3):
            raise ShapeError(f"{self.adapter} piece: {len(self.arrays['ids'])} ids for {len(self.positions_P3)} rows")

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.positions_P3)

    @property
    def tokens(self) -> bool:
        """Whether its rows are token ids of the vocabulary: each stands by itself, may be forced, and is fed back."""
        return "ids" in self.arrays

    @staticmethod
    def of_ids(ids: Iterable[int], positions_P3: npt.NDArray[np.int64] | None = None) -> Piece:
        """A token piece in a line (or at `positions_P3`)."""
        array = np.fromiter(ids, dtype=np.int64)
        return Piece(
            TOKEN_ADAPTER, line_positions(len(array)) if positions_P3 is None else positions_P3, {"ids": array}
        )


@dataclass(frozen=True, slots=True)
class Context:
    """What a Preprocess is built with.

    Attributes:
        settings: The modality card's settings, with the preset's overrides merged in.
        adapter: Name of the adapter that will read its pieces.
        folder: Folder against which relative media paths are resolved, or None.
    """

    settings: Mapping[str, Any]
    vocabulary: Vocabulary
    adapter: str = TOKEN_ADAPTER
    folder: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowContext:
    """What only the row and the moment know of a slot's value; what the author wrote of the slot are its `Options`.

    Attributes:
        side: `source`: read, no closing control; `target`: written, closing control included. Values that are forced
            on the target side are read too.
        rng: The sample's generator; None where nothing may be random (validation, inference): then there is no
            augmentation and no masking noise, except masking that defines the task (`mask_ratio`), for which the
            caller always hands a generator.
        train: Augmentation and noise apply.
        frame: (width, height) in pixels of the row's first picture, where there is one.
        closed: Values of the slot's closed set, which may be the row's own candidates; None without a set.
        step: Number of the training step, for what changes in the course of a run.
        own_holes: Transparent parts of masked pictures say what is hidden.
        row: Raw values by column, as the source of the data has them; the whole row within a group too.
        value: Of what is to be written the row's own value, parts of which may be known already; None: it has none.
        hidden: The same value as the source reads it, where the source hides a part of it.
        named: Values of the row's columns that attributes of the slot name (`column: true` in the modality's card).
    """

    side: Literal["source", "target"] = "source"
    rng: np.random.Generator | None = None
    train: bool = False
    frame: tuple[int, int] | None = None
    closed: tuple[str, ...] | None = None
    step: int | None = None
    own_holes: bool = False
    row: Row = field(default_factory=lambda: NO_ROW)
    value: Any = None
    hidden: Piece | None = None
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """What `check` learns of a value that can be read.

    Attributes:
        frame: (width, height) in pixels of a picture that boxes of its row may refer to.
        work: Pixels or samples that are decoded where the value is read whole; 0 where nothing is to be decoded.
        remarks: What a user should know, as (of which kind, what it is here): each kind is told once, with the share
            of the values that have it.
        largest: Of places in pixels of the frame the largest number: shares are told by it.
    """

    frame: tuple[int, int] | None = None
    work: int = 0
    remarks: tuple[tuple[str, str], ...] = ()
    largest: float | None = None


#: A value that is read, of a row of which nothing else is known.
READ = RowContext()


class Preprocess:
    """Base of all preprocessors; subclasses are named by dotted path in a modality card.

    A subclass must give `encode`; one that can be written (target side) also `constraint` and `decode`. What else is
    known of its values has defaults that serve texts: `measure` and `rows_of` (how long it is), `located` and `read`
    (a row's value for others), `seen` and `show` (for people), `brief`, `place` and `save` (for files). So a modality
    is equal to the built-in ones everywhere, and nothing outside its own files asks for its name.

    `options` are the slot's typed attributes, `known` is what only the row knows.
    """

    #: Of which kind its values are (`preprocess.kinds`): decides metrics, baselines, and how values are shown.
    kind: ClassVar[str] = kinds.TEXT
    #: Ending of the files that its values are written to, each to its own (`.png`); empty where text and JSON hold
    #: them. What `decode` gives is then one object: no list, tuple or mapping.
    ending: str = ""
    #: Its values are places in the row's picture: the row's `frame` is looked up for them.
    framed: ClassVar[bool] = False
    #: Sources of text for the tokenizer: True if values of this modality are text that the pieces should be trained on.
    text: ClassVar[bool] = False
    #: What a person would type for a value, where that is neither words nor a file.
    example: ClassVar[str] = ""
    #: What is written goes on from what the row has in its place (a conversation): a row has it at inference, too.
    goes_on: ClassVar[bool] = False
    #: Most values of a closed set that have a row of the vocabulary each; larger sets are spelt in pieces. None: all.
    most_rows: ClassVar[int | None] = 4096
    #: True if a target longer than `max_length` is cut; False if such a row is refused.
    cut_targets: ClassVar[bool] = True
    #: Any of its ids may stand beside any other: they can be written all together (`decode=mask_predict`).
    in_rounds: ClassVar[bool] = False
    #: Size of a value that nobody looked at, in what `measure` gives.
    typical: ClassVar[Size] = (60,)
    #: Rows of every value, where all have as many: then nothing is measured.
    fixed_rows: ClassVar[int | None] = None

    def __init__(self, context: Context) -> None:
        self.context = context
        self.settings = context.settings
        self.vocabulary = context.vocabulary

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of `value`; raises DataError if unreadable (the caller adds task, row and column)."""
        raise TypeError(f"{type(self).__name__} does not say how to encode a value")

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """What ids a target slot with `options` may hold in a sequence that is written for `known.row`.

        Most say the same for every row. One that depends on the row (the tables of its database, the words of another
        column, what is known already of the value: `known.value`, `known.hidden`) reads what it needs of it, and raises
        DataError where that is missing. Evaluation hands the reference as `known.value`. For every legal value,
        `encode(value).arrays["ids"]` must satisfy it, closing control included. Kinds of your own: `Grammar`.

        """
        raise TypeError(f"{type(self).__name__} cannot be written")

    def decode(self, ids: npt.NDArray[np.int64], options: Options, known: RowContext) -> Any:
        """The value that `ids` (legal under `constraint`, closing control included) spell."""
        raise TypeError(f"{type(self).__name__} cannot be written")

    def rest(self, piece: Piece, hidden: Piece, rng: np.random.Generator | None) -> Piece:
        """A target's `piece` with loss on what the source hides of the same value."""
        raise DataError("the source hides a part of a value that the target reads in another way")

    def frame(self, value: Any) -> tuple[int, int] | None:
        """(width, height) in pixels of `value` if it is a picture that boxes can refer to; header only."""
        return None

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` is of a kind this modality can never read; looks, does not decode media."""

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError or CardError if a slot's attributes cannot be, whatever its values are."""

    @classmethod
    def cut_by(cls, settings: Mapping[str, Any]) -> str:
        """Name of the setting by which a picture loses its margins, so that places in it lie elsewhere; else empty."""
        return ""

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """What there is to know of a value that `check` let pass; `whole` decodes media and raises DataError."""
        return Look()

    @classmethod
    def located(cls, value: Any, folder: str | None) -> Any:
        """`value` as it can be opened without its row: bytes or a path where it names a file, else as it is.

        Raises:
            DataError: The file is not there (looked up in `folder`); what it holds is not looked at.
        """
        return value

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> Any:
        """`value`, of the data or predicted, in the form that metrics compare: what is read alike is made equal.

        Raises:
            DataError: It is of a kind that this modality can never be.
        """
        return value

    @classmethod
    def given(cls, value: Any, options: Options) -> Any:
        """Where what is written `goes_on`: the part of a row's value that is given, as baselines and people see it.

        Raises:
            DataError: It is of a kind that this modality can never be.
        """
        return value

    def seen(self, piece: Piece) -> Any:
        """The value as the model reads it, hidden parts marked; asked where a slot has `mask_ratio`."""
        raise TypeError(f"{type(self).__name__} does not say what the model sees of a piece")

    def show(self, value: Any) -> Shown | None:
        """How a value (of the data or from `decode`) looks to a person; None: as the text, record or table it is."""
        return None

    def brief(self, value: Any) -> str:
        """What stands in text for a value that is written to a file: `<image 16 x 16>`."""
        return f"<{self.kind}>"

    def save(self, value: Any, ending: str) -> bytes:
        """The content of the file that a value from `decode` is written to; `ending` is one that `place` accepts."""
        raise TypeError(f"{type(self).__name__} does not say how a value is saved")

    @classmethod
    def place(cls, path: str | Path) -> Path:
        """Where a value is written: `path`, with the modality's ending if it has none.

        Raises:
            DataError: No file of this modality ends like that.
        """
        place = Path(path)
        place = place if place.suffix else place.with_name(f"{place.name}{cls.ending}")
        if place.suffix.lower() != cls.ending:
            raise DataError(f"cannot write {place}: it would not end with {cls.ending}", help=f"write {cls.ending}")
        return place

    @classmethod
    def rows_fixed(cls, options: Options) -> int | None:
        """Rows of every value of a slot with `options`, where all have (about) as many; None where they differ."""
        return cls.fixed_rows

    @classmethod
    def texts(cls, value: Any) -> Iterable[str]:
        """Texts in `value` that the tokenizer should be trained on (none for media)."""
        return (value,) if cls.text and isinstance(value, str) else ()

    @classmethod
    def texts_of(cls, value: Any, options: Options) -> Iterable[str]:
        """The same of a value of a slot with `options`."""
        return cls.texts(value)

    @classmethod
    def found_settings(
        cls, values: Iterable[tuple[Any, Options, str | None]], settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Settings that the modality's card leaves open (null), as the training rows have them; kept with the model.

        Args:
            values: (value, options of its slot, folder of paths) of rows of all tasks that have the modality; not read
                before they are asked for.
        """
        return {}

    @classmethod
    def declare(cls, value: Any, options: Options, settings: Mapping[str, Any]) -> Iterable[str]:
        """Names of vocabulary rows that `value` needs beside pieces (phones, categories); collected over training."""
        return ()

    @classmethod
    def spells(cls, options: Options) -> bool:
        """Whether a value that is written without a closed set is spelt in pieces of text."""
        return cls.text

    @classmethod
    def rows_of_slot(cls, options: Options) -> tuple[str, ...]:
        """Names of vocabulary rows that a slot needs whatever its values are."""
        return ()

    @classmethod
    def measure(cls, value: Any, folder: str | None) -> Size | None:
        """The size of a raw value by a cheap look (a header): UTF-8 bytes of its text; None where it has none.

        It is what steps are dealt by, so it depends on the value alone; a size may have several numbers, such as
        (frames, height, width), always as many as `typical`. Relative paths start at `folder`.

        Raises:
            DataError: It cannot be read.
        """
        return (text_bytes(value),)

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows that a value of this size will fill, estimated without decoding it."""
        return 1 + size[0] // 3


def text_bytes(value: Any) -> int:
    """UTF-8 bytes of text, or of the text that a value without one has; lists and records: the sum of their parts."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(text_bytes(key) + text_bytes(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return sum(text_bytes(part) + 1 for part in value)
    return len(str(value))
