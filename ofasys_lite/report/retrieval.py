"""Lines with `<->` judged: each side of every row looks for its other side among those of all rows.

Candidates that hold the same are one; right are all that stand beside what a row asks with. Shapes: N rows, C
candidates, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ofasys_lite.data.source import spread
from ofasys_lite.errors import CardError, DataError
from ofasys_lite.generalist.embedding import embed, ranked
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.metrics import fit_predict
from ofasys_lite.metrics.baselines.rankings import Candidates, rank_at_random, rank_by_words
from ofasys_lite.metrics.values import as_text
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.report.judge import RankJudge
from ofasys_lite.report.results import Answers, RefusedRow
from ofasys_lite.report.task_rows import TaskRows

#: Candidates that a prediction names, and those that a sample shows.
TOP, _SHOWN = 10, 3
#: Rows that are read and embedded at once.
_BLOCK = 1024
#: Most training rows that a baseline is fitted on, evenly spread.
_MOST = 10_000
#: Height of a shown picture in pixels.
_HEIGHT = 64


@dataclass(frozen=True, slots=True)
class Found:
    """What the model made of the rows of a split; rows that cannot be read are left out.

    Attributes:
        rankings: Per side that is looked for, per row the names of the nearest candidates.
        right: Per side that is looked for, per row the names of those that are right.
    """

    numbers: tuple[int, ...]
    rankings: tuple[list[list[str]], ...]
    right: tuple[list[list[str]], ...]
    rows: list[dict[str, Any]]
    refused: tuple[RefusedRow, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the sides of some rows hold, by row.

    Attributes:
        of_row: Row -> a number per side, equal where the side holds the same.
        names: Per side, such a number -> its name: the id of the first row that holds it.
        firsts: Per side, name -> that row.
    """

    of_row: Mapping[int, tuple[int, ...]]
    names: tuple[dict[int, str], ...]
    firsts: tuple[dict[str, int], ...]


def contents_of(rows: TaskRows, numbers: Sequence[int]) -> tuple[Contents, dict[int, str]]:
    """What the sides of rows hold, and which rows cannot be read, with the reason."""
    of_row: dict[int, tuple[int, ...]] = {}
    names: tuple[dict[int, str], ...] = ({}, {})
    firsts: tuple[dict[str, int], ...] = ({}, {})
    reasons: dict[int, str] = {}
    for i in numbers:
        try:
            of_row[i] = rows.maker.contents(rows.source.row(i))
        except DataError as error:
            reasons[i] = error.message
            continue
        for side, content in enumerate(of_row[i]):
            if content not in names[side]:
                name = rows.source.ids(i)
                names[side][content] = name
                firsts[side][name] = i
    return Contents(of_row, names, firsts), reasons


def retrieved(
    model: Generalist,
    rows: TaskRows,
    numbers: Sequence[int],
    progress: Callable[[str, int, int], None] | None = None,
) -> Found:
    """What each side of every row finds of the other."""
    contents, unread = contents_of(rows, numbers)
    refused = [_refused(rows, i, reason) for i, reason in unread.items()]
    kept, light = list[int](), list[dict[str, Any]]()
    blocks: tuple[list[Any], list[Any]] = ([], [])
    base, readable = rows.source.base or None, list(contents.of_row)
    for start in range(0, len(readable), _BLOCK):
        block = readable[start : start + _BLOCK]
        given = [rows.source.row(i) for i in block]
        requests = [
            Request(rows.name, row, rows.source.ids(i, row), folder=base) for i, row in zip(block, given, strict=True)
        ]
        reasons: dict[int, str] = {}
        vectors = [embed(model, requests, side, reasons=reasons) for side in (0, 1)]
        refused += [_refused(rows, block[place], reason) for place, reason in sorted(reasons.items())]
        places = [place for place in range(len(block)) if place not in reasons]
        kept += [block[place] for place in places]
        light += [rows.light(given[place]) for place in places]
        for held, found in zip(blocks, vectors, strict=True):
            held.append(found[places])
        if progress is not None:
            progress(rows.name, min(len(numbers), start + len(block)), len(numbers))
    sides = tuple(np.concatenate(held) if held else np.zeros((0, 1), np.float32) for held in blocks)
    own = [contents.of_row[i] for i in kept]
    both = [_looked_for(side, own, sides, contents) for side in (0, 1)]
    rankings, right = tuple(found for found, _ in both), tuple(found for _, found in both)
    return Found(tuple(kept), rankings, right, light, tuple(refused))


def _looked_for(
    side: int, own: Sequence[tuple[int, ...]], vectors: Sequence[Any], contents: Contents
) -> tuple[list[list[str]], list[list[str]]]:
    """(names of the candidates that each row finds on a side, nearest first; names of those that are right)."""
    places: dict[int, int] = {}
    beside: dict[int, dict[str, None]] = {}
    for place, held in enumerate(own):
        places.setdefault(held[side], place)
        beside.setdefault(held[1 - side], {})[contents.names[side][held[side]]] = None
    names = [contents.names[side][content] for content in places]
    found_NK, _ = ranked(vectors[1 - side], vectors[side][list(places.values())], TOP)
    return [[names[k] for k in row] for row in found_NK.tolist()], [list(beside[held[1 - side]]) for held in own]


def _refused(rows: TaskRows, i: int, reason: str) -> RefusedRow:
    id = rows.source.ids(i)
    return RefusedRow(rows.name, id, reason.removeprefix(f"task {rows.name}, id {id}: "), rows.source.place(i))


def ranked_answers(
    judge: RankJudge, train: TaskRows, test: TaskRows, numbers: Sequence[int], seed: int
) -> list[Answers]:
    """Answers of every baseline and reference of the metric, for the rows `numbers` of the evaluated split.

    Raises:
        CardError: A baseline that cannot rank the candidates of such a line.
    """
    names = dict.fromkeys(judge.metric.references, "reference")
    names |= dict.fromkeys(judge.metric.baselines, "trivial")
    contents, _ = contents_of(test, numbers)
    firsts = contents.firsts[judge.side]
    candidates = Candidates(list(firsts), [side_text(test, i, judge.side) for i in firsts.values()])
    told = {name: _answers(name, judge, train, test, numbers, candidates, seed) for name in names}
    return [Answers(name, kind, *told[name]) for name, kind in names.items()]


def _answers(
    name: str,
    judge: RankJudge,
    train: TaskRows,
    test: TaskRows,
    numbers: Sequence[int],
    candidates: Candidates,
    seed: int,
) -> tuple[list[list[str]], str]:
    """What a baseline says, and what a reader should know of it."""
    if name == "chance":
        return rank_at_random(len(numbers), candidates, TOP, seed), f"of {len(candidates.names):,} candidates"
    if not any(candidates.texts):
        help = "chance needs none; or leave `baselines` out"
        raise CardError(f"baseline `{name}` compares texts, and `{judge.column}` holds none", help=help)
    if name == "tfidf":
        asked = [side_text(test, i, 1 - judge.side) for i in numbers]
        if not any(asked):
            help = "chance needs none; or leave `baselines` out"
            raise CardError(f"baseline `{name}` compares texts, and only `{judge.column}` holds any", help=help)
        return rank_by_words(asked, candidates, TOP), ""
    # any other says a text, as of a target; its nearest candidates are what it finds
    chosen = spread(len(train.source), _MOST)
    target = f"{judge.column} (looked for)"
    inputs = test.inputs(1 - judge.side)
    given = [{**_given(train, i, judge), target: side_text(train, i, judge.side)} for i in chosen]
    asking = [_given(test, i, judge) for i in numbers]
    said = fit_predict(name, given, asking, [r.column for r in inputs], target, kinds.TEXT, seed, "exact_match")
    fitted = f"fitted on {len(chosen):,} training rows; the candidates nearest to its text by TF-IDF"
    return rank_by_words([as_text(value) for value in said], candidates, TOP), fitted


def _given(rows: TaskRows, i: int, judge: RankJudge) -> dict[str, Any]:
    return {read.column: rows.input(i, read) for read in rows.inputs(1 - judge.side)}


def side_text(rows: TaskRows, i: int, side: int) -> str:
    """All that a side of a row says in words; empty where it holds none."""
    values = (rows.input(i, read) for read in rows.inputs(side) if not read.media)
    return " ".join(filter(None, (as_text(value) for value in values)))


def candidate_looks(
    rows: TaskRows, numbers: Sequence[int], answers: tuple[Sequence[str], Sequence[str]], side: int
) -> tuple[Shown, Shown]:
    """How the candidates that a row finds look, and those that are right; `numbers` are the rows of all of them."""
    wanted = {name for names in answers for name in names[:_SHOWN]}
    firsts: dict[str, int] = {}
    for i in numbers:
        if (name := rows.source.ids(i)) in wanted:
            firsts.setdefault(name, i)
    found, right = (_looks(rows, names, firsts, side) for names in answers)
    return found, right


def _looks(rows: TaskRows, names: Sequence[str], firsts: Mapping[str, int], side: int) -> Shown:
    """How the first of some candidates look: their texts under each other, their pictures in a row."""
    texts, shots = list[str](), list[Any]()
    for name in names[:_SHOWN]:
        i = firsts[name]
        said = side_text(rows, i, side)
        texts += [said] if said else []
        shown = (rows.shown(read, rows.input(i, read)) for read in rows.inputs(side) if read.media)
        shots += [each for each in shown if each is not None]
    if not texts and not shots:
        return Shown(text=", ".join(names[:_SHOWN]))
    pictures = [each.picture for each in shots if each.picture is not None]
    sound = next((each.sound for each in shots if each.sound is not None), None)
    if len(texts) > 1:
        texts = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
    return Shown("\n".join(texts), _strip(pictures), sound)


def _strip(pictures: Sequence[Any]) -> Any:
    """Pictures beside each other, of one height; None without any that can be opened."""
    from PIL import Image

    from ofasys_lite.metrics.baselines.problem import image_of

    opened = [image.convert("RGB") for image in map(image_of, pictures) if image is not None]
    if not opened:
        return None
    scaled = [image.resize((max(1, round(image.width * _HEIGHT / image.height)), _HEIGHT)) for image in opened]
    strip = Image.new("RGB", (sum(image.width + 4 for image in scaled) - 4, _HEIGHT), "#ffffff")
    left = 0
    for image in scaled:
        strip.paste(image, (left, 0))
        left += image.width + 4
    return strip
