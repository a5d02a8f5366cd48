"""`ofasys-lite explain`: what a line means, what it costs and what its data looks like; what a type takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ofasys_lite.cards.find import content_folder, modalities
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.cards.yaml_nodes import plain, read_yaml
from ofasys_lite.commands.check import read_tasks
from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.commands.run_cost import composed, outlook_of, show_cost, values_of
from ofasys_lite.errors import CardError, did_you_mean, raise_all
from ofasys_lite.plan import Plan, build_plan
from ofasys_lite.plan.codecs import codec_of, with_codecs
from ofasys_lite.plan.cost import ModelSize
from ofasys_lite.plan.explanation import Count, Tokens, explain_plan
from ofasys_lite.plan.narrow import width
from ofasys_lite.plan.segments import SlotSegment
from ofasys_lite.plan.show import show, show_type

if TYPE_CHECKING:
    from rich.console import Console

    from ofasys_lite.layout.analyze import Analysis

_BARS = 8
_WIDTH = 40
#: Numbers of processes beside each other in what a run costs.
_RANKS = (1, 2, 8)


def main(arguments: Sequence[str]) -> int:
    """0; a mistake in a line or card is raised with its place."""
    parser = FlagParser("ofasys-lite explain", description=__doc__)
    parser.add_argument(
        "what",
        nargs="+",
        help="lines, tasks or cards (.yaml), each followed by a data file or not; types (IMAGE); "
        "or what `train` takes (experiment=quickstart model=small): what that run will cost",
    )
    parser.add_argument("--analyze", action="store_true", help="measure lengths, truncation and time on the data")
    parser.add_argument("--rows", type=int, default=500, help="rows that --analyze reads (500)")
    parser.add_argument("--model", action="append", default=[], help="model presets of the cost estimate (all)")
    parser.add_argument("--config-dir", action="append", default=[], help="a folder with cards of your own")
    given = parser.parse_args(list(arguments))
    if given.rows < 1:
        parser.error("--rows is at least 1")
    if values := values_of(given.what):
        from rich.console import Console

        from ofasys_lite.commands.begin import begin_with  # brings Hydra

        run, notes = begin_with(composed(values, given.config_dir), values)
        for note in notes:
            print(f"note: {note}")
        show_cost(outlook_of(run, _RANKS), Console(highlight=False, width=width(160)))
        return 0
    types = modalities(given.config_dir)
    from ofasys_lite.data.attributes import wrong_attributes

    shown = [text for text in given.what if text in types]
    cards, errors = read_tasks([text for text in given.what if text not in types], given.config_dir, sorted(types))
    raise_all(errors)
    from rich.console import Console

    console = Console(highlight=False, width=width(160))
    for name in shown:
        show_type(types[name], console)
    sizes = model_sizes(given.model)
    for card in cards:
        if given.analyze:
            _analyzed(card, types, sizes, given.rows, console)
        else:
            plan = _with_codecs(build_plan(card, types), card)
            raise_all(wrong_attributes(card, plan, {name: each.settings for name, each in types.items()}))
            show(explain_plan(plan, sizes, _typical(types)), console)
            sizes_told = "60 bytes of text, 224 x 224 pixels, 3 s of sound, 10 s of video"
            console.print(f"~ guessed: {sizes_told}; --analyze with data measures")
    return 0


def _with_codecs(plan: Plan, card: TaskCard) -> Plan:
    """The plan with the sizes of the codecs that it names; CheckpointError or CardError as in training."""
    from ofasys_lite.data.codec_facts import named_codec
    from ofasys_lite.plan.codecs import codec_slots

    known = {slot.key: named_codec(card, slot) for slot in codec_slots(plan)}
    return with_codecs(plan, {key: found.facts for key, found in known.items() if found is not None})


def model_sizes(names: Sequence[str] = ()) -> dict[str, ModelSize]:
    """Sizes of the model presets by name, smallest first.

    Raises:
        CardError: No preset has that name; the nearest one is offered.
    """
    files = {path.stem: path for path in content_folder("presets").glob("model/*.yaml")}
    for name in names:
        if name not in files:
            raise CardError(f"no model preset `{name}`", help=did_you_mean(name, sorted(files), "presets"))
    found = {}
    for name in names or files:
        values = plain(read_yaml(files[name]))["model"]
        found[name] = ModelSize(
            width=values["width"],
            encoder_layers=values["encoder_layers"],
            decoder_layers=values["decoder_layers"],
            heads=values["heads"],
            kv_heads=values.get("kv_heads") or 0,
            ffn=values.get("ffn") or 0,
            gated=values.get("mlp") == "swiglu",
            prefix=values.get("source") == "prefix",
        )
    return dict(sorted(found.items(), key=lambda pair: (pair[1].width, pair[1].encoder_layers, pair[0])))


def _typical(types: Mapping[str, ModalityCard]) -> Count:
    """Rows of a slot whose data nobody has seen: those of a value of typical length."""
    from ofasys_lite.data.attributes import preprocess_class
    from ofasys_lite.layout.costs import typical_rows
    from ofasys_lite.preprocess.base import Context
    from ofasys_lite.preprocess.vocabulary import Vocabulary, train_pieces

    # a stand-in: only lengths are asked of it
    vocabulary = Vocabulary(train_pieces(["a stand-in"], 300))

    def count(slot: SlotSegment) -> Tokens | None:
        if not slot.preprocess:
            return None
        context = Context(types[slot.modality].settings, vocabulary)
        rows = typical_rows(slot, preprocess_class(slot.preprocess)(context))
        return Tokens(rows, "guessed" if codec_of(slot) is None else "exact")

    return count


def _analyzed(
    card: TaskCard, types: Mapping[str, ModalityCard], sizes: Mapping[str, ModelSize], rows: int, console: Console
) -> None:
    """Explains a card by its data: closed sets frozen, rows measured."""
    from ofasys_lite.layout.analyze import analyze
    from ofasys_lite.layout.ready import DataSettings, make_ready

    if not card.data.get("train"):
        raise CardError(f"task {card.name} has no data to analyze", help="name it after the line: explain LINE my.csv")
    ready = make_ready([card], types, DataSettings())
    task = ready.tasks[0]
    found = analyze(task, rows)
    means = {s.key: Tokens(round(sum(s.counts) / len(s.counts)), "measured") for s in found.slots if s.counts}
    show(explain_plan(task.plan, sizes, lambda slot: means.get(slot.key)), console)
    _show_analysis(found, console)
    for note in task.notes:
        console.print(f"note: {note}", markup=False)


def _show_analysis(found: Analysis, console: Console) -> None:
    counts = ", ".join(f"{split} {count:,}" for split, count in found.rows.items())
    lines = [f"rows: {counts}; {found.sampled} of train measured"]
    if found.broken[0]:
        lines.append(f"{found.broken[0]} of them cannot be read; the first: {found.broken[1]}")
    lines += [f"closed set of {key}: {count} values" for key, count in found.closed.items()]
    lines += found.remarks
    for slot in found.slots:
        cut = ""
        if slot.limit is not None:
            share = 100 * slot.cut / max(1, len(slot.counts))
            cut = f"; max_length={slot.limit} cuts {share:.1f} %"
        lines += ["", f"{slot.side} {slot.modality} {slot.key}: rows per value{cut}", *histogram(slot.counts)]
    lines += ["", "source: rows per sample", *histogram(found.sources)]
    lines += ["", "target: rows per sample", *histogram(found.targets), ""]
    stages = ", ".join(f"{stage} {1000 * seconds:.2f} ms" for stage, seconds in found.seconds.items())
    lines.append(f"time per sample: {stages}")
    for line in lines:
        console.print(line, markup=False)


def histogram(counts: Sequence[int]) -> list[str]:
    """Bars of a histogram over at most 8 ranges of equal width, with the number of values in each.

    Example:
        >>> histogram([1, 1, 2])
        ['     1 ████████████████████████████████████████ 2', '     2 ████████████████████ 1']
    """
    if not counts:
        return ["  none"]
    low, high = min(counts), max(counts)
    step = -(-(high - low + 1) // _BARS)
    edges = range(low, high + 1, step)
    totals = [sum(edge <= count < edge + step for count in counts) for edge in edges]
    most = max(totals)
    found = []
    for edge, total in zip(edges, totals, strict=True):
        name = f"{edge}" if step == 1 else f"{edge}-{edge + step - 1}"
        bar = "█" * round(_WIDTH * total / most) or ("▏" if total else "")
        found.append(f"{name:>6} {bar} {total}")
    return found
