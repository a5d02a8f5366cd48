"""What the tests of check share: one line against the content of one file."""

from __future__ import annotations

from pathlib import Path

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.data.check_tasks import Report, check_tasks
from ofasys_lite.errors import ErrorGroup

CARDS = modalities()


def report_of(line: str, data: object, **card: object) -> Report:
    """What a check says of a line typed by hand and its training data; nothing is tolerated."""
    content = {"instruction": line, "data": {"train": data}, "sets": {"labels": ["cat", "dog"]}, **card}
    return check_tasks([load_task_card(content, name="line")], CARDS, tolerate=0.0)


def messages_of(line: str, name: str, content: str) -> tuple[tuple[str, ...], str]:
    """(codes in order, all messages) of a line against a file written into the working directory."""
    Path(name).write_text(content, encoding="utf-8")
    report = report_of(line, name)
    codes = tuple(dict.fromkeys(error.code for error in report.errors))
    return codes, ErrorGroup(report.errors).render() if report.errors else ""
