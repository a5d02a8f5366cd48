"""TEXT: words <-> piece ids, with masking for infilling and noise on what the decoder is fed.

Sources: BART's text infilling (arXiv 1910.13461), MASS' contiguous spans (arXiv 1905.02450).
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Constraint, Free, OneOf
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.base import READ, Piece, Preprocess, RowContext, Size
from ofasys_lite.preprocess.closed import closed_ids, closed_sequences, closed_value
from ofasys_lite.preprocess.plain import HALF, plain
from ofasys_lite.preprocess.text_grammar import check_grammar, check_spelt, grammar_constraint, spelling_of

Ids = npt.NDArray[np.int64]
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
#: Mean length of a masked span in tokens, as in BART.
_SPAN = 3.0


_NO_UTF8 = 'make text of the column first, such as .decode("latin-1"), or leave the row out'


def read_text(value: Any, modality: str = "TEXT") -> str:
    """`value` as text: text as it is, numbers as Python prints them, `true` and `false`, dates and decimals as written.

    Raises:
        DataError: The value is empty, a list, a record or of a type that nobody writes as text.
    """
    value = value if type(value) is str else plain(value)
    if isinstance(value, str):
        if not value.isascii():
            _whole(value, modality)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        if value != value:
            raise DataError(f"{modality} reads text or a number; found NaN", help="an empty cell? leave the row out")
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"{modality} reads text; found {len(value)} bytes that are not UTF-8", help=_NO_UTF8
            ) from None
    found = "a list" if isinstance(value, (list, tuple, np.ndarray)) else type(value).__name__
    help = "name the list in a group: ([TEXT:...])*<over=column>" if found == "a list" else ""
    raise DataError(f"{modality} reads text or a number; found {found}", help=help)


def _whole(text: str, modality: str) -> None:
    """Raises DataError if `text` is no Unicode text: JSON can spell half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        what = f"{modality}: the text holds half of a surrogate pair, which is no character"
        raise DataError(what, help=HALF) from None


def normal_text(text: str, said: Mapping[str, object]) -> str:
    """The text as the model reads and writes it: what `uncased` and `no_punctuation` leave of it."""
    if said.get("uncased"):
        text = text.lower()
    return text.translate(_NO_PUNCTUATION) if said.get("no_punctuation") else text


def mask_ids(ids: list[int], ratio: float, style: str, mask: int, rng: np.random.Generator) -> list[int]:
    """`ids` with about `ratio` of them masked.

    Args:
        ratio: Share of ids to mask, 0 to 1; at least one id is masked if `ratio` > 0.
        style: `bart`: spans of Poisson(3) length, each replaced by one mask; `token`: single ids, each replaced by a
            mask; `mass`: one contiguous span, each id replaced by a mask.
    """
    total = len(ids)
    budget = min(total, max(1, round(total * ratio))) if ratio > 0 and total else 0
    if budget == 0:
        return ids
    masked = np.zeros(total, dtype=bool)
    if style == "mass":
        start = int(rng.integers(0, total - budget + 1))
        masked[start : start + budget] = True
    elif style == "token":
        masked[rng.choice(total, size=budget, replace=False)] = True
    else:
        while (left := budget - int(masked.sum())) > 0:
            length = min(left, max(1, int(rng.poisson(_SPAN))))
            start = int(rng.integers(0, total - length + 1))
            masked[start : start + length] = True
    out: list[int] = []
    for place, id in enumerate(ids):
        if not masked[place]:
            out.append(id)
        elif style != "bart" or place == 0 or not masked[place - 1]:
            out.append(mask)
    return out


class TextPreprocess(Preprocess):
    """Text <-> ids of the one vocabulary; closed sets cost one id a value where the run declared rows for them."""

    text: ClassVar[bool] = True
    in_rounds: ClassVar[bool] = True

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """Ids of the text; on the target side followed by `<close>`, unless the set is closed."""
        text = read_text(value)
        target = known.side == "target"
        if known.closed is not None and target:
            return Piece.of_ids(closed_ids(self.vocabulary, text, known.closed))
        said: dict[str, Any] = dict(options)
        text = normal_text(text, said)
        spelling = spelling_of(options, known.named) if target and said.get("grammar") else None
        if spelling is not None:
            check_spelt(spelling, text)
        # spelled, every character by itself: sounds and digits follow from letters, not from pieces of several
        parts = text if said.get("spelled") else (text,)
        limit = int(said.get("max_length") or self.settings.get("max_length", 512))
        ids = [id for part in parts for id in self.vocabulary.encode(part)]
        if spelling is not None and len(ids) > limit:
            help = "raise `max_length`: of a text with a grammar a part is none"
            raise DataError(f"the text has {len(ids)} tokens, and max_length={limit}", help=help)
        ids = ids[:limit]
        if target:
            piece = Piece.of_ids([*ids, self.vocabulary.control("close")])
            ratio = said.get("noise_ratio", 0.0)
            return self._disturbed(piece, ratio, known.rng) if ratio > 0 and known.train and known.rng else piece
        ratio = said.get("mask_ratio", 0.0)
        if ratio > 0 and known.rng is not None:
            ids = mask_ids(ids, ratio, said.get("mask_style", "bart"), self.vocabulary.control("mask"), known.rng)
        return Piece.of_ids(ids)

    def _disturbed(self, piece: Piece, ratio: float, rng: np.random.Generator) -> Piece:
        """What the decoder is fed is disturbed, what it must predict is not (OFASys' noise_ratio)."""
        ids = piece.arrays["ids"]
        hit = rng.random(len(ids)) < ratio
        hit[-1] = False
        fed = np.where(hit, rng.integers(self.vocabulary.text_low, self.vocabulary.text_high, len(ids)), ids)
        return replace(piece, arrays={"ids": ids, "inputs": fed})

    def rest(self, piece: Piece, hidden: Piece, rng: np.random.Generator | None) -> Piece:
        """The text with loss on the span that the source hides (MASS)."""
        return hidden_span(piece, hidden, self.vocabulary.control("mask"))

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """Free text of `min_length` to `max_length` pieces, what the slot's grammar allows, one of the closed set."""
        if known.closed is not None:
            return OneOf(closed_sequences(self.vocabulary, known.closed))
        said: dict[str, Any] = dict(options)
        least, most = (
            int(said.get("min_length") or 0),
            int(said.get("max_length") or self.settings.get("max_length", 512)),
        )
        spelling = spelling_of(options, known.named)
        if spelling is not None:
            return grammar_constraint(spelling, self.vocabulary, most)
        return Free(self.vocabulary.text_low, self.vocabulary.text_high, least, most, self.vocabulary.control("close"))

    def decode(self, ids: Ids, options: Options, known: RowContext) -> str:
        """The text that `ids` spell."""
        if known.closed is not None:
            return closed_value(self.vocabulary, ids, known.closed)
        close = self.vocabulary.control("close")
        return self.vocabulary.decode(i for i in ids if i != close)

    def rows_of(self, size: Size, options: Options) -> int:
        """About three bytes a piece; spelled, one."""
        return 1 + (size[0] if option(options, "spelled") else size[0] // 3)

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` is neither text nor a number, or, written, not what the slot's grammar allows."""
        text = read_text(value)
        spelling = spelling_of(options, known.named) if known.side == "target" and known.closed is None else None
        if spelling is not None:
            check_spelt(spelling, normal_text(text, dict(options)))

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError if `grammar=` is not what a grammar takes."""
        check_grammar(options)

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> Any:
        """The text without what `uncased` and `no_punctuation` leave out; of several accepted texts each."""
        if isinstance(value, (list, tuple)):
            return [normal_text(read_text(each), dict(options)) for each in value]
        return normal_text(read_text(value), dict(options))

    def seen(self, piece: Piece) -> str:
        """The text with `<mask>` for each mask."""
        text, run = "", list[int]()
        mask = self.vocabulary.control("mask")
        for id in piece.arrays["ids"].tolist():
            if id == mask:
                text, run = f"{text}{self.vocabulary.decode(run)}<mask>", []
            else:
                run.append(id)
        return text + self.vocabulary.decode(run)

    @classmethod
    def texts(cls, value: Any) -> Iterable[str]:
        """The text itself."""
        return (read_text(value),)


def hidden_span(target: Piece, source: Piece, mask: int) -> Piece:
    """`target` with loss on the ids that `source` hides, and fed with masks wherever `source` shows the text.

    As in the paper, what the encoder can read is hidden from the decoder, which must look at the encoder for it. The
    closing control is learned where the span reaches the end of the text.

    Args:
        target: Ids of the whole text and `<close>`.
        source: Ids of the same text, a mask in place of each id of the span.
        mask: Id of the mask.

    Raises:
        DataError: The two are not the same text.
    """
    ids = target.arrays["ids"]
    shown = source.arrays["ids"]
    hidden = shown == mask
    if len(shown) + 1 != len(ids) or not np.array_equal(ids[:-1][~hidden], shown[~hidden]):
        raise DataError("`mask_style=mass` hides a span of a text that the target reads in another way")
    learn_P = np.append(hidden, hidden[-1:])
    fed = np.where(learn_P, target.arrays.get("inputs", ids), mask)
    return Piece(target.adapter, target.positions_P3, {"ids": ids, "inputs": fed}, learn_P)
