"""How a task's targets are decoded; imports no torch, so that cards are checked early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ofasys_lite.cards.ways import BUILT_IN, SHARED, Way
from ofasys_lite.errors import CardError, Place
from ofasys_lite.plan.decoding import method_of, mistake

#: Ways of decoding of the package.
METHODS = tuple(BUILT_IN)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Decoding of one sample; CardError if a value is of the wrong type or out of range.

    Attributes:
        method: `greedy`, `beam` or `sample`; or `mask_predict`, all positions together in a few rounds. Else a writer
            of a modality's card.
        beam: Live hypotheses of `beam`; 1 is greedy.
        n_best: Hypotheses returned by `beam`, at most `beam`.
        length_penalty: alpha of score = sum of log probabilities / chosen ids ** alpha; 0 compares sums.
        exact: `beam` goes on until no live hypothesis can beat the finished ones at any length, not only at its own.
        renormalize: Log probabilities are over the ids that are legal at a place, and ids that are forced cost nothing;
            without, they are over all ids, and every id counts (fairseq, transformers).
        temperature: Divides the scores of `sample`. This, `top_k` and `top_p` are one number, or for codes one for each
            depth.
        top_k: `sample` draws among the k best legal ids; 0 among all.
        top_p: `sample` draws among the best ids that together hold this probability (arXiv 1904.09751).
        diversity: `n_best` of the `beam` hypotheses are chosen to be unlike each other, too: 0 by score alone, near 1
            by how unlike they are (`decoding/diverse.py`).
        no_repeat_ngram: No n-gram of this length stands twice in one free text; 0 allows all.
        no_repeat: No value of a closed set whose values are one id each stands twice in a group, while others are left.
        min_length: Fewest ids of the target where the line allows that many. Here and in `max_length` ids
            that were there before (the turns of a conversation) do not count.
        max_length: Most ids of the target, or None for what the line allows; a target that cannot be that short has
            the fewest ids that it can have.
        seed: Seed of `sample`, mixed with the sample's key.
        cfg: Codes are drawn from u + cfg (c - u), where u does not see the source slots with `drop=` (classifier-free
            guidance, arXiv 2207.12598); 1 is none.
        cfg_from: Share of the positions (of the rounds of `mask_predict`) from which on there is guidance.
        cfg_until: Share up to which there is guidance (a guidance interval, arXiv 2404.07724).
        negative: What source slots of text with `drop=` hold for `u`; empty: nothing, and so do all others.
        steps: Rounds of `mask_predict`, at most.
        candidates: Fillings that `mask_predict` draws in a round, of which the model's judges keep one.
        patience: Rounds of `mask_predict` that may go by before a picture is done because its judges' best score has
            not risen; 0 waits for all rounds.
        lengths: Of token ids written by `mask_predict`: how many of the likeliest lengths are tried.
        settings: Of a writer of a modality's card, all it takes, as (name, value) pairs; None for the package's ways.
    """

    method: str = "greedy"
    beam: int = 1
    n_best: int = 1
    length_penalty: float = 1.0
    exact: bool = False
    renormalize: bool = True
    temperature: float | tuple[float, ...] = 1.0
    top_k: int | tuple[int, ...] = 0
    top_p: float | tuple[float, ...] = 1.0
    diversity: float = 0.0
    no_repeat_ngram: int = 0
    no_repeat: bool = False
    min_length: int = 0
    max_length: int | None = None
    seed: int = 0
    cfg: float = 1.0
    cfg_from: float = 0.0
    cfg_until: float = 1.0
    negative: str = ""
    steps: int = 12
    candidates: int = 1
    patience: int = 0
    lengths: int = 3
    settings: tuple[tuple[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        own = () if self.settings is None else ("method", *dict(self.settings))
        wrong = mistake({key: value for key, value in self.values.items() if key not in own})
        if wrong is not None:
            raise CardError(f"decoding: {wrong[0]}", help=wrong[1])
        for name in ("temperature", "top_k", "top_p"):
            if isinstance(getattr(self, name), list):  # options are keys of groups, and JSON knows lists only
                object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def values(self) -> dict[str, Any]:
        """`method`, and by name what is not as it is without being given; all that a card's writer takes."""
        changed = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        settings = changed.pop("settings", ())
        return {"method": self.method, **changed, **dict(settings)}

    @property
    def guided(self) -> bool:
        """Whether codes are drawn with guidance."""
        return self.cfg != 1.0

    @property
    def judged(self) -> bool:
        """Whether judges of the model are asked."""
        return self.candidates > 1 or self.patience > 0

    def cfg_at(self, share: float) -> float:
        """Guidance where `share` (0 to 1) of the codes is written."""
        return self.cfg if self.cfg_from <= share < self.cfg_until else 1.0

    @staticmethod
    def of(values: Mapping[str, Any], place: Place | None = None, ways: Mapping[str, Way] = BUILT_IN) -> DecodeOptions:
        """The options that a card's `decoding` names; without `method`, a beam above 1 means `beam`.

        Args:
            values: By name.
            place: Where they stand.
            ways: `Plan.ways()` of the line that is decoded; without it, the package's.

        Raises:
            CardError: Unknown key (near name offered), wrong type or range; it carries `place`.
        """
        wrong = mistake(values, ways)
        if wrong is not None:
            raise CardError(f"decoding: {wrong[0]}", place=place, help=wrong[1])
        method = method_of(values, ways)
        if method in BUILT_IN:
            return DecodeOptions(**{**values, "method": method})
        own = {spec.key: values.get(spec.key, spec.default) for spec in ways[method].options}
        shared = {key: own.pop(key) for key in SHARED if key in own}
        settings = ((key, tuple(value) if isinstance(value, list) else value) for key, value in own.items())
        return DecodeOptions(method, **shared, settings=tuple(settings))
