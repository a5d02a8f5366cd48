"""The ragged mixture of the training benchmarks: lengths of text, image and audio tasks, ids for adapters."""

from __future__ import annotations

import random
from dataclasses import dataclass

VOCABULARY = 32_000
FIRST_ID = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids of one sample; every source id and every target id is useful."""

    source: tuple[int, ...]
    target: tuple[int, ...]


def draw(batches: int, size: int = 16, seed: int = 0, vocabulary: int = VOCABULARY) -> list[list[Sample]]:
    """`batches` lists of `size` samples in drawn order.

    40 % text source U[10,30]; 35 % image U[64,256] and text U[10,30]; 25 % audio U[100,400]; target U[1,60].
    """
    rng = random.Random(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(FIRST_ID, vocabulary) for _ in range(length))

    def sample() -> Sample:
        kind = rng.random()
        if kind < 0.40:
            length = rng.randint(10, 30)
        elif kind < 0.75:
            length = rng.randint(64, 256) + rng.randint(10, 30)
        else:
            length = rng.randint(100, 400)
        return Sample(ids(length), ids(rng.randint(1, 60)))

    return [[sample() for _ in range(size)] for _ in range(batches)]


def bucket(batches: list[list[Sample]], pool: int = 0) -> list[list[Sample]]:
    """All samples in batches of like lengths, the shortest first: sorted by source and cut.

    Args:
        batches: What is sorted.
        pool: Samples of neighbouring source lengths that are sorted by target before they are cut, so that both sides
            of a batch are alike (two levels, as fairseq and tensor2tensor bucket); 0 sorts by source alone.
    """
    size = len(batches[0])
    ordered = sorted((s for batch in batches for s in batch), key=lambda s: len(s.source))
    if pool:
        pools = [ordered[i : i + pool] for i in range(0, len(ordered), pool)]
        ordered = [s for part in pools for s in sorted(part, key=lambda s: len(s.target))]
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def deal(batches: list[list[Sample]], repetitions: int, each: int) -> list[list[list[Sample]]]:
    """For each repetition `each` of the sorted `batches`, evenly spread from the first to the last over all of them."""
    taken, last = repetitions * each, len(batches) - 1
    spread = [batches[round(i * last / max(taken - 1, 1))] for i in range(taken)]
    return [spread[r::repetitions] for r in range(repetitions)]


def shuffle(batches: list[list[Sample]], seed: int) -> list[list[Sample]]:
    """The same samples in batches of the same size, drawn at random."""
    size, mixed = len(batches[0]), [s for batch in batches for s in batch]
    random.Random(seed).shuffle(mixed)
    return [mixed[i : i + size] for i in range(0, len(mixed), size)]


def useful(batches: list[list[Sample]]) -> int:
    """Useful tokens: source positions plus target positions with loss."""
    return sum(len(s.source) + len(s.target) for batch in batches for s in batch)


def padding(batches: list[list[Sample]]) -> tuple[float, float]:
    """Share of padding in source and target when every batch is padded to its longest sample."""
    shares = []
    for side in ("source", "target"):
        lengths = [[len(getattr(s, side)) for s in batch] for batch in batches]
        shares.append(1.0 - sum(map(sum, lengths)) / sum(max(row) * len(row) for row in lengths))
    return shares[0], shares[1]
