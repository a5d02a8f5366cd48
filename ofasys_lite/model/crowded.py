"""Compute threads beside other programs: while others want their cores, threads that wait for each other sleep.

libgomp's threads wait for each other by spinning, which is fastest while each has a core of its own. Where another
program takes one of the cores, what one thread spins away is taken from the one that it waits for: beside a single busy
program a step of the quickstart on two cores took three times as long as alone, and where threads sleep at once half as
long again. While more of its threads exist than there are CPUs, libgomp spins a hundred turns only (GCC's manual of
libgomp, GOMP_SPINCOUNT), and that can change at any time. So where others want the cores, a further team of threads is
kept, which does nothing, and it is dismissed when they have done. Meanwhile Linux (6.12 and later) is asked for short
turns: a thread that is woken then need not wait until the other program's turn of milliseconds ends, and what each gets
in all stays as fair. What is computed stays the same bit for bit.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

#: Seconds between two looks; how many of them without others before threads spin again.
EVERY, QUIET = 0.5, 4
#: Cores' worth of others' work beside what is free that decides nothing: a loader's, a browser's.
SPARE = 0.25
#: Numbers of a tensor that torch fills in several threads.
_SHARED = 2**18
_STAT, _THREADS = Path("/proc/stat"), Path("/proc/self/task")
#: Nanoseconds of a short turn, the least there is, and of the system's own.
_SHORT, _USUAL = 100_000, 0
#: The number of `sched_setattr`, and its struct: size, policy, flags, nice, priority, runtime, deadline, period.
_SCHED_SETATTR, _ATTRIBUTES = {"x86_64": 314, "aarch64": 274}, struct.Struct("IIQiIQQQ")


@contextmanager
def give_way(device: torch.device) -> Iterator[None]:
    """Inside it the compute threads of this process leave their cores to others while they wait for each other.

    Nothing is done for one thread, for other devices than a CPU, and where the system does not tell how busy its cores
    are (all but Linux).
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or not _STAT.exists():
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(over, threads), name="give_way", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(over: threading.Event, threads: int) -> None:
    """Keeps teams while others want the cores, until `over`, or until the system no longer tells."""
    cores = sorted(os.sched_getaffinity(0))
    teams = list[_Team]()
    try:
        quiet, before = 0, _Used.now(cores)
        while not over.wait(EVERY):
            now = _Used.now(cores)
            crowded = now.others_since(before) > len(cores) - threads + SPARE
            quiet, before = 0 if crowded else quiet + 1, now
            if crowded and not teams:
                teams = [_Team() for _ in range(-(-len(cores) // threads))]
                _turns(_SHORT)
            elif teams and quiet >= QUIET:
                _dismiss(teams)
    except (OSError, ValueError):  # speed alone is lost by it
        pass
    finally:
        if teams:
            _dismiss(teams)


def _dismiss(teams: list[_Team]) -> None:
    for team in teams:
        team.leave.set()
    for team in teams:
        team.join()
    teams.clear()
    _turns(_USUAL)


def _turns(nanoseconds: int) -> None:
    """Asks for turns of this length for all threads of this process; older systems take no notice."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    call = ctypes.CDLL(None).syscall
    for thread in map(int, os.listdir(_THREADS)):
        try:
            policy, nice = os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)
        except ProcessLookupError:  # it has ended
            continue
        if policy == os.SCHED_OTHER:
            call(number, thread, _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, nanoseconds, 0, 0), 0)


class _Used:
    """Seconds that all programs, and this process, have had of the cores until now, and the clock's."""

    def __init__(self, at: float, everyone: float, own: float) -> None:
        self.at, self.everyone, self.own = at, everyone, own

    @staticmethod
    def now(cores: Sequence[int]) -> _Used:
        """Of these cores alone; processes of ours (loaders, ranks) are others."""
        ticks = 0
        for line in _STAT.read_text(encoding="ascii").splitlines():
            name, *numbers = line.split()
            if name.removeprefix("cpu").isdigit() and int(name.removeprefix("cpu")) in cores:
                user, nice, system, _, _, hard, soft = map(int, numbers[:7])  # the others are idle or counted twice
                ticks += user + nice + system + hard + soft
        return _Used(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time())

    def others_since(self, before: _Used) -> float:
        """How many cores others have had on average since then."""
        used = (self.everyone - before.everyone) - (self.own - before.own)
        return used / max(self.at - before.at, 1e-3)


class _Team(threading.Thread):
    """libgomp makes a team for a thread's first work that is shared, and keeps it as long as the thread lives."""

    def __init__(self) -> None:
        super().__init__(name="give_way team", daemon=True)
        self.leave = threading.Event()
        self.start()

    def run(self) -> None:
        """Until told to leave."""
        torch.zeros(_SHARED).add_(1)
        self.leave.wait()
