"""Folders of classes, COCO's json, a box per row, shares of splits, rows in two splits."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from check_tables import CARDS, report_of
from PIL import Image

from ofasys_lite.cards import load_task_card
from ofasys_lite.data import contents
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.data.rows import open_source
from ofasys_lite.data.splits import open_card, open_splits
from ofasys_lite.errors import DataError
from ofasys_lite.recipes.recipe import split_of


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)


def picture(path: str, colour: int = 0) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (colour, 0, 0)).save(path)


def test_a_folder_of_classes_is_rows_of_file_and_label() -> None:
    for name in ("cat/1.png", "cat/more/2.PNG", "dog/1.jpg", ".hidden/x.png", "cat/.DS_Store"):
        picture(f"pics/{name}") if "Store" not in name else Path(f"pics/{name}").write_text("x")
    source = open_source("pics")
    assert source.columns == ("file", "label")
    assert [source.row(i) for i in range(len(source))] == [
        {"file": "cat/1.png", "label": "cat"},
        {"file": "cat/more/2.PNG", "label": "cat"},
        {"file": "dog/1.jpg", "label": "dog"},
    ]
    assert source.ids(2) == "dog/1.jpg"
    assert source.notes == ("pics is a folder of classes: cat (2), dog (1); columns file, label",)
    assert pickle.loads(pickle.dumps(source)).row(0) == source.row(0)
    assert not report_of("[IMAGE:file] -> [TEXT:label,closed_set]", "pics").errors


def test_files_beside_the_folders_of_classes_are_left_out_with_a_note() -> None:
    for name in ("cat/1.png", "dog/1.png", "overview.png"):
        picture(f"pics/{name}")
    source = open_source("pics")
    assert len(source) == 2
    assert source.notes[1] == "pics: 1 file beside the classes' folders left out"


def test_texts_among_the_media_of_a_class_are_left_out_with_a_note() -> None:
    for name in ("cat/1.png", "dog/1.png"):
        picture(f"pics/{name}")
    Path("pics/cat/notes.txt").write_text("two of them are blurred")
    source = open_source("pics")
    assert [source.row(i)["file"] for i in range(len(source))] == ["cat/1.png", "dog/1.png"]
    assert source.notes[0] == "pics is a folder of classes: cat (1), dog (1); columns file, label"
    assert source.notes[1] == "pics: 1 text among the media left out"


def test_a_folder_without_classes_is_rows_of_files() -> None:
    picture("pics/b.png")
    picture("pics/a.png")
    assert [open_source("pics/").row(i) for i in range(2)] == [{"file": "a.png"}, {"file": "b.png"}]


def test_a_folder_of_texts_holds_what_they_say() -> None:
    for name in ("neg/1.txt", "pos/1.txt"):
        Path(f"films/{name}").parent.mkdir(parents=True)
        Path(f"films/{name}").write_text(f"\ufeffa {name[:3]} film\n", encoding="utf-8")
    assert open_source("films").row(1) == {"file": "pos/1.txt", "text": "a pos film\n", "label": "pos"}


@pytest.mark.parametrize(
    ("names", "message", "help"),
    [
        (
            ["train/cat/1.png", "val/cat/1.png"],
            "pics holds folders of splits, not of classes",
            "train: pics/train, valid",
        ),
        (["cat/1.png", "labels.csv"], "pics is a folder", "pics/labels.csv or pics/*.csv; its media are {path: pics"),
        (["notes.md"], "pics holds no images, sounds, films or texts", "name a file"),
    ],
)
def test_other_folders_say_what_to_write(names: list[str], message: str, help: str) -> None:
    for name in names:
        picture(f"pics/{name}") if name.endswith("png") else Path(f"pics/{name}").parent.mkdir(exist_ok=True)
        if not name.endswith("png"):
            Path(f"pics/{name}").write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        open_source("pics")
    assert message in caught.value.message
    assert help in caught.value.help


def test_media_beside_tables_are_read_where_the_card_says_so() -> None:
    picture("pics/cat/1.png")
    Path("pics/labels.csv").write_text("a,b\n1,2\n")
    assert len(open_source({"path": "pics", "format": "folder"})) == 1


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 32} for n in (7, 8)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 4.5, 5], "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 3, "bbox": [0, 0, 32, 32], "iscrowd": 1},
        ],
        **changes,
    }


def test_coco_is_a_row_per_image_with_its_boxes_and_labels() -> None:
    for number in (7, 8):
        picture(f"coco/train2017/{number}.png")
    Path("coco/annotations").mkdir()
    Path("coco/annotations/instances.json").write_text(json.dumps(coco()))
    source = open_source("coco/annotations/instances.json")
    assert source.row(0) == {
        "id": "7",
        "file": "7.png",
        "width": 32,
        "height": 32,
        "objects": [{"box": [1, 2, 11, 22], "label": "dog"}, {"box": [0, 0, 4.5, 5], "label": "cat"}],
    }
    assert source.row(1)["objects"] == []
    assert "2 images, 2 objects of 2 classes (1 crowds left out)" in source.notes[0]
    assert "its images are taken from coco/train2017" in source.notes[1]
    line = "[IMAGE:file] -> ([BOX:box] [TEXT:label,closed_set])*<over=objects>"
    assert not report_of(line, "coco/annotations/instances.json").errors
    named = {"path": "coco/annotations/instances.json", "media": "coco/train2017"}
    assert open_source(named).base == "coco/train2017"
    assert not report_of(line, named).errors


def test_what_coco_leaves_out_and_says_wrongly_is_told() -> None:
    for number in (7, 8):
        picture(f"{number}.png")
    line = "[IMAGE:file] -> ([BOX:box] [TEXT:label,closed_set])*<over=objects>"
    annotations = [*coco()["annotations"], {"id": 4, "image_id": 8, "category_id": 3}]
    Path("left.json").write_text(json.dumps(coco(annotations=annotations)))
    assert "(1 crowds, 1 annotations without `bbox` left out)" in open_source("left.json").notes[0]
    images = [{"id": 7, "file_name": "7.png"}, {"id": 7, "file_name": "8.png"}]
    Path("twice.json").write_text(json.dumps(coco(images=images)))
    with pytest.raises(DataError, match="image 2 has the `id` of another, 7"):
        open_source("twice.json")
    images = [{"id": n, "file_name": f"{n}.png", "width": 640, "height": 480} for n in (7, 8)]
    Path("size.json").write_text(json.dumps(coco(images=images)))
    told = report_of(line, "size.json").notes
    assert any("`width` and `height`" in note and "such as 640 x 480 where the picture has" in note for note in told)
    Path("right.json").write_text(json.dumps(coco()))
    assert not any("`width` and `height`" in note for note in report_of(line, "right.json").notes)


def test_a_stream_of_a_tar_that_is_cut_off_between_two_samples_says_so() -> None:
    picture("1.png")
    with tarfile.open("whole.tar", "w") as tar:
        for number in range(4):
            tar.add("1.png", f"{number}.png")
    with tarfile.open("whole.tar") as tar:
        third = tar.getmembers()[2]
    Path("cut.tar").write_bytes(Path("whole.tar").read_bytes()[: third.offset])
    for spec in ("cut.tar", {"path": "cut.tar", "stream": True}):
        told = report_of("[IMAGE:png] -> [IMAGE:png,size=16,codec=dnd]", spec).errors
        assert any("its end mark is missing" in str(error) for error in told)


def test_captions_of_coco_are_a_list() -> None:
    notes = [{"id": n, "image_id": 7, "caption": f"text {n}"} for n in (1, 2)]
    Path("c.json").write_text(json.dumps(coco(annotations=notes)))
    assert open_source("c.json").row(0)["captions"] == ["text 1", "text 2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annotations": [{"image_id": 9, "bbox": [0, 0, 1, 1]}]},
            "c.json, annotation 1: its `image_id` is of no image",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0]}]},
            "c.json, annotation 1: `bbox` is [0, 0]",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 4, "bbox": [0] * 4}]}, "annotation 1: category 4 has no name"),
        ({"images": [{"id": 1}]}, "c.json: image 1 has no `id` or no `file_name`"),
        ({"images": [], "annotations": []}, "c.json has no rows"),
    ],
)
def test_a_broken_coco_says_where(changes: dict[str, Any], message: str) -> None:
    Path("c.json").write_text(json.dumps(coco(**changes)))
    with pytest.raises(DataError) as caught:
        open_source("c.json")
    assert message in caught.value.message


BOXES = """image,xmin,ymin,xmax,ymax,class,width
a.png,1,2,11,22,dog,32
b.png,0,0,4,5,cat,32
a.png,0,0,4,5,cat,32
c.png,,,,,,32
"""


def test_a_box_per_row_is_gathered_to_a_row_per_image() -> None:
    Path("b.csv").write_text(BOXES)
    source = open_source({"path": "b.csv", "gather": "image"})
    assert source.columns == ("image", "width", "objects")
    first, _, last = (source.row(i) for i in range(3))
    assert first["objects"] == [
        {"box": [1, 2, 11, 22], "class": "dog", "width": "32"},
        {"box": [0, 0, 4, 5], "class": "cat", "width": "32"},
    ]
    assert (first["image"], first["width"], last) == ("a.png", "32", {"image": "c.png", "width": "32", "objects": []})
    assert [source.ids(i) for i in range(3)] == ["a.png", "b.png", "c.png"]
    assert source.place(1) == "b.csv, row 2"
    assert "4 rows gathered to 3 by `image`, in `objects`; `box` from xmin, ymin, xmax, ymax" in source.notes[0]
    assert pickle.loads(pickle.dumps(source)).row(0) == first
    for name in "abc":
        picture(f"{name}.png")
    line = "[IMAGE:image] -> ([BOX:box] [TEXT:class,closed_set])*<over=objects>"
    assert not report_of(line, {"path": "b.csv", "gather": "image"}).errors


@pytest.mark.parametrize(
    ("header", "box", "wanted"),
    [
        ("f,x,y,w,h", None, [1, 2, 4, 6]),
        ("f,bbox_x,bbox_y,bbox_width,bbox_height", None, [1, 2, 4, 6]),
        ("f,X1,Y1,X2,Y2", None, [1, 2, 3, 4]),
        ("f,a,b,c,d", ["a", "b", "c", "d"], [1, 2, 3, 4]),
    ],
)
def test_corners_and_sizes_of_boxes_are_known_by_their_names(header: str, box: Any, wanted: list[float]) -> None:
    Path("b.csv").write_text(f"{header}\np.png,1,2,3,4\n")
    spec = {"path": "b.csv", "gather": "f", **({"box": box} if box else {})}
    assert open_source(spec).row(0)["objects"][0]["box"] == wanted


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"gather": "img"}, "b.csv has no column `img`"),
        ({"gather": "image", "box": ["xmin", "ymin", "xmax", "y"]}, "b.csv has no column `y`"),
        ({"gather": "image", "box": "xmin"}, "`box` of a data source is 'xmin'"),
        ({"box": ["xmin", "ymin", "xmax", "ymax"]}, "`box` is for rows that are gathered"),
        ({"media": "nowhere"}, "media: there is no folder nowhere"),
        ({"split": {"train": 80, "tests": 20}}, "`split` names `tests`"),
        ({"split": {"train": 80, "test": 10}}, "the shares of `split` add up to 90"),
        ({"split": {"train": 0, "test": 100}}, "0 of it train"),
        ({"split": {"train": "80", "test": 20}}, "`split` gives '80' to train"),
        ({"split": "train"}, "`split: train` chooses a split of a Hugging Face data set"),
        ({"split": 80}, "`split` of a data source is 80"),
    ],
)
def test_keys_of_a_source_that_make_no_sense_are_told(spec: dict[str, Any], message: str) -> None:
    Path("b.csv").write_text(BOXES)
    with pytest.raises(DataError) as caught:
        open_source({"path": "b.csv", **spec})
    assert message in caught.value.message


def test_shares_of_splits_are_what_the_source_says() -> None:
    rows = "".join(f"{n},x\n" for n in range(1000))
    Path("t.csv").write_text(f"id,a\n{rows}")
    spec = {"path": "t.csv", "split": {"train": 50, "valid": 0, "test": 50}}
    splits, notes = open_splits({"train": spec})
    assert 450 < len(splits["train"]) < 550
    assert len(splits["valid"]) == 0
    assert len(splits["train"]) + len(splits["test"]) == 1000
    assert "(50 : 0 : 50)" in notes[0]
    shares = {**spec, "split": {"train": 0.9, "test": 0.1}}
    card = load_task_card({"instruction": "[TEXT:id] -> [TEXT:a]", "data": shares}, name="t")
    assert len(open_card(card)[0]["train"]) > 850  # a mapping alone is the training data; shares of one


def test_the_usual_shares_choose_the_rows_that_no_shares_choose() -> None:
    assert all(split_of(str(n)) == split_of(str(n), (80, 10, 10)) for n in range(2000))
    assert sum(split_of(str(n), (99.5, 0.25, 0.25)) != "train" for n in range(20_000)) in range(60, 140)


def notes_of(line: str, **data: Any) -> list[str]:
    card = load_task_card({"instruction": line, "data": data}, name="line")
    return [note for note in check_tasks([card], CARDS).notes if "training row" in note]


def test_rows_that_stand_in_two_splits_are_counted() -> None:
    Path("train.csv").write_text("q,a,n\none,1,x\ntwo,2,x\nthree,3,x\n")
    Path("test.csv").write_text("q,a,n\none,1,y\ntwo,other,y\nnew,2,y\nfour,4,y\n")
    Path("valid.csv").write_text("q,a,n\nseven,7,x\n")
    data = {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"}
    assert notes_of("[TEXT:q] -> [TEXT:a]", **data) == [
        "task line: 1 of 4 test rows is a training row too; 1 more has the input of one and another answer"
    ]
    assert notes_of("[TEXT:q] [TEXT:n] -> [TEXT:a]", **data) == []


def test_rows_are_not_compared_where_a_column_of_the_line_is_missing() -> None:
    Path("all.csv").write_text("q,a\n" + "".join(f"question {n},{n % 2}\n" for n in range(60)))
    assert notes_of("[TEXT:qq] -> [TEXT:a,closed_set]", train="all.csv") == []


def test_columns_of_slots_without_a_name_are_used() -> None:
    Path("all.csv").write_text("q,a,n\n" + "".join(f"question {n},answer {n},{n}\n" for n in range(60)))
    card = load_task_card({"instruction": "[TEXT] -> [TEXT]", "data": {"train": "all.csv"}}, name="line")
    assert [note for note in check_tasks([card], CARDS).notes if "not used" in note] == [
        "task line: columns of all.csv that are not used: n"
    ]


def test_equal_pictures_of_other_names_are_equal_rows() -> None:
    for number in range(6):
        picture(f"train/{'red' if number % 2 else 'black'}/{number}.png", number)
    shutil.copytree("train/red", "test/red")
    Path("test/red/1.png").rename("test/red/copy.png")
    picture("test/red/new.png", 99)
    assert notes_of("[IMAGE:file] -> [TEXT:label,closed_set]", train="train", valid="train", test="test") == [
        "task line: 6 of 6 valid rows are training rows too",
        "task line: 3 of 4 test rows are training rows too",
    ]


def test_a_line_that_reads_classes_is_not_blamed_for_them() -> None:
    Path("train.csv").write_text("label,text\ncat,a\ndog,b\n")
    Path("test.csv").write_text("label,text\ncat,c\ndog,d\n")
    assert notes_of("[TEXT:label] -> [TEXT:text]", train="train.csv", valid="test.csv", test="test.csv") == []


def test_media_too_large_to_be_compared_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_MOST", 100)
    rows = [{"img": b"x" * 60, "a": "x"}] * 3
    assert notes_of("[IMAGE:img] -> [TEXT:a]", train=rows, valid=rows, test=rows) == []
    card = load_task_card(
        {"instruction": "[IMAGE:img] -> [TEXT:a]", "data": {"train": rows, "valid": rows}}, name="line"
    )
    assert [n for n in check_tasks([card], CARDS).notes if contents.NOT_COMPARED in n] == [
        f"task line: {contents.NOT_COMPARED}"
    ]


def test_a_check_that_does_not_look_at_all_rows_says_that_it_compares_no_splits() -> None:
    rows = [{"q": str(n), "a": "x"} for n in range(30)]
    data = dict.fromkeys(("train", "valid", "test"), rows)
    card = load_task_card({"instruction": "[TEXT:q] -> [TEXT:a]", "data": data}, name="line")
    assert f"task line: {contents.NOT_COMPARED}" in check_tasks([card], CARDS, scan=29).notes
    assert "task line: 30 of 30 test rows are training rows too" in check_tasks([card], CARDS, scan=30).notes
