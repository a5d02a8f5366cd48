"""Our vocabulary, or that of a house with what was appended to it, as the files that transformers' tokenizers read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.text_models import pieces_of
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary
from ofasys_lite.preprocess.vocabulary import Vocabulary

_MARK = "\u2581"
_UNKNOWN = "<unk>"


def tokenizer_files(vocabulary: Vocabulary) -> tuple[dict[str, bytes], list[str]]:
    """(content by file name, what is to be known of it, a line each)."""
    special = _special(vocabulary)
    if not isinstance(vocabulary, ForeignVocabulary):
        return _written(_unigram(vocabulary), special), [
            "tokenizer: our pieces, cut as we cut them, but for U+2581 and names of rows (`<pad>`)"
        ]
    kind = vocabulary.house["kind"]
    if kind == "none":
        return {}, ["tokenizer: none, as none was imported"]
    if kind == "sentencepiece":
        note = "tokenizer: spiece.model, as it was imported"
        grown = "; appended rows have ids and no spelling in it" if vocabulary.grown else ""
        return {"spiece.model": vocabulary.model}, [note + grown]
    if vocabulary.house["rows"] is not None:
        return {}, ["tokenizer: none, for its ids are not those of the rows"]
    return _written(_appended(vocabulary), special), [
        "tokenizer: tokenizer.json, as it was imported, with appended rows"
    ]


def _written(content: Mapping[str, Any], special: Mapping[str, str]) -> dict[str, bytes]:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    files = {"tokenizer.json": content, "tokenizer_config.json": config}
    return {name: json.dumps(held, ensure_ascii=False, indent=1).encode("utf-8") for name, held in files.items()}


def _special(vocabulary: Vocabulary) -> dict[str, str]:
    """Spellings of the rows that close and pad, where they have one."""
    found = {}
    for key, control in (("eos_token", "close"), ("pad_token", "pad")):
        found[key] = _spelled(vocabulary, vocabulary.row_of(control))
    return found


def _spelled(vocabulary: Vocabulary, row: int) -> str:
    if isinstance(vocabulary, ForeignVocabulary) and vocabulary.house["kind"] == "tokenizers":
        return {id: name for name, id in pieces_of("tokenizers", vocabulary.model).items()}.get(row, f"<row {row}>")
    return vocabulary.name(row)


def _unigram(vocabulary: Vocabulary) -> dict[str, Any]:
    """Controls, pieces with their scores, bins and declared rows, by their ids.

    SentencePiece cuts the whole text at once, and so does Unigram without anything before it: spaces are pieces' own.
    """
    scores, low = vocabulary.piece_scores(), vocabulary.text_low
    names = _distinct([vocabulary.name(id) for id in range(len(vocabulary))])
    # what stands for no letters of a text (bytes, controls, bins) must never be taken for its letters
    never = min((score for score in scores if score is not None), default=0.0) - 1e4
    known = dict(enumerate(scores, low))
    pieces = [[name, never if (score := known.get(id)) is None else score] for id, name in enumerate(names)]
    outside = [id for id in range(len(names)) if not low <= id < vocabulary.text_high]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(id, names[id]) for id in outside],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _MARK},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _MARK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {"type": "Unigram", "unk_id": names.index(_UNKNOWN), "vocab": pieces, "byte_fallback": True},
    }


def _appended(vocabulary: ForeignVocabulary) -> dict[str, Any]:
    """The house's file with a name for each row that it has none for; their ids follow one another."""
    pieces = pieces_of("tokenizers", vocabulary.model)
    content = json.loads(vocabulary.model.decode("utf-8"))
    known, taken = set(pieces.values()), set(pieces)
    rows = [row for row in range(len(vocabulary)) if row not in known]
    if rows and rows != list(range(rows[0], len(vocabulary))):
        help = "ids of a tokenizer follow one another; export the weights alone by an import without the text model"
        raise CheckpointError(f"the text model of these weights has no piece for row {rows[0]}", help=help)
    added = []
    for row in rows:
        name = vocabulary.name(row)
        while name in taken:
            name += "_"
        taken.add(name)
        added.append(_added(row, name))
    return {**content, "added_tokens": [*content.get("added_tokens", []), *added]}


def _added(row: int, name: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": row, "content": name, **flags}


def _distinct(names: list[str]) -> list[str]:
    """The names, those that come again with a mark behind them: a tokenizer finds ids by names."""
    found = dict[str, None]()
    for name in names:
        while name in found:
            name += "_"
        found[name] = None
    return list(found)
