"""A step's samples dealt to ranks and cut into packs, from lengths alone: every rank computes the same deal."""

from __future__ import annotations

from collections.abc import Sequence

from ofasys_lite.errors import DataError


def deal(
    draws: Sequence[object],
    source_lengths: Sequence[int],
    target_lengths: Sequence[int],
    ranks: int,
    source_budget: int,
    target_budget: int,
) -> list[list[list[int]]]:
    """Rank -> packs -> positions in `draws`; every position once, every rank with the same number of packs.

    Ranks get balanced shares: the longest sample first, each to the rank with the least so far. Packs are cut by first
    fit, longest first; a sample above a budget gets a pack of its own. Ranks with fewer packs get empty ones.

    Args:
        source_lengths: Source rows of each, as estimated without decoding.

    Raises:
        DataError: If lengths and draws differ in number, or a number is not positive.
    """
    if not len(draws) == len(source_lengths) == len(target_lengths):
        counts = f"{len(draws)} samples, {len(source_lengths)} source and {len(target_lengths)} target lengths"
        raise DataError(f"a step cannot be dealt: {counts}")
    for name, number in (("ranks", ranks), ("source budget", source_budget), ("target budget", target_budget)):
        if number < 1:
            raise DataError(f"{name} is {number}", help="it is 1 or more")
    sizes = list(zip(source_lengths, target_lengths, strict=True))
    # the dearer side decides what a sample costs; equal ones keep the order of the draws
    costs = [max(source / source_budget, target / target_budget) for source, target in sizes]
    shares = _shares(costs, ranks)
    packs = [_first_fit(share, sizes, (source_budget, target_budget)) for share in shares]
    most = max(len(one) for one in packs)
    return [one + [[] for _ in range(most - len(one))] for one in packs]


def _shares(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """The positions of every rank, dearest first (longest processing time first, Graham 1969)."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0.0, 0, rank) for rank in range(ranks)]
    for position in sorted(range(len(costs)), key=lambda at: (-costs[at], at)):
        load, count, rank = min(loads)
        shares[rank].append(position)
        loads[rank] = (load + costs[position], count + 1, rank)
    return shares


def _first_fit(positions: Sequence[int], sizes: Sequence[tuple[int, int]], budgets: tuple[int, int]) -> list[list[int]]:
    """Packs within the budgets, positions in drawn order within each."""
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []
    for position in positions:
        source, target = sizes[position]
        for number, (source_room, target_room) in enumerate(rooms):
            if source <= source_room and target <= target_room:
                packs[number].append(position)
                rooms[number] = (source_room - source, target_room - target)
                break
        else:
            packs.append([position])
            # a sample above a budget leaves no room: not even a sample without rows may join it
            fits = source <= budgets[0] and target <= budgets[1]
            rooms.append((budgets[0] - source, budgets[1] - target) if fits else (-1, -1))
    return [sorted(pack) for pack in packs]
