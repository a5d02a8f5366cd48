"""Freed memory is kept for the next blocks, unless the user has said what glibc should do."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import pytest

from ofasys_lite.model import keep_freed

_FAULTS = """
import resource, torch
from ofasys_lite.model import keep_freed
torch.set_num_threads(1)
kept = keep_freed()
for _ in range(24):  # until a block lies where it fits: three to nine times, by where the system laid the heap
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**24)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(**set_by_user: str) -> tuple[bool, int]:
    """Whether freed blocks are kept in a fresh process, and its page faults in eight uses of 64 MiB (16,384 pages)."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", _FAULTS]
    said = subprocess.run(command, env=plain | set_by_user, capture_output=True, text=True, check=True).stdout.split()
    return said[0] == "True", int(said[1])


def test_a_block_that_is_freed_is_used_again() -> None:
    kept, faults = _faults()
    if not kept:
        pytest.skip("this C library has no such limits")
    assert faults < 16_384  # not once, where it would be eight times


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_set_stays(name: str) -> None:
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert not _faults(**{name: value})[0]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert not keep_freed.__wrapped__()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: Any) -> object:
        return object()

    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(ctypes, "CDLL", without)
    assert not keep_freed.__wrapped__()
