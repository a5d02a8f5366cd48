"""Text models of other houses as one file: `tokenizer.json`, SentencePiece, or GPT-2's two files made one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ofasys_lite.errors import CheckpointError

#: Files that are a text model by themselves: tokenizers', T5's and two names of fairseq's.
_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "sentence.bpe.model")


def text_model_in(folder: Path, named: bool) -> tuple[str, bytes]:
    """(kind, content) of the text model in a folder; (`none`, nothing) where there is none and none was named.

    Raises:
        CheckpointError: A folder was named and holds none, or it is damaged.
    """
    for name in _FILES:
        if (folder / name).is_file():
            return "tokenizers" if name.endswith(".json") else "sentencepiece", (folder / name).read_bytes()
    for words, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        if (folder / words).is_file() and (folder / merges).is_file():
            return "tokenizers", byte_pairs(folder / words, folder / merges)
    if (folder / "vocab.txt").is_file():
        return "tokenizers", word_pieces(folder / "vocab.txt")
    if named:
        help = "it holds tokenizer.json, spiece.model, GPT-2's encoder.json and vocab.bpe, or BERT's vocab.txt"
        raise CheckpointError(f"{folder} holds no text model", help=help)
    return "none", b""


def byte_pairs(words: Path, merges: Path) -> bytes:
    """GPT-2's vocabulary and merges as one file of `tokenizers`: byte-level BPE without a space in front."""
    try:
        vocab = json.loads(words.read_text(encoding="utf-8"))
        lines = merges.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{words.parent}: the text model cannot be read: {error}", help="copy it again") from None
    pairs = [line for line in lines if line and not line.startswith("#version")]
    if not isinstance(vocab, dict) or any(len(line.split(" ")) != 2 for line in pairs):
        raise CheckpointError(f"{words.parent}: {words.name} and {merges.name} are no vocabulary and merges of GPT-2")
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocab,
            "merges": pairs,
        },
    }
    return json.dumps(content, ensure_ascii=False).encode("utf-8")


def word_pieces(words: Path) -> bytes:
    """BERT's vocab.txt as one file of `tokenizers`: WordPiece; `do_lower_case` of tokenizer_config.json is kept."""
    try:
        lines = words.read_text(encoding="utf-8").splitlines()
        beside = words.parent / "tokenizer_config.json"
        said = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{words.parent}: the text model cannot be read: {error}", help="copy it again") from None
    if "[UNK]" not in lines or not isinstance(said, dict):
        raise CheckpointError(f"{words} is no vocabulary of BERT: it has no [UNK]", help="a word piece a line")
    lower = bool(said.get("do_lower_case", True))
    normal = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lower}
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", **normal},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: row for row, word in enumerate(lines)},
        },
    }
    return json.dumps(content, ensure_ascii=False).encode("utf-8")


def pieces_of(kind: str, model: bytes) -> dict[str, int]:
    """Piece -> its id in a text model, of `tokenizers` with what was added to it.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        if kind == "sentencepiece":
            import sentencepiece

            held = sentencepiece.SentencePieceProcessor(model_proto=model)
            return {str(held.id_to_piece(id)): id for id in range(held.get_piece_size())}
        content = json.loads(model.decode("utf-8"))
        vocab = content["model"]["vocab"]
        pieces = dict(vocab) if isinstance(vocab, dict) else {pair[0]: id for id, pair in enumerate(vocab)}
        return {**pieces, **{each["content"]: each["id"] for each in content.get("added_tokens", [])}}
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the text model is damaged: {error}", help="copy it again") from None


def check_text_model(kind: str, model: bytes, rows: int, folder: Path) -> None:
    """Raises CheckpointError if a text model is not that of a token table of `rows` rows, as far as numbers tell."""
    if kind == "none":
        return
    ids = pieces_of(kind, model)
    largest = max(ids.values())
    if largest >= rows or len(ids) < 0.9 * rows:
        raise CheckpointError(
            f"the text model in {folder} has {len(ids):,} tokens up to id {largest:,}, the token table {rows:,} rows",
            help="it is the text model of other weights",
        )
