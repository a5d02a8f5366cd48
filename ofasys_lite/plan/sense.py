"""Whether what a line says makes sense: attributes that contradict each other, groups and targets that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ofasys_lite.cards.classes import load_object
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.instruction.syntax_tree import Group, Slot, Span, Template
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.decoding import wrong_negative
from ofasys_lite.plan.language import RENAMED
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import (
    GroupSegment,
    PlannedTemplate,
    Segment,
    SlotSegment,
    WordsSegment,
    option,
    walk,
    written_together,
)

#: Attributes that say how a slot is learned or decoded; a slot with `no_loss` is neither.
_LEARNING = ("weight", "loss", "closed_set", "decode", "codec", "grammar")
#: Attributes of free text, which a closed set has not.
_FREE = ("grammar", "max_length", "min_length", "noise_ratio", "no_punctuation", "spelled", "uncased")
_CLOSED_HELP = "write closed_set (the values of the training column), closed_set=(a,b) or the name of a set of the card"
#: Beginnings of attributes by which a source slot does not show all of its value.
_HIDING = ("mask", "noise")
#: Attributes that decide how a text is cut into tokens.
_READING = ("max_length", "no_punctuation", "spelled", "uncased")
#: What others write for a repetition: `)+`, `) *`, `) {2}`, attributes of a group; right of the arrow `)?` too.
_NEAR_GROUP = re.compile(r"^\s*[)\]]\s*(\+|\*|\{\s*\d)|<\s*(over|by|max|keep|order)\s*=")
_NEAR_OPTION = re.compile(r"^\s*[)\]]\s*\?")


def check_slot(
    planning: Planning,
    slot: Slot,
    values: Mapping[str, object],
    *,
    learned: bool,
    target: bool,
    modality: ModalityCard,
) -> None:
    """Notes what contradicts itself in the typed attributes of one slot (E204, E206, E207)."""
    if target and not learned:
        for key in (k for k in _LEARNING if k in values):
            help = "leave one of them out: a slot with `no_loss` is read, not learned, and given in decoding"
            planning.error("E207", f"`{key}` means nothing beside `no_loss`", _span(slot, key), help)
    least, most = values.get("min_length"), values.get("max_length")
    if isinstance(least, (int, float)) and isinstance(most, (int, float)) and least > most:
        message = f"`min_length={least}` is above `max_length={most}`"
        planning.error("E207", message, _span(slot, "min_length"), "nothing is that long")
    for spec in (a for a in modality.attributes if a.required and a.key not in values):
        if target and learned and slot.rejected is None:
            help = _CLOSED_HELP if spec.key == "closed_set" else f"write {spec.key}: {spec.help}"
            what = f"a {modality.name} that is written needs a {spec.key.replace('_', ' ')}"
            planning.error("E206", what, slot.span, help)
    if "mask_style" in values and "mask_ratio" not in values:
        help = "say how much is masked: mask_ratio=0.3, or leave `mask_style` out"
        planning.error("E207", "`mask_style` means nothing without `mask_ratio`", _span(slot, "mask_style"), help)
    for key in (k for k in _FREE if "closed_set" in values and k in values):
        planning.note(f"`{key}` does nothing beside `closed_set`: the values of the set are written as they are")
    if learned and "codec" in values and "length" in values:
        planning.note("`length` does nothing: an image has as many codes as the grid of its codec")
    codec, size = values.get("codec"), values.get("size")
    factor = codec.get("factor") if isinstance(codec, CallValue) else None
    if learned and isinstance(size, int) and isinstance(factor, int) and factor > 0 and size % factor:
        help = f"write size={max(1, round(size / factor)) * factor}"
        planning.error("E207", f"`size={size}` is not divisible by `factor={factor}`", _span(slot, "size"), help)
    elif learned and isinstance(codec, CallValue) and isinstance(size, int) and size % 2:
        help = f"positions are 2, 4, ... 64 pixels wide (`factor`): write size={max(4, round(size / 4) * 4)}"
        planning.error("E207", f"no codec has `size={size}`", _span(slot, "size"), help)
    if isinstance(codec, CallValue):
        _check_rounds(planning, slot, codec, values.get("decode"))


def _check_rounds(planning: Planning, slot: Slot, codec: CallValue, decode: object) -> None:
    """Notes an order of what has none, judges that nobody asks, and candidates that nobody judges (E207)."""
    rounds = decode if isinstance(decode, CallValue) and written_together((("decode", decode),)) else None
    judges = codec.get("judges") is not None
    if rounds is not None and codec.get("order") == "random":
        help = "leave `order` and `anneal` out, or write from left to right"
        planning.error(
            "E207", "`order=random` means nothing where positions are written in rounds", _span(slot, "codec"), help
        )
    if judges and rounds is None:
        help = "write decode=mask_predict(steps=8,candidates=4), or leave `judges` out"
        planning.error("E207", "`judges` judge pictures that are written in rounds", _span(slot, "codec"), help)
    for key in ("candidates", "patience"):
        if rounds is not None and rounds.get(key) is not None and not judges:
            help = f"write codec={codec.name}(...,judges=0.1), or leave `{key}` out"
            planning.error("E207", f"`{key}` asks judges, and the codec has none", _span(slot, "decode"), help)


def _span(slot: Slot, key: str) -> Span:
    return next((a.span for a in slot.attributes if RENAMED.get(a.key, (a.key,))[0] == key), slot.span)


def check_group(planning: Planning, group: Group, segment: GroupSegment, given: Mapping[str, object]) -> None:
    """Notes a group that cannot be filled, and attributes of it that do nothing (E205, E207)."""
    span = group.quantifier.span
    if segment.over is None:
        for inner in (s for alternative in segment.alternatives for s in alternative):
            if isinstance(inner, GroupSegment) and inner.over is None:
                help = "name the list column of each group"
                planning.error("E205", "a group in a group needs `over=`", group.span, help)
        if not walk((segment,)):
            planning.error(
                "E205", "nothing says how often this group is repeated", group.span, "name a list: over=column"
            )
    if segment.cut is not None and segment.cut < segment.least:
        help = f"a row keeps the promise only with {segment.least} elements or more"
        planning.error("E207", f"`max={segment.cut}` is below the {segment.least} elements promised", span, help)
    if "keep" in given and segment.cut is None:
        help = "say how many are kept: max=50, or leave `keep` out"
        planning.error("E207", "`keep` means nothing without `max`", span, help)


def check_objectives(planning: Planning, template: PlannedTemplate) -> None:
    """Notes CTC labels that are not token ids: `loss=ctc(img)` (E111)."""
    slots = [s for side in (template.source, *template.targets) for s in walk(side)]
    for slot in slots:
        for loss in slot.losses:
            column = dict(loss.options).get("column") if loss.name == "ctc" else None
            reader = next((s for s in slots if s is not slot and s.column == column), None)
            if column == slot.column:
                planning.error(
                    "E111", f"`ctc({column})` aligns the slot with itself", slot.span, "name a column of text"
                )
            elif reader is not None and not reader.tokens:
                help = "ctc takes a column that is read as TEXT, PHONE or CATEGORY"
                message = f"ctc needs labels, and `{column}` is read as {reader.modality} in this line"
                planning.error("E111", message, slot.span, help)


def check_augmented(planning: Planning, template: PlannedTemplate) -> None:
    """Notes images whose pixels are moved in training beside boxes, which would stay where they are (E207)."""
    slots = [s for side in (template.source, *template.targets) for s in walk(side)]
    moved = [s for s in slots if dict(s.options).get("augment") not in (None, "none")]
    if moved and any(map(_framed, slots)):
        help = "leave `augment` out of lines with BOX"
        planning.error("E207", "`augment` cuts the image, and the boxes would not follow", moved[0].span, help)


def _framed(slot: SlotSegment) -> bool:
    """Whether its values are places in the row's picture, as its Preprocess says."""
    return bool(slot.preprocess) and bool(getattr(load_object(slot.preprocess, "preprocess"), "framed", False))


def check_drops(planning: Planning, template: PlannedTemplate) -> None:
    """Notes `drop` slots with different probabilities, since all of a line are emptied together (E207)."""
    slots = [s for s in walk(template.source) if s.drop > 0]
    for slot in (s for s in slots if s.drop != slots[0].drop):
        help = "give them one probability: all `drop` slots of a line are emptied together"
        message = f"`drop={slot.drop:g}` beside `drop={slots[0].drop:g}`"
        planning.error("E207", message, slot.span, help)


def check_guided(planning: Planning, template: PlannedTemplate) -> None:
    """Notes guidance without a source slot that training empties (E207)."""
    dropped = any(s.drop > 0 for s in walk(template.source))
    for slot in (s for side in template.targets for s in walk(side)):
        decode = dict(slot.options).get("decode")
        if not isinstance(decode, CallValue):
            continue
        if dropped and (wrong := wrong_negative(template, decode.options())) is not None:
            planning.error("E207", f"decode: {wrong[0]}", slot.span, wrong[1])
        elif not dropped and decode.get("cfg", 1) != 1:
            help = "write drop=0.1 in the source slots that guide: `[TEXT:caption,drop=0.1]`; or leave `cfg` out"
            message = "`cfg` compares with a source that is emptied, and training empties none"
            planning.error("E207", message, slot.span, help)


def check_masked(planning: Planning, template: PlannedTemplate) -> None:
    """Notes what `mask_style=mass` does to the target of the same column, and where it cannot (E207)."""
    sources = (s for s in template.source if isinstance(s, SlotSegment))
    masked = {
        s.column: s for s in sources if option(s.options, "mask_style") == "mass" and option(s.options, "mask_ratio")
    }
    for slot in (s for side in template.written for s in side if isinstance(s, SlotSegment) and s.learned):
        source = masked.get(slot.column)
        if source is None or slot.closed is not None:
            continue
        one, two = dict(source.options), dict(slot.options)
        if source.preprocess != slot.preprocess or any(one.get(key) != two.get(key) for key in _READING):
            help = f"give both slots the same {', '.join(_READING)}"
            message = f"`mask_style=mass` hides a span of `{slot.column}`, which the target reads in another way"
            planning.error("E207", message, slot.span, help)
        else:
            planning.note(f"`mask_style=mass`: of `{slot.column}` only the hidden span is learned (arXiv 1905.02450)")


def note_copied(planning: Planning, template: PlannedTemplate) -> None:
    """Notes a target that stands in the source as it is: the model learns to copy, and nothing of the data."""
    plain = [
        s
        for s in walk(template.source)
        if not (s.drop or s.losses or any(key.startswith(_HIDING) for key, value in s.options if value))
    ]
    for slot in (s for side in template.written for s in walk(side) if s.learned):
        if any(_shows(source, slot) for source in plain):
            planning.note(f"`{slot.column}` is read and written: the answer stands in the source, and is copied")


def _shows(source: SlotSegment, target: SlotSegment) -> bool:
    """Whether a source holds what a target writes: another case is another text, a smaller size shows less."""
    read, written = dict(source.options), dict(target.options)
    same = (source.modality, source.key) == (target.modality, target.key)
    alike = all(bool(read.get(key)) == bool(written.get(key)) for key in ("uncased", "no_punctuation"))
    return same and alike and all(written.get(key) == value for key, value in read.items() if value)


def check_targets(planning: Planning, template: PlannedTemplate, node: Template) -> None:
    """Notes targets that cannot be told apart in the output, or not be written from one encoding (E205, E208)."""
    for number, side in enumerate(template.written):
        names = [s.over or "" for s in side if isinstance(s, GroupSegment)]
        names = [n for n in names if n]
        slots = {s.key for s in side if isinstance(s, SlotSegment)}
        for name in dict.fromkeys(n for n in names if names.count(n) > 1 or n in slots):
            help = "put what belongs to one record into one group"
            planning.error("E205", f"`{name}` is written twice in one target", node.targets[number].span, help)
    codecs = [s for side in template.written for s in _slots(side) if s.learned and dict(s.options).get("codec")]
    for slot in (s for s in codecs if dict(s.options)["codec"] != dict(codecs[0].options)["codec"]):
        help = "give all of them the same `codec`, or make two tasks of the line"
        planning.error("E207", "one line is written with one codec", slot.span, help)
    for side, sentence in zip(template.written, () if template.align else node.targets, strict=True):
        apart = [s for s in _slots(side) if _in_one_go(planning, s)]
        if apart and len(side) > 1:
            what, other = _apart(planning, apart[0])
            help = f"leave the slot alone right of `->`, or put it behind `;;`{other}"
            planning.error("E208", f"what is written {what} stands beside something else", sentence.span, help)
        for slot in (s for s in apart if s.optional):
            what, other = _apart(planning, slot)
            planning.error("E208", f"what is written {what} is always there", slot.span, f"leave `?` out{other}")
    ways = {_in_one_go(planning, s) for side in template.written for s in _slots(side) if s.learned}
    if len(ways) > 1:
        help = "make two tasks of it: all targets of one encoding are written from left to right, or none is"
        planning.error("E208", "one target is written in order, another one in one go", node.span, help)


def check_preference(planning: Planning, template: PlannedTemplate, node: Template) -> None:
    """Notes a preference pair that is not the only thing its line writes, or is written in one go (E208)."""
    pairs = [s for side in template.targets for s in walk(side) if s.rejected is not None]
    if not pairs:
        return
    written = [s for side in template.targets for s in walk(side) if s.learned]
    groups = any(isinstance(s, GroupSegment) for side in template.targets for s in side)
    if len(template.targets) > 1 or len(written) > 1 or groups:
        help = "make another task of what else is written; words and `no_loss` slots may stand beside it"
        planning.error("E208", "a preference pair is all that its line writes", node.span, help)
    elif _in_one_go(planning, pairs[0]):
        help = "write it from left to right: leave `decode=mask_predict` out"
        planning.error("E208", "a preference pair is written from left to right", node.span, help)


def _in_one_go(planning: Planning, slot: SlotSegment) -> bool:
    """True for what is not written from left to right: diffusion, mask-predict, what a card says of its objective."""
    own = planning.modalities[slot.modality].objectives
    return written_together(slot.options) or any(loss.name in own and own[loss.name].together for loss in slot.losses)


def _apart(planning: Planning, slot: SlotSegment) -> tuple[str, str]:
    """How a slot that stands alone is written, in words; what else there is to do about it."""
    own = planning.modalities[slot.modality].objectives
    if any(loss.name in own and not own[loss.name].together for loss in slot.losses):
        return "by a writer of its own", ""
    return "in one go", ", or write it from left to right"


def _slots(segments: tuple[Segment, ...]) -> Iterator[SlotSegment]:
    yield from walk(tuple(s for s in segments if not isinstance(s, WordsSegment)))


def note_near_group(planning: Planning, words: str, target: bool) -> None:
    """Notes words that look like the repetition of a group and are none (only `*` and `{m,n}` repeat)."""
    found = _NEAR_GROUP.search(words) or (_NEAR_OPTION.search(words) if target else None)
    if found is not None:
        help = "a group is ( ... )* or ( ... ){1,9}, the mark at once after the parenthesis, then <over=column,...>"
        planning.note(f"`{words.strip()}` is read as words: {help}")
