"""`ofasys-lite predict RUN "LINE or task" column=value ...`: a trained model's answer to one sample or many rows."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.cards.find import modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.commands.runs import Found, find_run
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, DataError, did_you_mean, nearest
from ofasys_lite.plan import Plan, build_plan
from ofasys_lite.plan.types import GroupSegment, Segment, SlotSegment, walk

if TYPE_CHECKING:
    from ofasys_lite.data.source import RowSource
    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.generalist.prediction import Prediction

__all__ = ["main"]

_DECODING = tuple(f.name for f in fields(DecodeOptions))
#: Rows of --data that are predicted at once.
_BLOCK = 1024
_EXAMPLES = """examples:
  ofasys-lite predict runs/quickstart digits image=seven.png
  ofasys-lite predict runs/quickstart "[IMAGE:img] which region does the text ' [TEXT:what] ' describe? -> [BOX:box]" \\
      img=scene.png what="the digit 7" --out found.png
  ofasys-lite predict runs/quickstart g2p --data words.csv --out phones.jsonl beam=4
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks for, checked.

    Attributes:
        task: A learned task, or None for a line.
        line: The instruction line.
        values: Column -> value, as given.
        decoding: Decoding options that differ from the card's.
    """

    task: str | None
    line: str
    values: Mapping[str, Any]
    decoding: Mapping[str, Any]


def main(arguments: Sequence[str]) -> int:
    """0 when the prediction is printed or written; 1 if some rows of `--data` could not be read."""
    given = _parser().parse_intermixed_args(list(arguments))
    found = find_run(given.run)
    plan, task = _plan(found, given.line)
    values, decoding = _pairs(given.values, plan)
    source = None
    if given.data is not None:
        from ofasys_lite.data.rows import open_source

        source = open_source(given.data)
    _check(plan, values, source)
    asked = _Asked(task, given.line, values, decoding)
    card = found.task(task)["card"] if task is not None else {}
    options = DecodeOptions.of({**card.get("decoding", {}), **decoding}) if decoding else None

    from ofasys_lite.generalist.generalist import Generalist

    model = Generalist.from_pretrained(found.export)
    if source is not None:
        return _many(model, asked, options, source, given)
    _one(model, asked, options, given.out, given.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "ofasys-lite predict",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="a folder under runs/, or an export")
    parser.add_argument("line", help="an instruction line, or the name of a task that the run learned")
    parser.add_argument(
        "values",
        nargs="*",
        metavar="column=value",
        help=f"values of the line's slots; decoding: {', '.join(_DECODING)}",
    )
    parser.add_argument("--data", help="rows to predict: any source that cards take (rows.csv, digits:test ...)")
    parser.add_argument("--out", type=Path, help="one sample: .json, .txt or a picture with boxes; rows: .jsonl")
    parser.add_argument("--limit", type=int, help="most rows of --data")
    parser.add_argument("--json", action="store_true", help="print all values as JSON")
    return parser


def _plan(found: Found, text: str) -> tuple[Plan, str | None]:
    """The plan of a task or a line, and the task's name if it is one; raises for an unknown task and a bad line."""
    cards = {**modalities(), **found.modalities}
    if "->" in text or "[" in text:
        return build_plan(TaskCard(name="line", instruction=text), cards), None
    card = found.task(text)["card"]
    sets = {name: tuple(values) for name, values in card["sets"].items()}
    return build_plan(TaskCard(name=text, instruction=card["instruction"], sets=sets), cards), text


def _pairs(texts: Sequence[str], plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values of columns, decoding options); a column named like an option is meant, `decoding.x=` names the option."""
    columns = _columns(plan)
    values: dict[str, Any] = {}
    decoding: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise CardError(f"cannot read the argument `{text}`", help='write column=value, such as text="a cat"')
        option = key.removeprefix("decoding.")
        if key in columns:
            values[key] = value
        elif option in _DECODING:
            decoding[option] = _plain(value)
        else:
            near = nearest(key, [*columns, *_DECODING])
            question = f"did you mean `{near}`? " if near else ""
            raise CardError(
                f"`{key}` is neither a column of the line nor a decoding option",
                help=f"{question}columns: {', '.join(columns) or 'none'}; decoding: {', '.join(_DECODING)}",
            )
    return values, decoding


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _columns(plan: Plan) -> dict[str, str]:
    """Column -> modality of what a sample may be given: everything left of the arrow, candidates, forced targets."""
    first = plan.templates[0]
    found: dict[str, str] = {}

    def visit(segment: Segment) -> None:
        if isinstance(segment, GroupSegment):
            if segment.over is not None:
                found[segment.over] = "STRUCT"
            else:
                found.update({slot.column: "STRUCT" for slot in walk((segment,))})
        elif isinstance(segment, SlotSegment):
            found[segment.column] = segment.modality

    for segment in first.source:
        visit(segment)
    for segment in (segment for side in first.targets for segment in side):
        if not any(slot.learned for slot in walk((segment,))):
            visit(segment)
    for slot in plan.slots():
        if slot.closed is not None and slot.closed.kind == "candidates":
            found[slot.closed.name] = "STRUCT"
    return found


def _needed(plan: Plan) -> dict[str, str]:
    optional = {slot.column for slot in plan.slots() if slot.optional}
    return {column: modality for column, modality in _columns(plan).items() if column not in optional}


def _check(plan: Plan, values: Mapping[str, Any], source: RowSource | None) -> None:
    """Raises DataError for a column without a value, and for a file that does not exist, before torch is imported."""
    from ofasys_lite.data.source import has_column

    for column, modality in _needed(plan).items():
        if column in values or (source is not None and has_column(source.columns, column)):
            continue
        if source is not None and column.isdigit():
            continue  # unnamed slots are filled by position
        example = f"{column}={'file.png' if modality == 'IMAGE' else 'file.wav' if modality == 'AUDIO' else 'TEXT'}"
        help = f"write {example}"
        if source is not None:
            help = f"{did_you_mean(column, source.columns, f'{source.name} has')}; or write {example}"
        raise DataError(f"slot [{modality}:{column}] has no value", help=help)
    for column, modality in _columns(plan).items():
        value = str(values.get(column, ""))
        if modality in ("IMAGE", "AUDIO") and value and "://" not in value and not value.startswith("data:"):
            from ofasys_lite.preprocess import audio, image_decode
            from ofasys_lite.preprocess.media import locate

            heads = image_decode.BASE64_HEADS if modality == "IMAGE" else audio.BASE64_HEADS
            try:
                locate(value, None, modality.lower(), heads)
            except DataError as error:
                raise DataError(f"{column}={value[:80]}: {error.message}", help=error.help) from None


def _task(model: Generalist, asked: _Asked) -> str:
    return model.task_of_line(asked.line) if asked.task is None else asked.task


def _one(model: Generalist, asked: _Asked, options: DecodeOptions | None, out: Path | None, as_json: bool) -> None:
    from ofasys_lite.generalist.predict import Request, predict

    prediction = predict(model, [Request(_task(model, asked), asked.values, options=options)])[0]
    if prediction is None:
        raise DataError("the sample cannot be read")
    if as_json:
        print(json.dumps(_json(prediction), ensure_ascii=False))
    elif len(prediction.n_best) > 1:
        for each in prediction.n_best:
            print(each.text)
    else:
        print(prediction.text)
    if out is not None:
        print(prediction.save(out), file=sys.stderr)


def _many(
    model: Generalist, asked: _Asked, options: DecodeOptions | None, source: RowSource, given: argparse.Namespace
) -> int:
    """One JSON line per row, in order; rows that cannot be read say why."""
    total = len(source) if given.limit is None else min(given.limit, len(source))
    rows: list[dict[str, Any]] = []
    for start in range(0, total, _BLOCK):
        rows += _block(model, asked, options, source, range(start, min(total, start + _BLOCK)))
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
        print(f"{given.out}: {total} rows", file=sys.stderr)
    failed = sum("error" in row for row in rows)
    if failed:
        print(f"{failed} of {total} rows could not be read; their lines say why", file=sys.stderr)
    return 1 if failed else 0


def _block(
    model: Generalist, asked: _Asked, options: DecodeOptions | None, source: RowSource, numbers: range
) -> list[dict[str, Any]]:
    """What is written for some rows: id with values and score, or id with the error."""
    from ofasys_lite.generalist.predict import Request, predict

    task = _task(model, asked)
    rows = [{"id": source.ids(i)} for i in numbers]
    requests, at = [], list[int]()
    for place, i in enumerate(numbers):
        try:
            row = {**source.row(i), **asked.values}
        except DataError as error:
            rows[place]["error"] = error.message
            continue
        requests.append(Request(task, row, source.ids(i), options, source.base or None))
        at.append(place)
    reasons: dict[int, str] = {}
    for number, prediction in enumerate(predict(model, requests, None, True, False, reasons)):
        if prediction is None:
            rows[at[number]]["error"] = reasons.get(number, "cannot be read")
        else:
            rows[at[number]].update(_json(prediction))
    return rows


def _json(prediction: Prediction) -> dict[str, Any]:
    found = {**prediction.values, "score": round(prediction.score, 4)}
    if len(prediction.n_best) > 1:
        found["n_best"] = [dict(each.values) for each in prediction.n_best]
    return found
