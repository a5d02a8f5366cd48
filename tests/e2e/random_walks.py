"""Random legal sequences of an automaton."""

import numpy as np

from ofasys_lite.decoding.automaton import Automaton


def random_walk(automaton: Automaton, rng: np.random.Generator, max_length: int | None = None) -> list[int]:
    """The ids of a random legal sequence of at most `max_length` ids (or the fewest possible, if those are more).

    Half of the walks draw uniformly from the legal ids, so that free text runs to its limit; half draw first which way
    to go, so that short and nested outputs are met too.
    """
    budget = automaton.max_length if max_length is None else max_length
    uniform = bool(rng.random() < 0.5)
    state, ids = automaton.start, list[int]()
    while not automaton.done(state):
        legal = automaton.within(state, 0, budget - len(ids))
        if not uniform and legal is state.node.allowed:
            arcs = state.node.arcs
            ranges = arcs[int(rng.integers(len(arcs)))].ranges
            low, high = ranges[int(rng.integers(len(ranges)))]
            ids.append(low + _below(rng, high - low))
        else:
            ids.append(legal.pick(_below(rng, legal.count)))
        state = automaton.step(state, ids[-1])
    return ids


def _below(rng: np.random.Generator, count: int) -> int:
    """A number from 0 to `count` - 1; several codes in one can be more than 64 bits."""
    return int(rng.integers(count)) if count < 2**63 else int.from_bytes(rng.bytes(32), "big") % count
