"""Models for one task alone are what their descriptions say, and say their answers in the task's own form."""

from __future__ import annotations

import torch
from reference_networks import CentreNet, EasyVQA, LeNet, SudokuLSTM, centres, detector_loss, found, parameters, shifted

from ofasys_lite.metrics import evaluate_metric

SCENES = [
    [{"box": [15.0, 25.0, 25.0, 48.0], "label": "1"}, {"box": [40.0, 27.0, 59.0, 51.0], "label": "7"}],
    [{"box": [0.0, 0.0, 12.0, 20.0], "label": "7"}],
    [],
]
LABELS = ["1", "7"]


def said(sharp: float) -> torch.Tensor:
    """What a detector would say that has learned the scenes by heart."""
    heat, boxes, _ = centres(SCENES, LABELS, 64)
    return torch.cat([(heat.eq(1).float() * 2 - 1) * sharp, boxes], 1)


def test_the_network_for_questions_is_as_large_as_its_authors_say() -> None:
    assert 130_000 < parameters(EasyVQA(words=27, answers=13)) < 140_000


def test_networks_answer_row_by_row() -> None:
    assert EasyVQA(5, 13)(torch.zeros(2, 3, 64, 64), torch.zeros(2, 5)).shape == (2, 13)
    assert LeNet()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert SudokuLSTM(8)(torch.zeros(2, 16, dtype=torch.long)).shape == (2, 4, 16)
    assert CentreNet(1, 10)(torch.zeros(2, 1, 64, 64)).shape == (2, 14, 16, 16)


def test_digits_are_moved_and_keep_their_size() -> None:
    torch.manual_seed(0)
    x = torch.full((1, 1, 6, 6), -0.5)
    x[..., 2, 2] = 0.5
    moved = [shifted(x) for _ in range(20)]
    assert {each.shape for each in moved} == {x.shape}
    assert all(each.eq(0.5).sum() == 1 for each in moved)
    assert len({tuple(each.eq(0.5).nonzero()[0].tolist()) for each in moved}) > 5


def test_what_a_detector_learns_is_what_it_says() -> None:
    scenes = found(said(9.0), LABELS, 0.5)
    score = evaluate_metric("detection_f1", scenes, SCENES)
    assert score.value == 1.0
    assert [[each["label"] for each in scene] for scene in scenes] == [["1", "7"], ["7"], []]


def test_a_detector_that_is_right_loses_least() -> None:
    learned = centres(SCENES, LABELS, 64)
    right, wrong = said(9.0), said(9.0)
    wrong[0, 0] = 9.0  # a centre everywhere
    assert float(detector_loss(right, *learned)) < 0.1 * float(detector_loss(wrong, *learned))
