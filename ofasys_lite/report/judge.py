"""How the targets of a line are judged: which column, what kind of value, and both sides brought to one form.

Derived from the plan and the kind that each slot's Preprocess says: texts, corners in pixels, a group with a box is a
detection. Media are judged as the data has them; those within a group are not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ofasys_lite.cards.types import MetricSpec, ModalityCard, TaskCard
from ofasys_lite.data.attributes import slot_class
from ofasys_lite.data.fields import MISSING, field, is_empty, missing
from ofasys_lite.data.groups import empty_target, group_key, records
from ofasys_lite.errors import CardError, OfasysError, did_you_mean
from ofasys_lite.generalist.prediction import Prediction
from ofasys_lite.metrics import (
    FORETELLERS,
    FORETELLING_METRICS,
    METRICS,
    MOTION_METRICS,
    PICTURE_METRICS,
    RANK_METRICS,
    SOUND_METRICS,
    VIDEO_METRICS,
    baseline_kind,
    direction,
)
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.segments import GroupSegment, Plan, SlotSegment, walk
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.linear import without_none
from ofasys_lite.report.foretellable import check_foretelling, may_be_foretold

#: Metric of a group; a slot's is its modality's.
_GROUP_METRICS = {kinds.DETECTION: "detection_f1", kinds.STRUCT: "struct_exact"}
_NO_BOXES = frozenset(kinds.KINDS) - {kinds.STRUCT}
#: Kinds of targets that a metric finds nothing in: it would be zero whatever the model says.
_BLIND = {
    "mean_iou": _NO_BOXES - {kinds.BOX},
    "iou_at_0.5": _NO_BOXES - {kinds.BOX},
    "detection_f1": _NO_BOXES - {kinds.DETECTION},
    **dict.fromkeys(PICTURE_METRICS, frozenset(kinds.KINDS) - {kinds.PICTURE}),
    **dict.fromkeys(SOUND_METRICS, frozenset(kinds.KINDS) - {kinds.SOUND}),
    **dict.fromkeys(MOTION_METRICS, frozenset(kinds.KINDS) - {kinds.NUMBERS}),
    **dict.fromkeys(VIDEO_METRICS, frozenset(kinds.KINDS) - {kinds.VIDEO}),
    **dict.fromkeys(RANK_METRICS, frozenset(kinds.KINDS) - {kinds.RANKING}),
}
_DEFAULT_BASELINES = {
    kinds.BOX: ("best_box",),
    kinds.DETECTION: ("constant_list", "greedy_list"),
    kinds.PICTURE: ("mean_image", "random_image", "common_image"),
    kinds.SOUND: ("random_target",),
    kinds.RANKING: ("most_popular",),
    kinds.VIDEO: ("mean_frames", "random_target"),
}
#: Metrics of the sides of `<->` where the card names none.
_RECALLS = ("recall_at_1", "recall_at_5", "recall_at_10")
#: Metrics that give credit in part, or for what an answer does: the commonest answer need not be the best constant.
_GRADED = frozenset({"bleu", "cer", "chrf", "per", "sql_execution", "token_accuracy", "wer"})
#: Metrics of those that a copy of the source can do well on.
_COPIED = frozenset({"bleu", "chrf", "token_accuracy"})


@dataclass(frozen=True, slots=True)
class Judge:
    """One metric of a task and the target it judges.

    Attributes:
        column: The target's name among a prediction's values.
        kind: Kind of the value (`preprocess.kinds`), as baselines know it.
    """

    metric: MetricSpec
    segment: SlotSegment | GroupSegment
    column: str
    kind: str
    higher: bool | None = None

    def reference(self, row: Mapping[str, Any], folder: str | None = None) -> Any:
        """What the data says; a picture as bytes, path or PIL image.

        Raises:
            DataError: The column is not there, or holds something else than the line asks for.
        """
        if isinstance(self.segment, GroupSegment):
            group = self.segment
            found = [_element(group, alternative, record) for alternative, record in records(group, row)]
            return [_object(group, record) for record in found] if self.kind == kinds.DETECTION else _bare(found)
        value = field(row, self.segment.column, self.segment.exact)
        if self.segment.optional and is_empty(value):
            return None
        if value is MISSING:
            raise missing(self.segment.column, row)
        if is_empty(value):
            raise empty_target(self.segment)
        return _read(self.segment, value, folder)

    def prediction(self, values: Mapping[str, Any]) -> Any:
        """What the model says, in the same form."""
        if not isinstance(self.segment, GroupSegment):
            value = values.get(self.column)
            return value if value is None else _read(self.segment, value)
        if self.segment.over is not None:
            found = list(values.get(self.segment.over) or [])
        else:
            names = [slot.column for slot in walk((self.segment,))]
            columns = [list(values.get(name) or []) for name in names]
            found = [dict(zip(names, parts, strict=True)) for parts in zip(*columns, strict=True)]
        if self.kind != kinds.DETECTION:
            media = {slot.column for slot in walk((self.segment,)) if slot.learned and not _judged(slot)}
            kept = [without_none(_without(each, media)) for each in found]
            return _bare(kept) if media else kept
        box = _box_of(self.segment)
        given = [each if isinstance(each, Mapping) else {box.column: each} for each in found]
        return [_object(self.segment, {**each, box.column: _box(box, each.get(box.column))}) for each in given]

    def answer(self, prediction: Prediction) -> Any:
        """The same of a prediction."""
        return self.prediction(prediction.values)


@dataclass(frozen=True, slots=True)
class ListJudge(Judge):
    """One metric of a list of names: those of `n_best`, the best first, or those of a group in their order."""

    def reference(self, row: Mapping[str, Any], folder: str | None = None) -> Any:
        """The right names."""
        found = Judge.reference(self, row, folder)
        return _names(found) if isinstance(self.segment, GroupSegment) else [] if found is None else [found]

    def answer(self, prediction: Prediction) -> Any:
        """The names, each once."""
        if isinstance(self.segment, GroupSegment):
            return list(dict.fromkeys(_names(self.prediction(prediction.values))))
        found = [self.prediction(each.values) for each in prediction.n_best or (prediction,)]
        return [name for name in dict.fromkeys(found) if name is not None]


@dataclass(frozen=True, slots=True)
class RankJudge(Judge):
    """One metric of a line with `<->`: how well one side finds the other among all rows; its values are rankings.

    Attributes:
        segment: The first slot of the side that is looked for.
        side: Number of that side.
    """

    side: int = 1

    def reference(self, row: Mapping[str, Any], folder: str | None = None) -> Any:
        """Nothing: which candidates are right is known of all rows together (`retrieval.py`)."""
        return None


def _rank_judges(plan: Plan, card: TaskCard) -> tuple[Judge, ...]:
    """Recall at 1, 5 and 10, first of the right side; or what the card says."""
    names, sides = plan.side_names(), plan.templates[0].read
    kinds_of = [{slot_class(slot).kind for slot in walk(side)} for side in sides]
    texts = all(found & kinds.TEXTS for found in kinds_of)
    baselines = ("chance", "tfidf") if texts else ("chance",)
    said = card.metrics or tuple(MetricSpec(name, names[side]) for side in (1, 0) for name in _RECALLS)
    found = []
    for metric in said:
        higher = direction(metric.name, metric.better)
        for name in (*metric.baselines, *metric.references):
            baseline_kind(name)
        if metric.name in METRICS and metric.name not in RANK_METRICS:
            raise CardError(
                f"task {card.name}: metric `{metric.name}` cannot judge what a side of `<->` finds",
                help=f"these can: {', '.join(RANK_METRICS)}; with `closed_set` on a side: accuracy",
            )
        column = metric.column or names[1]
        if column not in names:
            raise CardError(
                f"task {card.name}: metric `{metric.name}` judges `{column}`, which is no side of the line",
                help=did_you_mean(column, names, "sides"),
            )
        side = names.index(column)
        metric = replace(metric, baselines=metric.baselines or baselines)
        found.append(RankJudge(metric, walk(sides[side])[0], column, kinds.RANKING, higher, side))
    return tuple(found)


def judges(plan: Plan, card: TaskCard, modalities: Mapping[str, ModalityCard]) -> tuple[Judge, ...]:
    """A Judge per metric of the card, the headline first; without metrics, the default of every learned target.

    A line with `<->` has RankJudges; where a side takes one of a closed set, that slot is judged like a target.
    None for a line that has objectives of the encoder alone (`mlm`, `mae`): it has losses, and no answers.

    Raises:
        CardError: An unknown metric, baseline or column, a metric that does not say which of several targets, or a
            function of the user's of which nobody says whether more is better.
    """
    named = plan.named_slot()
    if plan.alignment is not None and named is None:
        return _rank_judges(plan, card)
    targets = _targets(plan) if named is None else {named[1].column: named[1]}
    if not targets and any(slot.losses for slot in plan.slots()):
        return ()
    if not targets:
        raise CardError(f"task {card.name} has no learned target to judge")
    if not card.metrics:
        return tuple(_default(plan, segment, modalities) for segment in targets.values())
    found = list[Judge]()
    for metric in card.metrics:
        higher = direction(metric.name, metric.better)
        for name in (*metric.baselines, *metric.references):
            baseline_kind(name)
        if metric.column and metric.column not in targets:
            raise CardError(
                f"task {card.name}: metric `{metric.name}` judges `{metric.column}`, which is no target",
                help=did_you_mean(metric.column, targets, "targets"),
            )
        if not metric.column and len(targets) > 1:
            raise CardError(
                f"task {card.name}: metric `{metric.name}` does not say which target it judges",
                help=f"write column: {' or '.join(targets)}",
            )
        column = metric.column or next(iter(targets))
        if metric.name in RANK_METRICS and _one_of_a_set(targets[column]):
            found.append(_list_judge(plan, card, metric, targets[column], column))
            continue
        kind = _kind(targets[column])
        # built-in metrics compare texts or numbers; the user's own may look at pictures and sounds
        of_media = (*PICTURE_METRICS, *SOUND_METRICS, *MOTION_METRICS, *VIDEO_METRICS)
        blind = kind in kinds.MEDIA and metric.name in METRICS and metric.name not in of_media
        if blind or kind in _BLIND.get(metric.name, ()):
            raise CardError(
                f"task {card.name}: metric `{metric.name}` cannot judge `{column}`, which is {kind}",
                help=f"its modality's own is {_default(plan, targets[column], modalities).metric.name}",
            )
        if not metric.baselines:
            metric = replace(metric, baselines=_baselines(plan, kind, metric.name))
        check_foretelling(card, metric, targets[column], kind)
        found.append(Judge(metric, targets[column], column, kind, higher))
    return tuple(found)


def _one_of_a_set(segment: SlotSegment | GroupSegment) -> bool:
    """Whether a target is one name of a closed set, or a list of such."""
    slots = [slot for slot in walk((segment,)) if slot.learned]
    return len(slots) == 1 and slots[0].closed is not None


def _list_judge(
    plan: Plan, card: TaskCard, metric: MetricSpec, segment: SlotSegment | GroupSegment, column: str
) -> ListJudge:
    most = RANK_METRICS[metric.name]
    best = int(str({**plan.decoding(), **card.decoding}.get("n_best", 1)))
    if isinstance(segment, SlotSegment) and best < most:
        raise CardError(
            f"task {card.name}: metric `{metric.name}` looks at {most} names of `{column}`, and {best} "
            f"{'is' if best == 1 else 'are'} written",
            help=f"write decoding: {{beam: {most}, n_best: {most}}}",
        )
    metric = replace(metric, baselines=metric.baselines or _DEFAULT_BASELINES[kinds.RANKING])
    return ListJudge(metric, segment, column, kinds.RANKING)


def _names(found: Sequence[Any]) -> list[str]:
    """Elements of a group with one column as the names that they hold."""
    values = (next(iter(each.values()), None) if isinstance(each, Mapping) else each for each in found)
    return [str(value) for value in values if value is not None]


def wrong_judges(cards: Sequence[TaskCard], modalities: Mapping[str, ModalityCard]) -> list[OfasysError]:
    """What would stop the tasks' evaluation: unknown metrics and baselines, metrics that cannot judge their target.

    Lines that cannot be planned or trained are told elsewhere.
    """
    errors = list[OfasysError]()
    for card in cards:
        try:
            plan = build_plan(card, modalities)
        except OfasysError:
            continue
        try:
            if not plan.cannot_train:
                judges(plan, card, modalities)
        except OfasysError as error:
            named = error.message if error.message.startswith("task ") else f"task {card.name}: {error.message}"
            errors.append(type(error)(named, code=error.code, place=error.place, help=error.help))
    return errors


def _targets(plan: Plan) -> dict[str, SlotSegment | GroupSegment]:
    """Learned slots and groups right of the arrow, by column."""
    found: dict[str, SlotSegment | GroupSegment] = {}
    for side in plan.templates[0].written:
        for segment in side:
            if isinstance(segment, SlotSegment) and segment.learned:
                found[segment.column] = segment
            elif isinstance(segment, GroupSegment) and any(slot.learned for slot in walk((segment,))):
                found[group_key(segment)] = segment
    return found


def _without(value: Any, columns: Set[str]) -> Any:
    return {k: v for k, v in value.items() if k not in columns} if isinstance(value, Mapping) and columns else value


def _judged(slot: SlotSegment) -> bool:
    """Whether the slot of a group counts: pictures and sounds of elements do not."""
    return slot.learned and slot_class(slot).kind not in kinds.MEDIA


def _kind(segment: SlotSegment | GroupSegment) -> str:
    if isinstance(segment, SlotSegment):
        return slot_class(segment).kind
    boxes = [slot for slot in walk((segment,)) if slot_class(slot).kind == kinds.BOX]
    return kinds.DETECTION if len(segment.alternatives) == 1 and len(boxes) == 1 else kinds.STRUCT


def _box_of(group: GroupSegment) -> SlotSegment:
    """The slot of a detection's boxes."""
    return next(slot for slot in walk((group,)) if slot_class(slot).kind == kinds.BOX)


def _default(plan: Plan, segment: SlotSegment | GroupSegment, modalities: Mapping[str, ModalityCard]) -> Judge:
    kind = _kind(segment)
    if isinstance(segment, GroupSegment):
        name, column = _GROUP_METRICS[kind], group_key(segment)
    else:
        # a text that is one of a set is right or wrong; a free one is more or less right
        name = "accuracy" if segment.closed is not None else modalities[segment.modality].metric or "exact_match"
        if (
            may_be_foretold(segment, kind)
            and not slot_class(segment).goes_on
            and not any(map(walk, plan.templates[0].read))
        ):
            name = FORETELLING_METRICS[0]  # nothing is read that an answer could depend on
        column = segment.column
    baselines = _baselines(plan, kind, name)
    return Judge(MetricSpec(name, column, baselines), segment, column, kind, direction(name))


def _baselines(plan: Plan, kind: str, metric: str) -> tuple[str, ...]:
    """The trivial baselines of a metric for which the card names none."""
    if metric in MOTION_METRICS:
        return ("mean_clip", "random_target")
    if metric in FORETELLING_METRICS:
        return FORETELLERS[:2]
    if kind in _DEFAULT_BASELINES:
        return _DEFAULT_BASELINES[kind]
    named = plan.named_slot()
    slots = walk(plan.templates[0].read[0 if named is None else 1 - named[0]])
    texts = any(slot_class(slot).kind == kinds.TEXT for slot in slots)
    found = ("majority", *(("best_constant",) if metric in _GRADED else ()))
    if metric in _COPIED and texts:
        return (*found, "copy")
    blind = kind in kinds.TEXTS and texts and len({slot.modality for slot in slots}) > 1
    return (*found, "question_only") if blind else found


def _read(slot: SlotSegment, value: Any, folder: str | None = None) -> Any:
    """The value of a slot in the form metrics compare: what its preprocess would not tell apart is made equal."""
    # the values of a closed set are written as they are
    return slot_class(slot).read(value, () if slot.closed is not None else slot.options, folder)


def _box(slot: SlotSegment, value: Any) -> Any:
    """A box of a detection, None where the model left an optional one out."""
    return None if value is None else _read(slot, value)


def _element(group: GroupSegment, alternative: int, record: Any) -> dict[str, Any]:
    """The record of one element with the columns that the line names."""
    found: dict[str, Any] = {}
    for slot in walk(group.alternatives[alternative]):
        value = field(record, slot.column, slot.exact)
        if value is MISSING or value is None:
            if not slot.optional:
                raise missing(slot.column, record)
            continue
        if slot.learned and is_empty(value):
            if not slot.optional:
                raise empty_target(slot)
            continue
        if _judged(slot):
            found[slot.column] = _read(slot, value)
    if group.by is not None:
        found[group.by] = next(name for name, index in group.spellings if index == alternative)
    return found


def _bare(found: list[dict[str, Any]]) -> list[Any]:
    """Elements of an unnamed slot are plain values, not records."""
    bare = all(len(record) == 1 and next(iter(record)).isdigit() for record in found)
    return [next(iter(record.values())) for record in found] if bare else found


def _object(group: GroupSegment, record: Mapping[str, Any]) -> dict[str, Any]:
    """{box, label} of an element of a detection, whatever the line calls them."""
    box = _box_of(group)
    label = next((slot for slot in walk((group,)) if slot_class(slot).kind in kinds.TEXTS), None)
    return {"box": record.get(box.column), "label": "" if label is None else str(record.get(label.column, ""))}
