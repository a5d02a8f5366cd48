"""Which texts may be judged by what a model pays for them, and beside which baselines."""

from __future__ import annotations

from ofasys_lite.cards.types import MetricSpec, TaskCard
from ofasys_lite.errors import CardError
from ofasys_lite.metrics import FORETELLERS, FORETELLING_METRICS
from ofasys_lite.plan.segments import GroupSegment, SlotSegment
from ofasys_lite.preprocess import kinds


def may_be_foretold(segment: SlotSegment | GroupSegment, kind: str) -> bool:
    """Whether a target is free text whose tokens are learned one by one."""
    if isinstance(segment, GroupSegment) or segment.closed is not None or kind != kinds.TEXT:
        return False
    return bool(segment.tokens and [loss.name for loss in segment.losses] == ["cross_entropy"])


def check_foretelling(card: TaskCard, metric: MetricSpec, segment: SlotSegment | GroupSegment, kind: str) -> None:
    """Raises CardError where a text cannot be foretold, or is held against what answers instead of foretelling."""
    foretells = metric.name in FORETELLING_METRICS
    if foretells and not may_be_foretold(segment, kind):
        message = f"task {card.name}: metric `{metric.name}` judges free text that is learned token by token"
        raise CardError(message, help="accuracy judges a closed set; texts in groups have struct_exact")
    for name in (*metric.baselines, *metric.references):
        if (name in FORETELLERS) != foretells and "." not in name:
            known = FORETELLERS if foretells else ("majority", "best_constant", "nearest_tfidf")
            does = "foretells texts" if name in FORETELLERS else "answers, and foretells nothing"
            message = f"task {card.name}: baseline `{name}` {does}, and `{metric.name}` judges the other"
            raise CardError(message, help=f"beside it stand {', '.join(known)}")
