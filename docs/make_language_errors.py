"""Writes the error table of docs/language.md from the tables of bad lines that the tests check.

python docs/make_language_errors.py          writes the section between the markers
python docs/make_language_errors.py --check  exits 1 if the section is out of date
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: A code and its meaning on each line.
CODES = ROOT / "docs" / "error_codes.txt"
TABLE = ROOT / "tests" / "instruction" / "bad_lines.txt"


def codes(*beginnings: str) -> dict[str, str]:
    """Code -> meaning of those that begin so, E0 for the syntax."""
    lines = (line.partition(" ") for line in CODES.read_text(encoding="utf-8").splitlines())
    return {code: meaning for code, _, meaning in lines if code.startswith(beginnings)}


#: Heading, codes and table of each kind of mistake, in the order in which they are looked for.
TABLES = (
    ("Syntax", codes("E0"), TABLE),
    ("Types, attributes and sense", codes("E1", "E2"), ROOT / "tests" / "plan" / "bad_lines.txt"),
    ("Against the data", codes("E3"), ROOT / "tests" / "data" / "bad_data.txt"),
)
PAGE = ROOT / "docs" / "language.md"
MOST_EXAMPLES = 3
BEGIN, END = "<!-- errors:begin -->", "<!-- errors:end -->"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that does not parse, the codes of its errors in order, and the exact message."""

    codes: tuple[str, ...]
    line: str
    message: str


def read_bad_lines(path: Path = TABLE) -> list[BadLine]:
    """All blocks of a table: `=== CODES`, the line (it may take several, and hold its data), `---`, the message."""
    blocks = ("\n" + path.read_text(encoding="utf-8")).split("\n=== ")[1:]
    table = []
    for block in blocks:
        codes, _, rest = block.partition("\n")
        line, _, message = rest.partition("\n---\n")
        table.append(BadLine(tuple(codes.split()), line, message.rstrip("\n")))
    return table


def section() -> str:
    """The Markdown between the markers: every code with its meaning and a few messages."""
    parts = [BEGIN]
    for heading, codes, path in TABLES:
        table = read_bad_lines(path)
        parts += [f"### {heading}", *(_entry(code, meaning, table) for code, meaning in codes.items())]
    return "\n\n".join([*parts, END])


def _entry(code: str, meaning: str, table: list[BadLine]) -> str:
    """One code, its meaning and a few messages, where the table has some."""
    messages = [message for bad in table for message in bad.message.split("\n\n")]
    examples = [message for message in messages if message.startswith(f"error[{code}]")]
    # one of each wording: what is said and what help is given, whatever the line
    unlike = {(message.split("\n")[0], message.split("\n")[-1]): message for message in reversed(examples)}
    fence = "\n\n".join(list(reversed(unlike.values()))[:MOST_EXAMPLES])
    return f"**{code}** {meaning}\n\n```text\n{fence}\n```" if fence else f"**{code}** {meaning}"


def page_with_section(page: str) -> str:
    """The page with its section renewed."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + section() + after


def main(arguments: list[str]) -> int:
    """0; with `--check` 1 if the page would change."""
    page = PAGE.read_text(encoding="utf-8")
    renewed = page_with_section(page)
    if "--check" in arguments:
        return int(page != renewed)
    PAGE.write_text(renewed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
