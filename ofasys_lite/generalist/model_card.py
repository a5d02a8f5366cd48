"""README.md of an export: a model card as Hugging Face reads it, of what is known of the model and nothing else.

A card that somebody changed is not written again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ofasys_lite.data.attributes import preprocess_class
from ofasys_lite.errors import OfasysError
from ofasys_lite.generalist.calls import columns_of
from ofasys_lite.generalist.card_data import DataSource, sources_of
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.trained import TaskEntry
from ofasys_lite.plan import Plan
from ofasys_lite.preprocess import kinds
from ofasys_lite.version import __version__
from ofasys_lite.writing import as_utf8, write_atomic

CARD = "README.md"
#: Last line of a card that is as we wrote it; the number is a hash of what stands above.
_MARK = re.compile(r"<!-- written by ofasys_lite: ([0-9a-f]{16}) -->\n?\Z")
#: (kinds read, kinds written) -> what Hugging Face calls such a model.
_PIPELINES = {
    (frozenset({kinds.TEXT}), frozenset({kinds.TEXT})): "text2text-generation",
    (frozenset({kinds.PICTURE}), frozenset({kinds.TEXT})): "image-to-text",
    (frozenset({kinds.PICTURE, kinds.TEXT}), frozenset({kinds.TEXT})): "image-text-to-text",
    (frozenset({kinds.SOUND}), frozenset({kinds.TEXT})): "automatic-speech-recognition",
    (frozenset({kinds.TEXT}), frozenset({kinds.SOUND})): "text-to-speech",
    (frozenset({kinds.TEXT}), frozenset({kinds.PICTURE})): "text-to-image",
    (frozenset({kinds.VIDEO, kinds.TEXT}), frozenset({kinds.TEXT})): "video-text-to-text",
}
#: A value of each kind as a user would write it; kinds that are not here need a value of a certain form.
_VALUES = {
    kinds.TEXT: "some words",
    kinds.PHONE: "S AH M",
    kinds.PICTURE: "picture.png",
    kinds.VIDEO: "film.mp4",
    kinds.SOUND: "sound.wav",
}
#: A line for models that learned no task here.
_OPEN_LINE, _OPEN_VALUES = "[TEXT:src] -> [TEXT:tgt]", {"src": "some words"}


def model_card(
    name: str,
    network: Network,
    tasks: Mapping[str, TaskEntry],
    parts: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Any],
    licence: str = "",
    reads_text: bool = True,
) -> str:
    """The text of the card.

    Args:
        name: Of the model.
        parts: By modality, what weights of others it began with: `house`, `source`, `licence`.
        results: What an evaluation of all rows said: `split`, `facts`, `tasks`, as in metrics.json; empty without one.
        licence: Of the model, as its author says; empty where nobody said.
        reads_text: Whether there is a text model.
    """
    sources = sources_of({task: entry.card for task, entry in tasks.items()})
    lines = [
        *_head(name, tasks, sources, results, licence),
        f"# {name}",
        "",
        *_about(network, tasks, parts),
        *_tasks(tasks),
        *_results(results),
        *_data(sources),
        *_parts(parts),
        *_use(tasks, reads_text),
        *_licence(sources, parts, licence),
    ]
    text = "\n".join(lines).rstrip("\n") + "\n\n"
    return f"{text}<!-- written by ofasys_lite: {_hash(text)} -->\n"


def write_card(text: str, folder: Path) -> bool:
    """Whether the card was written: one that somebody changed, or wrote himself, stays."""
    place = folder / CARD
    if not may_write_card(folder):
        return False
    write_atomic(place, text)
    return True


def may_write_card(folder: Path) -> bool:
    """Whether there is no README.md, or ours as we wrote it."""
    try:
        held = (folder / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False
    mark = _MARK.search(held)
    return mark is not None and mark[1] == _hash(held[: mark.start()])


def _hash(text: str) -> str:
    return hashlib.sha256(as_utf8(text)).hexdigest()[:16]


def _head(
    name: str,
    tasks: Mapping[str, TaskEntry],
    sources: Sequence[DataSource],
    results: Mapping[str, Any],
    licence: str,
) -> Iterator[str]:
    """Front matter; JSON is YAML, too."""
    used = {task: _kinds(entry.plan) for task, entry in tasks.items()}
    tags = ["ofasys_lite", *sorted({kind for read, written in used.values() for kind in (*read, *written)})]
    fields: dict[str, Any] = {"license": licence or "unknown", "library_name": "ofasys_lite", "tags": tags}
    pipelines = {_PIPELINES.get(pair) for pair in used.values()}
    if used:
        only = next(iter(pipelines)) if len(pipelines) == 1 else None
        fields["pipeline_tag"] = only or "any-to-any"
    datasets = [found for source in sources if (found := source.repository)]
    if datasets:
        fields["datasets"] = datasets
    scores = [_indexed(task, said, used.get(task), results) for task, said in results.get("tasks", {}).items()]
    if scores:
        fields["model-index"] = [{"name": name, "results": scores}]
    yield "---"
    for key, value in fields.items():
        yield f"{key}: {json.dumps(value, ensure_ascii=False)}"
    yield "---"
    yield ""


def _indexed(
    task: str,
    said: Mapping[str, Any],
    used: tuple[frozenset[str], frozenset[str]] | None,
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """A score as Hugging Face lists it."""
    metric = said["metric"]
    kind = (None if used is None else _PIPELINES.get(used)) or "any-to-any"
    return {
        "task": {"type": kind, "name": task},
        "dataset": {"type": task, "name": task, "split": str(results.get("split", "test"))},
        "metrics": [{"type": metric["name"], "name": metric["name"], "value": metric["value"]}],
    }


def _kinds(plan: Plan) -> tuple[frozenset[str], frozenset[str]]:
    """Kinds of values that a line reads and that it writes; a name out of a set is text."""
    found: tuple[set[str], set[str]] = (set(), set())
    for slot in plan.slots():
        kind = preprocess_class(slot.preprocess).kind
        found[slot.learned].add(kinds.TEXT if kind in kinds.TEXTS else kind)
    return frozenset(found[0]), frozenset(found[1])


def _about(network: Network, tasks: Mapping[str, TaskEntry], parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    config = network.config
    count = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}" if tasks else "no task here yet"
    begun = "its weights are those of others" if parts and not tasks else f"it learned {count}"
    yield (
        f"An encoder-decoder of {config.encoder_layers} + {config.decoder_layers} layers, width {config.width}, "
        f"{sum(p.numel() for p in network.parameters()):,} parameters, {network.embedding.num_embeddings:,} rows of "
        f"its vocabulary, written by ofasys_lite {__version__}; {begun}."
    )
    yield ""


def _tasks(tasks: Mapping[str, TaskEntry]) -> Iterator[str]:
    if not tasks:
        return
    yield "## Tasks"
    yield ""
    yield "One line of text declares each: what is read, an arrow, what is written."
    yield ""
    for name, entry in tasks.items():
        yield f"- **{name}**: {_code(' '.join(entry.plan.line.split()))}"
    yield ""


def _code(text: str) -> str:
    """Text as code, whatever ticks it holds."""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _results(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Results"
    yield ""
    if not results:
        yield "Not evaluated yet: `ofasys-lite evaluate RUN` writes scores here."
        yield ""
        return
    facts = results.get("facts", {})
    yield (
        f"On the {results.get('split', 'test')} split, {facts.get('rows evaluated', 'all rows')}; in brackets the 95 % "
        "interval, beside it the best answer that needs no model."
    )
    yield ""
    yield "| task | metric | score | trivial baseline | items |"
    yield "|---|---|---|---|---|"
    for task, said in results["tasks"].items():
        metric = said["metric"]
        arrow = "higher is better" if metric.get("higher_is_better", True) else "lower is better"
        trivial = [each for each in said.get("baselines", ()) if each.get("kind") == "trivial"]
        best = _strongest(trivial, bool(metric.get("higher_is_better", True)))
        shown = "none" if best is None else f"{_number(best)} ({_cell(str(best['baseline']))})"
        cells = (f"{_cell(str(metric['name']))} ({arrow})", _number(metric), shown, f"{metric['items']:,}")
        yield f"| {_cell(task)} | {' | '.join(cells)} |"
    yield ""


def _strongest(trivial: Sequence[Mapping[str, Any]], higher: bool) -> Mapping[str, Any] | None:
    known = [each for each in trivial if each.get("value") is not None]
    return (max if higher else min)(known, key=lambda each: each["value"], default=None) if known else None


def _number(score: Mapping[str, Any]) -> str:
    """`0.980 [0.963, 0.989]`; points with one digit."""
    digits = 1 if score.get("unit") == "points" else 3
    value, low, high = (score.get(key) for key in ("value", "low", "high"))
    if value is None:
        return "none"
    interval = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{interval}"


def _data(sources: Sequence[DataSource]) -> Iterator[str]:
    if not sources:
        return
    yield "## Data"
    yield ""
    yield "| data | what it is | licence | tasks |"
    yield "|---|---|---|---|"
    for source in sources:
        cells = (source.name, source.about or "not said", source.licence or "unknown", ", ".join(source.tasks))
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""


def _parts(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not parts:
        return
    yield "## Weights of others"
    yield ""
    yield "| part | began with | from | licence |"
    yield "|---|---|---|---|"
    for name, part in parts.items():
        cells = (name, str(part.get("house")), str(part.get("source")), str(part.get("licence") or "unknown"))
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""


def _use(tasks: Mapping[str, TaskEntry], reads_text: bool) -> Iterator[str]:
    """A snippet and a command; the files that they name are the reader's."""
    if not reads_text:
        yield "## Use"
        yield ""
        yield "It was imported without its text model, so it reads no text: import it again with `--tokenizer FOLDER`."
        yield ""
        return
    found = [(name, entry.plan, values) for name, entry in tasks.items() if (values := _values(entry.plan)) is not None]
    if tasks and not found:
        return
    task, plan, values = found[0] if found else ("", None, dict(_OPEN_VALUES))
    line = _OPEN_LINE if plan is None else plan.line.partition("|||")[0].strip()
    given = "".join(f", {key}={value!r}" for key, value in values.items() if key.isidentifier())
    more = {key: value for key, value in values.items() if not key.isidentifier()}
    given += f", **{more!r}" if more else ""
    pairs = " ".join(shlex.quote(f"{key}={value}") for key, value in values.items())
    yield "## Use"
    yield ""
    yield "FOLDER is where this file lies."
    yield ""
    yield "```python"
    yield "from ofasys_lite import GeneralistModel"
    yield ""
    yield 'model = GeneralistModel.from_pretrained("FOLDER")'
    yield f"print(model({' '.join(line.split())!r}{given}).text)"
    yield "```"
    yield ""
    yield "```bash"
    yield f"ofasys-lite predict FOLDER {shlex.quote(task or line)} {pairs}".rstrip()
    yield "```"
    yield ""


def _values(plan: Plan) -> dict[str, str] | None:
    """A value for each column that the line reads; None where one needs a form that is not known here."""
    if plan.alignment is not None:
        return None
    found = {}
    try:
        for name, column in columns_of(plan).items():
            kind = preprocess_class(column.preprocess).kind if column.preprocess else ""
            if kind in _VALUES:
                found[name] = _VALUES[kind]
            elif not column.optional:
                return None
    except OfasysError:
        return None
    return found


def _licence(sources: Sequence[DataSource], parts: Mapping[str, Mapping[str, Any]], licence: str) -> Iterator[str]:
    yield "## Licence"
    yield ""
    held = [("data", s.name, s.licence) for s in sources]
    held += [("weights", str(p.get("house")), p.get("licence")) for p in parts.values()]
    said = "; ".join(f"{what} `{_cell(name)}`: {licence or 'unknown'}" for what, name, licence in held)
    unsaid = (
        "Nobody has said under which licence this model may be used: `save_pretrained(folder, licence=...)` says it."
    )
    yield f"Its author says: {licence}." if licence else unsaid
    if said:
        yield f"It depends on {said}."
    yield ""
