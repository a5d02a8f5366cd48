"""Ranks that are about to train something else than each other stop before the first step, all of them."""

from __future__ import annotations

import pytest

from ofasys_lite.errors import DataError
from ofasys_lite.training.ranks import Ranks


class Several(Ranks):
    """Rank 0 of some ranks, whose numbers are known."""

    def __init__(self, others: list[dict[str, object]]) -> None:
        super().__init__()
        self.others, self.count = others, len(others) + 1
        self.sums: list[list[int]] = []

    def total(self, values):  # type: ignore[no-untyped-def]
        self.sums.append(list(values))
        return [sum(column) for column in zip(*self.sums, strict=True)]


def agree(own: dict[str, object], *others: dict[str, object]) -> None:
    ranks = Several(list(others))
    for facts in others:
        alone = Several([])
        alone.agree(facts)
        ranks.sums += alone.sums
    ranks.agree(own)


def test_ranks_with_equal_facts_go_on() -> None:
    agree({"rows": 3}, {"rows": 3}, {"rows": 3})
    Ranks().agree({"rows": 3})


@pytest.mark.parametrize("others", [[{"rows": 4}], [{"rows": 3}, {"rows": 4}], [{"rows": 4}, {"rows": 5}]])
def test_ranks_with_other_facts_stop(others: list[dict[str, object]]) -> None:
    with pytest.raises(DataError, match="the ranks do not read the same data"):
        agree({"rows": 3}, *others)
