"""Names of others' programs for what is ours, so that who knows them is told ours: other_names.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def other_names(of: str) -> Mapping[str, str]:
    """Their name -> what it is here, of one kind.

    Args:
        of: Keys of the `trainer` or of a `run`; arguments of `ofasys`' generation, and those without a meaning here
            (`ofasys_refused`) with what to do instead.
    """
    content = json.loads(resources.files(__package__).joinpath("other_names.json").read_text(encoding="utf-8"))
    return dict(content[of])
