"""Lightning without its advice and its own way with signals, where they do not fit a run of whole steps."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import lightning as L

__all__ = ["deaf", "quiet"]

#: Warnings that speak of what is meant: (start of the message, why it does not apply).
_KNOWN = (
    (r".*does not have many workers", "an item is a whole step; one worker keeps up"),
    (r"You're resuming from a checkpoint that ended before the epoch ended", "item k is step k: resume is exact"),
    (r"Found \d+ module\(s\) in eval mode", "a codec's weights stay as they are"),
    (r".*isinstance\(treespec, LeafSpec\)", "Lightning calls torch's pytree by an old name"),
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside it Lightning logs errors only, and its warnings in the list above are not shown."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for text, _ in _KNOWN:
            warnings.filterwarnings("ignore", text)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def deaf(trainer: L.Trainer) -> None:
    """Keeps Lightning's hands off signals.

    Its handler of SIGTERM speaks to the other ranks from wherever the program is, which can wait for ever, and each
    step of several ranks begins with a broadcast of whether it was called. Under SLURM it also puts the job back in the
    queue, which is the job script's business.
    """
    connector, loop = trainer._signal_connector, trainer.fit_loop.epoch_loop
    connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    return None
