"""Ordinary taggers and classifiers of sentences: a CRF over words, TF-IDF with logistic regression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_TOKEN = re.compile(r"\w+|[^\w\s]")
#: A value of a slot that is said in other words must be seen so often before it is learned.
_FEWEST = 3
#: Slots of which more than this share is said in other words belong to the classifier altogether.
_IMPLIED = 0.2
_SAID, _NONE = "said", "none"


class SentenceClassifier:
    """TF-IDF of words, pairs of words and pieces of words, with logistic regression."""

    def __init__(self, strength: float = 30.0) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True)
        pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2)
        self.model = make_pipeline(make_union(words, pieces), LogisticRegression(C=strength, max_iter=200))

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> SentenceClassifier:
        """Learns, and returns itself."""
        self.model.fit(list(texts), list(labels))
        return self

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text."""
        return [str(label) for label in self.model.predict(list(texts))]


def tokens(text: str) -> list[tuple[int, int]]:
    """Where the words and marks of a text begin and end."""
    return [found.span() for found in _TOKEN.finditer(text)]


def features(words: Sequence[str], i: int) -> dict[str, Any]:
    """What a CRF sees of word `i`: itself, its ends, its shape, two neighbours on either side."""
    word = words[i]
    shape = re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "0", word)))
    seen = {"bias": 1.0, "word": word.lower(), "shape": shape, "first": i == 0, "last": i == len(words) - 1}
    seen |= {f"end{n}": word[-n:].lower() for n in (1, 2, 3)} | {f"begin{n}": word[:n].lower() for n in (1, 2, 3)}
    for step in (-3, -2, -1, 1, 2, 3):
        seen[f"{step}"] = words[i + step].lower() if 0 <= i + step < len(words) else "-"
    seen["-1,0"], seen["0,1"] = f"{seen['-1']} {seen['word']}", f"{seen['word']} {seen['1']}"
    seen["-2,-1"], seen["1,2"] = f"{seen['-2']} {seen['-1']}", f"{seen['1']} {seen['2']}"
    return seen


def spans(text: str, record: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Slot -> the words (first, behind the last) that say its value, longest values first, no word used twice."""
    places = tokens(text)
    words = [text[a:b].lower() for a, b in places]
    taken = [False] * len(words)
    found = {}
    for slot, value in sorted(record.items(), key=lambda pair: -len(str(pair[1]))):
        sought = [str(value)[a:b].lower() for a, b in tokens(str(value))]
        for start in range(len(words) - len(sought) + 1):
            end = start + len(sought)
            if sought and words[start:end] == sought and not any(taken[start:end]):
                found[slot] = (start, end)
                taken[start:end] = [True] * len(sought)
                break
    return found


class SlotTagger:
    """A record of a sentence: the intent and implied values by classifiers, values that are said by a CRF's tags.

    Attributes:
        classified: Slots whose values are all the classifier's.
    """

    def __init__(self) -> None:
        import sklearn_crfsuite

        options = {"algorithm": "lbfgs", "c1": 0.05, "c2": 0.01, "max_iterations": 80}
        self.crf = sklearn_crfsuite.CRF(all_possible_transitions=False, **options)
        self.classifiers: dict[str, SentenceClassifier] = {}
        self.classified: list[str] = []

    def fit(self, texts: Sequence[str], records: Sequence[Mapping[str, str]]) -> None:
        """Learns from sentences and their records; the key `intent` is one more closed slot."""
        rest = [{k: v for k, v in record.items() if k != "intent"} for record in records]
        said = [spans(text, record) for text, record in zip(texts, rest, strict=True)]
        there = Counter(slot for record in rest for slot in record)
        implied = Counter(slot for record, at in zip(rest, said, strict=True) for slot in record if slot not in at)
        self.classified = sorted(slot for slot, count in implied.items() if count > _IMPLIED * there[slot])
        self.classifiers = {"intent": SentenceClassifier().fit(texts, [record["intent"] for record in records])}
        for slot in implied:
            labels = []
            for record, at in zip(rest, said, strict=True):
                if slot in self.classified:
                    labels.append(record.get(slot, _NONE))
                else:
                    labels.append(_SAID if slot in at else record.get(slot, _NONE))
            often = Counter(labels)
            labels = [label if often[label] >= _FEWEST else _NONE for label in labels]
            if len(set(labels)) > 1:
                self.classifiers[slot] = SentenceClassifier().fit(texts, labels)
        tags = []
        for text, at in zip(texts, said, strict=True):
            row = ["O"] * len(tokens(text))
            for slot, (start, end) in at.items():
                if slot not in self.classified:
                    row[start:end] = [f"B-{slot}", *[f"I-{slot}"] * (end - start - 1)]
            tags.append(row)
        self.crf.fit([self._features(text) for text in texts], tags)

    def predict(self, texts: Sequence[str]) -> list[dict[str, str]]:
        """The record of each sentence."""
        closed = {slot: model.predict(texts) for slot, model in self.classifiers.items()}
        found = []
        for n, (text, tags) in enumerate(zip(texts, self.crf.predict(list(map(self._features, texts))), strict=True)):
            record = _values(text, list(tags))
            for slot, labels in closed.items():
                if slot in self.classified or labels[n] not in (_SAID, _NONE):
                    record.pop(slot, None)
                    if labels[n] != _NONE:
                        record[slot] = labels[n]
            found.append(record)
        return found

    @staticmethod
    def _features(text: str) -> list[dict[str, Any]]:
        words = [text[a:b] for a, b in tokens(text)]
        return [features(words, i) for i in range(len(words))]


def _values(text: str, tags: Sequence[str]) -> dict[str, str]:
    """What the tags mark: slot -> the text from its first word to its last."""
    places, found, i = tokens(text), dict[str, str](), 0
    while i < len(tags):
        kind, _, slot = tags[i].partition("-")
        end = i + 1
        if kind == "B":
            while end < len(tags) and tags[end] == f"I-{slot}":
                end += 1
            found.setdefault(slot, text[places[i][0] : places[end - 1][1]])
        i = end
    return found
