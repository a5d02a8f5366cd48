"""Writes docs/files.md: every file of the package in a line, room by room, from the first lines of their docstrings.

python docs/make_files.py          writes the page
python docs/make_files.py --check  exits 1 if it is out of date
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("files.md")
ROOT = PAGE.parents[1]
HEAD = """# Every file in a line

Room by room, in the order in which rooms may import each other (docs/architecture.md says what they agree on).
Written by `python docs/make_files.py` from the files' own first lines.
"""


def rooms() -> list[str]:
    """Names of the rooms, top to bottom, as docs/architecture.md has them."""
    text = (PAGE.with_name("architecture.md")).read_text(encoding="utf-8")
    found = re.search(r"The rooms, top to bottom[^:]*: (.*?)\.$", text, re.M)
    assert found is not None
    return found[1].split(", ")


def said(path: Path) -> str:
    """The first sentence of a file's docstring."""
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def page() -> str:
    """The whole page as it should be."""
    parts = [HEAD]
    for room in rooms():
        place = ROOT / "ofasys_lite" / room
        if not place.is_dir():
            parts.append(f"## {room}.py\n\n{said(place.with_suffix('.py'))}\n")
            continue
        parts.append(f"## {room}/\n\n{said(place / '__init__.py')}\n\n| file | holds |\n|---|---|")
        files = sorted(p for p in place.rglob("*.py") if p.name != "__init__.py")
        parts += [f"| [{p.relative_to(place)}](../{p.relative_to(ROOT)}) | {said(p)} |" for p in files]
        parts.append("")
    return "\n".join(parts)


def main() -> int:
    """Rewrites the page, or says with 1 that it is out of date."""
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or page() != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
