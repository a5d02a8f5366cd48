"""Every error a user can cause: one family, one form, near names.

The form is that of a compiler: code and short text, the place, the line with carets under the span, then help.
Nothing here imports anything but the standard library.
"""

from __future__ import annotations

import difflib
import importlib
import math
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

#: Between two lines of a help: the second begins below the first.
_BELOW = "\n        "


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mistake stands: a file (or None for text typed by hand), 1-based line and column, the line, the width.

    Attributes:
        file: Path as the user wrote it; None for a line typed on the command line.
        line: 1-based line number in `file`; 0 if unknown.
        column: 1-based column of the first marked character in `text`; 0 marks nothing.
        text: The one line of text that is shown; empty shows none.
        width: Number of marked characters, at least 1.
        file_column: 1-based column in `file`, where it differs from `column` (indented literal blocks);
            0 if equal, -1 if unknown.
    """

    file: str | None = None
    line: int = 0
    column: int = 0
    text: str = ""
    width: int = 1
    file_column: int = 0

    def header(self) -> str:
        """`file:line:column`, as far as known; empty for text without a file."""
        if self.file is None:
            return ""
        column = self.file_column or self.column
        parts = [self.file] + ([str(self.line)] if self.line else [])
        parts += [str(column)] if self.line and column > 0 else []
        return ":".join(parts)

    def carets(self) -> str:
        """The padding and carets that stand under the marked characters (wide characters counted as two cells)."""
        before = self.text[: self.column - 1]
        marked = self.text[self.column - 1 : self.column - 1 + self.width]
        return " " * _cells(before) + "^" * max(1, _cells(marked), 1 if not marked else 0)


def _cells(text: str) -> int:
    """Number of terminal cells `text` takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    zero = sum(unicodedata.combining(c) > 0 for c in text)
    return len(text) + wide - zero


class OfasysError(ValueError):
    """A mistake the user can mend; printed without a traceback by every command.

    Attributes:
        code: Stable code such as `E105`; empty where the message needs none.
        help: What is allowed and what to do; may be empty.
    """

    def __init__(self, message: str, *, code: str = "", place: Place | None = None, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.place = place
        self.help = help

    @property
    def errors(self) -> tuple[OfasysError, ...]:
        """The single mistakes: this one; of an ErrorGroup all of them, in the order of the checks."""
        return (self,)

    def __str__(self) -> str:
        return self.render()

    def __reduce__(self) -> tuple[object, ...]:
        # loader workers pickle their errors; keyword-only arguments need help with that
        return _rebuild, (type(self), self.message, self.code, self.place, self.help)

    def render(self) -> str:
        """The whole message: `error[CODE]: ...`, place, line with carets, help."""
        lines = [f"error[{self.code}]: {self.message}" if self.code else self.message]
        if self.place is not None:
            header = self.place.header()
            if header:
                lines.append(f"  {header}")
            if self.place.text:
                lines.append(f"  {self.place.text}")
                if self.place.column:
                    lines.append(f"  {self.place.carets()}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


def _rebuild(kind: type[OfasysError], message: str, code: str, place: Place | None, help: str) -> OfasysError:
    return kind(message, code=code, place=place, help=help)


class InstructionError(OfasysError):
    """An instruction line that does not parse, or does not make sense."""


class CardError(OfasysError):
    """A task, modality or preset file, or a configuration value, that is wrong."""


class DataError(OfasysError):
    """A data source, row or value that cannot be read as the line asks."""


class ShapeError(OfasysError):
    """Arrays that do not fit what the plan counts."""


class CheckpointError(OfasysError):
    """A checkpoint, export or run folder that cannot be used as asked."""


class WriteError(OfasysError):
    """A place that cannot be written, or that holds what is not to be replaced."""


class ErrorGroup(OfasysError):
    """Several mistakes found in one go; prints them all."""

    def __init__(self, errors: Sequence[OfasysError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self._errors = tuple(errors)

    @property
    def errors(self) -> tuple[OfasysError, ...]:
        """All mistakes, in the order of the checks."""
        return self._errors

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errors,)

    def render(self) -> str:
        """All messages, one after another, and their number at the end."""
        body = "\n\n".join(error.render() for error in self.errors)
        return body if len(self.errors) == 1 else f"{body}\n\n{len(self.errors)} errors"


class InstructionErrors(InstructionError, ErrorGroup):
    """Several mistakes of one line: caught by `except InstructionError` as a single one is."""


def raise_all(errors: Sequence[OfasysError]) -> None:
    """Raises the only error as itself, several as an ErrorGroup (of a line: InstructionErrors), none not at all."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise (InstructionErrors if all(isinstance(e, InstructionError) for e in errors) else ErrorGroup)(errors)


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice most like `name` (case ignored), or None if none is near.

    Example:
        >>> nearest("acuracy", ["accuracy", "bleu"])
        'accuracy'
    """
    by_fold: dict[str, str] = {}
    for choice in choices:
        by_fold.setdefault(choice.casefold(), choice)
    found = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=cutoff)
    return by_fold[found[0]] if found else None


def few(names: Iterable[str], most: int = 12) -> str:
    """The first names, and how many there are if some are left out; `none` without any.

    Example:
        >>> few("abcdef", most=3)
        'a, b, c, ... (6 in all)'
    """
    every = list(names)
    more = f", ... ({len(every)} in all)" if len(every) > most else ""
    return ", ".join(every[:most]) + more if every else "none"


def listed(label: str, names: Iterable[str], before: str | None = None) -> str:
    """Help text: `before`, a label and all names (at most 60); what is long stands below, in lines of 100 characters.

    Example:
        >>> listed("allowed", ["accuracy", "bleu"], "did you mean `bleu`?")
        'did you mean `bleu`? allowed: accuracy, bleu'
    """
    text = f"{label}: {few(names, most=60)}"
    if len(text) > 100:
        # as far in as the text after `  help: `; a name is never broken
        text = textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False).replace("\n", _BELOW)
        return f"{before}{_BELOW}{text}" if before else text
    return f"{before} {text}" if before else text


def did_you_mean(name: str, choices: Iterable[str], label: str = "allowed") -> str:
    """Help text: the near name if there is one, then everything that is allowed.

    Example:
        >>> did_you_mean("acuracy", ["accuracy", "bleu"])
        'did you mean `accuracy`? allowed: accuracy, bleu'
    """
    names = list(choices)
    near = nearest(name, names)
    return listed(label, names, f"did you mean `{near}`?" if near is not None else "")


def check_keys(owner: str, values: Iterable[object], known: Iterable[str]) -> None:
    """CardError at the first key of `values` that is not known to `owner` (`model`, `trainer` ...)."""
    allowed = list(known)
    for key in values:
        if key not in allowed:
            raise CardError(f"{owner}: unknown key `{key}`", help=did_you_mean(str(key), allowed))


def needed(module: str, who: str, extra: str, otherwise: str = "", kind: type[OfasysError] = DataError) -> Any:
    """The imported module; an error of `kind` with the command to install it where `who` finds it missing."""
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises the latter
        help = f"pip install 'ofasys_lite[{extra}]'{otherwise}"
        raise kind(f"{who} needs {module.partition('.')[0].replace('_', '-')}: {error}", help=help) from None


def check_choice(owner: str, name: str, value: object, allowed: Iterable[str]) -> None:
    """CardError where `value` is none of the allowed names."""
    names = tuple(allowed)
    if value not in names:
        raise CardError(f"{owner}: {name} `{value}` is not known", help=did_you_mean(str(value), names))


def check_types(owner: str, settings: Any, help: Mapping[str, str] | None = None) -> None:
    """CardError where a field of a dataclass whose type is int, float or bool holds something else.

    Args:
        settings: The dataclass, its annotations as text; `int | None` may be None.
        help: By name of a field, what to say instead of the common help.
    """
    for one in fields(settings):
        kind, _, none = str(one.type).partition(" | ")
        value = getattr(settings, one.name)
        if kind not in _KINDS or (none and value is None):
            continue
        types, what = _KINDS[kind]
        if not isinstance(value, types) or (kind != "bool" and isinstance(value, bool)):
            told = (help or {}).get(one.name) or f"{one.name} is {what}"
            raise CardError(f"{owner}: {one.name} is {value!r}", help=told)
        if isinstance(value, float) and not math.isfinite(value):
            raise CardError(f"{owner}: {one.name} is {value}", help=f"{one.name} is a finite number")


#: Type of a setting -> the types of its values, and what they are in words.
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number, without quotes"),
    "bool": ((bool,), "true or false"),
}
