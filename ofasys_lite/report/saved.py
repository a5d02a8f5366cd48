"""The results of an evaluation as one JSON file, samples and their media included: a report needs no model."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ofasys_lite.errors import CheckpointError
from ofasys_lite.metrics import Margin, Score
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.report.blocks import input_look
from ofasys_lite.report.results import Baseline, RefusedRow, RunResults, Sample, SampleInput, TaskResult
from ofasys_lite.report.sample_pictures import is_picture, png, wav_uri
from ofasys_lite.writing import write_atomic

_FORMAT = 1
#: Under this key stands what JSON has no value for: base64 of bytes, or the name of a number.
_BYTES, _NUMBER = "$bytes", "$number"


def save_results(run: RunResults, path: Path) -> Path:
    """The path of the written file; pictures and sounds of samples are inside. History is not: a run keeps its own."""
    content = {
        "format": _FORMAT,
        "name": run.name,
        "split": run.split,
        "facts": dict(run.facts),
        "tasks": [_task(task) for task in run.tasks],
        "quarantine": [asdict(row) for row in run.quarantine],
    }
    write_atomic(path, json.dumps(stored(content), ensure_ascii=False))
    return path


def load_results(path: Path) -> RunResults:
    """What `save_results` wrote, with an empty history.

    Raises:
        CheckpointError: There is no such file, or it is of another version.
    """
    try:
        content = loaded(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: there is no evaluation yet", help=f"run: ofasys-lite evaluate run={path.parent}"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", help="evaluate the run again") from None
    if content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} has format {content.get('format')!r}", help="evaluate the run again")
    tasks = tuple(_read_task(task) for task in content["tasks"])
    quarantine = [RefusedRow(**row) for row in content["quarantine"]]
    return RunResults(content["name"], content["facts"], tasks, (), quarantine, content["split"])


def _task(task: TaskResult) -> dict[str, Any]:
    return {
        "task": task.task,
        "instruction": task.instruction,
        "metric": asdict(task.metric),
        "baselines": [asdict(baseline) for baseline in task.baselines],
        "margin": None if task.margin is None else asdict(task.margin),
        "samples": [_sample(sample) for sample in task.samples],
        "worst": [_sample(sample) for sample in task.worst],
        "chance": dict(task.chance),
    }


def _sample(sample: Sample) -> dict[str, Any]:
    answers = {"prediction": sample.prediction, "reference": sample.reference}
    kept = {name: _answer(value, look) for (name, value), look in zip(answers.items(), sample.looks, strict=True)}
    found = {"inputs": [_input(each) for each in sample.inputs], **kept, "correct": sample.correct, "id": sample.id}
    looks = [None if look is None or not look.text else _look(look) for look in sample.looks]
    return {**found, "looks": looks} if any(looks) else found


def _input(source: SampleInput) -> dict[str, Any]:
    look = source.shown
    if look is not None and look.text and look.picture is not None and not _plain(source.value):
        value = None  # a film is not kept beside its strip
    else:
        value = _kept(source.value, look if look is not None else input_look(source))
    found = {"column": source.column, "modality": source.modality, "value": value}
    return found if look is None or not look.text else {**found, "shown": _look(look)}


def _answer(value: Any, look: Shown | None) -> Any:
    """What is kept of an answer; of a clip the text beside its pictures, which are kept as it looks."""
    if look is not None and look.text and look.picture is not None and not _plain(value):
        return look.text
    return _kept(value, look)


def _plain(value: Any) -> bool:
    """Whether JSON holds a value as it is."""
    if isinstance(value, (Mapping, list, tuple)):
        return all(map(_plain, value.values() if isinstance(value, Mapping) else value))
    return value is None or isinstance(value, (str, int, float))


def _kept(value: Any, look: Shown | None) -> Any:
    """A value; what is a picture or a sound and nothing else as the bytes of a file, whose type says how it looks."""
    if look is not None and not look.text:
        if look.picture is not None:
            return _file(look.picture, png)
        if look.sound is not None:
            return _file(look.sound, _wav)
    return png(value) if is_picture(value) else value


def _look(look: Shown) -> dict[str, Any]:
    picture = None if look.picture is None else _file(look.picture, png)
    sound = None if look.sound is None else _file(look.sound, _wav)
    return {"text": look.text, "picture": picture, "sound": sound, "scale": look.scale, "moving": look.moving}


def _file(value: Any, made: Callable[[Any], bytes | None]) -> Any:
    """The bytes of a file, of what is no file those that are `made`; text as it is."""
    if isinstance(value, Path) and value.is_file():
        return value.read_bytes()
    return value if isinstance(value, (bytes, str)) else made(value)


def _wav(value: Any) -> bytes:
    return base64.b64decode(wav_uri(value).partition(",")[2])


def _read_sample(value: Mapping[str, Any]) -> Sample:
    inputs = [SampleInput(**{**each, "shown": _read_look(each.get("shown"))}) for each in value["inputs"]]
    looks = tuple(map(_read_look, value.get("looks", (None, None))))
    return Sample(**{**value, "inputs": inputs, "looks": looks})


def _read_look(value: Mapping[str, Any] | None) -> Shown | None:
    return None if value is None else Shown(**value)


def _read_task(value: Mapping[str, Any]) -> TaskResult:
    return TaskResult(
        value["task"],
        value["instruction"],
        _read_score(value["metric"]),
        tuple(Baseline(**{**b, "score": _read_score(b["score"])}) for b in value["baselines"]),
        None if value["margin"] is None else Margin(**value["margin"]),
        tuple(map(_read_sample, value["samples"])),
        value["chance"],
        tuple(map(_read_sample, value.get("worst", ()))),
    )


def _read_score(value: Mapping[str, Any]) -> Score:
    return Score(**{**value, "ways": tuple(value.get("ways", ()))})


def stored(value: Any) -> Any:
    """The value in what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): stored(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [stored(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return {_BYTES: base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, (np.ndarray, np.generic)):
        return stored(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: repr(value)}
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def loaded(value: Any) -> Any:
    """What `stored` was made of."""
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            return base64.b64decode(value[_BYTES])
        if value.keys() == {_NUMBER}:
            return float(value[_NUMBER])
        return {key: loaded(inner) for key, inner in value.items()}
    return [loaded(inner) for inner in value] if isinstance(value, list) else value
