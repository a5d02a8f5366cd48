"""Baselines that rank the names that may come next, by those that came before: lists of ten.

most_popular, latest, next_of_last, item_knn, ngram_cache. What came before is the row's column of lists (of names, or
of records whose last value is the name); without one, its last text.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ofasys_lite.metrics.baselines.problem import Problem
from ofasys_lite.metrics.score import Row, Value
from ofasys_lite.metrics.values import as_text

_TOP = 10
#: Of the names before, as many are looked at by item_knn, and so many of what followed each.
_LOOKED, _FOLLOWERS = 10, 200


def most_popular(problem: Problem) -> list[Value]:
    """The ten most frequent training targets, for every row."""
    popular = _popular(problem)[:_TOP]
    return [list(popular) for _ in problem.test_rows]


def latest(problem: Problem) -> list[Value]:
    """The latest names before, each once; behind them the most frequent targets."""
    popular = _popular(problem)
    return [_filled(reversed(before), popular) for before in _before(problem, problem.test_rows)]


def next_of_last(problem: Problem) -> list[Value]:
    """What most often follows the last name in training (a bigram); behind it the most frequent targets."""
    after: dict[str, Counter[str]] = defaultdict(Counter)
    for before, targets in _histories(problem):
        for one, two in itertools.pairwise([*before, *targets]):
            after[one][two] += 1
    ranked = {name: [two for two, _ in counts.most_common(_TOP)] for name, counts in after.items()}
    popular = _popular(problem)
    return [_filled(ranked.get(before[-1], ()) if before else (), popular) for before in _before_test(problem)]


def item_knn(problem: Problem) -> list[Value]:
    """What followed the last ten names in training, near ones counted more (sequential item kNN).

    A name at distance d counts 1 / d; what followed a name is shared out over all that did.
    """
    after: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for before, targets in _histories(problem):
        for distance, name in enumerate(reversed(before[-_LOOKED:]), 1):
            for target in targets:
                after[name][target] += 1 / distance
    total = {name: sum(counts.values()) for name, counts in after.items()}
    near = {name: sorted(c.items(), key=lambda pair: (-pair[1], pair[0]))[:_FOLLOWERS] for name, c in after.items()}
    popular, found = _popular(problem), list[Value]()
    for before in _before_test(problem):
        scores: dict[str, float] = defaultdict(float)
        for distance, name in enumerate(reversed(before[-_LOOKED:]), 1):
            for two, count in near.get(name, ()):
                scores[two] += count / total[name] / distance
        found.append(_filled(sorted(scores, key=lambda name: (-scores[name], name))[:_TOP], popular))
    return found


def ngram_cache(problem: Problem) -> list[Value]:
    """Trigram and bigram of training, and a cache of the names before, added up: what a counting model knows.

    What followed the last n names has the share c / (all that did + 1) of it for n = 2, c / (all + 5) for n = 1; the
    k-th latest name has .1 x .9 ** k. None of these numbers is chosen by data.
    """
    after: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for before, targets in _histories(problem):
        names = [*before, *targets[:1]]
        for place in range(1, len(names)):
            for count in (1, 2):
                if place >= count:
                    after[tuple(names[place - count : place])][names[place]] += 1
    popular, found = _popular(problem), list[Value]()
    for before in _before_test(problem):
        scores: dict[str, float] = defaultdict(float)
        for count, held_back in ((1, 5), (2, 1)):
            counts = after.get(tuple(before[-count:]), Counter()) if len(before) >= count else Counter[str]()
            for name, number in counts.items():
                scores[name] += number / (counts.total() + held_back)
        for age, name in enumerate(reversed(before)):
            scores[name] += 0.1 * 0.9**age
        found.append(_filled(sorted(scores, key=lambda name: (-scores[name], name))[:_TOP], popular))
    return found


def _histories(problem: Problem) -> Iterable[tuple[list[str], list[str]]]:
    """(names before, targets) of every training row."""
    return zip(_before(problem, problem.train_rows), map(_listed, problem.targets()), strict=True)


def _popular(problem: Problem) -> list[str]:
    counts = Counter(name for target in problem.targets() for name in _listed(target))
    return sorted(counts, key=lambda name: (-counts[name], name))[: 2 * _TOP]


def _before_test(problem: Problem) -> list[list[str]]:
    return _before(problem, problem.test_rows)


def _before(problem: Problem, rows: Sequence[Row]) -> list[list[str]]:
    """The names before the target of each row, the last one last."""
    looked = [*problem.train_rows[:20], *problem.test_rows[:5]]
    columns = [name for name in problem.inputs if any(isinstance(row.get(name), (list, tuple)) for row in looked)]
    texts = problem.columns("text")
    column = columns[0] if columns else texts[-1] if texts else ""
    return [_listed(row.get(column)) for row in rows]


def _listed(value: Value) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple)) else (value,)
    return [as_text(list(each.values())[-1] if isinstance(each, Mapping) and each else each) for each in values]


def _filled(names: Iterable[str], popular: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*names, *popular]))[:_TOP]
