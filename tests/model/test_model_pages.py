"""Memory that a step frees is the next one's, as far as the system's allocator can be told so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ofasys_lite.model import keep_freed_memory
from ofasys_lite.model.pages import _USERS_OWN


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the user has set no limit."""
    for name in _USERS_OWN:
        monkeypatch.delenv(name, raising=False)


_FAULTS = """
import resource
import statistics
import torch
from ofasys_lite.model import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
counts = []
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(15 * 2**20).fill_(1.0)  # 60 MiB: more than glibc keeps by itself
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(statistics.median_low(counts))
"""


def _faults(keep: bool) -> int:
    """Pages of a block, median of its rounds."""
    command = [sys.executable, "-c", _FAULTS.format(keep=keep)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="the allocator here is not glibc's")
def test_pages_of_what_was_freed_are_not_cleared_anew() -> None:
    # large pages or pages of 64 KiB make fewer faults than 4 KiB do, but not few
    kept, given_back = _faults(True), _faults(False)
    assert kept < 20 < given_back


@pytest.mark.usefixtures("unset")
def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, name: str | None) -> None:
            pass

    monkeypatch.setattr("ctypes.CDLL", Other)
    assert keep_freed_memory() is False


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(
    ("most", "follows", "asked"),
    [
        (2**30, True, [(-3, 2**30), (-1, 2**31 - 1)]),
        (2**25, False, [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]),
        (0, False, [(-3, 2**30), (-3, 2**25)]),
    ],
)
def test_an_old_glibc_is_left_no_worse_than_it_was(
    most: int, follows: bool, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []

    class Old:
        def __init__(self, name: str | None) -> None:
            pass

        def mallopt(self, what: int, value: int) -> int:
            given.append((what, value))
            return int(what == -1 or value <= most)

    monkeypatch.setattr("ctypes.CDLL", Old)
    assert keep_freed_memory() is follows
    assert given == asked


def test_limits_that_a_user_sets_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert keep_freed_memory() is False
