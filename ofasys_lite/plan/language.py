"""Attributes that belong to the language itself, and what is said of spellings that OFASys' documents use."""

from __future__ import annotations

from ofasys_lite.cards.types import AttributeSpec
from ofasys_lite.cards.ways import BUILT_IN

#: Codes of the mistakes that this room finds, and their short meanings.
PLAN_CODES = {
    "E102": "a modality that cannot stand on this side",
    "E105": "unknown slot attribute",
    "E106": "a value of the wrong type",
    "E107": "a number out of range",
    "E108": "an attribute given twice",
    "E109": "an attribute on the wrong side",
    "E110": "unknown preprocess or adapter",
    "E111": "unknown objective",
    "E112": "an attribute that means nothing here",
    "E113": "a name that is not among the allowed ones",
    "E201": "nothing would be learned",
    "E202": "paraphrases with different targets",
    "E203": "a paraphrase with columns of its own",
    "E204": "alternatives that cannot be told apart",
    "E205": "a group that cannot be filled",
    "E206": "a closed set that is empty, doubled or unknown",
    "E207": "attributes that contradict each other",
    "E208": "targets of one encoding that cannot be written together",
}

LANGUAGE: tuple[AttributeSpec, ...] = (
    AttributeSpec("no_loss", "flag", side="target", help="the slot is read, not learned, and forced in decoding"),
    AttributeSpec("weight", "float", low=0.0, side="target", help="factor on the slot's loss"),
    AttributeSpec("loss", "any", help="objective: ctc(column) on a source slot; dpo, mlm, mae, diffusion later"),
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

#: Unit of each objective.
LOSS_UNITS = {
    "cross_entropy": "token",
    "ctc": "token",
    "mlm": "token",
    "mae": "position",
    "dpo": "pair",
    "contrastive": "sample",
    "diffusion": "frame",
}

#: Side of the arrow an objective belongs to; others may stand on both.
LOSS_SIDES = {
    "ctc": "source",
    "mlm": "source",
    "mae": "source",
    "cross_entropy": "target",
    "dpo": "target",
    "diffusion": "target",
}

#: Arguments of objectives beside `weight`; ctc takes a column.
LOSS_KEYS = {
    "cross_entropy": (),
    "mlm": ("ratio",),
    "mae": ("ratio",),
    "dpo": ("beta",),
    "contrastive": ("temperature",),
    "diffusion": ("steps", "target"),
}

#: Objectives that training has; a card may name others `later`.
LOSSES_NOW = ("cross_entropy", "ctc")

#: Adapter of everything that is made of token ids: what is learned without a codec is learned by it.
TEXT_ADAPTER = "ofasys_lite.adapters.text.TextAdapter"
