"""The environment that a run needs, set before torch is imported and before a reader looks for data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def environment(data: Mapping[str, Any]) -> None:
    """Puts the data and cache folders of a configuration where the readers look."""
    # Compute threads wait for each other by spinning. Without a limit that burns the time of whatever else runs (a
    # loader worker, other programs): two threads on two busy cores were 3 times slower than one. Without any spinning
    # a step takes 2.5 times as long on a quiet machine. This many turns cost a tenth there and bound the loss elsewhere
    # (measured on 2 cores). libgomp reads it once, when torch is imported, which has not happened yet.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    for key, variable in (("root", "OFASYS_DATA"), ("cache", "OFASYS_CACHE")):
        if data.get(key):
            os.environ[variable] = str(data[key])
