"""Every write of the project, by one rule.

What we did not make we do not touch; what exists is not replaced unless told; a run that is being trained is locked;
a path that cannot be written is told before work begins. Files appear whole or not at all.
"""

from ofasys_lite.writing.files import (
    as_utf8,
    atomic,
    behind,
    claim_file,
    holds,
    same_file,
    special,
    sweep,
    write_atomic,
)
from ofasys_lite.writing.folders import begun_by_us, claim_folder, current, finish, locked, other_rank, staged
from ofasys_lite.writing.problems import cache_folder, reason, room_for, telling, writable

__all__ = [
    "as_utf8",
    "atomic",
    "begun_by_us",
    "behind",
    "cache_folder",
    "claim_file",
    "claim_folder",
    "current",
    "finish",
    "holds",
    "locked",
    "other_rank",
    "reason",
    "room_for",
    "same_file",
    "special",
    "staged",
    "sweep",
    "telling",
    "writable",
    "write_atomic",
]
