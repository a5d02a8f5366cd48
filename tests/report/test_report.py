import html
import io
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image
from rich.console import Console

from ofasys_lite.errors import OfasysError
from ofasys_lite.metrics import Margin, Score
from ofasys_lite.plan.narrow import folded
from ofasys_lite.report import (
    Baseline,
    RunResults,
    Sample,
    SampleInput,
    TaskResult,
    metrics_json,
    print_table,
    render_report,
    sample_sheet,
    write_report,
)
from ofasys_lite.report.charts import _legend_columns
from ofasys_lite.report.sample_pictures import PREDICTED, REFERENCE, picture

VOID = {"meta", "img", "br", "source", "input", "hr", "link"}


class Balance(HTMLParser):
    """Counts open elements and gathers every address the page names."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.wrong = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def page(run):
    return render_report(run)


def test_the_report_is_one_well_formed_file_that_asks_for_nothing_outside_itself(page):
    balance = Balance()
    balance.feed(page)
    assert (balance.open, balance.wrong) == ([], [])
    assert all(address.startswith(("data:", "#")) for address in balance.addresses)
    assert not re.search(r"url\(|@import|<script", page)


def test_the_report_names_every_task_with_its_score_baselines_and_margin(page, run):
    for task in run.tasks:
        assert f">{task.task}<" in page
        assert f"{task.metric.value:.{1 if task.metric.unit == 'points' else 3}f}" in page
        for baseline in task.baselines:
            assert baseline.name in page
    assert f"{run.clear} of {len(run.tasks)} tasks clear" in page
    assert 0 < run.clear < len(run.tasks)
    assert "cannot read image: file is truncated" in page


def test_the_arrow_of_a_line_is_never_broken_and_copies_as_it_is(page, run):
    assert page.count("<span>-&gt;</span>") == 2 * sum(task.instruction.count("->") for task in run.tasks)
    shown = html.unescape(re.sub(r"<[^>]*>", "", page))
    assert [task.task for task in run.tasks if task.instruction not in shown] == []


def test_the_report_says_how_its_table_is_read(page):
    assert "The margin is the model minus" in page


def test_long_names_of_slots_take_more_rows_of_the_legend():
    assert _legend_columns(["next", "box", "text"]) == 3
    assert _legend_columns(["objects:next", "objects.box", "objects.label"]) == 2
    assert _legend_columns(["a_very_long_name_of_a_column_of_the_data", "b"]) == 1


def test_text_from_data_cannot_become_markup(page):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_charts_come_in_a_light_and_a_dark_version(page, run):
    # one for the scores, the mixture and the speed, and one for each task
    assert page.count("(prefers-color-scheme: dark)") == 1 + 3 + len(run.tasks)


def test_sounds_can_be_played_and_seen(page):
    assert page.count("<audio controls") == 1
    assert "data:audio/wav;base64," in page
    assert "spectrogram of AUDIO:wav" in page


def test_an_empty_run_and_a_bare_task_still_give_a_report(tmp_path):
    assert "0 of 0 tasks" in write_report(RunResults("empty", {}, ()), tmp_path / "deep" / "r.html").read_text("utf-8")
    bare = TaskResult("t", "[TEXT:a] -> [TEXT:b]", Score("accuracy", 0.5, math.nan, math.nan, 1, 1))
    odd = Sample([SampleInput("img", "IMAGE", b"\x89PNG broken"), SampleInput("a", "TEXT", None)], None, "x")
    page = render_report(RunResults("bare", {}, (TaskResult("u", "", bare.metric, samples=(odd,)), bare)))
    assert "bytes that cannot be shown" in page


def test_a_report_replaces_the_old_one_in_one_go(tmp_path, monkeypatch):
    path = write_report(RunResults("first", {}, ()), tmp_path / "report.html")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(RunResults("second", {}, ()), path)
    assert "first" in path.read_text("utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_without_the_extra_the_report_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(OfasysError, match=r"pip install 'ofasys_lite\[report\]'"):
        render_report(RunResults("r", {}, ()))


def test_boxes_are_drawn_in_two_colours_at_their_places():
    image = picture(Image.new("RGB", (50, 40), "white"), [((10, 10, 20, 20), "")], [((30, 10, 44, 30), "7")])
    assert image.size == (400, 320)
    colours = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in (PREDICTED, REFERENCE)]
    assert image.getpixel((120, 83)) == colours[0]
    assert image.getpixel((353, 160)) == colours[1]


def test_a_box_of_negative_size_after_shrinking_does_not_stop_the_picture():
    assert picture(Image.new("RGB", (4000, 3000)), [((1, 1, 2, 2), "tiny")]).size == (448, 336)


def test_the_strongest_baseline_of_an_error_rate_is_the_lowest():
    def rate(value):
        return Score("wer", value, value, value, 9, 9, "errors per word", higher_is_better=False)

    task = TaskResult("asr", "", rate(0.1), (Baseline("a", "trivial", rate(0.9)), Baseline("b", "trivial", rate(0.7))))
    assert task.strongest().name == "b"
    assert task.strongest("reference") is None


def test_the_terminal_table_has_a_line_per_task_and_the_count(run):
    console = Console(width=120, record=True, file=io.StringIO())
    print_table(run, console)
    text = console.export_text()
    for task in run.tasks:
        assert task.task in text
    assert "1 row was left out" in text
    assert f"{run.clear} of {len(run.tasks)} tasks clear" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_where_no_baseline_was_scored_none_is_said_to_be_missed(run):
    console = Console(width=120, record=True, file=io.StringIO())
    alone = replace(run, tasks=tuple(replace(task, baselines=(), margin=None) for task in run.tasks))
    print_table(alone, console)
    for text in (console.export_text(), render_report(alone)):
        assert "no baselines were scored" in text
        assert "clear their strongest" not in text
    assert "clear their strongest trivial baseline" in render_report(run)


def test_on_80_columns_the_terminal_table_breaks_no_words(run):
    names = (
        ("translation_dates", "image_captioning"),
        ("exact_match", "hit_rate_at_10"),
        ("majority_per_question", "copy"),
    )
    tasks = []
    for task, metric, baseline in zip(*names, strict=True):
        score = Score(metric, 12.3, 10.1, 14.2, 972, 27, "points", ways=(36, 27))
        told = (Baseline(baseline, "trivial", score), Baseline("logistic_regression", "reference", score))
        tasks.append(TaskResult(task, "", score, told, Margin(-12.3, -20.1, -1.1, "points", 4)))
    console = Console(width=80, record=True, file=io.StringIO())
    print_table(RunResults("r", {}, tuple(tasks)), console)
    text = console.export_text()
    words = "translation_ dates image_ captioning exact_match hit_rate_at_ majority_per_ question logistic_ regression"
    assert [word for word in words.split() if word not in text.split()] == []
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("copy", ["copy"]),
        ("majority_per_question", ["majority_per_", "question"]),
        ("hit_rate_at_10", ["hit_rate_at_", "10"]),
        ("/some/long/path/of/mine", ["/some/long/", "path/of/mine"]),
        ("averyveryverylongword_x", ["averyveryverylongword_", "x"]),
        ("", [""]),
    ],
)
def test_long_names_are_folded_where_their_words_meet(name, lines):
    assert folded(name).split("\n") == lines


def test_metrics_as_json_hold_every_figure_and_no_nan(run):
    bare = TaskResult("t", "", Score("accuracy", 0.5, math.nan, math.nan, 1, 1))
    plain = metrics_json(RunResults("r", {"seed": 0}, (*run.tasks, bare), quarantine=run.quarantine))
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again["tasks"]["t"]["metric"]["low"] is None
    assert again["tasks"]["t"]["margin"] is None
    assert again["tasks"]["digits"]["margin"]["clear"] is True
    assert again["tasks"]["digits"]["baselines"][0]["baseline"] == "majority"
    assert again["quarantine"][0]["id"] == "row 812"


def test_a_sheet_holds_a_cell_per_sample_of_any_kind(run, tmp_path):
    samples = [sample for task in run.tasks for sample in task.samples]
    path = sample_sheet(samples, tmp_path / "sheets" / "all.png", columns=5)
    with Image.open(path) as sheet:
        assert sheet.width == 5 * 272 + 12
        assert len(sheet.convert("RGB").getcolors(1 << 20)) > 100
    with Image.open(sample_sheet([], tmp_path / "none.png")) as sheet:
        assert sheet.height > 0
