"""Lightning without its advice, where the advice does not fit a loader of whole steps."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]

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
