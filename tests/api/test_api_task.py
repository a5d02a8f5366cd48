"""Task: a line, rows of any kind, and how often it is drawn."""

from pathlib import Path
from typing import Any

import pytest
from api_worlds import REVERSE, word_rows

from ofasys_lite import Task
from ofasys_lite.cards import find_task
from ofasys_lite.data.rows import open_source
from ofasys_lite.errors import CardError, DataError, InstructionError, OfasysError


class Words:
    """A torch-style data set."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, i: int) -> dict[str, Any]:
        return word_rows()[i]


def _csv() -> str:
    rows = word_rows()
    Path("words.csv").write_text("word,answer\n" + "".join(f"{r['word']},{r['answer']}\n" for r in rows))
    return "words.csv"


def _arrow() -> Any:
    import pyarrow

    return pyarrow.Table.from_pylist(word_rows())


def _hugging_face() -> Any:
    import datasets

    return datasets.Dataset.from_list(word_rows())


def _frame() -> Any:
    return pytest.importorskip("pandas").DataFrame(word_rows())


SOURCES = {
    "list": word_rows,
    "path": _csv,
    "mapping": lambda: {"path": _csv(), "format": "csv"},
    "paths": lambda: [_csv()],
    "torch": Words,
    "pyarrow": _arrow,
    "datasets": _hugging_face,
    "pandas": _frame,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_come_from_lists_files_data_sets_and_data_frames(kind: str) -> None:
    task = Task("reverse", REVERSE).add_dataset(SOURCES[kind]())
    source = open_source(task.card.data["train"])
    assert len(source) == 30
    assert source.row(1) == {"word": "dog", "answer": "god"}


def test_missing_values_of_a_data_frame_are_none() -> None:
    pandas = pytest.importorskip("pandas")
    task = Task("a", "[TEXT:q] [TEXT:hint?] -> [TEXT:a]")
    task.add_dataset(pandas.DataFrame({"q": ["x", "y"], "hint": [None, "z"], "a": ["1", "2"], 3: [1.0, float("nan")]}))
    source = task.card.data["train"]
    assert source.row(0)["hint"] is None
    assert source.row(1)["3"] is None


def test_data_takes_splits_or_the_training_rows_alone() -> None:
    rows = word_rows()
    assert set(Task("a", REVERSE, data={"train": rows, "test": rows[:5]}).card.data) == {"train", "test"}
    assert set(Task("a", REVERSE, data=rows).card.data) == {"train"}
    assert Task("a", REVERSE, data={"path": _csv()}).card.data == {"train": {"path": "words.csv"}}


def test_micro_batch_size_is_a_weight_in_samples() -> None:
    assert Task("a", REVERSE, micro_batch_size=4).card.weight == 4.0
    assert Task("a", REVERSE, weight=0.5).card.weight == 0.5
    assert Task("a", REVERSE).card.weight == 1.0
    assert Task("a", REVERSE, weight=[[0, 1.0], [50, 0.1]]).card.weight == ((0, 1.0), (50, 0.1))


def test_keys_of_a_card_are_keywords() -> None:
    task = Task("a", REVERSE, metrics=["exact_match"], columns={"word": "text"}, decoding={"beam": 3}, epochs=2)
    assert (task.card.metrics[0].name, task.card.columns, task.card.epochs) == ("exact_match", {"word": "text"}, 2)


def test_a_task_comes_from_a_card_by_name_path_or_itself(tmp_path: Path) -> None:
    assert Task.from_card("vqa").card == find_task("vqa")
    path = tmp_path / "mine.yaml"
    path.write_text("instruction: |\n  [TEXT:q] -> [TEXT:a]\ndata: {train: qa.csv}\n")
    assert Task.from_card(str(path)).name == Task.from_card(path).name == "mine"
    assert Task.from_card(find_task("vqa"), data={"train": "other.csv"}).card.data == {"train": "other.csv"}


def test_a_task_shows_itself() -> None:
    assert repr(Task("a", "[TEXT:q] -> [TEXT:a]")) == "Task('a', '[TEXT:q] -> [TEXT:a]', splits=[])"


def _loader() -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(Words())  # type: ignore[arg-type]


def _twice() -> None:
    Task("a", REVERSE, data=word_rows()).add_dataset(word_rows())


MISTAKES: dict[str, tuple[Any, type[OfasysError], str]] = {
    "line": (lambda: Task("a", "[TEXT:q] -> [TXT:a]"), InstructionError, "did you mean `TEXT`"),
    "attribute": (
        lambda: Task("a", "[TEXT:q] -> [TEXT:a,max_lenght=3]"),
        InstructionError,
        "did you mean `max_length`",
    ),
    "keyword": (lambda: Task("a", REVERSE, wieght=3), CardError, "did you mean `weight`"),
    "both": (lambda: Task("a", REVERSE, weight=1, micro_batch_size=2), CardError, "give one of the two"),
    "batch": (lambda: Task("a", REVERSE, micro_batch_size=0), CardError, "micro_batch_size is 0"),
    "name": (lambda: Task(3, REVERSE), CardError, "a task's name is text, not int"),  # type: ignore[arg-type]
    "text": (lambda: Task("a", None), CardError, "an instruction is text, not NoneType"),  # type: ignore[arg-type]
    "negative": (lambda: Task("a", REVERSE, weight=-1), CardError, "at least 0"),
    "card": (lambda: Task.from_card("vqaa"), CardError, "did you mean `vqa`"),
    "split": (lambda: Task("a", REVERSE).add_dataset([], "tran"), DataError, "did you mean `train`"),
    "empty": (lambda: Task("a", REVERSE).add_dataset([]), DataError, "a train has no rows"),
    "row": (lambda: Task("a", REVERSE).add_dataset([3]), DataError, "a train, row 1: found int, not a dict"),
    "twice": (_twice, DataError, "task a already has rows to train on"),
    "loader": (lambda: Task("a", REVERSE).add_dataset(_loader()), DataError, "give the data set in it: loader.dataset"),
    "number": (lambda: Task("a", REVERSE).add_dataset(3), DataError, "int is no source of rows"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_says_what_to_do(kind: str) -> None:
    action, error, words = MISTAKES[kind]
    with pytest.raises(error) as raised:
        action()
    assert words in str(raised.value)


def test_a_dict_of_splits_and_a_series_are_refused_with_what_to_give() -> None:
    import datasets

    with pytest.raises(DataError, match=r"choose one, such as dataset\['train'\]"):
        Task("a", REVERSE).add_dataset(datasets.DatasetDict({"train": _hugging_face()}))
    with pytest.raises(DataError, match="a pandas Series has no columns"):
        Task("a", REVERSE).add_dataset(_frame()["word"])
