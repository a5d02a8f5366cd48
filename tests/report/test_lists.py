"""Lists of names as targets: metrics, baselines, and what evaluation makes of `n_best` and of groups."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tiny_worlds as worlds

from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError
from ofasys_lite.metrics import evaluate_metric, fit_predict
from ofasys_lite.plan import build_plan
from ofasys_lite.report.evaluate_model import evaluate
from ofasys_lite.report.judge import ListJudge, judges

LINE = "([CATEGORY:before])* next: -> [CATEGORY:next,closed_set=names,loss=sampled_softmax(negatives=4)]"
GROUP = "[CATEGORY:one] -> ([CATEGORY:more,closed_set=names,decode=greedy(no_repeat=true)])*<max=3>"
NAMES = [f"n{i}" for i in range(12)]
RECALL = [{"name": "recall_at_10", "baselines": ["most_popular", "next_of_last", "latest"], "references": ["item_knn"]}]


def rows(count: int = 24) -> list[dict[str, Any]]:
    found = []
    for i in range(count):
        names = [NAMES[(i + step) % 12] for step in range(5)]
        found.append({"id": str(i), "before": names[:4], "next": names[4], "one": names[0], "more": names[1:4]})
    return found


def card(line: str = LINE, **more: Any) -> Any:
    given = {"metrics": RECALL, "decoding": {"beam": 10, "n_best": 10}, **more}
    return worlds.task("next", rows(), line=line, sets={"names": NAMES}, **given)


def test_reciprocal_ranks_and_discounted_gains_by_hand() -> None:
    said = [["a", "b", "c"], ["x", "a"], ["q"], ["b", "b", "a"]]
    right = [["a"], ["a"], ["a"], ["a", "b"]]
    assert evaluate_metric("mrr_at_10", said, right).value == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
    half = 1 / math.log2(3)
    assert evaluate_metric("ndcg_at_10", said, right).value == pytest.approx((1 + half + 0 + 1) / 4)
    late = [[str(i) for i in range(10)] + ["a"]]
    assert evaluate_metric("mrr_at_10", late, [["a"]]).value == 0
    assert evaluate_metric("ndcg_at_10", [[]], [["a"]]).value == 0


def test_baselines_rank_by_what_came_before() -> None:
    train = [{"h": ["a", "b"], "y": ["c"]}, {"h": ["x", "b"], "y": ["c"]}, {"h": ["b", "a"], "y": ["b"]}]
    test = [{"h": ["c", "b"]}, {"h": ["zz"]}, {"h": []}]

    def said(name: str) -> list[Any]:
        return fit_predict(name, train, test, ["h"], "y", "ranking")

    assert said("most_popular") == [["c", "b"]] * 3
    assert said("latest") == [["b", "c"], ["zz", "c", "b"], ["c", "b"]]
    # b was followed by c twice and by a once
    assert said("next_of_last") == [["c", "a", "b"], ["c", "b"], ["c", "b"]]
    assert said("item_knn") == [["c", "b"], ["c", "b"], ["c", "b"]]
    # after (c, b) nothing is known; after b c twice and a once; b itself and c are the latest
    assert said("ngram_cache") == [["c", "a", "b"], ["zz", "c", "b"], ["c", "b"]]
    # a list of targets, records as history
    lists = [{"h": [{"t": "t1", "n": "a"}, {"t": "t2", "n": "b"}], "y": ["c", "d"]}]
    found = fit_predict("next_of_last", lists, [{"h": [{"t": "t9", "n": "c"}]}], ["h"], "y", "ranking")
    assert found == [["d", "c"]]
    with pytest.raises(CardError, match="predicts ranking, but `y` is text"):
        fit_predict("item_knn", train, test, ["h"], "y", "text")


def test_n_best_is_judged_as_a_list_beside_baselines() -> None:
    found = worlds.ready([card()])
    model = worlds.generalist(found)
    (task,) = evaluate(model, samples=1, bootstrap=20, seen="keep").tasks
    # twelve names, ten of them said
    assert 0 < task.metric.value < 1
    assert task.said is not None
    (told,) = task.said.told
    assert all(len(set(said)) == len(said) == 10 for said in told.predictions)
    assert told.references[0] == [rows()[0]["next"]]
    values = {each.name: each.score.value for each in task.baselines}
    assert values["next_of_last"] == 1.0
    assert set(values) == {"most_popular", "next_of_last", "latest", "item_knn"}


def test_a_group_without_repeats_is_judged_as_a_list() -> None:
    metrics = [{"name": "ndcg_at_10"}, {"name": "recall_at_5", "baselines": ["latest"]}]
    found = worlds.ready([card(GROUP, metrics=metrics, decoding={"min_length": 6})])
    model = worlds.generalist(found)
    (task,) = evaluate(model, samples=1, bootstrap=20, seen="keep").tasks
    assert task.said is not None
    told = task.said.told[0]
    assert told.references[0] == rows()[0]["more"]
    assert all(len(said) == len(set(said)) for said in told.predictions)
    assert [b.name for b in task.baselines] == ["most_popular"]


def test_what_cannot_be_judged_as_a_list_is_told() -> None:
    def judged(line: str, **more: Any) -> Any:
        made = card(line, **more)
        return judges(build_plan(made, modalities()), made, modalities())

    assert isinstance(judged(LINE)[0], ListJudge)
    with pytest.raises(CardError, match="looks at 10 names of `next`, and 1 is written"):
        judged(LINE, decoding={})
    with pytest.raises(CardError, match="looks at 10 names of `next`, and 5 are written"):
        judged(LINE, decoding={"beam": 5, "n_best": 5})
    with pytest.raises(CardError, match="metric `recall_at_10` cannot judge `next`, which is text"):
        judged("([CATEGORY:before])* -> [TEXT:next]")
