"""The vocabulary of somebody else's weights: their ids keep their meaning, what they lack is appended.

Rows in order: those of the house; then, once the model is to learn more, the controls that the house has no row for,
box bins where it has none, and what cards declare. Until then there are as many rows as the house has, so losses and
log probabilities are the house's own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ofasys_lite.errors import CheckpointError, needed
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS, CONTROLS, Vocabulary
from ofasys_lite.writing import current, write_atomic

#: Text models: none, a file of `tokenizers`, a SentencePiece file; `symbols`: names of rows between spaces.
KINDS = ("none", "tokenizers", "sentencepiece", "symbols")
_BINS = 1000


class ForeignVocabulary(Vocabulary):
    """Names and ids of the rows of a house, and its text model.

    Args:
        house: What the house says of its rows, plain values that JSON takes: `names` (symbol of each row, or how many
            there are), `controls` (control -> its row), `text` ([first, behind the last] row of text), `bins` (the same
            of boxes, or null), `around` (controls or rows before and behind source text), `kind` (one of KINDS),
            `space` (text is read behind one space, without those around it), `rows` (id of the text model -> row where
            the ids differ, else null), `unknown` (the row of ids without one); `seamless` (a target goes on behind the
            last row of its source, nothing between them), absent: false; `marks` (text -> row that words never spell:
            `<|im_start|>`), absent: none.
        model: The text model's file.
        grown: Whether rows were appended.
    """

    exact = False

    def __init__(
        self, house: Mapping[str, Any], model: bytes = b"", declared: Sequence[str] = (), grown: bool = False
    ) -> None:
        self.house, self.model, self.grown = dict(house), model, grown
        self.declared = tuple(declared)
        self._index = {name: i for i, name in enumerate(self.declared)}
        names = house["names"]
        self.names: tuple[str, ...] = () if isinstance(names, int) else tuple(names)
        self.reads_text = house["kind"] != "none"
        self._count = names if isinstance(names, int) else len(self.names)
        self.text_low, self.text_high = (int(n) for n in house["text"])
        known = {str(name): int(row) for name, row in house["controls"].items()}
        lacking = [name for name in CONTROL_IDS if name not in known]
        self._controls = {**known, **{name: self._count + i for i, name in enumerate(lacking)}}
        self._lacking = frozenset(lacking)
        behind = self._count + len(lacking)
        low, high = house["bins"] or (behind, behind + _BINS)
        self.bins, self._box_low = int(high) - int(low), int(low)
        self._declared_low = behind if house["bins"] else behind + _BINS
        first, last = house["around"]
        self.around = (tuple(known.get(name, name) for name in first), tuple(known.get(name, name) for name in last))
        rows = house["rows"]
        self._rows = None if rows is None else {int(id): int(row) for id, row in rows.items()}
        self._ids = None if self._rows is None else {row: id for id, row in self._rows.items()}
        self.seamless = bool(house.get("seamless", False))
        self._marks = {str(name): int(row) for name, row in house.get("marks", {}).items()}

    def __getstate__(self) -> dict[str, Any]:
        return {"house": self.house, "model": self.model, "declared": self.declared, "grown": self.grown}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ForeignVocabulary.__init__(self, state["house"], state["model"], state["declared"], state["grown"])

    @functools.cached_property
    def loses(self) -> str:  # type: ignore[override]
        """What word pieces lose of a text: case, where they are in lower case, and how marks are spaced."""
        if self.house["kind"] != "tokenizers":
            return ""
        content = json.loads(self.model)
        if content["model"].get("type") != "WordPiece":
            return ""
        lower = (content.get("normalizer") or {}).get("lowercase", False)
        return f"{'case, accents and ' if lower else ''}the spaces around marks"

    @property
    def box_low(self) -> int:
        """First id of the box bins."""
        return self._box_low

    @property
    def declared_low(self) -> int:
        """First id of the declared rows."""
        return self._declared_low

    def __len__(self) -> int:
        return self.declared_low + len(self.declared) if self.grown else self._count

    def control(self, name: str) -> int:
        """Id of a control row; CheckpointError where the house has none and none was appended."""
        if name in self._lacking and not self.grown:
            raise CheckpointError(
                f"these weights know no `<{name}>`, which the line needs",
                help="train the model with such a line: rows that it lacks are appended",
            )
        return self._controls[name]

    def row_of(self, name: str) -> int:
        """Row of a control, or the row that it will have once it is appended."""
        return self._controls[name]

    def encode(self, text: str) -> list[int]:
        """Rows of the pieces of `text`, as the house cuts it."""
        text = f" {text.strip()}" if self.house["space"] and text.strip() else text
        ids = self._text_model.encode(text)
        if self._rows is None:
            return ids
        unknown = int(self.house["unknown"])
        return [self._rows.get(id, unknown) for id in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of rows; those that are no text are left out."""
        rows = [int(i) for i in ids if self.text_low <= int(i) < self.text_high]
        found = self._text_model.decode(rows if self._ids is None else [self._ids[r] for r in rows if r in self._ids])
        return found.strip() if self.house["space"] else found

    def spelling(self, id: int) -> bytes | None:
        """CheckpointError: how the house spells its pieces is not known byte by byte."""
        raise CheckpointError(
            "a grammar is written in pieces that are known byte by byte, and those of these weights are not",
            help="leave `grammar` out of the line, or train a model with a tokenizer of its own",
        )

    @functools.cached_property
    def _text_model(self) -> _TextModel | _Symbols:
        if self.house["kind"] == "none":
            raise CheckpointError(
                "these weights were imported without their text model, and read no text",
                help="import them again with its files: tokenizer=FOLDER (encoder.json and vocab.bpe, tokenizer.json, "
                "or a SentencePiece .model)",
            )
        if self.house["kind"] == "symbols":
            return _Symbols(self.names, range(self.text_low, self.text_high), int(self.house["unknown"]))
        return _TextModel(self.house["kind"], self.model, bool(self._marks))

    def name(self, id: int) -> str:
        """Name of any row, for explain and error messages."""
        if id < self._count:
            return self.names[id] if self.names else f"<row {id}>"
        if id >= self.declared_low:
            return self.declared[id - self.declared_low]
        known = {row: name for name, row in self._controls.items()}
        return f"<{known[id]}>" if id in known else f"<bin {id - self.box_low}>"

    def spelled(self, name: str) -> tuple[int, ...]:
        """Ids that stand for a declared name: rows of the house's marks with the words between them, else its row."""
        found = self._cut(name)
        if not any(part in self._marks for part in found):
            return super().spelled(name)
        return tuple(id for p in found for id in ([self._marks[p]] if p in self._marks else self.encode(p)))

    def _cut(self, name: str) -> list[str]:
        """Marks, and what stands between them."""
        if not self._marks:
            return [name]
        marks = sorted(self._marks, key=len, reverse=True)
        return [part for part in re.split(f"({'|'.join(map(re.escape, marks))})", name) if part]

    def extended(self, names: Iterable[str]) -> Vocabulary:
        """This vocabulary with the rows that a further training needs; existing ids never move."""
        wanted = (n for n in dict.fromkeys(names) if not any(part in self._marks for part in self._cut(n)))
        fresh = [n for n in wanted if n not in self._index]
        if self.grown and not fresh:
            return self
        return ForeignVocabulary(self.house, self.model, (*self.declared, *fresh), True)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that identify the text model, the house's rows and what was appended."""
        digest = hashlib.sha256(self.model)
        digest.update(json.dumps([self.house, self.declared, self.grown], sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Writes tokenizer.model and vocabulary.json into `folder`."""
        write_atomic(folder / "tokenizer.model", self.model)
        content = {
            "house": self.house,
            "controls": CONTROLS,
            "declared": self.declared,
            "grown": self.grown,
            "hash": self.hash,
        }
        write_atomic(folder / "vocabulary.json", json.dumps(content, ensure_ascii=False, indent=1))

    @staticmethod
    def stored(folder: Path, content: Mapping[str, Any], model: bytes) -> ForeignVocabulary:
        """What `save` wrote; CheckpointError if it is damaged or of another version."""
        try:
            found = ForeignVocabulary(content["house"], model, content["declared"], bool(content["grown"]))
            same = tuple(content["controls"]) == CONTROLS
            whole = found.hash == content["hash"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}/vocabulary.json is damaged: {error}", help="copy it again") from None
        if not same:
            help = "load it with the version that wrote it"
            raise CheckpointError(f"{folder}/vocabulary.json was written with other control rows", help=help)
        if not whole:
            raise CheckpointError(f"{folder}: tokenizer.model and vocabulary.json do not belong together")
        return found


def load_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary saved in `folder`, ours or another house's; CheckpointError if it is missing or damaged."""
    try:
        content = json.loads(current(folder, "vocabulary.json").read_text(encoding="utf-8"))
        model = current(folder, "tokenizer.model").read_bytes()
    except (OSError, ValueError):
        return Vocabulary.load(folder)  # which says what is wrong
    if isinstance(content, dict) and "house" in content:
        return ForeignVocabulary.stored(folder, content, model)
    return Vocabulary.load(folder)


class _Symbols:
    """Text as symbols between spaces: what cuts it stands before this package, as it stands before fairseq."""

    def __init__(self, names: Sequence[str], rows: range, unknown: int) -> None:
        self._names, self._unknown = names, unknown
        self._rows = {names[row]: row for row in rows}

    def encode(self, text: str) -> list[int]:
        return [self._rows.get(symbol, self._unknown) for symbol in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self._names[id] for id in ids)


class _TextModel:
    """A text model's file, as its library reads it."""

    def __init__(self, kind: str, model: bytes, plain: bool = False) -> None:
        """`plain`: what looks like a mark of the house within a text is text."""
        self.kind = kind
        try:
            if kind == "sentencepiece":
                import sentencepiece

                self._model: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
            else:
                tokenizers = needed("tokenizers", "the text model of these weights", "hf", kind=CheckpointError)
                self._model = tokenizers.Tokenizer.from_str(model.decode("utf-8"))
                # some files ask for texts of one length
                self._model.no_padding()
                self._model.no_truncation()
                self._model.encode_special_tokens = plain
        except CheckpointError:
            raise
        except Exception as error:  # tokenizers raises Exception itself
            raise CheckpointError(f"the text model cannot be read as {kind}: {error}", help="copy it again") from None

    def encode(self, text: str) -> list[int]:
        found = self._model.encode(text) if self.kind == "sentencepiece" else self._encoded(text)
        return [int(i) for i in found]

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._model.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        return str(self._model.decode(ids))
