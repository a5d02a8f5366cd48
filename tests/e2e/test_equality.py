"""The code computes what it computed at a stored commit: losses, gradients, outputs, scores of tiny worlds."""

from __future__ import annotations

import functools
from typing import Any

import equality
import pytest
from equality_worlds import WORLDS

QUICK = [name for name, world in WORLDS.items() if world.quick]
SLOW = [name for name, world in WORLDS.items() if not world.quick]


@functools.cache
def held() -> dict[str, Any]:
    return equality.stored()


def check(name: str) -> None:
    exact = held()["machine"] == equality.machine()
    before, now = held()["worlds"][name], equality.measure(name)
    if WORLDS[name].trains and not exact:
        before, now = (equality.unnamed(each) for each in (before, now))
    found = equality.compare(name, before, now, exact)
    told = "\n".join(str(difference) for difference in found[:5])
    assert not found, (
        f"{len(found)} numbers differ ({'bit for bit' if exact else 'within a tolerance'}); first:\n{told}"
    )


@pytest.mark.parametrize("name", QUICK)
def test_tasks_together_compute_what_they_computed_before(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_each_kind_of_task_computes_what_it_computed_before(name: str) -> None:
    check(name)


def test_every_world_has_stored_numbers() -> None:
    assert set(held()["worlds"]) == set(WORLDS)


def test_what_differs_by_intention_says_why() -> None:
    for (world, part, name), (_, reason) in equality.ACCEPTED.items():
        assert name in held()["worlds"][world][part]
        assert len(reason) > 20


def test_on_another_machine_losses_and_gradients_are_near_and_nothing_else_is_compared() -> None:
    before = {
        "losses": {"1 t a": ["0x1.0p+1", 3]},
        "gradients": {"w": "00000000 1.5 0.2"},
        "written": {"t greedy 0": ["a", "0x0p+0", "00000000"]},
    }
    near = {
        "losses": {"1 t a": ["0x1.001p+1", 3]},
        "gradients": {"w": "11111111 1.501 0.2"},
        "written": {},
    }
    assert equality.compare("w", before, near, exact=False) == []
    assert len(equality.compare("w", before, near, exact=True)) == 3
    far = {**near, "losses": {"1 t a": ["0x1.1p+1", 3]}, "gradients": {"w": "00000000 1.5 -0.2", "v": "0 0 0"}}
    assert [d.name for d in equality.compare("w", before, far, exact=False)] == ["1 t a", "w", "v"]


@pytest.mark.parametrize("world", equality.REGROUPED)
def test_worlds_whose_scores_together_differ_in_the_last_bits_are_decoded_together(world: str) -> None:
    assert any(name.endswith(" together") for name in held()["worlds"][world]["written"])


def test_only_scores_of_tasks_decoded_together_may_differ_and_only_in_the_last_bits() -> None:
    before = {"written": {"t r0 together": ["-0x1.0000000000000p+1", "aa"], "t 0 greedy 0": ["a", "0x1.0p+1", "bb"]}}
    near = {"written": {**before["written"], "t r0 together": ["-0x1.0000010000000p+1", "aa"]}}
    assert equality.compare("tiny", before, near, exact=True) == []
    assert len(equality.compare("axial", before, near, exact=True)) == 1
    for far in (["-0x1.0001000000000p+1", "aa"], ["-0x1.0000010000000p+1", "ab"], None):
        changed = {"written": {**before["written"], "t r0 together": far}}
        assert len(equality.compare("tiny", before, changed, exact=True)) == 1
    alone = {"written": {**before["written"], "t 0 greedy 0": ["a", "0x1.0000010000000p+1", "bb"]}}
    assert len(equality.compare("tiny", before, alone, exact=True)) == 1
