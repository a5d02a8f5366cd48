"""Baselines that rank the candidates of `<->`: chance, tfidf; and by the answer of one that answers with a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ofasys_lite.metrics.baselines.nearest import TfIdf

#: What answers by itself; other baselines answer with a text, whose nearest candidates are taken.
RANKINGS = ("chance", "tfidf")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is ranked: a name and a text of each; texts are empty where candidates hold none."""

    names: Sequence[str]
    texts: Sequence[str]


def rank_at_random(count: int, candidates: Candidates, top: int, seed: int) -> list[list[str]]:
    """Candidates in random order for each of `count` rows."""
    rng = np.random.default_rng(seed)
    total, kept = len(candidates.names), min(top, len(candidates.names))
    return [[candidates.names[i] for i in rng.choice(total, kept, replace=False)] for _ in range(count)]


def rank_by_words(asked: Sequence[str], candidates: Candidates, top: int) -> list[list[str]]:
    """For each text the candidates whose texts are nearest by cosine of TF-IDF; without a common word as they stand."""
    index = TfIdf(candidates.texts)
    found: dict[str, list[str]] = {}
    for text in dict.fromkeys(asked):
        order = np.argsort(-index.scores(text), kind="stable")[:top]
        found[text] = [candidates.names[i] for i in order]
    return [found[text] for text in asked]
