"""Ends in order: SIGINT, SIGTERM, SIGUSR1 and SIGHUP become one exception, at once or between two steps of a training.

`AtOnce` raises wherever the program is, as Ctrl-C does. `Patient` only notes the signal, and the program raises it
where nothing is half done. Both take the first signal as a request, also where a scheduler sends it twice in a moment,
and a later one as an order: the process ends at once. What is open within the other keeps what came before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

#: What asks a program to end: Ctrl-C, `kill` and schedulers, the warning of a preemption (SLURM), a closed terminal.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name))

#: Seconds in which a second signal is the same request: `timeout` and torchrun signal a process and its group.
_SAME = 1.0


class Interrupted(SystemExit):
    """A signal asked this process to end; where nobody catches it, it ends with 128 + its number, and no traceback.

    Args:
        code: Another exit code.
    """

    def __init__(self, number: int, code: int | None = None) -> None:
        super().__init__(128 + number if code is None else code)
        self.number = number

    @property
    def name(self) -> str:
        """`SIGTERM` and the like."""
        return signal.Signals(self.number).name


class _Listening:
    """Handlers for SIGNALS while it is open (in the main thread, which alone can have them), the old ones after."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.raising = False
        #: Whether nothing but the handler hears of signals.
        self._alone = True
        self._since = 0.0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def check(self) -> None:
        """Raises Interrupted if a signal came."""
        if self.number is not None:
            raise Interrupted(self.number)

    def note(self, number: int) -> None:
        """Keeps the first signal; ends the process at the second."""
        if self.number is None:
            _hung_up()
            self.number, self._since = int(number), time.monotonic()
        elif time.monotonic() - self._since > _SAME:
            os._exit(128 + number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked helper has inherited this: it ends as it would have without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self._alone:
            self.note(number)
        while self.number is None:
            time.sleep(0.001)  # the receiver is about to note it
        if self.raising:
            self.raising = False
            raise Interrupted(self.number)

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        outer = _current()
        if outer is not None and outer.number is not None:
            self.number, self._since = outer.number, outer._since
        for number in SIGNALS:
            if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: the run is to outlive its terminal
            self._before[number] = signal.signal(number, self._handle)

    def _leave(self) -> None:
        self.raising = False
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        outer = _current()
        if outer is not None and outer.number is None and self.number is not None:
            outer.number, outer._since = self.number, self._since


class AtOnce(_Listening):
    """While it is open a signal raises Interrupted wherever the main thread is."""

    def __enter__(self) -> AtOnce:
        self.raising = True
        self._listen()
        if self._before and hasattr(signal, "pthread_sigmask"):
            # who started us may have kept signals back, as a training does for its further ranks
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            except Interrupted:
                self._leave()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave()
        if kind is None or issubclass(kind, Exception):
            # code that Python calls in passing (a finalizer) may have swallowed what was raised, and the import of an
            # extension made another error of it
            self.check()


class Patient(_Listening):
    """While it is open a signal is noted; `check` raises it, and what `interruptible` encloses is left by it.

    The main thread, and every process it starts meanwhile (loader workers, compilers, further ranks), has the signals
    blocked: none of them dies of a signal to the group in the midst of its work. A thread receives them, which also
    hears of those that other threads get: Python runs handlers in the main thread, and that may wait for another rank.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pipe: tuple[int, int] | None = None
        self._undo = (-1, set[Any]())
        self._receiver = threading.Thread(target=self._receive, name="signals", daemon=True)

    def __enter__(self) -> Patient:
        self._listen()
        if self._before and hasattr(signal, "pthread_sigmask"):
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            fd = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._undo = (fd, set(signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)))
            self._receiver.start()
            self._alone = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pipe is not None:
            self._alone = True  # before the pipe is given up: of a signal behind that, only the handler hears
            signal.set_wakeup_fd(self._undo[0])
            os.write(self._pipe[1], b"\0")
            self._receiver.join()
            for end in self._pipe:
                os.close(end)
            self._pipe = None
            signal.pthread_sigmask(signal.SIG_SETMASK, self._undo[1])
        self._leave()
        if kind is None:
            self.check()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside it a signal raises Interrupted wherever the main thread is."""
        self.raising = bool(self._before)
        try:
            self.check()
            yield
        finally:
            self.raising = False

    def _receive(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        while self._pipe is not None:
            for number in os.read(self._pipe[0], 64):
                if number == 0:
                    return
                if number in SIGNALS:
                    self.note(number)


def _hung_up() -> None:
    """Output to a terminal that was closed goes nowhere: it would raise, and what is yet to be saved be lost."""
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, number)
                os.close(nowhere)


def preparing() -> AtOnce | Patient:
    """What a training is prepared under; the first of several ranks to leave would have the others wait for it."""
    several = any(os.environ.get(name, "1") not in ("0", "1", "") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return Patient() if several else AtOnce()


def _current() -> _Listening | None:
    found = getattr(signal.getsignal(SIGNALS[0]), "__self__", None)
    return found if isinstance(found, _Listening) else None


def pending() -> None:
    """Raises Interrupted if a signal has come that was swallowed on its way; not where ranks are to end together."""
    current = _current()
    if isinstance(current, AtOnce):
        current.check()


def shelter() -> None:
    """Makes a helper process deaf to signals that mean its parent; SIGTERM from the parent itself ends it.

    A loader worker that dies of a signal to the group takes its run with it; but multiprocessing ends workers by
    SIGTERM, so that they cannot ignore it.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_obey, args=(os.getppid(),), name="signals", daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
