"""Signals end a program in order, at once or where it asks; its helpers outlive signals to the group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from ofasys_lite.signals import SIGNALS, AtOnce, Interrupted, Patient, pending, preparing


def interruption(work: Callable[[], None]) -> Interrupted:
    """What the work was left by."""
    with pytest.raises(Interrupted) as caught:
        work()
    return caught.value


def send(number: signal.Signals, stop: Patient) -> None:
    """Signals this process; returns when it is noted."""
    os.kill(os.getpid(), number)
    while stop.number is None:
        time.sleep(0.001)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_the_program_where_it_is_and_handlers_as_they_were(number: signal.Signals) -> None:
    def work() -> None:
        with AtOnce():
            os.kill(os.getpid(), number)
            time.sleep(5)

    before = [signal.getsignal(each) for each in SIGNALS]
    found = interruption(work)
    assert (found.code, found.name) == (128 + number, number.name)
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_patient_program_goes_on_until_it_asks(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        with Patient() as stop:
            send(number, stop)
            done.append("the step")
            stop.check()
            done.append("the next step")

    assert interruption(work).code == 128 + number
    assert done == ["the step"]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_a_signal_that_nobody_asked_for_is_raised_at_the_end() -> None:
    def work() -> None:
        with Patient() as stop:
            send(signal.SIGTERM, stop)

    assert interruption(work).number == signal.SIGTERM


def test_what_is_interruptible_is_left_at_once_within_a_patient_program() -> None:
    begun = time.monotonic()

    def work() -> None:
        with Patient() as stop:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
            with stop.interruptible():
                while time.monotonic() - begun < 30:
                    time.sleep(0.001)

    interruption(work)
    assert time.monotonic() - begun < 20


def test_a_signal_twice_in_a_moment_is_one_request() -> None:
    def work() -> None:
        with Patient() as stop:
            send(signal.SIGTERM, stop)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    assert interruption(work).number == signal.SIGTERM


def test_what_a_finalizer_swallowed_is_raised_at_the_next_look() -> None:
    def work() -> None:
        with AtOnce():
            with contextlib.suppress(Interrupted):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            pending()
            raise AssertionError

    interruption(work)


def test_an_error_that_a_signal_made_of_an_import_is_the_signal() -> None:
    def work() -> None:
        with AtOnce():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            except Interrupted:
                raise ImportError("initialization failed") from None

    assert interruption(work).number == signal.SIGTERM


@pytest.mark.parametrize(("name", "kind"), [("WORLD_SIZE", Patient), ("SLURM_NTASKS", Patient), ("OTHER", AtOnce)])
def test_one_of_several_ranks_does_not_leave_the_others_waiting(
    name: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "2")
    assert isinstance(preparing(), kind)


def test_a_signal_before_is_known_within() -> None:
    def work() -> None:
        with AtOnce() as outer:
            outer.note(signal.SIGUSR1)
            with Patient() as stop:
                stop.check()

    assert interruption(work).number == signal.SIGUSR1


def test_other_threads_train_without_handlers() -> None:
    found: list[object] = []

    def work() -> None:
        with AtOnce(), Patient() as stop, stop.interruptible():
            found.append(stop.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


SCRIPT = """
import os, signal, subprocess, sys, time
from ofasys_lite.signals import AtOnce, Patient, shelter
{body}
"""


def exit_code(body: str) -> int:
    """Of a Python process of its own group that runs `body`."""
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    return subprocess.run(command, check=False, timeout=60, start_new_session=True).returncode


@pytest.mark.parametrize("kind", ["AtOnce", "Patient"])
def test_a_second_signal_ends_the_process_at_once(kind: str) -> None:
    body = f"""
import ofasys_lite.signals as signals
signals._SAME = 0.0
with {kind}() as stop:
    for _ in range(2):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        except SystemExit:
            pass
    os._exit(3)
"""
    assert exit_code(body) == 128 + signal.SIGTERM


def test_left_alone_it_ends_the_process_with_128_and_the_signal() -> None:
    assert exit_code("with AtOnce():\n    os.kill(0, signal.SIGUSR1)\n    time.sleep(5)") == 128 + signal.SIGUSR1


def test_programs_that_a_training_starts_outlive_a_signal_to_the_group() -> None:
    body = """
try:
    with Patient() as stop:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5); print('compiled')"])
        os.kill(0, signal.SIGTERM)
        assert child.wait() == 0
        stop.check()
except SystemExit as stopped:
    os._exit(stopped.code)
"""
    assert exit_code(body) == 128 + signal.SIGTERM


def test_a_sheltered_helper_ends_by_its_parent_alone() -> None:
    body = """
helper = os.fork()
if helper == 0:
    shelter()
    time.sleep(30)
    os._exit(4)
time.sleep(0.3)
stranger = [sys.executable, "-c", f"import os, signal; [os.kill({helper}, n) for n in (2, 10, 15)]"]
assert subprocess.run(stranger).returncode == 0
time.sleep(0.2)
assert os.waitpid(helper, os.WNOHANG) == (0, 0)
os.kill(helper, signal.SIGTERM)
os._exit(os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]))
"""
    assert exit_code(body) == 0


def test_a_signal_while_a_patient_program_leaves_is_not_waited_for_in_vain() -> None:
    body = """
real = signal.set_wakeup_fd
def restored(fd, **more):
    found = real(fd, **more)
    if fd == -1:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    return found
signal.set_wakeup_fd = restored
with Patient():
    pass
"""
    assert exit_code(body) == 128 + signal.SIGTERM


def test_signals_held_back_until_a_rank_listens_are_not_lost() -> None:
    body = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
with AtOnce():
    time.sleep(5)
"""
    assert exit_code(body) == 128 + signal.SIGTERM


@pytest.mark.parametrize("kind", [AtOnce, Patient])
def test_what_is_pending_ends_a_lone_process_and_waits_where_ranks_end_together(
    kind: type[AtOnce] | type[Patient],
) -> None:
    reached = []

    def work() -> None:
        with kind() as stop:
            stop.note(signal.SIGTERM)
            pending()
            reached.append("the first step")

    assert interruption(work).number == signal.SIGTERM
    assert len(reached) == (kind is Patient)
