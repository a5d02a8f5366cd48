"""Metrics: functions of (predictions, references) -> value with interval, and the baselines they are held against."""

from ofasys_lite.metrics.baselines import FORETELLERS, baseline_kind, baseline_names, copied_column, fit_predict
from ofasys_lite.metrics.boxes import iou
from ofasys_lite.metrics.by_name import (
    FORETELLING_METRICS,
    METRICS,
    MOTION_METRICS,
    PICTURE_METRICS,
    RANK_METRICS,
    SOUND_METRICS,
    VIDEO_METRICS,
    direction,
    evaluate_metric,
    find_metric,
    item_scores,
    margin,
    metric_names,
)
from ofasys_lite.metrics.score import FEWEST_GROUPS, Margin, Score, Statistics, Training, TrainRows, normalised

__all__ = [
    "FEWEST_GROUPS",
    "FORETELLERS",
    "FORETELLING_METRICS",
    "METRICS",
    "MOTION_METRICS",
    "PICTURE_METRICS",
    "RANK_METRICS",
    "SOUND_METRICS",
    "VIDEO_METRICS",
    "Margin",
    "Score",
    "Statistics",
    "TrainRows",
    "Training",
    "baseline_kind",
    "baseline_names",
    "copied_column",
    "direction",
    "evaluate_metric",
    "find_metric",
    "fit_predict",
    "iou",
    "item_scores",
    "margin",
    "metric_names",
    "normalised",
]
