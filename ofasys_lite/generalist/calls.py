"""What the values of a call mean, typed or in Python: columns of the line, decoding options, closed sets. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ofasys_lite.data.attributes import slot_class
from ofasys_lite.data.fields import MISSING, field
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, DataError, did_you_mean, few, listed, nearest
from ofasys_lite.instruction import parse, unparse
from ofasys_lite.instruction.syntax_tree import Attribute, Group, Instruction, ListValue, Node, Quoted, Sentence, Slot
from ofasys_lite.plan import Plan, SlotSegment, WordsSegment
from ofasys_lite.plan.decoding import held_for, option_names, wrong_for
from ofasys_lite.plan.segments import GroupSegment, Segment, walk

#: Attributes that a closed set takes the place of.
_CLOSED = "closed_set"


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """A column that a line reads at inference.

    Attributes:
        place: How a message shows it: `[IMAGE:img]`.
        optional: A row may lack it.
        exact: Dots do not open records.
        preprocess: Dotted path of what knows one value of it; empty for lists (of a group, of candidates).
    """

    name: str
    place: str
    optional: bool = False
    exact: bool = False
    preprocess: str = ""


def columns_of(plan: Plan) -> dict[str, ReadColumn]:
    """The columns a row needs at inference, in reading order: source slots, groups, `no_loss` slots, candidates.

    A target that goes on from the row's own value (a conversation) is one of them.
    """
    found: dict[str, ReadColumn] = {}
    template = plan.templates[0]
    named = plan.named_slot()
    # the values of a closed set of `<->` are what rows are sorted into: a row has none
    read = [side for number, side in enumerate(template.read) if named is None or number != named[0]]
    for target, side in [*((False, side) for side in read), *((True, side) for side in template.written)]:
        for segment in side:
            for column in _columns(segment, target):
                # a column that stands twice may be absent only if it may be so in both places
                if column.name not in found or (found[column.name].optional and not column.optional):
                    found[column.name] = column
    return found


def side_columns(plan: Plan, side: int) -> dict[str, ReadColumn]:
    """The columns of one side of a line with `<->`, in reading order."""
    read = (column for segment in plan.templates[0].read[side] for column in _columns(segment, False))
    return {column.name: column for column in read}


def _columns(segment: Segment, target: bool) -> list[ReadColumn]:
    if isinstance(segment, WordsSegment):
        return []
    if isinstance(segment, SlotSegment):
        found = []
        if not target or not segment.learned or slot_class(segment).goes_on:
            place = f"[{segment.modality}:{segment.column}]"
            found.append(ReadColumn(segment.column, place, segment.optional, segment.exact, segment.preprocess))
        if segment.closed is not None and segment.closed.kind == "candidates":
            found.append(ReadColumn(segment.closed.name, f"closed_set=@{segment.closed.name}"))
        return [*found, *_named(segment)]
    inner = walk((segment,))
    if target and any(s.learned for s in inner):
        given = any(not s.learned for s in inner)
        sets = [s.closed.name for s in inner if s.closed is not None and s.closed.kind == "candidates"]
        if not given and not sets:
            return _named(segment)
        # candidates may stand in the row, or in the records of the group
        offered = [ReadColumn(name, f"closed_set=@{name}", optional=True) for name in sets]
        return [*_named(segment), *offered, *(replace(each, optional=not given) for each in _lists(segment))]
    return _lists(segment)


def _lists(segment: GroupSegment) -> list[ReadColumn]:
    """The columns of a group's records."""
    if segment.over is not None:
        return [ReadColumn(segment.over, f"<over={segment.over}>")]
    inside = [c for alternative in segment.alternatives for inner in alternative for c in _columns(inner, False)]
    return [replace(column, preprocess="") for column in inside]


def _named(segment: Segment) -> list[ReadColumn]:
    """Columns that attributes of written slots name."""
    return [ReadColumn(column, said) for slot in walk((segment,)) for column, said in slot.named]


def learned_line(line: str, lines: Mapping[str, str], types: frozenset[str]) -> tuple[str, int] | None:
    """(task, number of its paraphrase) of the learned line that `line` is, however it is spaced; None for a new line.

    Raises:
        InstructionError: The line does not parse.
    """
    wanted = unparse(parse(line, types=types))
    for task, learned in lines.items():
        texts = _paraphrases(learned, types)
        if wanted in texts:
            # the last one is the whole line
            return task, texts.index(wanted) % (len(texts) - 1)
    return None


@lru_cache(maxsize=1024)
def _paraphrases(line: str, types: frozenset[str]) -> tuple[str, ...]:
    """The canonical text of every template of a line, and of the whole line."""
    tree = parse(line, types=types)
    return (*(unparse(Instruction((template,))) for template in tree.templates), unparse(tree))


def split_keywords(
    plan: Plan, keywords: Mapping[str, Any], further: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values by column, decoding options by name); a name that is both is a column.

    Args:
        further: Names that the caller takes beside these, for the message.

    Raises:
        DataError: A keyword that is neither; the nearest name is offered.
    """
    columns = columns_of(plan)
    heads = {*columns, *(c.name.partition(".")[0] for c in columns.values() if not c.exact)}
    options = option_names(plan.ways())
    row: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for name, value in keywords.items():
        if name in heads:
            row[name] = value
        elif name in options:
            chosen[name] = value
        else:
            targets = {s.column for s in plan.target_slots()}
            what = "is what the model writes" if name in targets else "is neither a column of the line nor an option"
            begun = next((c for c in columns if c.casefold().startswith(name.casefold())), None)
            near = begun or nearest(name, columns) or nearest(name, [*options, *further], 0.7)
            hint = near and f"did you mean `{near}`?"
            help = listed(f"columns: {few(columns)}; options", (*options, *further), hint)
            raise DataError(f"`{name}` {what}", help=help)
    return row, chosen


def named_row(plan: Plan, values: Sequence[Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with values given by position under the names of the line's columns, in reading order.

    Raises:
        DataError: More values than columns, a column given twice, or a column that is missing.
    """
    columns = columns_of(plan)
    if len(values) > len(columns):
        raise DataError(
            f"{len(values)} values for a line that reads {len(columns)} columns",
            help=listed("columns", columns),
        )
    given = dict(zip(columns, values, strict=False))
    for name in given:
        if name in row:
            raise DataError(f"column `{name}` is given twice: by position and by name", help="leave one of them out")
    found = {**given, **row}
    for column in columns.values():
        if not column.optional and field(found, column.name, column.exact) is MISSING:
            others = [name for name in found if name not in columns]
            raise DataError(
                f"the line reads {column.place}, and `{column.name}` is not given",
                help=did_you_mean(column.name, others, "given") if others else f"give {column.name}=...",
            )
    return found


def slot_columns(columns: Mapping[str, str], row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with the slot columns that a card's `columns` takes from data columns; one that is there stays."""
    extra = {}
    for slot, column in columns.items():
        value = field(row, column)
        if slot not in row and value is not MISSING:
            extra[slot] = value
    return {**row, **extra} if extra else row


def decode_options(plan: Plan, held: Mapping[str, Any], given: Mapping[str, Any]) -> DecodeOptions | None:
    """The task's decoding with what was given in its place; None if nothing was given.

    Another method than the task's takes nothing of the task's options that it has not, and nothing of its beam.

    Raises:
        CardError: Something given is unknown (near name offered), cannot be, or is of no use for the line.
    """
    if not given:
        return None
    held = held_for(plan, plan.decoding(), held)
    if "method" in given and given["method"] != "beam":
        for name in ("beam", "n_best"):
            held.pop(name, None)
    elif "beam" in given:
        held.pop("method", None)
        held.pop("n_best", None)
    values = held_for(plan, held, given)
    wrong = wrong_for(plan, values, given)
    if wrong is not None:
        raise CardError(f"decoding: {wrong[0]}", help=wrong[1])
    return DecodeOptions.of(values, ways=plan.ways())


def closed_line(line: str, closed: Collection[str] | Mapping[str, Collection[str]], types: Collection[str]) -> str:
    """The line with `closed_set=(...)` on its written slots, or on the right side of `<->`.

    Args:
        closed: The values of the only written slot, or values by column.

    Raises:
        CardError: No values, or a slot that is not there.
    """
    tree = parse(line, types=frozenset(types))
    names = [_name(slot) for side in tree.templates[0].targets for slot in _slots(side) if _learned(slot)]
    if isinstance(closed, Mapping):
        wanted = {str(name): _values(values, str(name)) for name, values in closed.items()}
    elif len(names) == 1:
        wanted = {names[0]: _values(closed, names[0])}
    else:
        raise CardError(
            f"closed_set: the line writes {len(names)} columns", help="name them: closed_set={'label': ['yes', 'no']}"
        )
    for name in wanted:
        if name not in names:
            raise CardError(
                f"closed_set: the line does not write `{name}`", help=did_you_mean(name, names, "it writes")
            )

    def changed(node: Node) -> Node:
        if isinstance(node, Slot):
            values = wanted.get(_name(node)) if _learned(node) else None
            if values is None:
                return node
            kept = (a for a in node.attributes if a.key != _CLOSED)
            listed = ListValue(tuple(map(Quoted, values)))
            return replace(node, attributes=(*kept, Attribute(_CLOSED, listed)))
        if isinstance(node, Group):
            return replace(node, alternatives=tuple(side(each) for each in node.alternatives))
        return node

    def side(sentence: Sentence) -> Sentence:
        return replace(sentence, nodes=tuple(changed(node) for node in sentence.nodes))

    templates = tuple(replace(t, targets=tuple(side(each) for each in t.targets)) for t in tree.templates)
    return unparse(Instruction(templates))


def _slots(sentence: Sentence) -> list[Slot]:
    found: list[Slot] = []
    for node in sentence.nodes:
        if isinstance(node, Slot):
            found.append(node)
        elif isinstance(node, Group):
            found.extend(slot for each in node.alternatives for slot in _slots(each))
    return found


def _name(slot: Slot) -> str:
    return slot.type if slot.column is None else slot.column


def _learned(slot: Slot) -> bool:
    return all(a.key != "no_loss" for a in slot.attributes)


def _values(values: Collection[str], name: str) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, (Sequence, set, frozenset)) or not values:
        raise CardError(f"closed_set of `{name}` is {values!r}", help="a list of texts: closed_set=['yes', 'no']")
    held = sorted(values) if isinstance(values, (set, frozenset)) else values
    return tuple(str(value) for value in held)
