"""Targets spelt in pieces of a text model that does not keep every text: refused, or counted and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.data.attributes import preprocess_class
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import CardError, DataError, raise_all
from ofasys_lite.layout.examples import ExampleMaker
from ofasys_lite.plan import Plan, SlotSegment
from ofasys_lite.plan.segments import option
from ofasys_lite.preprocess.base import RowContext
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: What a slot says that accepts the loss of case, and has references read without it.
_ACCEPTS = "uncased"
#: Rows of a task that are looked at.
_ROWS = 200
_SHOWN = 60


def refuse_lossy(plans: Sequence[Plan], modalities: Mapping[str, ModalityCard], vocabulary: Vocabulary) -> None:
    """Raises CardError where free text is to be written in pieces that lose a part of it, and the line accepts nothing.

    Closed sets, boxes in bins and all that has rows of its own is written exactly with any text model. A grammar is
    written with our own alone: it walks over the bytes of pieces, and how others spell theirs is not known.
    """
    errors = []
    if not vocabulary.exact:
        help = "leave `grammar` out of the line, or begin with no text of others"
        errors += [
            CardError(
                f"task {plan.task}: `{slot.column}` has a grammar, and pieces of others are not known byte by byte",
                help=help,
            )
            for plan in plans
            for slot in _spelt(plan)
            if option(slot.options, "grammar") is not None
        ]
    if not vocabulary.loses:
        raise_all(errors)
        return
    for plan in plans:
        for slot in _spelt(plan):
            able = any(each.key == _ACCEPTS for each in modalities[slot.modality].attributes)
            if not (able and option(slot.options, _ACCEPTS)):
                help = "a closed set is written exactly; or begin with an encoder-decoder (BART, T5), or with none"
                if able:
                    help = (
                        f"[{slot.modality}:{slot.column},{_ACCEPTS}] accepts that, and is judged without case; {help}"
                    )
                message = (
                    f"task {plan.task}: [{slot.modality}:{slot.column}] would be written in word pieces, which lose "
                )
                errors.append(CardError(message + vocabulary.loses, help=help))
    raise_all(errors)


def notes_of(plan: Plan, maker: ExampleMaker, source: RowSource, vocabulary: Vocabulary) -> Iterator[str]:
    """Of each slot that is spelt in pieces of others: how many first training rows are not written as they stand."""
    if vocabulary.exact:
        return
    for slot in _spelt(plan):
        tool, told, count = maker.preprocess[slot.tool_key], list[tuple[object, object]](), 0
        numbers = range(min(_ROWS, len(source)))
        for (value,) in (v for v in source.values(numbers, (slot.column,)) if not isinstance(v, DataError)):
            try:
                ids = tool.encode(value, slot.options, RowContext("target")).arrays["ids"]
                wanted, found = tool.read(value, slot.options), tool.decode(ids, slot.options, RowContext("target"))
            except DataError:
                continue  # it is quarantined when it is drawn
            count += 1
            if found != wanted:
                told.append((wanted, found))
        if told:
            one, two = (str(each)[:_SHOWN] for each in told[0])
            yield f"{len(told)} of {count} values of `{slot.column}` are not written as they stand: {one!r} as {two!r}"


def _spelt(plan: Plan) -> Iterator[SlotSegment]:
    """Learned slots of the target that are spelt in pieces."""
    for slot in plan.slots():
        if slot.learned and slot.closed is None and preprocess_class(slot.preprocess).spells(slot.options):
            yield slot
