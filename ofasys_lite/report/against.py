"""What a task is held against: its card's baselines, fitted on the train split, answered on the very rows evaluated.

Their answers are kept by content hash, so that a second evaluation of the same rows costs nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ofasys_lite.data.contents import media_key
from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.source import combined, spread
from ofasys_lite.errors import DataError, WriteError
from ofasys_lite.metrics import FORETELLING_METRICS, Training, copied_column, fit_predict
from ofasys_lite.metrics.values import as_box
from ofasys_lite.plan.segments import GroupSegment
from ofasys_lite.preprocess import kinds
from ofasys_lite.report.judge import Judge
from ofasys_lite.report.results import Answers
from ofasys_lite.report.task_rows import Input, TaskRows
from ofasys_lite.writing import atomic, cache_folder
from ofasys_lite.writing.plain_values import as_plain

#: Part of the cache's key: another way of answering must not find old answers.
_VERSION = 2
_SEES_MEDIA = frozenset({"nearest_pixels", "nearest_audio", "mean_box", "best_box", "label_blind_box", "mean_fill"})
#: Most training rows that a baseline is fitted on, evenly spread: with and without media.
_MOST_MEDIA, _MOST_LIGHT = 10_000, 60_000
_LONGEST_SAID = 120  # characters of a constant that is told
_SCENE = "boxes of the scene"


class TrainSplit:
    """The training rows for metrics that ask for them: references and rows, read once.

    Args:
        train: The training rows; at most 10,000 of them are read, evenly spread.
    """

    def __init__(self, judge: Judge, train: TaskRows) -> None:
        self._judge = judge
        self._train = train
        self._read: Training | None = None

    def __call__(self) -> Training:
        """The rows; those that cannot be read are left out."""
        if self._read is None:
            references, rows = list[Any](), list[dict[str, Any]]()
            for i in spread(len(self._train.source), _MOST_MEDIA):
                try:
                    references.append(_target(self._judge, self._train, i))
                except DataError:
                    continue  # quarantined in training, too
                rows.append(self._train.light(self._train.source.row(i)))
            self._read = Training(references, rows)
        return self._read


def answers(judge: Judge, train: TaskRows, test: TaskRows, numbers: Sequence[int], seed: int = 0) -> list[Answers]:
    """Answers of every baseline and reference of the metric, for the rows `numbers` of the evaluated split.

    Raises:
        CardError: A baseline that cannot answer such a task.
    """
    names = dict.fromkeys(judge.metric.references, "reference")
    names |= dict.fromkeys(judge.metric.baselines, "trivial")
    return [_cached(name, kind, judge, train, test, numbers, seed) for name, kind in names.items()]


def _cached(
    name: str, kind: str, judge: Judge, train: TaskRows, test: TaskRows, numbers: Sequence[int], seed: int
) -> Answers:
    kept = judge.kind not in kinds.MEDIA and "." not in name
    most = _MOST_LIGHT if kept and name not in _SEES_MEDIA else _MOST_MEDIA
    count = min(most, len(train.source))
    note = f"fitted on {count:,} of {len(train.source):,} training rows" if count < len(train.source) else ""
    if not kept:  # made quickly, and large; or of the user's, who changes it
        values, _ = _answer(name, judge, train, test, numbers, seed, spread(len(train.source), most))
        return Answers(name, kind, values, note)
    masks = test.maker.vocabulary.hash if test.masked() else ""
    # what sees pictures and sounds must not find answers about others under the same paths
    looked = tuple(read.column for read in test.inputs()) if name in _SEES_MEDIA else ()
    rows = [media_key(each.source, looked) if looked else each.source.fingerprint for each in (train, test)]
    key = combined(
        _VERSION,
        name,
        most,
        seed,
        (judge.metric.name, judge.higher, judge.column, judge.kind, repr(judge.segment)),
        [(read.column, read.modality) for read in test.inputs()],
        (*rows, test.group, test.name if masks else "", masks),
        list(numbers),
    )
    path = cache_folder() / "baselines" / f"{key}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if len(stored["values"]) == len(numbers):
            return Answers(name, kind, stored["values"], _joined(stored["said"], note))
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not there, or broken by a full disk: answered again
    found, said = _answer(name, judge, train, test, numbers, seed, spread(len(train.source), most))
    values = as_plain(found, _listed)
    try:
        with atomic(path) as temporary:
            temporary.write_text(json.dumps({"values": values, "said": said}), encoding="utf-8")
    except (OSError, WriteError):
        pass  # a cache that cannot be written costs time, not the result
    return Answers(name, kind, values, _joined(said, note))


def _joined(*notes: str) -> str:
    return ", ".join(filter(None, notes))


def _answer(
    name: str,
    judge: Judge,
    train: TaskRows,
    test: TaskRows,
    numbers: Sequence[int],
    seed: int,
    train_numbers: Sequence[int],
) -> tuple[list[Any], str]:
    """The answers, and what they are where a reader would ask: which column is copied, which constant is said."""
    media = name in _SEES_MEDIA or "." in name
    # a column on both sides of the arrow (infilling) gets a second name, so that no baseline sees the answer
    inputs = {
        f"{read.column} (source)" if read.column == judge.column else read.column: read
        for read in test.inputs()
        if media or not read.media
    }
    train_rows = []
    for i in train_numbers:
        try:
            target = _target(judge, train, i)
        except DataError:
            continue  # quarantined in training, too
        beside = train.light(train.source.row(i)) if name == "best_constant" else {}  # metrics may look at them
        train_rows.append({**beside, **_values(train, i, inputs), judge.column: target})
    test_rows = [_values(test, i, inputs) for i in numbers]
    if judge.metric.name in FORETELLING_METRICS:
        test_rows = [
            {**row, judge.column: _reference(judge, test, i)} for row, i in zip(test_rows, numbers, strict=True)
        ]
    if name == "label_blind_box":
        scenes = _scenes(judge, test)
        for row, i in zip(test_rows, numbers, strict=True):
            row[_SCENE] = scenes.get(test.group_of(i), [])
    columns, metric = tuple(inputs), judge.metric.name
    values = fit_predict(name, train_rows, test_rows, columns, judge.column, judge.kind, seed, metric, judge.higher)
    said = ""
    if name == "copy":
        said = f"copies `{copied_column(train_rows, test_rows, columns, judge.column)}`"
    elif name == "best_constant" and values and len(str(values[0])) <= _LONGEST_SAID:
        said = f"says `{values[0]}`"
    return values, said


def _values(rows: TaskRows, i: int, inputs: Mapping[str, Input]) -> dict[str, Any]:
    return {key: rows.input(i, read) for key, read in inputs.items()}


def _target(judge: Judge, rows: TaskRows, i: int) -> Any:
    """The reference of a row, read without its other columns where the target is one column."""
    if isinstance(judge.segment, GroupSegment) and judge.segment.over is None:
        return judge.reference(rows.source.row(i))
    value = rows.value(i, judge.column)
    row = rows.source.row(i) if value is MISSING else {judge.column: value}
    return judge.reference(row, rows.source.base or None)


def _reference(judge: Judge, rows: TaskRows, i: int) -> Any:
    """The reference of a row that is judged; None where it cannot be read, and is left out later."""
    try:
        return _target(judge, rows, i)
    except DataError:
        return None


def _scenes(judge: Judge, rows: TaskRows) -> dict[str, list[dict[str, Any]]]:
    """The different boxes that the rows of a group (one scene) ask for."""
    found: dict[str, dict[tuple[float, ...], None]] = defaultdict(dict)
    for i in range(len(rows.source)):
        try:
            box = as_box(_target(judge, rows, i))
        except DataError:
            continue
        if box is not None:
            found[rows.group_of(i)][box] = None
    return {group: [{"box": list(box)} for box in boxes] for group, boxes in found.items()}


def _listed(value: Any) -> Any:
    """An array as the lists of its numbers, anything else as text."""
    return as_plain(value.tolist()) if hasattr(value, "tolist") else str(value)
