"""A plan as a table a person reads: what every segment is, what is learned, what it costs, what has to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ofasys_lite.cards.classes import load_object
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.cost import ModelSize, flops
from ofasys_lite.plan.segments import GroupSegment, Options, Plan, Segment, SlotSegment, WordsSegment, walk

#: Rows of the vocabulary in the cost estimate.
VOCABULARY = 32_000
#: Characters of prompt text that make about one token.
_CHARACTERS = 4
#: Elements a group is taken to have where nothing is known of it.
_ELEMENTS = 4


@dataclass(frozen=True, slots=True)
class Tokens:
    """Rows that a segment fills.

    Attributes:
        count: How many, in the middle.
        how: Where the number comes from: `exact`, `measured`, or what it was guessed from.
    """

    count: int
    how: str


#: Rows of a slot, or None where nothing is known.
Count = Callable[[SlotSegment], Tokens | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One segment of the plan, as the table shows it.

    Attributes:
        side: `source`, `target`, `target 2` ...; `left` and `right` of `<->`.
        depth: Groups around it.
        segment: `words`, `slot` or `group`.
        what: The words, the column, or the list that is walked.
        modality: Canonical modality; empty for words and groups.
        preprocess: Class that reads the value; `planned` where there is none yet.
        loss: Objective, unit and weight; `read` or `forced` where nothing is learned.
        constraint: What it may be in decoding, in words.
    """

    side: str
    depth: int
    segment: str
    what: str
    modality: str = ""
    preprocess: str = ""
    adapter: str = ""
    tokens: Tokens | None = None
    loss: str = ""
    constraint: str = ""
    attributes: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sample costs with a model of a preset's size; `training`: three times that."""

    preset: str
    forward: int
    training: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that `explain` says of a line.

    Attributes:
        templates: One table per paraphrase.
        source: Source rows of a sample, estimated.
        target: Target rows of a sample, estimated.
        cannot_train: Why the line cannot be trained yet; empty if it can.
    """

    plan: Plan
    canonical: str
    templates: tuple[tuple[Line, ...], ...]
    source: int
    target: int
    costs: tuple[Cost, ...]
    cannot_train: tuple[str, ...]
    notes: tuple[str, ...]


def explain_plan(plan: Plan, sizes: Mapping[str, ModelSize] | None = None, count: Count | None = None) -> Explanation:
    """The explanation of a plan, whose closed sets may be frozen already."""
    writer = _Writer(plan, count)
    templates = tuple(tuple(writer.template(number)) for number in range(len(plan.templates)))
    first = plan.templates[0]
    # each side of `<->` ends with a row whose state is its vector
    source = sum(writer.rows(segment) for side in first.read for segment in side) + first.align * len(first.read)
    target = sum(writer.rows(segment) for side in first.written for segment in side)
    costs = []
    for name, size in (sizes or {}).items():
        forward = flops(size, source, target, VOCABULARY)
        costs.append(Cost(name, forward, 3 * forward))
    notes = (*plan.notes, *codec_notes(plan))
    return Explanation(plan, plan.line, templates, source, target, tuple(costs), plan.cannot_train, notes)


def codec_notes(plan: Plan) -> tuple[str, ...]:
    """Says of each target that names no codec folder that a codec is trained before the run."""
    found = []
    for slot in plan.target_slots():
        codec = codec_of(slot)
        if slot.learned and codec is not None and not codec.positional and "hash" not in dict(codec.keyed):
            steps = f" in {codec.get('steps')} steps" if codec.get("steps") is not None else ""
            found.append(
                f"[{slot.modality}:{slot.column}] names no codec folder: one is trained{steps} on the training split "
                "before the run, and kept in the cache for the next"
            )
    return tuple(dict.fromkeys(found))


class _Writer:
    """Writes the lines of a plan's table."""

    def __init__(self, plan: Plan, count: Count | None) -> None:
        self.plan = plan
        self.count = count

    def template(self, number: int) -> Iterator[Line]:
        template = self.plan.templates[number]
        yield from self._side("left" if template.align else "source", template.source, 0, target=False)
        for index, side in enumerate(template.targets):
            name = "right" if template.align else "target" if len(template.targets) == 1 else f"target {index + 1}"
            yield from self._side(name, side, 0, target=not template.align)
        if self.plan.alignment is not None:
            one = self.plan.alignment
            weight = f", weight {one.weight:g}" if one.weight != 1 else ""
            loss = f"{one.name} per {one.unit}{weight}, in blocks of {self.plan.block}"
            yield Line("both", 0, "pairs", "left and right of a row", tokens=Tokens(2, "exact"), loss=loss)

    def _side(self, side: str, segments: Sequence[Segment], depth: int, *, target: bool) -> Iterator[Line]:
        for segment in segments:
            tokens = Tokens(self.rows(segment), "guessed")
            if isinstance(segment, WordsSegment):
                learned = target and self.plan.loss_on_words
                loss = "cross_entropy per token" if learned else "forced" if target else "read"
                yield Line(side, depth, "words", segment.text, tokens=tokens, loss=loss)
            elif isinstance(segment, SlotSegment):
                yield self._slot(side, segment, depth, target)
            else:
                what = f"over {segment.over}" if segment.over is not None else "lists walked together"
                given = not all(slot.learned for slot in walk((segment,)))
                loss = ("forced" if given else "cross_entropy per token (next or end)") if target else "read"
                words = constraint_of_group(segment)
                yield Line(side, depth, "group", what, tokens=tokens, loss=loss, constraint=words)
                for number, alternative in enumerate(segment.alternatives):
                    if len(segment.alternatives) > 1:
                        names = ", ".join(n for n, i in segment.spellings if i == number)
                        yield Line(side, depth + 1, "alternative", f"{segment.by} = {names}")
                    yield from self._side(side, alternative, depth + 1, target=target)

    def _slot(self, side: str, slot: SlotSegment, depth: int, target: bool) -> Line:
        if slot.losses:
            weights = [slot.weight * one.weight for one in slot.losses]
            loss = ", ".join(
                f"{one.name} per {one.unit}" + (f", weight {weight:g}" if weight != 1 else "")
                for one, weight in zip(slot.losses, weights, strict=True)
            )
        else:
            loss = "forced" if target else "read"
        if slot.drop:
            loss += f"; emptied with probability {slot.drop:g}"
        return Line(
            side=side,
            depth=depth,
            segment="slot",
            what=slot.column + ("?" if slot.optional else f">{slot.rejected}" if slot.rejected else ""),
            modality=slot.modality,
            preprocess=slot.preprocess.rpartition(".")[2] or "planned",
            adapter=slot.adapter.rpartition(".")[2] or "planned",
            tokens=self._tokens(slot),
            loss=loss,
            constraint=constraint_in_words(slot, self._tokens(slot)) if target else "",
            attributes=in_words(slot.options),
        )

    def _tokens(self, slot: SlotSegment) -> Tokens | None:
        if slot.closed is not None and slot.learned:
            return Tokens(1, "exact")
        return self.count(slot) if self.count is not None else None

    def rows(self, segment: Segment) -> int:
        """Rows of a segment, as far as they can be told."""
        if isinstance(segment, WordsSegment):
            return max(1, round(len(segment.text) / _CHARACTERS))
        if isinstance(segment, SlotSegment):
            tokens = self._tokens(segment)
            return tokens.count if tokens is not None else 0
        elements = segment.most if segment.most is not None else max(segment.least, _ELEMENTS)
        elements = min(elements, segment.cut or elements, max(segment.least, _ELEMENTS))
        inner = sum(self.rows(s) for alternative in segment.alternatives for s in alternative)
        return 1 + elements * (1 + inner // max(1, len(segment.alternatives)))


def constraint_of_group(group: GroupSegment) -> str:
    """How many elements a group has, in words."""
    most = "any number of" if group.most is None else str(group.most)
    words = f"{group.least} elements" if group.least == group.most else f"{group.least} to {most} elements"
    if group.cut is not None:
        words += f", cut to {group.keep} {group.cut}"
    return words + (", in random order in training" if group.order == "random" else "")


def _codes_in_words(codec: CallValue, tokens: Tokens | None) -> str:
    """`16 positions of 2 codes each, of 64`, as far as it is known."""
    count = "" if tokens is None else f"{tokens.count} "
    book = f", of {codec.get('codes')}" if codec.get("codes") is not None else ""
    if codec.get("layers") == "flat":
        return f"{count}codes one after another{book}"
    depth = codec.get("depth")
    each = "" if depth is None else f" of {depth} code{'s' if depth != 1 else ''} each"
    return f"{count}positions{each}{book}"


def constraint_in_words(slot: SlotSegment, tokens: Tokens | None = None) -> str:
    """What a target slot may be, in words; `tokens` are its rows, if that is known."""
    if not slot.learned:
        return "given: the row must have it"
    words = "present or absent, then " if slot.optional else ""
    if slot.closed is not None:
        kind = {
            "column": "the training column, frozen in the run",
            "inline": "the line",
            "named": f"the card's set {slot.closed.name}",
            "file": slot.closed.name,
            "candidates": f"the row's column {slot.closed.name}",
        }[slot.closed.kind]
        many = f"one of {len(slot.closed.values)} values" if slot.closed.values else "one of the values"
        return f"{words}{many} of {kind}"
    codec = codec_of(slot)
    if codec is not None:
        return words + _codes_in_words(codec, tokens)
    options = dict(slot.options)
    if slot.named:
        columns = ", ".join(f"`{column}`" for column, _ in slot.named)
        return f"{words}what {', '.join(dict.fromkeys(said for _, said in slot.named))} allows by the row's {columns}"
    least, most = options.get("min_length"), options.get("max_length")
    bounds = f" of {least or 0} to {most} tokens" if most else f" of at least {least} tokens" if least else ""
    behind = ", behind what the row has" if slot.preprocess and _goes_on(slot) else ""
    return f"{words}any {slot.modality}{bounds}{behind}"


def _goes_on(slot: SlotSegment) -> bool:
    """Whether what is written goes on from what the row has, as its Preprocess says."""
    return bool(getattr(load_object(slot.preprocess, "preprocess"), "goes_on", False))


def in_words(options: Options) -> str:
    """Options as they would be written: `max_length=30, uncased`."""
    return ", ".join(key if value is True else f"{key}={_value(value)}" for key, value in options)


def _value(value: object) -> str:
    if isinstance(value, CallValue):
        inner = [_value(v) for v in value.positional] + [f"{k}={_value(v)}" for k, v in value.keyed]
        return f"{value.name}({', '.join(inner)})" if inner else value.name
    return f"({', '.join(map(_value, value))})" if isinstance(value, tuple) else str(value)
