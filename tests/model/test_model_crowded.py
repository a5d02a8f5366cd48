"""Compute threads that leave their cores to others: when a further team is there, and that nothing else changes."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ofasys_lite.model import crowded, give_way

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how busy its cores are")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def teams() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "give_way team"]


def until(true: Callable[[], object]) -> bool:
    """Whether it comes true within ten seconds."""
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(true())


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Cores that others use, as the test says, on a machine of two; looks follow each other quickly."""
    said = {"cores": 0.0, "looks": 0.0}

    def since(self: crowded._Used, before: crowded._Used) -> float:
        said["looks"] += 1
        return said["cores"]

    monkeypatch.setattr(crowded._Used, "others_since", since)
    monkeypatch.setattr(crowded, "EVERY", 0.01)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    return said


@linux
def test_a_further_team_stands_while_others_want_the_cores(others: dict[str, float]) -> None:
    with give_way(CPU):
        assert until(lambda: others["looks"] > 3)
        assert not teams()
        others["cores"] = 1.0
        assert until(teams)
        assert len(teams()) == 1
        others["cores"] = 0.1  # a loader's share
        assert until(lambda: not teams())
        others["cores"] = 2.0
        assert until(teams)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("give_way")]


@linux
def test_a_system_that_tells_nonsense_costs_nothing_but_speed(
    others: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with give_way(CPU):
        others["cores"] = 1.0
        assert until(teams)
        (tmp_path / "stat").write_text("cpu0 one two\n")
        monkeypatch.setattr(crowded, "_STAT", tmp_path / "stat")
        assert until(lambda: not teams())


@linux
def test_one_quiet_look_dismisses_nobody(others: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowded, "QUIET", 10**9)
    with give_way(CPU):
        others["cores"] = 1.0
        assert until(teams)
        others["cores"], looks = 0.0, others["looks"]
        assert until(lambda: others["looks"] > looks + 5)
        assert teams()


@linux
def test_a_team_has_threads_of_its_own_as_long_as_it_stands() -> None:
    torch.zeros(crowded._SHARED).add_(1)  # the main thread's team
    before = set(os.listdir("/proc/self/task"))  # those of teams before may still be ending
    team = crowded._Team()
    try:
        assert until(lambda: len(set(os.listdir("/proc/self/task")) - before) >= 2)
        own = set(os.listdir("/proc/self/task")) - before
    finally:
        team.leave.set()
        team.join()
    assert until(lambda: not own & set(os.listdir("/proc/self/task")))


@linux
def test_turns_are_short_for_every_thread_and_as_before_again() -> None:
    """What `sched_getattr` tells: Linux before 6.12 keeps no turns."""
    number = {"x86_64": 315, "aarch64": 275}.get(platform.machine())
    if number is None:
        pytest.skip("its number of sched_getattr is not known here")

    def turns() -> set[tuple[int, int]]:
        found = set()
        for thread in map(int, os.listdir("/proc/self/task")):
            attributes = ctypes.create_string_buffer(crowded._ATTRIBUTES.size)
            if ctypes.CDLL(None).syscall(number, thread, attributes, len(attributes), 0) == 0:
                _, _, _, nice, _, runtime, *_ = crowded._ATTRIBUTES.unpack(attributes.raw)
                found.add((nice, runtime))
        return found

    before = turns()
    crowded._turns(crowded._SHORT)
    short = turns()
    crowded._turns(crowded._USUAL)
    assert turns() == before
    if short == before:
        pytest.skip("this Linux keeps no turns")
    assert short == {(os.getpriority(os.PRIO_PROCESS, 0), crowded._SHORT)}


@linux
def test_what_others_had_is_all_that_was_used_less_our_own() -> None:
    assert crowded._Used(10.0, 7.0, 4.0).others_since(crowded._Used(8.0, 4.0, 3.0)) == 1.0
    cores = sorted(os.sched_getaffinity(0))
    first = crowded._Used.now(cores)
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    second = crowded._Used.now(cores)
    assert second.own - first.own >= 0.2
    assert second.everyone - first.everyone > 0.1
    assert crowded._Used.now([10**6]).everyone == 0  # a core that is not there


@pytest.mark.parametrize(("device", "threads", "stat"), [("cuda", 2, ""), ("cpu", 1, ""), ("cpu", 2, "nowhere")])
def test_nothing_is_done_for_a_gpu_for_one_thread_and_where_nothing_is_told(
    device: str, threads: int, stat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(threads)
    if stat:
        monkeypatch.setattr(crowded, "_STAT", Path(stat))
    with give_way(torch.device(device)):
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("give_way")]


@linux
def test_results_are_the_same_with_a_team_and_without(others: dict[str, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    x_RI, y_IO = torch.randn(300, 400, generator=generator), torch.randn(400, 500, generator=generator)
    alone = (x_RI @ y_IO).sum()
    others["cores"] = 1.0
    with give_way(CPU):
        assert until(teams)
        assert torch.equal((x_RI @ y_IO).sum(), alone)
