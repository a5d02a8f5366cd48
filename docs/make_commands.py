"""Writes what `--help` prints for every verb into docs/commands.md, between its two marks.

python docs/make_commands.py          writes the section
python docs/make_commands.py --check  exits 1 if the section is out of date
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

from ofasys_lite.commands.app import VERBS
from ofasys_lite.commands.app import main as ofasys_lite

PAGE = Path(__file__).with_name("commands.md")
BEGIN, END = "<!-- help:begin -->", "<!-- help:end -->"
PARTS = {"codec": ("train", "encode", "show"), "data": ("list", "prepare", "show")}


def helped(*words: str) -> str:
    """A section with what the words and `--help` print; the values of presets are left out."""
    out = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}), redirect_stdout(out), suppress(SystemExit):
        ofasys_lite([*words, "--help"])
    text = "\n".join(line.rstrip() for line in out.getvalue().partition("Values (")[0].strip().splitlines())
    return f"### {' '.join(words)}\n\n```text\n{text}\n```\n"


def page() -> str:
    """The whole page as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    calls = [call for verb in VERBS for call in ((verb,), *((verb, part) for part in PARTS.get(verb, ())))]
    sections = "\n".join(helped(*call) for call in calls)
    return f"{before}{BEGIN}\n\n{sections}\n{END}{after}"


def main() -> int:
    """Rewrites the page, or says with 1 that it is out of date."""
    made = page()
    if "--check" in sys.argv[1:]:
        return int(made != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
