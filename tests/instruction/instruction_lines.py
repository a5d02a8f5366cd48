"""What the tests of this room share: the lines that must parse, mutation of lines, and the docs' error table maker."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

#: What a hand that slips, or somebody who tries things, puts into a line.
SPLINTERS = (
    *"[](){}|*<>-;:,.?=\\\"'_+/@ 0a\n\t",
    *("->", "<->", "|||", ";;", "[TEXT:", "[TEXT]", "]", ")*", "{2,3}", "{", "*<over=a>", "=(", "f(", "\\[", "\\->"),
    *("[IMAGE:img]", "[sic]", "(", "<max=3>", "[[", "]]*", "a.b", '"a b"', "é", "中", "：", "\u0301", "🙂", "\u00a0"),
)


def good_lines() -> list[str]:
    """Every line of lines.txt."""
    text = (HERE / "lines.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def mutate(line: str, rng: random.Random) -> str:
    """The line after one to five slips: something dropped, doubled, moved, put in, cut off or mixed up."""
    for _ in range(rng.randint(1, 5)):
        at, to = sorted((rng.randint(0, len(line)), rng.randint(0, len(line))))
        near = min(len(line), at + rng.randint(1, 3))
        slip = rng.randrange(7)
        if slip == 0:
            line = line[:at] + line[near:]
        elif slip == 1:
            line = line[:at] + rng.choice(SPLINTERS) + line[at:]
        elif slip == 2:
            line = line[:at] + rng.choice(SPLINTERS) + line[near:]
        elif slip == 3:
            line = line[:near] + line[at:]
        elif slip == 4:
            line = line[:at] + line[to:]
        elif slip == 5:
            line = line[:to] + line[at:to] + line[to:]
        else:
            line = line[to:] + line[at:to] + line[:at]
    return line


def error_table_maker() -> ModuleType:
    """The module docs/make_language_errors.py."""
    name = "make_language_errors"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
        if spec is None or spec.loader is None:
            raise ImportError(name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
