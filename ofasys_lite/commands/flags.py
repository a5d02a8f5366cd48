"""The command line's parser: argparse, with the nearest name behind a flag or verb that it does not know."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ofasys_lite.errors import did_you_mean


class FlagParser(argparse.ArgumentParser):
    """An argparse parser without abbreviations whose errors name what is allowed; it exits with 2."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Prints usage, the message and help; exits with 2."""
        self.print_usage(sys.stderr)
        help = self._near(message)
        self.exit(2, f"{self.prog}: error: {message}\n" + (f"  help: {help}\n" if help else ""))

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's; an unknown flag behind a verb is told by the verb's own parser."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self._verb(found).error(f"unrecognized arguments: {' '.join(rest)}")
        return found

    def _verb(self, found: argparse.Namespace) -> argparse.ArgumentParser:
        for action in self._actions:  # argparse shows them in no other way
            if isinstance(action, argparse._SubParsersAction):
                verb: argparse.ArgumentParser = action.choices[getattr(found, action.dest)]
                return verb
        return self

    def _near(self, message: str) -> str:
        unknown = re.match(r"unrecognized arguments: (?:.* )?(--\S+)", message)
        if unknown:
            flags = sorted(flag for flag in self._option_string_actions if flag.startswith("--"))
            return did_you_mean(unknown[1].partition("=")[0], flags)
        choice = re.match(r"argument .*: invalid choice: '(.*)' \(choose from (.*)\)$", message)
        if choice:
            return did_you_mean(choice[1], [name.strip("' ") for name in choice[2].split(",")])
        return ""
