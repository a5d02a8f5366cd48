"""`ofasys-lite check`: tasks, a line or a run against their data; every mistake at once, before a model is built."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ofasys_lite.cards.find import find_task, modalities, near_card, own_task_names, task_names
from ofasys_lite.cards.load import load_task_card
from ofasys_lite.cards.typed import typed_source
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.commands.run_cost import composed, has_weights, outlook_of, say_cost, values_of
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.instruction.quotes import unquoted
from ofasys_lite.preprocess.absence import home

#: Pixels and samples of each source that are decoded: some seconds.
_WORK = 400_000_000


def main(arguments: Sequence[str]) -> int:
    """0 if nothing is wrong, 1 with all mistakes on stderr."""
    parser = FlagParser("ofasys-lite check", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        help="task names, cards (.yaml), or a line and its data; or what `train` takes (experiment=quickstart "
        "model=small): its tasks, and what the run will cost; if none, all tasks of --config-dir or of the project",
    )
    parser.add_argument("--rows", type=int, default=200, help="rows looked at in each source (200)")
    parser.add_argument("--config-dir", action="append", default=[], help="a folder with cards of your own")
    given = parser.parse_args(list(arguments))
    if given.rows < 1:
        parser.error("--rows is at least 1")
    run, begun = None, tuple[str, ...]()
    if values := values_of(given.what):
        from ofasys_lite.commands.begin import begin_with  # brings Hydra

        run, begun = begin_with(composed(values, given.config_dir), values)
        cards, errors, types = list(run.tasks), list[OfasysError](), run.modalities
    else:
        names = own_task_names(given.config_dir) if given.config_dir else task_names()
        cards, errors = read_tasks(given.what or names, given.config_dir)
        types = modalities(given.config_dir)
    from ofasys_lite.data.check_tasks import check_tasks

    report = check_tasks(cards, types, given.rows, tolerate=0.0, work=_WORK)
    errors += report.errors
    if any(card.metrics for card in cards) and not any(error.code == "E310" for error in report.errors):
        from ofasys_lite.report.judge import wrong_judges

        errors += wrong_judges(cards, types)
    for note in (*begun, *report.notes):
        print(f"note: {note}")
    if errors:
        print("\n\n".join(error.render() for error in errors), file=sys.stderr)
        print(f"\n{len(errors)} error{'s' if len(errors) > 1 else ''}", file=sys.stderr)
        return 1
    for card in cards:
        count = report.rows.get(card.name, 0)
        rows = "row" if count == 1 else "rows"
        whole = report.whole.get(card.name, 0)
        read = f" ({whole:,} read whole)" if whole else ""
        print(
            f"task {card.name}: " + (f"{count} {rows} looked at{read}, nothing wrong" if count else "its line is right")
        )
    if run is not None and has_weights(run):
        print("what it costs `train` says before it begins, since weights are there")
    elif run is not None:
        from rich.console import Console

        say_cost(outlook_of(run), Console())
    return 0


def is_line(text: str) -> bool:
    """True for an instruction line, also one that forgot its arrow; False for a name, a path or a list of paths."""
    if "->" in text or "\n" in text:
        return True
    slot = re.search(r"\[\s*\w+\s*[:,\]]", text)
    return slot is not None and not re.search(r"^\{|^\[\s*['\"]|\.\w+$", text) and not _there(text)


def _there(text: str) -> bool:
    try:
        return Path(home(text)).exists()
    except OSError:  # longer than any file name
        return False


def read_tasks(
    what: Sequence[str], folders: Sequence[str], others: Sequence[str] = ()
) -> tuple[list[TaskCard], list[OfasysError]]:
    """The cards that arguments name, and what was wrong with cards that could not be read.

    A line makes a task named `line`; a data file after a line or a name is that task's training data. `others` are
    names that the command takes beside those of cards.
    """
    cards: list[TaskCard] = []
    errors: list[OfasysError] = []
    names = task_names(folders)
    for text in what:
        try:
            if is_line(text):
                name = "line" if not cards else f"line{len(cards) + 1}"
                cards.append(load_task_card({"instruction": unquoted(text)}, name=name))
            elif text.endswith((".yaml", ".yml")):
                cards.append(load_task_card(_existing(text)))
            elif text in names:
                cards.append(find_task(text, folders))
            else:
                _give_data(cards, text, [*names, *others])
        except OfasysError as error:
            errors.extend(error.errors)
    return cards, errors


def _existing(text: str) -> Path:
    if not Path(home(text)).is_file():
        raise CardError(f"{text}: no such file")
    return Path(home(text))


def _give_data(cards: list[TaskCard], text: str, names: Sequence[str]) -> None:
    """Takes `text` as the data of the last card if it looks like data; else it is a name that no card has."""
    looks = _there(text) or any(mark in text for mark in "./:{[")
    if not cards and Path(home(text)).is_file():
        raise CardError(f"{text} stands alone", help=f"rows follow a line or a task: '[TEXT:q] -> [TEXT:a]' {text}")
    if not cards and (Path(home(text)) / "export" / "config.json").is_file():
        help = f"its tasks are judged by: ofasys-lite evaluate {text}; what it learned stands in {text}/plans.txt"
        raise CardError(f"{text} is a run, and no task", help=help)
    if not looks or not cards:
        raise CardError(f"no card for task `{text}`", help=near_card("tasks", text, names, "cards"))
    # a card's own paths start at its folder, those typed here at the working directory
    value = typed_source(text)
    cards[-1] = replace(cards[-1], data={"train": _from_here(value) if cards[-1].path else value})


def _from_here(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_here(each) for each in value]
    if isinstance(value, dict):
        return {key: _from_here(each) if key == "path" else each for key, each in value.items()}
    return str(Path(home(value)).resolve()) if isinstance(value, str) and _there(value) else value
