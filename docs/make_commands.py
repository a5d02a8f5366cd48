"""Writes what `--help` prints for every verb into docs/commands.md, between its two marks.

python docs/make_commands.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ofasys_lite.commands.app import VERBS

BEGIN, END = "<!-- help:begin -->", "<!-- help:end -->"
PARTS = {"codec": ("train", "encode", "show"), "data": ("list", "prepare", "show")}


def helped(*words: str) -> str:
    """A section with what the words and `--help` print; the values of presets are left out."""
    command = [sys.executable, "-m", "ofasys_lite", *words, "--help"]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    text = "\n".join(line.rstrip() for line in text.partition("Values (")[0].strip().splitlines())
    return f"### {' '.join(words)}\n\n```text\n{text}\n```\n"


def main() -> None:
    """Rewrites the page."""
    page = Path(__file__).with_name("commands.md")
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    calls = [call for verb in VERBS for call in ((verb,), *((verb, part) for part in PARTS.get(verb, ())))]
    sections = "\n".join(helped(*call) for call in calls)
    page.write_text(f"{before}{BEGIN}\n\n{sections}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
