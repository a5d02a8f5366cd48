"""`grammar=` of a text that is written: what it depends on in a row, which texts it allows, why not others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ofasys_lite.errors import DataError, InstructionError, few, nearest
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.spelled_grammar import SpelledGrammar, Spelling, pieces_of
from ofasys_lite.preprocess.sql_schema import read_sql_schema
from ofasys_lite.preprocess.sql_text import as_bytes, sql_text
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: Attributes that say of free text what a grammar says itself.
_FREE = ("min_length", "no_punctuation")
_AROUND = 24


class TextSpelling(Spelling, Protocol):
    """A language of texts that can say what it expects."""

    def expected(self, at: Any) -> tuple[list[str], str]:
        """(what may stand where the word at hand does, what is there of it)."""


#: By name, what makes the language of the value of the row's column.
GRAMMARS: Mapping[str, Callable[[Any], TextSpelling]] = {"sql": lambda schema: sql_text(read_sql_schema(schema))}


def grammar_call(options: Options) -> CallValue | None:
    """What `grammar=` of a slot says; None without."""
    value = option(options, "grammar")
    return value if isinstance(value, CallValue) else None


def _column(call: CallValue) -> str:
    """The column that a grammar depends on; InstructionError if it does not name one."""
    named = [*call.positional, *(value for _, value in call.keyed)]
    wrong = next((key for key, _ in call.keyed if key != "schema"), None)
    help = f"name the column that holds it: grammar={call.name}(schema)"
    if wrong is not None:
        raise InstructionError(f"grammar {call.name} has no `{wrong}`", code="E113", help=help)
    if len(named) != 1 or not isinstance(named[0], str):
        raise InstructionError(f"grammar {call.name} takes the one column of the schema", code="E106", help=help)
    if named[0].startswith("@"):
        help = f"write grammar={call.name}({named[0][1:]})"
        raise InstructionError(
            f"grammar: `{named[0]}` is a column's name with a mark before it", code="E106", help=help
        )
    return named[0]


def check_grammar(options: Options) -> None:
    """Raises InstructionError if `grammar=` of a slot cannot be."""
    call = grammar_call(options)
    if call is None:
        return
    _column(call)
    for key in _FREE:
        if option(options, key):
            help = f"leave one of them out: what grammar={call.name} writes has its own form"
            raise InstructionError(f"`{key}` means nothing beside `grammar`", code="E207", help=help)


def spelling_of(options: Options, named: Mapping[str, Any]) -> TextSpelling | None:
    """The texts that a slot's grammar allows for a row; None without a grammar, or where nothing is known of the row.

    Raises:
        DataError: The row's column holds no schema.
    """
    call = grammar_call(options)
    column = None if call is None else _column(call)
    if call is None or column is None or column not in named:
        return None
    try:
        return GRAMMARS[call.name](named[column])
    except DataError as error:
        raise DataError(f"column `{column}`: {error.message}", help=error.help) from None


def grammar_constraint(spelling: TextSpelling, vocabulary: Vocabulary, most: int) -> SpelledGrammar:
    """What a target of at most `most` pieces may be; DataError if no text is that short."""
    found = SpelledGrammar(spelling, pieces_of(vocabulary), most + 1)
    if found.least > found.most:
        raise DataError(
            f"max_length={most} is too few for any text of the grammar", help=f"the shortest has {found.least - 1}"
        )
    return found


def check_spelt(spelling: TextSpelling, text: str) -> None:
    """Raises DataError if the grammar does not allow `text`: where it leaves it, and what may stand there."""
    at, spelt = spelling.start, as_bytes(text)
    for place, char in enumerate(spelt):
        to = spelling.step(at, char)
        if to is None:
            raise _left(spelling, at, spelt, place)
        at = to
    if not spelling.over(at):
        raise _left(spelling, at, spelt, len(spelt))


def _left(spelling: TextSpelling, at: Any, spelt: str, place: int) -> DataError:
    expected, begun = spelling.expected(at)
    behind = spelt[place:].split(maxsplit=1)
    word = begun + (behind[0] if behind and not spelt[place].isspace() else "")
    before, after = (
        part.encode("latin-1").decode("utf-8", "replace")
        for part in (spelt[max(0, place - _AROUND) : place], spelt[place : place + _AROUND])
    )
    quoted = '"' in begun + spelt[place : place + 1] and "'text'" in expected
    near = nearest(word.lower(), expected) if word else None
    what = "ends too soon" if place == len(spelt) else f"leaves its grammar at character {place + 1}"
    help = "text stands in single quotes. " if quoted else f"did you mean `{near}`? " if near else ""
    help += f"there may stand: {few(expected)}" if expected else ""
    return DataError(f"the text {what}: `{before}` | `{after}`", help=help)
