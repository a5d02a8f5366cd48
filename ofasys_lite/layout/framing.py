"""Controls around what a text model reads: `<s> words </s>`, as weights of others were taught it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ofasys_lite.layout.learned import Learned
from ofasys_lite.layout.pack import Side
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.vocabulary import Around


def framed(pieces: Sequence[Piece], learned: Sequence[Learned], around: Around) -> Side:
    """A source sequence, each run of neighbouring token ids between the controls of its vocabulary."""
    before, behind = around
    laid, places = list[Piece](), list[int]()
    for number, piece in enumerate(pieces):
        held = piece.tokens and piece.count > 0
        inside = held and number > 0 and pieces[number - 1].tokens and bool(laid)
        if held and not inside and before:
            laid.append(Piece.of_ids(before))
        places.append(len(laid))
        laid.append(piece)
        last = number + 1 == len(pieces) or not pieces[number + 1].tokens
        if held and last and behind:
            laid.append(Piece.of_ids(behind))
    return Side(tuple(laid), tuple(replace(item, piece=places[item.piece]) for item in learned))
