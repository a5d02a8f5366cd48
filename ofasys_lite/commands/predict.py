"""`ofasys-lite predict RUN "LINE or task" column=value ...`: a trained model's answer to one sample or many rows."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.cards.find import modalities
from ofasys_lite.cards.typed import typed_source
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.commands.answers import kind_of, local_files
from ofasys_lite.commands.candidates import Candidates, candidates_of
from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.data.attributes import overrides, preprocess_class, slot_class
from ofasys_lite.data.columns import near_column
from ofasys_lite.data.fields import MISSING, field
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, DataError, did_you_mean
from ofasys_lite.generalist.calls import ReadColumn, columns_of, decode_options, learned_line, split_keywords
from ofasys_lite.generalist.value_files import write_file
from ofasys_lite.instruction.quotes import unquoted
from ofasys_lite.model.config import PRECISIONS
from ofasys_lite.plan import Plan, SlotSegment, build_plan
from ofasys_lite.plan.decoding import option_names
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.doubled import read_json
from ofasys_lite.preprocess.image_values import ENDINGS as PICTURES
from ofasys_lite.run.find_run import Found, find_run
from ofasys_lite.writing import claim_file, claim_folder

if TYPE_CHECKING:
    from ofasys_lite.data.source import RowSource
    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.generalist.prediction import Request

#: Rows of --data that are predicted at once, into a file and to be looked at.
_BLOCK, _PRINTED = 1024, 64
_EXAMPLES = """examples:
  ofasys-lite predict runs/quickstart digits image=seven.png
  ofasys-lite predict runs/quickstart "[IMAGE:img] which region does the text ' [TEXT:what] ' describe? -> [BOX:box]" \\
      img=scene.png what="the digit 7" --out found.png
  ofasys-lite predict runs/quickstart g2p --data words.csv --out phones.jsonl beam=4
  some-program | ofasys-lite predict runs/quickstart g2p --data -     # {"word": "tree"} a line
  ofasys-lite predict runs/digits image_generation label=7 --out seven.png
  ofasys-lite predict runs/pairs emoji_pairs image=hat.png --candidates names.csv --top 5
  ofasys-lite predict runs/digits image_generation --data digits:test --out drawn.jsonl     # pictures in drawn/
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks for, checked.

    Attributes:
        task: A learned task, or None for a line.
        columns: Slot column -> data column, as the task's card has it.
    """

    task: str | None
    line: str
    columns: Mapping[str, str]
    values: Mapping[str, Any]
    inputs: Sequence[ReadColumn]
    options: DecodeOptions | None
    candidates: Candidates | None = None


def main(arguments: Sequence[str]) -> int:
    """0 when the prediction is printed or written; 1 if some rows of `--data` could not be read."""
    parser = _parser()
    given = parser.parse_intermixed_args(list(arguments))
    if given.top < 1:
        parser.error("--top is at least 1")
    if given.limit is not None and (given.limit < 1 or given.data is None):
        parser.error("--limit is at least 1" if given.data is not None else "--limit is for the rows of --data")
    found = find_run(given.run)
    line = unquoted(given.line)
    plan, task, card = _plan(found, line)
    values, decoding = _pairs(given.values, plan)
    source, spec = None, None
    if given.data is not None and given.data != "-":
        from ofasys_lite.data.rows import open_source

        spec = typed_source(given.data)
        source = open_source(spec)
        for note in source.notes:
            print(f"note: {note}", file=sys.stderr)
    columns = card.get("columns", {})
    inputs, candidates = tuple(columns_of(plan).values()), None
    if given.candidates is not None:
        from ofasys_lite.data.rows import open_source

        through = open_source(typed_source(given.candidates))
        candidates = candidates_of(plan, through, given.top, columns, values, source)
        inputs = candidates.asking
    _check(plan, inputs, values, source, columns, given.data == "-")
    options = decode_options(plan, card.get("decoding", {}), decoding)
    if given.out is not None:
        given.out = given.out.expanduser()
    _check_out(plan, given, [*local_files(spec), *map(str, values.values())])
    asked = _Asked(task, line, columns, values, inputs, options, candidates)

    from ofasys_lite.generalist.generalist import Generalist

    model = Generalist.from_pretrained(found.export, given.device, given.precision)
    if given.data is not None:
        return _many(model, asked, source, given)
    _one(model, asked, given.out, given.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser(
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
        help=f"values of the line's slots; decoding: {', '.join(option_names())}",
    )
    parser.add_argument(
        "--data",
        help="rows to predict: any source that cards take (rows.csv, digits:test ...); - reads lines of JSON from the "
        "standard input and answers each as it comes",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="one sample: .json, .txt, a generated picture or one with boxes; rows: .jsonl, .csv, .tsv or .parquet, "
        "generated pictures in a folder of its name",
    )
    parser.add_argument(
        "--candidates",
        help="rows with the columns of one side of a line with `<->`: those nearest to the other side are told",
    )
    parser.add_argument("--top", type=int, default=10, help="most candidates that are told (default 10)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out if it is there")
    parser.add_argument("--limit", type=int, help="most rows of --data")
    parser.add_argument(
        "--device", default="auto", help="auto (a CUDA device where there is one), cpu, cuda, cuda:1 ..."
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=PRECISIONS,
        help="of the predictions; int8 is of CPUs, auto takes what a probe finds clearly faster",
    )
    parser.add_argument("--json", action="store_true", help="print all values, scores and hypotheses as JSON")
    return parser


def _plan(found: Found, text: str) -> tuple[Plan, str | None, Mapping[str, Any]]:
    """The plan of a task or a line, the task's name if it is one, and the card of the task that learned it."""
    cards = {**modalities(), **found.modalities}
    task: str | None = None
    line = text
    if "->" in text or "[" in text:
        lines = {name: value["card"]["instruction"] for name, value in found.tasks.items()}
        learned = learned_line(text, lines, frozenset(cards))
        card = found.task(learned[0])["card"] if learned is not None else {}
    else:
        card = found.task(text)["card"]
        task, line = text, card["instruction"]
    sets = {name: tuple(values) for name, values in card.get("sets", {}).items()}
    return build_plan(TaskCard(name=task or "line", instruction=line, sets=sets), cards), task, card


def _pairs(texts: Sequence[str], plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values of columns, decoding options); a column named like an option is meant, `decoding.x=` names the option."""
    keywords: dict[str, str] = {}
    named: dict[str, str] = {}
    record = any(column.name.partition(".")[0] == "decoding" for column in columns_of(plan).values())
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            inputs = [column.name for column in columns_of(plan).values()]
            one = shlex.quote(f"{inputs[0]}={text}") if len(inputs) == 1 else 'column=value, such as text="a cat"'
            raise CardError(f"cannot read the argument `{text}`", help=f"write {one}")
        option = key.removeprefix("decoding.")
        into, name = (named, option) if option != key and not record else (keywords, key)
        if name in into:
            raise CardError(f"`{key}` is given twice", help="keep one of them")
        into[name] = value
    values, decoding = split_keywords(plan, keywords)
    return values, {key: _plain(value) for key, value in {**decoding, **named}.items()}


def _plain(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return text


def _check(
    plan: Plan,
    inputs: Sequence[ReadColumn],
    values: Mapping[str, Any],
    source: RowSource | None,
    columns: Mapping[str, str],
    lines: bool,
) -> None:
    """Raises DataError for a column without a value, and for a file that does not exist, before torch is imported."""
    for column in inputs:
        value = field(values, column.name, column.exact)
        if value is not MISSING:
            _check_file(column, str(value))
        elif not column.optional and not lines and (source is None or not _has(source, column, columns)):
            example = f"file{preprocess_class(column.preprocess).ending}" if _may_be_file(column) else "TEXT"
            example = (preprocess_class(column.preprocess).example if column.preprocess else "") or example
            help = f"write {shlex.quote(f'{column.name}={example}')}"
            if plan.alignment is not None:
                help += ", or look for it among rows: --candidates names.csv"
            if source is not None:
                near = near_column(column.name, plan, source)
                has = did_you_mean(near or column.name, source.columns, f"{source.name} has")
                help = f"{has}; or {help}"
            raise DataError(f"slot {column.place} has no value", help=help)


def _check_out(plan: Plan, given: argparse.Namespace, inputs: Sequence[str]) -> None:
    """Raises OfasysError where --out is missing, of no use for the line, not to be replaced, or cannot be written."""
    out, rows = given.out, given.data is not None
    learned = [slot for slot in plan.target_slots() if slot.learned]
    drawn = [slot for slot in learned if slot_class(slot).ending]
    if out is None:
        if drawn:
            raise _no_out(drawn[0], rows)
        return
    boxes = any(slot_class(slot).kind == kinds.BOX for slot in learned)
    allowed = [".txt", ".json", *(PICTURES if boxes else ())]
    if rows:
        kind_of(out)
    elif drawn and out.suffix not in (".json", ".txt"):
        slot_class(drawn[0]).place(out)
    elif not drawn and out.suffix.lower() not in ("", *allowed):
        help = did_you_mean(out.suffix, allowed, "one sample is written as")
        raise DataError(f"--out {out} ends with {out.suffix}, and this line writes no such thing", help=help)
    files = [out if rows or out.suffix or not drawn else slot_class(drawn[0]).place(out)]
    if drawn and not rows and out.suffix == ".json":
        ways = ((name, slot_class(slot).ending) for slot in drawn for name in (out.stem, f"{out.stem}-{slot.column}"))
        files += dict.fromkeys(out.with_name(f"{name}{ending}") for name, ending in ways)
    for file in files:
        claim_file(file, given.overwrite, inputs)
    if drawn and rows:
        help = "name another file, or write into that folder: --overwrite"
        claim_folder(out.with_suffix(""), lambda _: given.overwrite, f"these {_files_word(drawn)}", help)


def _files_word(drawn: Sequence[SlotSegment]) -> str:
    return "pictures" if all(slot_class(slot).kind == kinds.PICTURE for slot in drawn) else "files"


def _no_out(slot: SlotSegment, rows: bool) -> DataError:
    """The error of a line that writes files where none is named."""
    tool, word = slot_class(slot), _files_word((slot,))
    example = f"drawn.jsonl, {word} go to drawn/" if rows else f"drawn{tool.ending}"
    what = "a picture" if word == "pictures" else f"written to a {tool.ending} file"
    return DataError(f"`{slot.column}` is {what}, and no file is named for it", help=f"write --out {example}")


def _has(source: RowSource, column: ReadColumn, columns: Mapping[str, str]) -> bool:
    """Whether the rows hold the column, by its name, by the card's name for it, or (unnamed slots) by its place."""
    from ofasys_lite.data.source import has_column

    names = (column.name, columns.get(column.name, column.name))
    return column.name.isdigit() or any(has_column(source.columns, name) for name in names)


def _may_be_file(column: ReadColumn) -> bool:
    return bool(column.preprocess) and overrides(preprocess_class(column.preprocess), "located")


def _check_file(column: ReadColumn, value: str) -> None:
    if not _may_be_file(column) or not value or "://" in value or value.startswith("data:"):
        return
    try:
        preprocess_class(column.preprocess).located(value, None)
    except DataError as error:
        raise DataError(f"{column.name}={value[:80]}: {error.message}", help=error.help) from None


def _task(model: Generalist, asked: _Asked) -> str:
    return model.task_of_line(asked.line) if asked.task is None else asked.task


def _one(model: Generalist, asked: _Asked, out: Path | None, as_json: bool) -> None:
    from ofasys_lite.commands.answers import as_json as shown
    from ofasys_lite.commands.answers import printed
    from ofasys_lite.generalist.cut_inputs import CutInputs
    from ofasys_lite.generalist.predicting import predict
    from ofasys_lite.generalist.prediction import Request

    task = _task(model, asked)
    if asked.candidates is not None:
        index = asked.candidates.index(model, task)
        (matches,) = index.nearest([Request(task, asked.values)], asked.candidates.top)
        found = asked.candidates.as_json(matches)
        print(*([printed(found)] if as_json else asked.candidates.as_lines(matches)), sep="\n")
        if out is not None:
            print(write_file(json.dumps(found, ensure_ascii=False, indent=1) + "\n", out, True), file=sys.stderr)
        return
    request = Request(task, asked.values, options=asked.options, own_holes=True)
    prediction = predict(model, [request])[0]
    if prediction is None:
        raise DataError("the sample cannot be read")
    for line in CutInputs(model).see([request]).lines():
        print(f"note: {line}", file=sys.stderr)
    if as_json:
        place = None if out is None else (out.parent, out.stem)
        print(printed(shown(prediction, place)))
    else:
        for each in prediction.n_best or (prediction,):
            print(each.text)
    if out is not None:
        print(prediction.save(out, overwrite=True), file=sys.stderr)  # asked for before, with what is there


def _many(model: Generalist, asked: _Asked, source: RowSource | None, given: argparse.Namespace) -> int:
    """One answer per row, in order; rows that cannot be read say why.

    Args:
        source: The rows; None takes lines of JSON from the standard input, each answered as it comes.
    """
    from ofasys_lite.commands.answers import Answering, items_of_lines, items_of_source, tell_values, writing_rows
    from ofasys_lite.generalist.cut_inputs import CutInputs

    files = None if given.out is None else given.out.with_suffix("")
    inputs = tuple(column.name for column in asked.inputs)
    task = _task(model, asked)
    nearest = None if asked.candidates is None else _looking(model, task, asked.candidates)
    cuts = CutInputs(model)
    answering = Answering(model, task, asked.columns, asked.values, inputs, asked.options, files, nearest, cuts)
    if source is None:
        blocks = items_of_lines(sys.stdin.buffer, given.limit, _BLOCK)
    else:
        total = len(source) if given.limit is None else min(given.limit, len(source))
        _tell_trained(model, asked, source, total)
        tell_values(asked.values, asked.columns, source)
        blocks = items_of_source(source, total, _BLOCK if given.out is not None else _PRINTED)
    count = failed = 0
    with writing_rows(given.out) as write:
        for block in blocks:
            rows = answering.block(block)
            write(rows)
            count, failed = count + len(rows), failed + sum("error" in row for row in rows)
    for line in cuts.lines():
        print(f"note: {line}", file=sys.stderr)
    if given.out is not None:
        print(f"{given.out}: {count} row{'' if count == 1 else 's'}", file=sys.stderr)
    if failed:
        print(f"{failed} of {count} rows could not be read; their lines say why", file=sys.stderr)
    return 1 if failed else 0


def _looking(
    model: Generalist, task: str, candidates: Candidates
) -> Callable[[Sequence[Request], dict[int, str]], list[Any]]:
    """What finds the nearest candidates of rows, as plain data; their vectors are made once."""
    index = candidates.index(model, task)

    def nearest(requests: Sequence[Request], reasons: dict[int, str]) -> list[Any]:
        return list(map(candidates.as_json, index.nearest(requests, candidates.top, reasons)))

    return nearest


def _tell_trained(model: Generalist, asked: _Asked, source: RowSource, total: int) -> None:
    """Says how many of the rows the task was trained on: what is predicted for them says little about others."""
    from ofasys_lite.data.contents import row_hashes
    from ofasys_lite.data.source import Mapped, has_column

    task = asked.task
    if task is None:
        lines = {name: entry.plan.line for name, entry in model.tasks.items()}
        learned = learned_line(asked.line, lines, frozenset(model.modalities))
        task = "" if learned is None else learned[0]
    contents = model.contents.get(task)
    mapping = {slot: column for slot, column in asked.columns.items() if has_column(source.columns, column)}
    if contents is None or asked.values:
        return
    hashes = row_hashes(Mapped(source, mapping) if mapping else source, contents.columns, range(total))
    count = 0 if hashes is None else int(contents.trained(hashes).sum())
    if count:
        print(f"note: {count} of {total} rows of {source.name} are rows that {task} was trained on", file=sys.stderr)
