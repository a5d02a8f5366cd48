"""Signals at random moments of random trainings, in numbers: how many end in order, and what became of the others.

    python tests/e2e/chaos_signals.py --runs 200 --seed 1

Each run is `ofasys-lite train` on a tiny task, forked from this process, which has imported everything before; with
compile it is a new process, since what compiles does not bear being forked. Drawn
are the signal, who gets it (the process, its whole group, one of two ranks), loader workers, compile, and the moment:
in preparing, the first step (with compile: while it compiles), a later step, validation, saving, export, evaluation. A
run survives if every rank exits with 128 + the signal, the checkpoint holds exactly the last complete step, the line
that says how to go on is there and true (the run is resumed), and there is no traceback, partial file or process left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOMENTS = ("preparing", "first step", "step", "validation", "saving", "export", "evaluation")
#: What is called as a moment begins: module, owner in it (or nothing), function.
MARKS = {
    "preparing": ("ofasys_lite.training.fit", "", "make_ready"),
    "step": ("ofasys_lite.training.module", "TrainingModule", "training_step"),
    "validation": ("ofasys_lite.report.validation", "Validator", "__call__"),
    "saving": ("ofasys_lite.training.callbacks", "", "save_checkpoint"),
    "export": ("ofasys_lite.training.fit", "", "_export"),
    "evaluation": ("ofasys_lite.report.evaluate_model", "", "evaluate"),
}
LINE = "+tasks.mine.instruction=[TEXT:q] what? -> [TEXT:a,closed_set]"
#: Seconds until a run counts as hanging.
PATIENCE = 120.0


@dataclass(frozen=True)
class Drawn:
    """One run of the chaos."""

    number: int
    moment: str
    signal: signal.Signals
    ranks: int
    target: str
    workers: int
    compiled: bool
    nth: int
    delay: float

    @staticmethod
    def of(number: int, rng: random.Random) -> Drawn:
        """Everything of a run, drawn."""
        moment, ranks = rng.choice(MOMENTS), rng.choice((1, 2))
        target = rng.choice(("process", "group") if ranks == 1 else ("group", "rank 0", "rank 1"))
        if moment in ("export", "evaluation") and target == "rank 1":
            target = "rank 0"  # the other rank has ended by then
        number_of = rng.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP))
        compiled = moment in ("first step", "step", "saving") and rng.random() < 0.1
        nth = 1 if moment in ("preparing", "first step", "export", "evaluation") else rng.randint(2, 12)
        delay = rng.uniform(0.0, 6.0 if compiled and moment == "first step" else 0.05)
        return Drawn(number, moment, number_of, ranks, target, rng.choice((0, 1, 2)), compiled, nth, delay)

    def arguments(self) -> list[str]:
        """The command line."""
        ends = self.moment in ("export", "evaluation")
        validates = self.moment == "validation"
        return [
            *("train", "name=r", "model=tiny", "trainer.precision=fp32", "trainer.accelerator=cpu", "data.pieces=300"),
            *(LINE, "+tasks.mine.data.train=d.csv", "trainer.samples_per_step=8", "trainer.log_every=1"),
            f"trainer.workers={self.workers}",
            f"trainer.devices={self.ranks}",
            f"trainer.strategy={'ddp' if self.ranks > 1 else 'auto'}",
            f"trainer.compile={str(self.compiled).lower()}",
            f"trainer.valid_every={2e-3 if validates else 0}",
            f"trainer.checkpoint_every={1e-3 if self.moment == 'saving' else 60}",
            f"steps={3 if ends else 100000}",
            f"evaluate={str(self.moment == 'evaluation').lower()}",
        ]


def load() -> None:
    """Imports what every run needs, once."""
    import ofasys_lite.commands.evaluate
    import ofasys_lite.commands.train
    import ofasys_lite.report.evaluate_model
    import ofasys_lite.report.validation
    import ofasys_lite.training.fit  # noqa: F401


def marked(pipe: int) -> None:
    """Has the functions of MARKS write to the pipe as they begin, and complete steps as they end."""
    import importlib

    from ofasys_lite.training.module import TrainingModule

    def told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            os.write(pipe, f"{name}\n".encode())
            return function(*args, **kwargs)

        return call

    for name, (module, owner, function) in MARKS.items():
        place: Any = importlib.import_module(module)
        place = getattr(place, owner) if owner else place
        setattr(place, function, told(name, getattr(place, function)))
    update = TrainingModule._update

    def updated(self: Any, step: int, through: list[int]) -> None:
        update(self, step, through)
        os.write(pipe, b"done\n")

    TrainingModule._update = updated  # type: ignore[method-assign]


def run(rank: int, pipe: int, arguments: list[str]) -> int:
    """The training of one rank, in this process."""
    from lightning.pytorch.utilities import rank_zero_only

    from ofasys_lite.commands.app import main

    rank_zero_only.rank = rank
    if pipe >= 0:
        marked(pipe)
    sys.argv = ["ofasys-lite", *arguments]
    code = main(arguments)
    sys.stdout.flush()
    return code


def forked(folder: Path, arguments: list[str], rank: int, ranks: int, port: int, group: int, pipe: int) -> int:
    """The process of one rank of a training."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setpgid(0, group)
        os.chdir(folder)
        log = os.open(f"log{rank}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if ranks > 1:
            named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
            named |= {"TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({key: str(value) for key, value in named.items()})
        if "trainer.compile=true" in arguments:
            if pipe >= 0:
                os.set_inheritable(pipe, True)
            command = [
                sys.executable,
                os.path.abspath(__file__),
                "--child",
                str(rank),
                "--pipe",
                str(pipe),
                "--",
                *arguments,
            ]
            os.execv(command[0], command)
        code = run(rank, pipe, arguments)
        sys.stderr.flush()
        import atexit

        atexit._run_exitfuncs()  # as at a real exit: loader workers are ended by multiprocessing there
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def marks(pipe: int, deadline: float) -> Iterator[str]:
    """Lines of the pipe as they come; ends with the run or at the deadline."""
    import select

    rest = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([pipe], [], [], 1.0)
        if not ready:
            continue
        read = os.read(pipe, 65536)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        yield from (line.decode() for line in lines)


def ended(pids: list[int], deadline: float) -> list[int | None]:
    """Exit codes of the processes (minus the signal's number where one killed them); None for those that hang."""
    codes: dict[int, int] = {}
    while len(codes) < len(pids) and time.monotonic() < deadline:
        for pid in pids:
            if pid not in codes:
                with suppress(ChildProcessError):  # asked before
                    found, status = os.waitpid(pid, os.WNOHANG)
                    if found:
                        codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return [codes.get(pid) for pid in pids]


def alive(group: int) -> bool:
    """Whether a process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def trained(folder: Path, arguments: list[str], ranks: int) -> Iterator[tuple[list[int], int]]:
    """The ranks of a training, and the pipe of rank 0's marks; none of their processes is left after."""
    read, write = os.pipe()
    port, pids = free_port(), list[int]()
    for rank in range(ranks):
        pids.append(forked(folder, arguments, rank, ranks, port, pids[0] if pids else 0, -1 if rank else write))
    os.close(write)
    try:
        yield pids, read
    finally:
        os.close(read)
        if alive(pids[0]):
            os.killpg(pids[0], signal.SIGKILL)
        ended(pids, time.monotonic() + 0.5)


def one(drawn: Drawn, folder: Path) -> str:
    """What was lost in a run; nothing where it survived."""
    (folder / "d.csv").write_text("q,a\n" + "".join(f"word {n} of {n % 7},{'abc'[n % 3]}\n" for n in range(60)))
    deadline = time.monotonic() + PATIENCE * (10 if drawn.compiled else 1)
    wanted = "step" if drawn.moment == "first step" else drawn.moment
    with trained(folder, drawn.arguments(), drawn.ranks) as (pids, pipe):
        seen, done, sent = 0, 0, False
        for mark in marks(pipe, deadline):
            done += mark == "done"
            seen += mark == wanted
            if seen == drawn.nth and mark == wanted and not sent:
                time.sleep(drawn.delay)
                sent = True
                if drawn.target == "group":
                    os.killpg(pids[0], drawn.signal)
                else:
                    os.kill(pids[1 if drawn.target == "rank 1" else 0], drawn.signal)
        codes = ended(pids, deadline)
        settled = time.monotonic() + 12
        while alive(pids[0]) and time.monotonic() < settled:
            time.sleep(0.02)
        left = alive(pids[0])
    log = "".join((folder / f"log{rank}").read_text() for rank in range(drawn.ranks))
    return "; ".join(_lost(drawn, folder, codes, log, done, sent, left))


def _lost(
    drawn: Drawn, folder: Path, codes: list[int | None], log: str, done: int, sent: bool, left: bool
) -> Iterator[str]:
    if not sent:
        yield f"the moment never came: {codes}"
        return
    if None in codes:
        yield "hangs"
        return
    expected = 128 + drawn.signal
    # ranks that are through their part may end well, or as processes that end are ended, while the first one exports
    through = (0, -drawn.signal) if done == 3 else ()
    # the command had said its last word: its process ends as any does
    said = "trained: runs/r/export" in log and "stopped by" not in log
    over = drawn.moment == "export" and codes[0] in (0, -drawn.signal) and said
    if (codes[0] != expected and not over) or any(code not in (expected, *through) for code in codes):
        yield f"exit codes {codes}"
    if "Traceback" in log or "killed by signal" in log:
        yield "traceback"
    if left:
        yield "processes left"
    run = folder / "runs" / "r"
    partial = [
        str(path.relative_to(folder)) for path in folder.rglob("*") if ".part" in path.name or ".tmp" in path.name
    ]
    if partial:
        yield f"partial files {partial}"
    if not over:
        yield from _line(drawn, run, log, done)
    elif not (run / "export" / "config.json").exists():
        yield "no export"


def _line(drawn: Drawn, run: Path, log: str, done: int) -> Iterator[str]:
    """Whether checkpoint and line are true: the run goes on from its last complete step."""
    import torch

    last = run / "checkpoints" / "last.ckpt"
    if not done:
        if "the same command begins again" not in log:
            yield "no line"
        return
    step = int(torch.load(last, weights_only=True)["global_step"]) if last.exists() else None
    if step != done:
        yield f"checkpoint of step {step}, {done} were complete"
        return
    if "it is trained; to evaluate it: ofasys-lite evaluate runs/r" in log:
        if not (run / "export" / "config.json").exists():
            yield "no export"
        return
    if "to go on where it stopped: ofasys-lite train resume=runs/r" not in log:
        yield "no line"
    arguments = ["train", "resume=runs/r", f"steps={step + 2}", "evaluate=false", "trainer.compile=false"]
    arguments += ["trainer.devices=1", "trainer.strategy=auto", "trainer.valid_every=0"]
    with trained(run.parents[1], arguments, 1) as (pids, _):
        codes = ended(pids, time.monotonic() + PATIENCE)
    if codes != [0]:
        yield f"resumed: exit code {codes[0]}"
    elif int(torch.load(last, weights_only=True)["global_step"]) != step + 2:
        yield "resumed: other steps"


def main() -> None:
    """Draws, runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="a moment")
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs that were lost")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--pipe", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        sys.exit(run(asked.child, asked.pipe, asked.arguments))
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup runs would outlive it, as they should
    load()
    rng = random.Random(asked.seed)
    lost: list[tuple[Drawn, str]] = []
    all_drawn: list[Drawn] = []
    began = time.monotonic()
    for number in range(asked.runs):
        drawn = Drawn.of(number, rng)
        if asked.only and drawn.moment != asked.only:
            continue
        folder = Path(tempfile.mkdtemp(prefix=f"chaos{number}-"))
        what = one(drawn, folder)
        all_drawn.append(drawn)
        print(f"{number:4d} {'lost' if what else 'ok  '} {drawn} {what}", flush=True)
        if what:
            lost.append((drawn, what))
        if not (what and asked.keep):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"     {folder}", flush=True)
    print(table(all_drawn, [drawn for drawn, _ in lost]))
    print(
        f"\n{len(all_drawn)} runs, seed {asked.seed}, {len(lost)} lost, {(time.monotonic() - began) / 60:.0f} minutes"
    )


def table(runs: list[Drawn], lost: list[Drawn]) -> str:
    """Survived and lost by every thing that was drawn, as Markdown."""
    lines = ["| | runs | survived | lost |", "|---|---|---|---|"]
    for name in ("moment", "signal", "ranks", "target", "workers", "compiled"):

        def said(drawn: Drawn, name: str = name) -> str:
            value = getattr(drawn, name)
            return f"{name} {value.name if isinstance(value, signal.Signals) else value}"

        all_of, lost_of = Counter(map(said, runs)), Counter(map(said, lost))
        lines += [f"| {key} | {n} | {n - lost_of[key]} | {lost_of[key]} |" for key, n in sorted(all_of.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
