"""Attributes that belong to the language itself, and what is said of spellings that OFASys' documents use."""

from __future__ import annotations

from collections.abc import Mapping

from ofasys_lite.cards.types import AttributeSpec, ObjectiveCard
from ofasys_lite.cards.ways import BUILT_IN

LANGUAGE: tuple[AttributeSpec, ...] = (
    AttributeSpec("no_loss", "flag", side="target", help="the slot is read, not learned, and forced in decoding"),
    AttributeSpec("weight", "float", low=0.0, side="target", help="factor on the slot's loss"),
    AttributeSpec(
        "loss", "any", help="objective: ctc(column) on a source slot; clip, siglip of `<->`; dpo, ipo, kto of a pair"
    ),
    AttributeSpec(
        "drop", "float", low=0.0, high=1.0, side="source", help="probability of emptying the slot in training"
    ),
    AttributeSpec("decode", "call", choices=tuple(BUILT_IN), side="target", help="decoding"),
    AttributeSpec("codec", "any", side="target", help="codes a target is written in: dnd(depth=2), dnd(codecs/mine)"),
    AttributeSpec("preprocess", "str", help="a preprocess that the modality card names"),
    AttributeSpec("adapter", "str", help="an adapter that the modality card names"),
)

GROUP: tuple[AttributeSpec, ...] = (
    AttributeSpec("over", "str", help="list column whose records are walked"),
    AttributeSpec("by", "any", help="field of a record that names the alternative"),
    AttributeSpec("max", "int", low=1, help="more elements are cut"),
    AttributeSpec("keep", "choice", choices=("first", "last", "random"), help="which elements a cut keeps"),
    AttributeSpec("order", "choice", choices=("given", "random"), help="order of the elements in training"),
)

#: Spellings that are understood as another, with or without a note.
RENAMED = {"adaptor": ("adapter", False), "preprocessor": ("preprocess", True)}

#: Spellings that OFASys' documents use and its code never did anything with.
REFUSED = {"is_label": "a target slot is learned unless it says `no_loss`; leave `is_label` out"}


#: Objectives of a slot with two columns, of which the first is preferred; without `loss=` it is learned by the first.
PREFERENCES = ("dpo", "ipo", "kto")
#: Those that compare with answers to other sources: in training a sample has a third answer, of another row.
MISMATCHED = ("kto",)

#: Objectives of the package: its side of the arrow (empty: it may stand on both), its unit, what it takes beside
#: `weight`; ctc takes a column.
OBJECTIVES: Mapping[str, ObjectiveCard] = {
    "cross_entropy": ObjectiveCard("target", "token"),
    "ctc": ObjectiveCard("source", "token"),
    **{name: ObjectiveCard("target", "pair", arguments=("beta", "sft")) for name in PREFERENCES},
}

#: Objectives of a whole line with `<->`, whichever slot of it names one; the first where none does. `block`: how many
#: samples of the task are drawn together, so that each has rivals.
ALIGNMENTS: Mapping[str, ObjectiveCard] = {
    "clip": ObjectiveCard("", "pair", arguments=("block",)),
    "siglip": ObjectiveCard("", "pair", arguments=("block",)),
}

#: Name in the model of the adapter that makes vectors of states, and where it is.
ALIGN_ADAPTER = "align"
ALIGN_PATH = "ofasys_lite.adapters.align.AlignAdapter"

#: Name in the model of the adapter that says how many token ids there are where they are written together, and where
#: it is; the most ids of such a target.
ROUNDS_ADAPTER = "rounds"
ROUNDS_PATH = "ofasys_lite.adapters.rounds.RoundsAdapter"
LONGEST = 256

#: Samples of a block where the line does not say.
BLOCK = 32

#: Objectives that training has; a card may name others `later`.
LOSSES_NOW = ("cross_entropy", "ctc", *PREFERENCES)

#: Adapter of everything that is made of token ids: what is learned without a codec is learned by it.
TEXT_ADAPTER = "ofasys_lite.adapters.text.TextAdapter"
