"""Greedy, beam and sampling over a step function, batched over samples of different tasks.

Every sample has its own automaton and options. A row whose next id is forced is not scored; a row whose rest is forced,
or that is over, is dropped. Log probabilities are renormalised over the ids that are legal at that place (automaton,
length limits and repeated n-grams taken together): a closed answer's score is its probability within the set, and a
forced id costs nothing (but where `renormalize` is off). Score of a hypothesis: sum / chosen ids ** length_penalty, as
fairseq and transformers have it, so published settings carry over; only ids that were a choice count as length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ofasys_lite.decoding.automaton import Automaton, State
from ofasys_lite.decoding.coding import Coding
from ofasys_lite.decoding.depth_sampling import at_depth
from ofasys_lite.decoding.diverse import greedy_map, similarities
from ofasys_lite.decoding.nodes import CodesNode, ShownNode
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.ranking import Asked, Ranker
from ofasys_lite.decoding.session import Session
from ofasys_lite.decoding.trie import OneOfPart
from ofasys_lite.errors import ShapeError
from ofasys_lite.model import moved
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS, CONTROLS

START = CONTROL_IDS["start"]
GREEDY = DecodeOptions()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One decoded target.

    Attributes:
        ids: The whole legal sequence, forced ids included; length limits lead to its end, too.
        score: Sum of log probabilities / chosen ids ** length_penalty.
        n_best: The best hypotheses, this one first, if the options ask for several.
    """

    ids: tuple[int, ...]
    score: float
    n_best: tuple[Hypothesis, ...] = ()


@dataclass(slots=True)
class _Row:
    """A live row: its sample, where it stands, what it said, sum of log probabilities, number of choices.

    `wrote` is the node of the last element where that is no id: a position of codes, a row that is shown.
    """

    sample: int
    state: State
    ids: list[int]
    total: float = 0.0
    chosen: int = 0
    wrote: CodesNode | ShownNode | None = None


@dataclass(slots=True)
class _Sample:
    """A sample in work: its settings and finished hypotheses, best first.

    `live`: rows of the session per row of the search: a guided one has a partner that reads the emptied source.
    """

    automaton: Automaton
    options: DecodeOptions
    limit: int
    rng: np.random.Generator | None
    pool: list[Hypothesis] = field(default_factory=list)
    live: int = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.live = 2 if self.options.guided else 1
        self.width = self.options.beam if self.options.method == "beam" else 1

    def score(self, total: float, chosen: int) -> float:
        return float(total / max(1, chosen) ** self.options.length_penalty)

    def add(self, row: _Row, tail: tuple[int, ...]) -> None:
        self.pool.append(Hypothesis((*row.ids, *tail), self.score(row.total, row.chosen)))
        self.pool.sort(key=lambda h: -h.score)
        del self.pool[self.width :]

    def over(self, live: list[_Row]) -> bool:
        """True if no live row can still enter the kept hypotheses, of which there are as many as are kept."""
        worst = self.pool[self.options.n_best - 1].score
        for row in live:
            length = row.chosen
            if self.options.exact:
                length += min(self.limit - len(row.ids), self.automaton.longest(row.state))
            # totals only fall; divided by the greatest length they fall least
            if self.score(row.total, length) > worst:
                return False
        return True


def decode(
    session: Session,
    automata: Sequence[Automaton],
    options: DecodeOptions | Sequence[DecodeOptions] = GREEDY,
    keys: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    start: int | Sequence[Sequence[int]] = START,
) -> list[Hypothesis]:
    """The best hypothesis of every sample, in order; each is legal and complete.

    Args:
        session: A fresh session with one live row per sample, two for those whose options are guided (`cfg`).
        automata: One per sample.
        options: One for all, or one per sample.
        keys: A number per sample that its draws depend on, beside the seed (its place if None): the draws of a sample
            do not depend on what it is batched with.
        device: Where ids and positions are made.
        start: The id that every row is fed first; or of each sample the ids of its live rows.

    Raises:
        ShapeError: Samples, options and keys do not agree in number.
    """
    samples = _samples(automata, options, keys)
    starts = [(start,) * s.live for s in samples] if isinstance(start, int) else list(start)
    rows, first, place = list[_Row](), list[int](), 0
    for number, sample_ in enumerate(samples):
        row = _Row(number, sample_.automaton.start, [])
        tail = sample_.automaton.forced(row.state)
        if tail is None or (tail and not sample_.options.renormalize):
            rows.append(row)
            first.extend(range(place, place + sample_.live))
        else:
            sample_.add(row, tail)
        place += sample_.live
    if rows and len(rows) < len(samples):
        session.select(torch.tensor(first))
    ranker = Ranker(session)
    while rows:
        rows = _step(session, ranker, samples, rows, device, starts)
    return [_best(session, s, device) for s in samples]


def _samples(
    automata: Sequence[Automaton], options: DecodeOptions | Sequence[DecodeOptions], keys: Sequence[int] | None
) -> list[_Sample]:
    listed = [options] * len(automata) if isinstance(options, DecodeOptions) else list(options)
    keyed = list(range(len(automata))) if keys is None else list(keys)
    if not len(automata) == len(listed) == len(keyed):
        raise ShapeError(f"{len(automata)} automata, {len(listed)} options and {len(keyed)} keys")
    found = []
    for automaton, option, key in zip(automata, listed, keyed, strict=True):
        limit = automaton.max_length if option.max_length is None else automaton.given + option.max_length
        rng = np.random.default_rng([option.seed, key]) if option.method == "sample" else None
        found.append(_Sample(automaton, option, max(limit, automaton.min_length), rng))
    return found


def _step(
    session: Session,
    ranker: Ranker,
    samples: list[_Sample],
    rows: list[_Row],
    device: torch.device | str,
    starts: Sequence[Sequence[int]],
) -> list[_Row]:
    """Feeds every live row once; the rows that live on."""
    firsts, fed = list[int](), list[tuple[int, int, int, int]]()
    coded = False
    for row in rows:
        sample_, (node, offset) = samples[row.sample], row.state
        firsts.append(len(fed))
        at = (offset, offset, offset) if node.relative is None else sample_.automaton.position(row.state)
        if row.ids and row.wrote is None:
            fed += [(row.ids[-1], *at)] * sample_.live
        else:
            fed += [(id, *at) for id in starts[row.sample]]
        coded = coded or row.wrote is not None or isinstance(node, CodesNode)
    number_of = {first: number for number, first in enumerate(firsts)}
    fed_B4 = torch.tensor(fed)
    fed_B4 = fed_B4 if fed_B4.device == device else moved(fed_B4, device)
    coding = None
    if coded:
        coding = Coding.of([(s.options, s.rng) for s in (samples[r.sample] for r in rows)], rows, firsts, device)
    states_BD = session.advance(fed_B4[:, 0], fed_B4[:, 1:], *(() if coding is None else (coding.step,)))
    candidates: list[list[tuple[int, float]]] = [[] for _ in rows]
    asked: list[Asked] = []
    written = {} if coding is None else coding.written()
    for number, row in enumerate(rows):
        if number in written:
            candidates[number] = [written[number]]
            continue
        question = _ask(samples[row.sample], row, firsts[number])
        if isinstance(question, int):
            candidates[number] = [(question, 0.0)]
        else:
            asked.append(question)
    if asked:
        for a, pairs in zip(asked, ranker.rank(states_BD, asked), strict=True):
            candidates[number_of[a.row]] = pairs
    choices = {number_of[a.row] for a in asked}
    if coding is not None:
        choices |= set(written) - coding.given()
    parents, live = list[int](), list[_Row]()
    begin = 0
    while begin < len(rows):
        end = begin
        while end < len(rows) and rows[end].sample == rows[begin].sample:
            end += 1
        for parent, row in _grow(samples[rows[begin].sample], rows, range(begin, end), candidates, choices):
            parents.append(parent)
            live.append(row)
        begin = end
    if live and parents != list(range(len(rows))):
        kept = [firsts[p] + j for p in parents for j in range(samples[rows[p].sample].live)]
        session.select(torch.tensor(kept))
    return live


def _ask(sample_: _Sample, row: _Row, number: int) -> Asked | int:
    """What is to be ranked for `row`, whose (first) live row is `number`, or the only id it may say."""
    options, used = sample_.options, len(row.ids)
    least = sample_.automaton.given + options.min_length
    legal = row.state.node.within(least - used, sample_.limit - used)
    over_all = not options.renormalize
    if legal.single is not None and not over_all:
        return legal.single
    banned = _banned(row, options.no_repeat_ngram) if options.no_repeat_ngram else set[int]()
    if options.no_repeat:
        banned |= _said(sample_.automaton, row)
    if banned:
        banned = {id for id in banned if id in legal}
        left = legal.count - len(banned)
        if left == 0:
            banned = set()
        elif left == 1 and not over_all:
            return next(int(i) for i in legal.ids if int(i) not in banned)
    if sample_.rng is None:
        # twice the width: half of them may end here
        best = 1 if sample_.width == 1 else 2 * sample_.width
        return Asked(number, legal, tuple(banned), best, over_all=over_all)
    draw = float(sample_.rng.random())
    # ids have one depth
    how = (at_depth(options.temperature, 0), at_depth(options.top_k, 0), at_depth(options.top_p, 0))
    return Asked(number, legal, tuple(banned), 0, *how, draw, over_all)


def _banned(row: _Row, size: int) -> set[int]:
    """Ids that would repeat an n-gram of `size` ids within the free text that `row` is writing."""
    count = row.state.node.text
    if count < size:
        return set()
    text = row.ids[len(row.ids) - count :]
    tail = text[count - size + 1 :]
    return {text[i + size - 1] for i in range(count - size + 1) if text[i : i + size - 1] == tail}


def _said(automaton: Automaton, row: _Row) -> set[int]:
    """Values that the closed set `row` is to choose from has said before, in other elements of its group."""
    part = row.state.node.part
    if not isinstance(part, OneOfPart) or part.most > 1:
        return set()
    states = automaton.walk(row.ids)
    return {id for id, state in zip(row.ids, states, strict=False) if state.node.part is part}


def _grow(
    sample_: _Sample,
    rows: list[_Row],
    numbers: range,
    candidates: list[list[tuple[int, float]]],
    choices: set[int],
) -> list[tuple[int, _Row]]:
    """The rows of one sample that live on, with the rows they continue; ended ones go to the sample's pool."""
    ranked = [(rows[n].total + log, n, id) for n in numbers for id, log in candidates[n]]
    if len(ranked) > 1:
        ranked.sort(key=lambda c: -c[0])
    automaton, width = sample_.automaton, sample_.width
    live: list[tuple[int, _Row]] = []
    for rank, (total, number, id) in enumerate(ranked):
        if len(live) == width:
            break
        old = rows[number]
        chosen = old.chosen + (number in choices)
        wrote = old.state.node if isinstance(old.state.node, (CodesNode, ShownNode)) else None
        row = _Row(old.sample, automaton.step(old.state, id), [*old.ids, id], total, chosen, wrote)
        node = row.state.node
        tail = node.tail() if node.shortest == node.longest else None
        if tail and not sample_.options.renormalize:
            tail = None
        if tail is None:
            live.append((number, row))
        elif not sample_.options.renormalize and rank >= width > 1:
            continue  # as fairseq and transformers have it, an end counts among the best candidates only
        else:
            sample_.add(row, tail)
            if width == 1:
                return []
    # before there are as many as are kept the best of them says nothing
    over = len(sample_.pool) == width and sample_.over([r for _, r in live])
    return [] if over else live


def _best(session: Session, sample_: _Sample, device: torch.device | str) -> Hypothesis:
    first, count = sample_.pool[0], sample_.options.n_best
    if count == 1:
        return first
    if not sample_.options.diversity:
        return Hypothesis(first.ids, first.score, n_best=tuple(sample_.pool[:count]))
    chosen = greedy_map(
        [h.score for h in sample_.pool],
        similarities(_vectors(session, sample_.pool, device)),
        count,
        sample_.options.diversity,
    )
    return Hypothesis(first.ids, first.score, n_best=tuple(sample_.pool[i] for i in chosen))


def _vectors(
    session: Session, pool: Sequence[Hypothesis], device: torch.device | str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N, D) per hypothesis the mean of the vectors of its ids, controls left out."""
    said = [[id for id in h.ids if id >= len(CONTROLS)] for h in pool]
    flat = torch.tensor([id for ids in said for id in ids], dtype=torch.int64)
    vectors_WD = session.vectors(moved(flat, device)).detach().double().cpu().numpy()
    parts = np.split(vectors_WD, np.cumsum([len(ids) for ids in said])[:-1])
    return np.stack([part.mean(0) if len(part) else np.zeros(vectors_WD.shape[1]) for part in parts])
