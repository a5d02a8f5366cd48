"""Conversations as people store them -> turns: OpenAI's and Hugging Face's {role, content}, ShareGPT's {from, value}.

Every mistake names the turn, counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.doubled import single
from ofasys_lite.preprocess.linear import as_struct
from ofasys_lite.preprocess.text import read_text

#: What a turn calls its role and its words, where the line does not say.
FIELDS = (("role", "content"), ("from", "value"))
#: Other names of roles: ShareGPT's, OpenAI's of today and of before.
SPELLINGS = {"human": "user", "gpt": "assistant", "developer": "system", "function": "tool"}
#: Parts of a content that stand for something that is read beside the conversation.
MARKS = ("image", "audio", "video")
#: A conversation that asks for an answer, as JSON.
EXAMPLE = '[{"role": "user", "content": "hello"}]'
_CALLS = ("tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class Mark:
    """The place of a picture, a sound or a film among the words of a turn."""

    name: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn.

    Attributes:
        parts: Its words, and marks between them.
        learned: False where the data says `weight: 0` (OpenAI): an answer that is read only.
    """

    role: str
    parts: tuple[str | Mark, ...]
    learned: bool = True

    @property
    def text(self) -> str:
        """Its words; of a mark its name in angle brackets."""
        return "".join(part if isinstance(part, str) else f"<{part.name}>" for part in self.parts)


def roles_of(options: Options) -> tuple[str, ...]:
    """Who may speak."""
    found = option(options, "roles", ())
    return tuple(str(role) for role in found) if isinstance(found, (list, tuple)) else ()


def answering(options: Options) -> str:
    """The role whose turns are learned and written."""
    return str(option(options, "answers", ""))


def read_turns(value: Any, options: Options) -> tuple[Turn, ...]:
    """The turns of a conversation.

    Args:
        value: A list of records or its JSON text; a record of equally long lists, as `datasets` has them, is one, too.

    Raises:
        DataError: It is no list, has no turn, or a turn has no known role, other fields, no words, or something that is
            not read.
    """
    listed = _listed(value)
    if not listed:
        raise DataError("the conversation has no turn", help="leave the row out")
    names = option(options, "fields")
    pairs = (tuple(map(str, names)),) if isinstance(names, (list, tuple)) else FIELDS
    return tuple(_turn(number, record, options, pairs) for number, record in enumerate(listed, 1))


def _listed(value: Any) -> Sequence[Any]:
    found = single(as_struct(value))
    columns = list(found.values()) if isinstance(found, Mapping) else []
    lists = all(isinstance(column, (list, tuple, np.ndarray)) for column in columns)
    if isinstance(found, Mapping) and lists and len({len(column) for column in columns}) == 1:
        return [dict(zip(found, record, strict=True)) for record in zip(*columns, strict=True)]
    if not isinstance(found, (list, tuple)):
        shown = f"the text `{found[:40]}`" if isinstance(found, str) else type(found).__name__
        raise DataError(f"CHAT reads a list of turns; found {shown}", help=f"write {EXAMPLE}")
    return found


def _turn(number: int, record: Any, options: Options, pairs: Sequence[tuple[str, ...]]) -> Turn:
    if not isinstance(record, Mapping):
        shown = f"the text `{record[:40]}`" if isinstance(record, str) else type(record).__name__
        raise DataError(f"turn {number} is {shown}, and no record", help=f"write {EXAMPLE}")
    found = next((pair for pair in pairs if record.get(pair[0]) is not None), None)
    if found is None:
        known = " or ".join("{" + ", ".join(pair) + "}" for pair in pairs)
        help = f"a turn is {known}; name others in the line: [CHAT:messages,fields=(speaker,text)]"
        raise DataError(f"turn {number} has no `{pairs[0][0]}`; it has {_names(record)}", help=help)
    role = _role(number, record[found[0]], options)
    content = record.get(found[1])
    calls = next((key for key in _CALLS if not _nothing(record.get(key))), None)
    if calls is not None:
        help = "write the call as words into its content, or leave the row out"
        raise DataError(f"turn {number} ({role}) holds `{calls}`, which CHAT does not write", help=help)
    if found[1] not in record:
        help = f"name it in the line: [CHAT:messages,fields=({found[0]},text)]"
        raise DataError(f"turn {number} ({role}) has no `{found[1]}`; it has {_names(record)}", help=help)
    try:
        parts = tuple(_parts(content))
    except DataError as error:
        raise DataError(f"turn {number} ({role}): {error.message}", help=error.help) from error
    if not any(isinstance(part, Mark) or part.strip() for part in parts):
        raise DataError(f"turn {number} ({role}) is empty", help="leave the turn out, or the row")
    return Turn(role, parts, learned=record.get("weight") not in (0, 0.0, False))


def _role(number: int, value: Any, options: Options) -> str:
    known = roles_of(options)
    text = str(value).strip()
    role = next((r for r in (text, text.lower(), SPELLINGS.get(text.lower(), "")) if r in known), None)
    if role is None:
        help = did_you_mean(text, known, "roles") + "; name others in the line: roles=(alice,bob),answers=bob"
        raise DataError(f"turn {number}: unknown role `{text[:40]}`", help=help)
    return role


def _parts(content: Any) -> Iterator[str | Mark]:
    """Words and marks; DataError: a part that holds something that is not read."""
    if _nothing(content):
        return
    if isinstance(content, np.ndarray):
        content = list(content)
    if not isinstance(content, (list, tuple)):
        yield read_text(content, "CHAT")
        return
    for part in content:
        if isinstance(part, str):
            yield part
            continue
        kind = str(part.get("type")) if isinstance(part, Mapping) else type(part).__name__
        held = [k for k, v in part.items() if k != "type" and not _nothing(v)] if isinstance(part, Mapping) else []
        if kind == "text" and not _nothing(part.get("text")):
            yield read_text(part["text"], "CHAT")
        elif kind in MARKS and not held:
            yield Mark(kind)
        elif kind != "text":
            help = (
                "words are {type: text, text: ...}; {type: image} marks a place, and the picture stands in a column of "
                "its own: [IMAGE:image] -> [CHAT:messages]; pictures among the words are read by a group of parts "
                "(docs/chat.md)"
            )
            shown = f" with `{held[0]}`" if held else ""
            raise DataError(f"a part of type `{kind}`{shown} is not read", help=help)


def _nothing(value: Any) -> bool:
    """None, NaN, white space, an empty list: what tables fill absent keys with."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, (list, tuple, Mapping, np.ndarray)):
        return len(value) == 0
    return value is None or value != value


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}`" for key in record) or "nothing"


def words_of(value: Any) -> Iterable[str]:
    """All words of a conversation, whatever its fields are called and whoever speaks; nothing where it is none."""
    try:
        listed = _listed(value)
    except DataError:
        return
    for record in listed:
        if isinstance(record, Mapping):
            content = next((record[words] for _, words in FIELDS if words in record), list(record.values()))
            yield from _strings(content)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for key, inner in value.items() if key != "type" for text in _strings(inner))
    elif isinstance(value, (list, tuple, np.ndarray)):
        yield from (text for inner in value for text in _strings(inner))
