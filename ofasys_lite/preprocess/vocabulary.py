"""The one vocabulary of a run: rows by name, in this order: controls, text pieces, box bins, declared rows.

One SentencePiece model: byte fallback, identity normalisation, white space kept, no dummy prefix; decode(encode(x)) = x
for every string. Rows are only ever appended, and a checkpoint stores names, not only sizes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.writing import current, write_atomic

#: Control rows: their ids are the same in every vocabulary.
CONTROLS: tuple[str, ...] = (
    "<pad>",
    "<start>",  # row 0 of every target sequence reads this
    "<close>",  # ends a slot of free length
    "<end>",  # ends a group, a record, a list
    "<next>",  # opens the next element of a group with one alternative
    "<absent>",  # an optional target slot that is not there
    "<present>",  # an optional target slot that is there
    "<mask>",  # masked text, and the dropped slot of classifier-free guidance
    "<blank>",  # CTC
    "<record>",
    "<list>",
    "<key>",
    "<string>",
    "<number>",
    "<true>",
    "<false>",
    "<null>",
    "<cell>",  # an empty cell of a grid
    *(f"<alternative {i}>" for i in range(8)),  # opens an element of a group with several alternatives
    *(f"<reserved {i}>" for i in range(6)),
)

#: Ids that stand before and behind each run of a source's tokens.
Around = tuple[tuple[int, ...], tuple[int, ...]]

#: The declared row that ends each side of `<->`: the encoder's state at it is the side's vector.
VECTOR = "<vector>"

#: The declared row whose presence says that vectors of names know their words (`Vocabulary.words_of_names`).
WORDS = "<words of names>"

#: Id of a control by its name without the angle brackets: `close`.
CONTROL_IDS = {name.strip("<>"): id for id, name in enumerate(CONTROLS)}
_SPACE_MARK = "\u2581"
# Most bytes of a text that SentencePiece is given at once: longer ones it would drop.
_SENTENCE = 16_000
# As how many texts of the data a tokenizer's training counts the words of one instruction.
_WORDS_COUNT = 300


class Vocabulary:
    """Names and ids of all token rows, and the text model.

    Args:
        model: Serialized SentencePiece model.
        declared: Names of the rows after the bins, in order.
    """

    #: Nothing: sequences are opened and closed by the plan.
    around: Around = ((), ())
    #: What a text has no more once it was cut into pieces, in words; empty: nothing, or not known to lose anything.
    loses: str = ""
    #: Whether decode(encode(x)) = x for every string.
    exact = True
    text_low: int
    text_high: int
    #: Whether there is a text model.
    reads_text = True

    #: Whether the last id of a source opens its target, instead of `<start>` between them.
    seamless: bool = False

    def __init__(self, model: bytes, bins: int = 1000, declared: Sequence[str] = ()) -> None:
        self.model = model
        self.bins = bins
        self.declared = tuple(declared)
        self._index = {name: i for i, name in enumerate(self.declared)}
        if len(self._index) != len(self.declared):
            raise CheckpointError("vocabulary: a declared row has two entries", help="rename one of the rows")
        import sentencepiece

        self._pieces: Any = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        self.text_low = len(CONTROLS)
        self.text_high = self.text_low + int(self._pieces.get_piece_size())

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "bins": self.bins, "declared": self.declared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Vocabulary.__init__(self, state["model"], state["bins"], state["declared"])

    @property
    def box_low(self) -> int:
        """First id of the box bins."""
        return self.text_high

    @property
    def declared_low(self) -> int:
        """First id of the declared rows."""
        return self.text_high + self.bins

    def __len__(self) -> int:
        return self.declared_low + len(self.declared)

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of `text`; decode gives the same string back."""
        low = self.text_low
        if _SPACE_MARK not in text:
            return [i + low for i in self._pieces.encode(text)]
        # U+2581 is SentencePiece's own mark of a space: a real one is spelt in bytes
        mark = [low + self._pieces.piece_to_id(f"<0x{b:02X}>") for b in _SPACE_MARK.encode()]
        ids: list[int] = []
        for number, part in enumerate(text.split(_SPACE_MARK)):
            ids += (mark if number else []) + [i + low for i in self._pieces.encode(part)]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of piece ids; broken UTF-8 (possible in free generation) becomes U+FFFD."""
        low = self.text_low
        return str(self._pieces.decode([int(i) - low for i in ids]))

    def control(self, name: str) -> int:
        """Id of a control row by its name without the angle brackets: `close`.

        Raises:
            CheckpointError: This vocabulary has no such row.
        """
        return CONTROL_IDS[name]

    def row_of(self, name: str) -> int:
        """Row of a control, or the row that it will have once it is appended."""
        return CONTROL_IDS[name]

    def spelling(self, id: int) -> bytes | None:
        """The bytes that a text piece stands for; None for the unknown piece, which no text is made of."""
        number = id - self.text_low
        piece = str(self._pieces.id_to_piece(number))
        if self._pieces.is_byte(number):
            return bytes([int(piece[3:-1], 16)])
        return None if self._pieces.is_unknown(number) else piece.replace(_SPACE_MARK, " ").encode()

    def piece_scores(self) -> list[float | None]:
        """Log probability of each text piece, by which SentencePiece cuts a text; None of bytes and the unknown one."""
        found = self._pieces
        letters = (not (found.is_byte(i) or found.is_unknown(i)) for i in range(self.text_high - self.text_low))
        return [float(found.get_score(i)) if plain else None for i, plain in enumerate(letters)]

    def find(self, name: str) -> int | None:
        """Id of a declared row, or None."""
        place = self._index.get(name)
        return None if place is None else self.declared_low + place

    def name(self, id: int) -> str:
        """Name of any row, for explain and error messages."""
        if id < self.text_low:
            return CONTROLS[id]
        if id < self.text_high:
            return str(self._pieces.id_to_piece(id - self.text_low))
        if id < self.declared_low:
            return f"<bin {id - self.box_low}>"
        return self.declared[id - self.declared_low]

    def spelled(self, name: str) -> tuple[int, ...]:
        """Ids that stand for a declared name: its row; none where there is none."""
        found = self.find(name)
        return () if found is None else (found,)

    def extended(self, names: Iterable[str]) -> Vocabulary:
        """This vocabulary with the `names` it lacks appended; existing ids never move."""
        fresh = [n for n in dict.fromkeys(names) if n not in self._index]
        return Vocabulary(self.model, self.bins, (*self.declared, *fresh)) if fresh else self

    def words_of_names(self) -> dict[str, Any] | None:
        """Of each declared row the pieces of its name (`=red` -> those of `red`), none for other rows.

        `first` is the id of the first declared row. None where no slot of the model asked for it.
        """
        if self.find(WORDS) is None:
            return None
        return {
            "first": self.declared_low,
            "pieces": [self.encode(name[1:]) if name.startswith("=") else [] for name in self.declared],
        }

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that identify the text model, the bins and the declared names."""
        digest = hashlib.sha256(self.model)
        digest.update(json.dumps([self.bins, self.declared]).encode())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Writes tokenizer.model and vocabulary.json into `folder`."""
        write_atomic(folder / "tokenizer.model", self.model)
        content = {"bins": self.bins, "controls": CONTROLS, "declared": self.declared, "hash": self.hash}
        write_atomic(folder / "vocabulary.json", json.dumps(content, ensure_ascii=False, indent=1))

    @staticmethod
    def load(folder: Path) -> Vocabulary:
        """The vocabulary saved in `folder`; CheckpointError if it is missing, changed or of another version."""
        try:
            model = current(folder, "tokenizer.model").read_bytes()
            content = json.loads(current(folder, "vocabulary.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"no tokenizer in {folder}: {Path(str(error.filename)).name} is missing",
                help="name a run folder (runs/x), an export folder, or a folder saved by save_pretrained",
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{folder}/vocabulary.json is not JSON: {error}") from None
        if not isinstance(content, dict) or not {"bins", "declared", "hash"} <= content.keys():
            raise CheckpointError(f"{folder}/vocabulary.json is damaged or none of ours", help="copy it again")
        if tuple(content.get("controls", ())) != CONTROLS:
            raise CheckpointError(
                f"{folder}/vocabulary.json was written with other control rows",
                help="load it with the version that wrote it",
            )
        try:
            found = Vocabulary(model, int(content["bins"]), content["declared"])
        except (RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}/tokenizer.model is damaged: {error}", help="copy it again") from None
        if found.hash != content["hash"]:
            raise CheckpointError(f"{folder}: tokenizer.model and vocabulary.json do not belong together")
        return found


def _sentences(texts: Iterable[str], limit: int) -> list[str]:
    """At most about `limit` characters of `texts`, drawn by hash, long ones in parts."""
    distinct = sorted(set(texts), key=lambda t: hashlib.sha1(t.encode("utf-8", "surrogatepass")).digest())
    kept: list[str] = []
    used = 0
    for text in distinct:
        for part in _parts(text.replace("\n", " ")):
            if used >= limit:
                return kept
            kept.append(part)
            used += len(part)
    return kept


def _parts(text: str) -> Iterable[str]:
    """`text` in stretches that SentencePiece takes; it reads no null characters."""
    for stretch in text.split("\x00"):
        if len(stretch.encode("utf-8", "ignore")) < _SENTENCE:
            yield from (stretch,) if stretch else ()
        else:
            # a character has at most four bytes
            yield from (stretch[i : i + _SENTENCE // 4 - 1] for i in range(0, len(stretch), _SENTENCE // 4 - 1))


def train_pieces(texts: Iterable[str], size: int, words: Iterable[str] = (), limit: int = 10_000_000) -> bytes:
    """A serialized SentencePiece model trained on at most `limit` characters of `texts`, drawn by hash.

    Args:
        size: Number of pieces wanted; small data gives fewer (`hard_vocab_limit` is off).
        words: Words of the instructions. Every sample of a task carries them, so each counts as many texts.
        limit: Most characters used. Texts are kept in the order of the sha1 of their bytes until it is reached, so the
            choice depends on the texts alone, not on their order. Long ones are cut into parts.
    """
    import sentencepiece

    kept = _sentences(texts, limit)
    for text in sorted(set(words)):
        # a piece must be found in two distinct words: each word is given with a space before it and without
        kept.extend([text, *text.split(), f" {text}"] * _WORDS_COUNT)
    buffer = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            # without any text there are the bytes, which spell every string
            sentence_iterator=iter(kept or [" "]),
            model_writer=buffer,
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,  # numbers are copied and compared digit by digit
            character_coverage=0.9995,
            required_chars=_SPACE_MARK,  # a space spelt in bytes would come back as its mark
            max_sentence_length=_SENTENCE + 1024,
            unk_surface="\ufffd",
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,  # the model must not depend on the number of threads
            minloglevel=2,
        )
    except RuntimeError as error:
        found = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if found is None:
            raise
        raise CardError(
            f"{size} pieces are too few for the characters of these texts", help=f"pieces is at least {found[1]}"
        ) from None
    return buffer.getvalue()
