"""Baselines that read only text: question_only, bigram_infill, letter_phones."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from ofasys_lite.metrics.baselines.nearest import TfIdf, words
from ofasys_lite.metrics.baselines.problem import Problem, most_frequent
from ofasys_lite.metrics.score import Value
from ofasys_lite.metrics.values import as_text, canonical

_MANY_ANSWERS = 200  # above this many different answers the nearest question answers
BLANK = re.compile(r"<mask>|\[MASK\]|<blank>|_{2,}|<extra_id_\d+>|<gap>", re.IGNORECASE)
_START, _END = "\x02", "\x03"


def question_only(problem: Problem) -> list[Value]:
    """The answer by the texts alone, blind to image and sound.

    The most frequent answer of the same texts; for texts not seen, naive Bayes over words, or the nearest text by
    TF-IDF where training has more than 200 different answers.
    """
    questions = problem.questions(problem.train_rows)
    targets = problem.targets()
    if not targets:
        return [None] * len(problem.test_rows)
    answers: dict[str, list[Value]] = defaultdict(list)
    for question, target in zip(questions, targets, strict=True):
        answers[question].append(target)
    known = {question: most_frequent(values) for question, values in answers.items()}
    asked = problem.questions(problem.test_rows)
    unseen = sorted({question for question in asked if question not in known})
    if unseen and len({canonical(target) for target in targets}) > _MANY_ANSWERS:
        index = TfIdf(questions)
        known |= {question: targets[index.nearest(question) or 0] for question in unseen}
    elif unseen:
        bayes = _NaiveBayes(questions, targets)
        known |= {question: bayes.predict(question) for question in unseen}
    return [known[question] for question in asked]


class _NaiveBayes:
    """Multinomial naive Bayes over words with add-one smoothing."""

    def __init__(self, texts: Sequence[str], targets: Sequence[Value]) -> None:
        self._values = {canonical(target): target for target in targets}
        self._classes = Counter(map(canonical, targets))
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text, target in zip(texts, targets, strict=True):
            self._counts[canonical(target)].update(words(text))
        self._totals = {key: counter.total() for key, counter in self._counts.items()}
        self._vocabulary = len({word for counter in self._counts.values() for word in counter}) + 1

    def predict(self, text: str) -> Value:
        tokens = words(text)
        return self._values[max(sorted(self._classes), key=partial(self._score, tokens))]

    def _score(self, tokens: Sequence[str], key: str) -> float:
        counter, total = self._counts[key], self._totals[key] + self._vocabulary
        return math.log(self._classes[key]) + sum(math.log((counter[token] + 1) / total) for token in tokens)


def bigram_infill(problem: Problem) -> list[Value]:
    """Every blank of the source filled with the word most likely between its neighbours, by smoothed bigrams.

    Blanks are `<mask>`, `[MASK]`, `<blank>`, `<gap>`, `<extra_id_0>` or two and more underscores. The answer is the
    whole text or only the missing words, whichever the training targets are. Sources without blanks are copied.
    """
    columns = problem.columns("text")
    column = next((c for c in columns if any(BLANK.search(as_text(r.get(c))) for r in problem.train_rows)), None)
    if column is None:
        column = columns[0] if columns else ""
    pairs = [(as_text(row.get(column)), as_text(row.get(problem.target))) for row in problem.train_rows]
    blanks = sum(len(BLANK.findall(source)) for source, _ in pairs)
    kept = sum(len(BLANK.sub(" ", source).split()) for source, _ in pairs)
    given = sum(len(target.split()) for _, target in pairs)
    whole = given > (kept + given) / 2 and given > kept / 2 if blanks else False
    missing = given - kept if whole else given
    model = _Bigrams([target if whole else _completed(source, target) for source, target in pairs])
    span = max(1, round(missing / blanks)) if blanks else 1
    return [model.fill(as_text(row.get(column)), span, whole) for row in problem.test_rows]


def _completed(source: str, target: str) -> str:
    """The source with its blanks filled from the target, or the target alone where they do not fit together."""
    count, parts = len(BLANK.findall(source)), target.split()
    if count == 1:
        return BLANK.sub(lambda _: target, source)
    if count == len(parts):
        fillers = iter(parts)
        return BLANK.sub(lambda _: next(fillers), source)
    return target


class _Bigrams:
    """Word bigrams with add-0.1 smoothing towards the unigrams."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._unigrams: Counter[str] = Counter()
        self._after: dict[str, Counter[str]] = defaultdict(Counter)
        self._before: dict[str, Counter[str]] = defaultdict(Counter)
        for line in lines:
            tokens = [_START, *line.split(), _END]
            self._unigrams.update(tokens[1:-1])
            for left, right in pairwise(tokens):
                self._after[left][right] += 1
                self._before[right][left] += 1
        self._total = max(1, self._unigrams.total())
        self._common = [word for word, _ in self._unigrams.most_common(50)]

    def fill(self, source: str, span: int, whole: bool) -> str:
        """The source with every blank filled by `span` words, or only those words."""
        pieces = BLANK.split(source)
        out, added = pieces[0].split(), []
        for number, piece in enumerate(pieces[1:], start=1):
            following = piece.split()
            right = following[0] if following else (_END if number == len(pieces) - 1 else "")
            for place in range(span):
                word = self._between(out[-1] if out else _START, right if place == span - 1 else "")
                out.append(word)
                added.append(word)
            out += following
        return " ".join(out if whole else added)

    def _between(self, left: str, right: str) -> str:
        candidates = {*self._common, *self._after[left], *(self._before[right] if right else ())} - {_START, _END, ""}
        return max(sorted(candidates), key=lambda word: self._score(left, word, right), default="")

    def _score(self, left: str, word: str, right: str) -> float:
        share = self._unigrams[word] / self._total
        score = math.log(self._after[left][word] + 0.1 * share + 1e-9)
        if right:
            follows = self._after[word] if word in self._after else Counter()
            score += math.log(
                (follows[right] + 0.1 * self._unigrams[right] / self._total + 1e-9) / (follows.total() + 1)
            )
        return score


_TRAINING_WORDS = 4_000
_MOST_PHONES = 2  # phones one letter may stand for


def letter_phones(problem: Problem) -> list[Value]:
    """The most frequent phones (none, one or two) of every letter, aligned to training words by hard EM."""
    columns = problem.columns("text")
    column = columns[0] if columns else ""
    pairs = []
    for row in problem.train_rows[:_TRAINING_WORDS]:
        letters, said = as_text(row.get(column)).casefold(), row.get(problem.target)
        phones = list(map(as_text, said)) if isinstance(said, (list, tuple)) else as_text(said).split()
        if letters and phones:
            pairs.append((letters, phones))
    counts = _proportional(pairs)
    for _ in range(2):
        counts = _realigned(pairs, counts)
    best = {letter: max(sorted(counter), key=counter.__getitem__) for letter, counter in counts.items()}
    answers = []
    for row in problem.test_rows:
        letters = as_text(row.get(column)).casefold()
        answers.append(" ".join(phone for letter in letters for phone in best.get(letter, ())))
    return list(answers)


def _proportional(pairs: Sequence[tuple[str, list[str]]]) -> dict[str, Counter[tuple[str, ...]]]:
    """Counts of (letter -> phones) with phones dealt evenly along the letters; words with one each count tenfold."""
    counts: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for letters, phones in pairs:
        for i, letter in enumerate(letters):
            start, end = (len(phones) * edge // len(letters) for edge in (i, i + 1))
            counts[letter][tuple(phones[start:end][:_MOST_PHONES])] += 10 if len(letters) == len(phones) else 1
    return counts


def _realigned(
    pairs: Sequence[tuple[str, list[str]]], counts: dict[str, Counter[tuple[str, ...]]]
) -> dict[str, Counter[tuple[str, ...]]]:
    """Counts of the best alignment of every word under the old counts; words that do not align are left out."""
    totals = {letter: counter.total() for letter, counter in counts.items()}
    new: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for letters, phones in pairs:
        best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
        for letter in letters:
            column: dict[int, tuple[float, int]] = {}
            for end, (score, _) in best[-1].items():
                for taken in range(min(_MOST_PHONES, len(phones) - end) + 1):
                    seen = counts[letter][tuple(phones[end : end + taken])]
                    value = score + math.log((seen + 0.1) / (totals[letter] + 1))
                    if value > column.get(end + taken, (-math.inf, 0))[0]:
                        column[end + taken] = (value, taken)
            best.append(column)
        end = len(phones)
        if end not in best[-1]:
            continue
        for letter, column in zip(reversed(letters), reversed(best), strict=False):
            taken = column[end][1]
            new[letter][tuple(phones[end - taken : end])] += 1
            end -= taken
    return new
