import math

import pytest

from ofasys_lite.metrics import evaluate_metric, iou
from ofasys_lite.metrics.structures import as_grid

GRID = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]


def score(name, predictions, references):
    return evaluate_metric(name, predictions, references, samples=2)


def test_iou_of_a_turned_or_empty_box_is_zero():
    assert iou([0, 0, 4, 4], [0, 0, 4, 2]) == 0.5
    assert iou([4, 4, 0, 0], [0, 0, 4, 4]) == 0.0
    assert iou([1, 1, 1, 1], [1, 1, 1, 1]) == 0.0


def test_a_box_is_right_from_half_overlap_on():
    predictions, references = [[0, 0, 4, 2], [0, 0, 4, 1.9]], [[0, 0, 4, 4]] * 2
    assert score("iou_at_0.5", predictions, references).value == 0.5
    assert score("mean_iou", predictions, references).value == pytest.approx((0.5 + 0.475) / 2)


def test_detection_matches_each_object_once_and_only_with_its_label():
    reference = [{"box": [0, 0, 10, 10], "label": "cat"}, {"box": [20, 0, 30, 10], "label": "dog"}]
    prediction = [
        {"box": [0, 0, 10, 9], "label": "cat"},
        {"box": [0, 0, 10, 10], "label": "cat"},
        {"box": [20, 0, 30, 10], "label": "cat"},
    ]
    found = score("detection_f1", [prediction], [reference])
    assert found.details == pytest.approx({"precision": 1 / 3, "recall": 1 / 2})
    assert found.value == pytest.approx(0.4)


def test_detecting_nothing_where_nothing_is_changes_nothing():
    cat = [{"box": [0, 0, 10, 10], "label": "cat"}]
    assert score("detection_f1", [[], cat], [[], cat]).value == 1.0


def test_slots_count_as_path_and_value_whatever_their_order_or_spelling_of_numbers():
    reference = {"room": "kitchen", "level": 3, "lights": ["a", "b"]}
    prediction = {"level": "3", "lights": ["b", "c"], "room": {"name": "kitchen"}}
    found = score("slot_f1", [prediction], [reference])
    assert found.value == pytest.approx(2 * 2 / (4 + 4))


def test_records_are_right_as_a_whole():
    reference = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert score("record_f1", [[{"b": 2, "a": 1}, {"a": 3, "b": 5}]], [reference]).value == 0.5
    assert score("record_f1", [{"a": 1, "b": 5}], [{"a": 1, "b": 2}]).value == 0.5


def test_an_empty_structure_earns_nothing_even_where_it_is_right():
    found = score("struct_exact", [{}, '{"b": 1, "a": 2}'], [{}, {"a": 2, "b": 1}])
    assert found.value == 1.0
    assert found.details == {"empty_references": 1}
    assert math.isnan(score("struct_exact", [{}], [{}]).value)


@pytest.mark.parametrize(
    "written",
    [
        GRID,
        "1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1",
        "1 2 | 3 4 ; 3 4 | 1 2 ; 2 1 | 4 3 ; 4 3 | 2 1",
        "1234 3412 2143 4321",
        '[["1","2","3","4"],["3","4","1","2"],["2","1","4","3"],["4","3","2","1"]]',
        {f"row{i}": row for i, row in enumerate(GRID)},
        {"grid": "1234341221434321"},
    ],
)
def test_grids_are_read_however_they_are_written(written):
    assert as_grid(written) == GRID
    assert score("sudoku_solved", [written], [GRID]).value == 1.0


def test_a_grid_that_breaks_the_rules_is_not_solved_even_if_the_reference_does_too():
    broken = [[1] * 4] * 4
    assert score("sudoku_solved", [broken], [broken]).value == 0.0
    almost = [row[:] for row in GRID]
    almost[0][0] = 2
    found = score("sudoku_solved", [almost], [GRID])
    assert found.value == 0.0
    assert found.details["right_cells"] == pytest.approx(15 / 16)


def test_cells_are_counted_over_all_grids():
    almost = [[2, *GRID[0][1:]], *GRID[1:]]
    assert score("grid_cells", [almost, GRID], [GRID, GRID]).value == pytest.approx(31 / 32)
    # a grid of another size has no cell in its place
    assert score("grid_cells", [[[1] * 3] * 3], [GRID]).value == 0
