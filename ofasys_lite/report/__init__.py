"""Reports: tables, plots and one self-contained HTML page per run."""

from ofasys_lite.report.html import render_report, write_report
from ofasys_lite.report.predictions import load_predictions, rescored, save_predictions
from ofasys_lite.report.results import Baseline, RefusedRow, RunResults, Sample, SampleInput, TaskResult
from ofasys_lite.report.sample_sheet import sample_sheet, save_pictures
from ofasys_lite.report.saved import load_results, save_results
from ofasys_lite.report.table import metrics_json, print_table

__all__ = [
    "Baseline",
    "RefusedRow",
    "RunResults",
    "Sample",
    "SampleInput",
    "TaskResult",
    "load_predictions",
    "load_results",
    "metrics_json",
    "print_table",
    "render_report",
    "rescored",
    "sample_sheet",
    "save_pictures",
    "save_predictions",
    "save_results",
    "write_report",
]
