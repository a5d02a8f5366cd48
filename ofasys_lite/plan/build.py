"""Tree + cards -> Plan, with every mistake of a line found at once, in the order syntax, types, attributes, sense."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.errors import raise_all
from ofasys_lite.instruction import parse, unparse
from ofasys_lite.instruction.syntax_tree import Group, Node, Sentence, Slot, Template, Words
from ofasys_lite.plan.alignment import aligned_by, check_aligned
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.decoding import check_card_decoding, check_ways
from ofasys_lite.plan.language import GROUP
from ofasys_lite.plan.segments import ClosedSet, GroupSegment, Plan, PlannedTemplate, Segment, WordsSegment, walk
from ofasys_lite.plan.sense import (
    check_augmented,
    check_drops,
    check_group,
    check_guided,
    check_masked,
    check_objectives,
    check_preference,
    check_targets,
    note_copied,
    note_near_group,
)
from ofasys_lite.plan.slot_segment import Builder, read_attributes
from ofasys_lite.plan.written_together import check_in_rounds

#: A slot without its brackets.
_BARE = re.compile(r"(?<![\[\w])([A-Z_]+):\w+(?!\])")


def build_plan(card: TaskCard, modalities: Mapping[str, ModalityCard]) -> Plan:
    """The plan of a task's line.

    Args:
        card: The task; only its line, sets, decoding, path and origin matter here.

    Raises:
        InstructionError: One mistake, or an ErrorGroup with all of them.
        CardError: The card's `decoding` cannot be, or not for this line.
    """
    tree = parse(card.instruction, types=frozenset(modalities), origin=card.origin)
    builder = Builder(card, modalities, align=any(template.align for template in tree.templates))
    templates = tuple(_template(builder, template) for template in tree.templates)
    _check_paraphrases(builder, tree.templates, templates)
    for template, node in zip(templates, tree.templates, strict=True):
        check_objectives(builder, template)
        check_augmented(builder, template)
        check_drops(builder, template)
        check_guided(builder, template)
        check_ways(builder, template)
        check_masked(builder, template)
        note_copied(builder, template)
        check_in_rounds(builder, template)
        check_targets(builder, template, node)
        check_aligned(builder, template)
        check_preference(builder, template, node)
        _check_sense(builder, template, node)
    alignment = aligned_by(builder, templates)
    raise_all(builder.errors)
    plan = Plan(
        task=card.name,
        line=unparse(tree),
        templates=templates,
        loss_on_words=card.loss_on_words,
        cannot_train=tuple(builder.later),
        notes=tuple(builder.notes),
        alignment=alignment,
    )
    check_card_decoding(card, plan)
    return plan


def freeze(plan: Plan, values: Mapping[str, tuple[str, ...]]) -> Plan:
    """The plan with its `column` closed sets frozen to `values` (by slot key); other sets stay as they are."""

    def frozen(segment: Segment) -> Segment:
        if isinstance(segment, GroupSegment):
            return replace(segment, alternatives=tuple(tuple(map(frozen, side)) for side in segment.alternatives))
        if isinstance(segment, WordsSegment) or segment.closed is None or segment.key not in values:
            return segment
        if segment.closed.kind != "column":
            return segment
        return replace(segment, closed=ClosedSet("column", values=values[segment.key]))

    templates = tuple(
        replace(t, source=tuple(map(frozen, t.source)), targets=tuple(tuple(map(frozen, side)) for side in t.targets))
        for t in plan.templates
    )
    return replace(plan, templates=templates)


def _template(builder: Builder, template: Template) -> PlannedTemplate:
    number = [0]
    source = _sentence(builder, template.source, number, target=False, prefix="")
    # both sides of `<->` are read
    targets = tuple(_sentence(builder, t, number, target=not template.align, prefix="") for t in template.targets)
    return PlannedTemplate(source, targets, template.align)


def _sentence(
    builder: Builder, sentence: Sentence, number: list[int], *, target: bool, prefix: str
) -> tuple[Segment, ...]:
    found: list[Segment] = []
    for node in sentence.nodes:
        segment = _node(builder, node, number, target=target, prefix=prefix)
        if segment is not None:
            found.append(segment)
    return tuple(found)


def _node(builder: Builder, node: Node, number: list[int], *, target: bool, prefix: str) -> Segment | None:
    if isinstance(node, Words):
        note_near_group(builder, node.text, target)
        return WordsSegment(node.text, node.span)
    if isinstance(node, Slot):
        place = number[0]
        number[0] += 1
        return builder.slot(node, place, target, prefix)
    return _group(builder, node, number, target=target, prefix=prefix)


def _group(builder: Builder, group: Group, number: list[int], *, target: bool, prefix: str) -> GroupSegment:
    quantifier = group.quantifier
    specs = {spec.key: spec for spec in GROUP}
    values = read_attributes(builder, quantifier.attributes, specs, "a group", target)
    over = values.get("over")
    name = None if over is None else str(over)
    inner = f"{prefix}{name}." if name is not None else prefix
    alternatives = tuple(_sentence(builder, a, number, target=target, prefix=inner) for a in group.alternatives)
    by, spellings = _by(builder, group, alternatives, values.get("by"))
    cut = values.get("max")
    found = GroupSegment(
        alternatives=alternatives,
        over=name,
        by=by,
        spellings=spellings,
        least=quantifier.least,
        most=quantifier.most,
        cut=cut if isinstance(cut, int) else None,
        keep=str(values.get("keep", "first")),
        order=str(values.get("order", "given")),
        span=group.span,
        over_span=next((a.span for a in quantifier.attributes if a.key == "over"), group.span),
    )
    check_group(builder, group, found, values)
    return found


def _by(
    builder: Builder, group: Group, alternatives: tuple[tuple[Segment, ...], ...], value: object
) -> tuple[str | None, tuple[tuple[str, int], ...]]:
    if value is None:
        if len(group.alternatives) > 1:
            help = "write <over=column,by=field>: the record's field names the alternative"
            builder.error("E204", "alternatives without `by=` cannot be told apart", group.span, help)
        return None, ()
    attribute = next(a for a in group.quantifier.attributes if a.key == "by")
    if len(group.alternatives) > 8:
        builder.error("E204", f"a group with {len(group.alternatives)} alternatives", group.span, "it has at most 8")
    if not isinstance(value, (str, CallValue)) or (isinstance(value, CallValue) and value.positional):
        builder.error("E106", "`by` takes a field, with or without spellings", attribute.span, "by=type(image_url=1)")
        return None, ()
    call = value if isinstance(value, CallValue) else CallValue(value)
    given: dict[str, int] = {}
    for key, place in call.keyed:
        if not isinstance(place, int) or not 1 <= place <= len(group.alternatives):
            help = f"write {call.name}(value=1): alternatives are numbered from 1 to {len(group.alternatives)}"
            builder.error("E204", f"`{key}` names no alternative", attribute.span, help)
        else:
            given[key.lower()] = place - 1
    table = {**given, **{n: i for n, i in _names(alternatives).items() if n not in given}}
    nameless = [i for i in range(len(alternatives)) if i not in table.values()]
    if nameless and len(given) == len(call.keyed):
        help = f"give each a spelling of its own: by={call.name}({', '.join(f'name{i + 1}={i + 1}' for i in nameless)})"
        builder.error("E204", f"no name tells alternative {nameless[0] + 1} from the others", attribute.span, help)
    return call.name, tuple(table.items())


def _names(alternatives: tuple[tuple[Segment, ...], ...]) -> dict[str, int]:
    """Alternative by the modality and by the column of its first slot, in lower case; a name of two tells nothing."""
    found: dict[str, set[int]] = {}
    for index, alternative in enumerate(alternatives):
        slots = walk(alternative)
        for name in (slots[0].modality, slots[0].column) if slots else ():
            found.setdefault(name.lower(), set()).add(index)
    return {name: next(iter(places)) for name, places in found.items() if len(places) == 1}


def _signature(sentence: Sentence) -> tuple[object, ...]:
    return tuple(n for n in sentence.nodes if not isinstance(n, Words))


def _columns(template: PlannedTemplate) -> set[str]:
    return {s.key for side in (template.source, *template.targets) for s in walk(side)}


def _check_paraphrases(builder: Builder, nodes: tuple[Template, ...], templates: tuple[PlannedTemplate, ...]) -> None:
    first = tuple(_signature(t) for t in nodes[0].targets)
    columns = _columns(templates[0])
    for node, template in zip(nodes[1:], templates[1:], strict=True):
        if node.align != nodes[0].align or tuple(_signature(t) for t in node.targets) != first:
            help = "paraphrases of one task have the same slots right of the arrow; another target is another task"
            builder.error("E202", "this paraphrase has other targets than the first", node.span, help)
            continue
        extra = sorted(_columns(template) - columns)
        if extra:
            help = f"the first template has {', '.join(sorted(columns))}"
            builder.error("E203", f"this paraphrase reads `{extra[0]}`, the first does not", node.span, help)


def _check_sense(builder: Builder, template: PlannedTemplate, node: Template) -> None:
    sources = walk(template.source)
    targets = tuple(s for side in template.targets for s in walk(side))
    learned = any(s.learned for s in targets) or any(s.losses for s in sources)
    if not learned and not template.align and not builder.errors:
        help = "put a slot without `no_loss` right of the arrow, or give a source slot an objective (loss=...)"
        bare = _BARE.search(builder.card.instruction[node.span.start : node.span.end])
        if bare is not None and bare[1] in builder.modalities:
            help = f"did you mean `[{bare[0]}]` for `{bare[0]}`? {help}"
        builder.error("E201", "nothing would be learned from this line", node.span, help)
