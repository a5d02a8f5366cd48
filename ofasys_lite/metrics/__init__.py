"""Metrics: functions of (predictions, references) -> value with interval, and the baselines they are held against."""

from ofasys_lite.metrics.baselines import baseline_kind, baseline_names, fit_predict
from ofasys_lite.metrics.boxes import iou
from ofasys_lite.metrics.evaluate import evaluate_metric, find_metric, margin, metric_names
from ofasys_lite.metrics.score import Margin, Score, Statistics, normalised

__all__ = [
    "Margin",
    "Score",
    "Statistics",
    "baseline_kind",
    "baseline_names",
    "evaluate_metric",
    "find_metric",
    "fit_predict",
    "iou",
    "margin",
    "metric_names",
    "normalised",
]
