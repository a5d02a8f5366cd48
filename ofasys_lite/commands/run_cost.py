"""What `train` with these values would cost: the run composed, its tasks made ready, its model without values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ofasys_lite.errors import CardError
from ofasys_lite.preprocess.absence import home
from ofasys_lite.run.run_folder import environment
from ofasys_lite.training.start import Start

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ofasys_lite.commands.run_config import RunConfig
    from ofasys_lite.training.outlook import Outlook

#: Values that `train` takes, not the names of files; and what beside them takes a key away, alone a path of somebody's.
_VALUE, _AWAY = re.compile(r"[+~]{0,2}[A-Za-z_][\w.@/]*="), re.compile(r"~[A-Za-z_][\w.@/]*$")


def values_of(words: Sequence[str]) -> tuple[str, ...]:
    """The words if they are what `train` takes (`experiment=quickstart model=small`); nothing if none is.

    Raises:
        CardError: Some of them are tasks, lines or files.
    """
    values = tuple(w for w in words if _VALUE.match(w) and "->" not in w.partition("=")[0] and not _there(w))
    values = tuple(w for w in words if w in values or (values and _AWAY.match(w)))
    if values and len(values) < len(words):
        other = next(word for word in words if word not in values)
        raise CardError(
            f"`{other}` stands beside {values[0]}",
            help="what `train` takes is all key=value; its tasks are tasks=[vqa,caption]",
        )
    return values


def _there(word: str) -> bool:
    try:
        return Path(home(word)).exists()
    except OSError:  # longer than any file name
        return False


def composed(values: Sequence[str], folders: Sequence[str]) -> RunConfig:
    """The run that `train` would begin with these values; CardError as there."""
    from ofasys_lite.commands.compose import compose, user_folders
    from ofasys_lite.commands.run_config import run_config

    content = compose("train", list(values), folders[0] if folders else None)
    for key in ("evaluate", "plans", "rows", "overwrite"):
        content.pop(key, None)
    config = run_config(content, (*folders, *user_folders(list(values))))
    environment(config.data)
    return config


def has_weights(config: RunConfig) -> bool:
    """Whether the run goes on, or begins with a trained model, so that its cost is not estimated here."""
    return bool(config.resume) or bool((Start.of(config.start) or Start()).path)


def outlook_of(config: RunConfig, beside: Sequence[int] = ()) -> Outlook:
    """What the run will cost, its tasks checked and their data prepared; no weights are made, no codec is trained.

    Args:
        config: The run, with the parts of others that it begins with (`begin_with`).
        beside: Other numbers of processes for which memory is asked.

    Raises:
        CardError: It goes on, or begins with a trained model.
    """
    if has_weights(config):
        raise CardError(
            "a run that goes on, or begins with a trained model, is not estimated here",
            help="`train` says what it costs before it begins",
        )
    import torch
    from rich.console import Console

    from ofasys_lite.generalist.converters import make_converter
    from ofasys_lite.generalist.network import AdapterSpec, Network
    from ofasys_lite.layout.ready import make_ready
    from ofasys_lite.model import pick_device, probe_precision
    from ofasys_lite.training.begun_parts import body_of
    from ofasys_lite.training.expected import mixture_of, token_means
    from ofasys_lite.training.missing_codecs import CodecTrainer
    from ofasys_lite.training.outlook import outlook
    from ofasys_lite.training.parameter_groups import groups_of

    settings, model = config.settings.train, config.settings.model
    codecs = CodecTrainer(
        config.modalities, config.settings.data, config.seed, model.decoder_layers, Console(quiet=True), _no, _no
    )
    found = replace(codecs, trains=False).find
    body = body_of(config.parts)
    vocabulary = None if body is None else body.vocabulary
    ready = make_ready(config.tasks, config.modalities, config.settings.data, vocabulary, find_codec=found)
    with torch.device("meta"):
        specs = {name: AdapterSpec(path, dict(values)).stored() for name, (path, values) in ready.adapters.items()}
        specs = specs if body is None else body.specs(specs)
        network = Network(replace(model, compile_blocks=False), len(ready.vocabulary), specs)
        for spec in settings.converters:
            make_converter(spec.path, spec.options).convert(network)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = pick_device("cpu" if settings.accelerator == "cpu" else "auto")
    precision = settings.precision
    if precision == "auto":
        precision = probe_precision(device, model.width)
    mixture = mixture_of(ready.tasks, settings, token_means(ready.tasks, settings))
    groups = groups_of(network, settings)
    return outlook(ready.tasks, network, groups, mixture, settings, device, precision == "bf16", beside)


def _no() -> None:
    return None


def show_cost(found: Outlook, console: Console) -> None:
    """The estimate in full: parameters by part, tasks, memory by ranks, and what `train` says."""
    for table in (_parameters(found), _tasks(found), _memory(found)):
        console.print(table)
        console.print()
    say_cost(found, console)


def say_cost(found: Outlook, console: Console) -> None:
    """What `train` says of it before the first step."""
    for line in found.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if found.settings.accelerator == "cuda" and found.device.type == "cpu":
        console.print("note: there is no CUDA device here: time and room are those of this CPU")


def _table(*columns: str) -> Table:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right")
    return made


def _parameters(found: Outlook) -> Table:
    table = _table("parameters", "numbers", "share")
    total = sum(found.expected.parameters.values())
    for name, size in found.expected.parameters.items():
        table.add_row(name, f"{size:,}", f"{size / total:.1%}")
    table.add_row("all", f"{total:,}", "")
    return table


def _tasks(found: Outlook) -> Table:
    table = _table("task", "samples a step", "source rows", "target rows", "GFLOP a step", "share")
    for task in found.expected.tasks:
        rows = (f"{task.samples:.1f}", f"{task.source:.0f}", f"{task.target:.0f}")
        share = task.work.flops / max(1.0, found.expected.flops)
        table.add_row(task.name, *rows, f"{task.work.flops / 1e9:.3g}", f"{share:.1%}")
    samples = sum(task.samples for task in found.expected.tasks)
    table.add_row("all", f"{samples:.0f}", "", "", f"{found.expected.flops / 1e9:.3g}", "")
    return table


def _memory(found: Outlook) -> Table:
    ranks = {"one process" if n == 1 else f"ddp, {n} ranks": each for n, each in found.expected.others.items()}
    table = _table("MB on a rank", *ranks)
    for name in dict.fromkeys(name for each in ranks.values() for name in each.memory):
        table.add_row(name, *(f"{each.memory.get(name, 0) / 1e6:,.1f}" for each in ranks.values()))
    table.add_row("at most at once", *(f"{each.peak / 1e6:,.1f}" for each in ranks.values()))
    return table
