"""CHAT: turns of several roles <-> ids in ChatML's form, of which one role's turns are learned and written.

A turn is `<|im_start|>role`, a line break, its words, `<|im_end|>`, a line break (OpenAI's ChatML). What opens a turn
of a role, and what ends a turn, is one row of the vocabulary each, which words cannot spell: a user who types
`<|im_end|>` ends nothing. Weights of others that know ChatML keep their own rows (`<|im_start|>`, the role's name, a
line break). Loss is on the words of the answering role and on the row that ends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError, did_you_mean
from ofasys_lite.plan.constraints import Constraint, Free, Given, Series
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.base import READ, Piece, Preprocess, RowContext, Size, text_bytes
from ofasys_lite.preprocess.chat_turns import EXAMPLE, MARKS, Mark, Turn, answering, read_turns, roles_of, words_of
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.linear import as_struct

Ids = npt.NDArray[np.int64]


class ChatPreprocess(Preprocess):
    """Conversations <-> ids. Settings: `open`, `close` (texts of the rows), `max_length`, `history` (pieces)."""

    text: ClassVar[bool] = True
    goes_on: ClassVar[bool] = True
    example: ClassVar[str] = EXAMPLE
    #: Bytes of words, and turns.
    typical: ClassVar[Size] = (300, 6)

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """Ids of all turns; as a target up to the last answer, `learn_P` on the words and ends of the answers.

        Raises:
            DataError: It is no conversation, or, as a target, has no answer to learn.
        """
        turns = read_turns(value, options)
        if known.side != "target":
            return Piece.of_ids(self._ids(turns, options)[0])
        ids, learn = self._ids(_learned(turns, options), options)
        kept = max(place for place, learned in enumerate(learn) if learned) + 1
        ids, learn = ids[:kept], learn[:kept]
        return replace(Piece.of_ids(ids), learn_P=np.array(learn, dtype=np.bool_))

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """What was said, an answer of 1 to `max_length` pieces, its end.

        The answer takes the place of the conversation's last turn where that is one, else it follows.
        """
        if known.value is None:
            raise DataError("there is no conversation to answer", help=f"give {EXAMPLE}")
        said = _said(read_turns(known.value, options), options)
        opened = self._open(answering(options))
        ids = [*self._ids(said, options)[0], *opened]
        most = self._most(options, "max_length")
        free = Free(self.vocabulary.text_low, self.vocabulary.text_high, 1, most, self._rows(self._close())[0])
        return Series((Given(tuple(ids)), free))

    def decode(self, ids: Ids, options: Options, known: RowContext) -> str:
        """The words of the last turn."""
        opened, held = self._open(answering(options)), tuple(ids.tolist())
        places = [place for place in range(len(held)) if held[place : place + len(opened)] == opened]
        return self.vocabulary.decode(ids[places[-1] + len(opened) if places else 0 : -1])

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` is no conversation, or, as a target, has no answer."""
        turns = read_turns(value, options)
        if known.side == "target":
            _learned(turns, options)

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises CardError if nobody answers, or a turn's fields are not two."""
        roles, answers = roles_of(options), answering(options)
        if answers not in roles:
            raise CardError(f"`answers={answers}` is none of the roles", help=did_you_mean(answers, roles, "roles"))
        fields = option(options, "fields")
        if isinstance(fields, (list, tuple)) and len(set(fields)) != 2:
            raise CardError("`fields` are two: of the role and of the words", help="write fields=(speaker,text)")

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> str:
        """The words of the answer that ends a conversation; a text that is none is an answer by itself.

        Raises:
            DataError: It is no conversation, or its last turn is not an answer.
        """
        if isinstance(value, str) and not isinstance(as_struct(value), list):
            return value
        try:
            turns = read_turns(value, options)
        except DataError:
            if isinstance(value, str):  # an answer that looks like JSON
                return value
            raise
        if turns[-1].role != answering(options):
            message = f"the last turn is of `{turns[-1].role}`: there is no answer to compare with"
            raise DataError(message, help="end the conversation with the answer that is wanted")
        return turns[-1].text

    @classmethod
    def given(cls, value: Any, options: Options) -> Any:
        """The turns before the answer, as records of `role` and `content`."""
        return [{"role": turn.role, "content": turn.text} for turn in _said(read_turns(value, options), options)]

    def show(self, value: Any) -> Shown | None:
        """Turns that `given` found: a line each, with its role before it."""
        if not isinstance(value, list):
            return None
        return Shown("\n".join(f"{turn['role']}: {turn['content']}" for turn in value))

    @classmethod
    def texts(cls, value: Any) -> Iterable[str]:
        """The words of all turns."""
        return words_of(value)

    @classmethod
    def declare(cls, value: Any, options: Options, settings: Mapping[str, Any]) -> Iterable[str]:
        """The rows that open a turn of each role and that end a turn, and the marks, whatever the value."""
        return (*(_opening(settings, role) for role in roles_of(options)), str(settings["close"]), *map(_mark, MARKS))

    @classmethod
    def measure(cls, value: Any, folder: str | None) -> Size | None:
        """Bytes of its words, and how many stretches of them there are."""
        words = list(words_of(value))
        return sum(map(text_bytes, words)), len(words)

    def rows_of(self, size: Size, options: Options) -> int:
        """About three bytes a piece, two rows a turn, no more than `history`."""
        return min(2 * size[1] + size[0] // 3, self._most(options, "history"))

    def _most(self, options: Options, key: str) -> int:
        return int(str(option(options, key) or self.settings[key]))

    def _close(self) -> str:
        return str(self.settings["close"])

    def _open(self, role: str) -> tuple[int, ...]:
        return self._rows(_opening(self.settings, role))

    def _rows(self, name: str) -> tuple[int, ...]:
        """The one row of a name, or what the vocabulary of others spells it by."""
        found = self.vocabulary.spelled(name)
        if not found:
            message = f"this vocabulary has no row {name.strip()!r}"
            raise DataError(message, help="it has one where a line with CHAT of these roles was trained")
        return found

    def _ids(self, turns: Sequence[Turn], options: Options) -> tuple[list[int], list[bool]]:
        """(ids, which carry loss as a target) of turns, without the oldest ones that `history` has no room for."""
        answers, end = answering(options), self._rows(self._close())
        laid = []
        for turn in turns:
            words = self._words(turn, self._most(options, "max_length"))
            learned = turn.role == answers and turn.learned
            opened = self._open(turn.role)
            learn = [False] * len(opened) + [learned] * (len(words) + 1) + [False] * (len(end) - 1)
            laid.append(([*opened, *words, *end], learn))
        first = 1 if len(turns) > 1 and turns[0].role != answers and turns[0].role == roles_of(options)[0] else 0
        room = self._most(options, "history") - sum(len(ids) for ids, _ in laid[:first])
        kept = len(laid)
        # the newest turn is there, however long it is
        while kept > first and (kept == len(laid) or len(laid[kept - 1][0]) <= room):
            kept -= 1
            room -= len(laid[kept][0])
        chosen = [*laid[:first], *laid[kept:]]
        return [id for ids, _ in chosen for id in ids], [each for _, learn in chosen for each in learn]

    def _words(self, turn: Turn, most: int) -> list[int]:
        found: list[int] = []
        for part in turn.parts:
            found += self._rows(_mark(part.name)) if isinstance(part, Mark) else self.vocabulary.encode(part)
        return found[:most]


def _opening(settings: Mapping[str, Any], role: str) -> str:
    return str(settings["open"]).replace("{role}", role)


def _mark(name: str) -> str:
    return f"<|{name}|>"


def _said(turns: tuple[Turn, ...], options: Options) -> tuple[Turn, ...]:
    """The turns before the answer that is written: all, or all but a last one that is an answer."""
    return turns[:-1] if turns[-1].role == answering(options) else turns


def _learned(turns: tuple[Turn, ...], options: Options) -> tuple[Turn, ...]:
    """The turns up to the last answer that is learned; DataError: there is none, or it holds more than words."""
    answers = answering(options)
    places = [place for place, turn in enumerate(turns) if turn.role == answers and turn.learned]
    if not places:
        roles = ", ".join(dict.fromkeys(turn.role for turn in turns))
        held = "all have weight 0" if any(turn.role == answers for turn in turns) else f"its roles are {roles}"
        help = "leave the row out, or say who answers: answers=user"
        raise DataError(f"no turn of `{answers}` to learn: {held}", help=help)
    for place in places:
        mark = next((part for part in turns[place].parts if isinstance(part, Mark)), None)
        if mark is not None:
            message = f"turn {place + 1} ({answers}) holds a mark of type `{mark.name}`, and answers are words"
            raise DataError(message, help="leave the part out")
    return turns[: places[-1] + 1]
