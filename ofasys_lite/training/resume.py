"""Going on with a run: its last checkpoint is read, and what must not have changed since is compared, rows among it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from ofasys_lite.data.contents import NOT_COMPARED, Contents, Hashes, contents_of, doubled_rows, hashes_of
from ofasys_lite.data.mixture import Mixture
from ofasys_lite.data.stream_draws import States
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.trained import read_contents
from ofasys_lite.layout.ready import Ready, ReadyTask
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.vocabulary import Vocabulary
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.rules import ConverterSpec
from ofasys_lite.training.settings import COOLDOWN, TrainSettings, learning_rate, progress


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a run goes on.

    Attributes:
        facts: What the checkpoint was trained with.
        rate: Learning rate of its last step.
        sizes: Per optimizer and group, the number of parameters.
        streams: Task -> where its stream stands.
    """

    step: int
    seconds: float
    facts: Mapping[str, Any]
    rate: float = 0.0
    sizes: Sequence[Sequence[int]] = ()
    streams: States = field(default_factory=dict)


def begin(folder: RunFolder, resume: bool) -> Beginning | None:
    """The last checkpoint of `folder`, None where the run starts anew.

    A run that was killed before its first checkpoint starts anew.

    Raises:
        CheckpointError: The file cannot be read.
    """
    path = folder.last
    if not resume or not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        own = state["ofasys"]
        groups = [held["param_groups"] for held in state["optimizer_states"]]
        # older checkpoints have no rate of their own: all their groups had it
        rate = own.get("rate") or max((float(group["lr"]) for held in groups for group in held), default=0.0)
        sizes = [[len(group["params"]) for group in held] for held in groups]
        facts, streams = dict(own["facts"]), own.get("streams", {})
        return Beginning(int(state["global_step"]), float(own["seconds"]), facts, rate, sizes, streams)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"cannot read {path}: {what}", help="it is damaged or none of ours; start again under another name"
        ) from None


def facts_of(
    model: ModelConfig,
    vocabulary: Vocabulary,
    mixture: Mixture,
    settings: TrainSettings,
    contents: Mapping[str, Contents],
) -> dict[str, Any]:
    """What decides the meaning of a checkpoint's weights and the samples of its further steps, in plain values."""
    rows = {task.name: task.size for task in mixture.tasks}
    drawn = {"seed": settings.seed, "samples_per_step": settings.samples_per_step, "rows": rows}
    held = {task: each.digest for task, each in contents.items()}
    same = {"model": model.stored(), "vocabulary": vocabulary.hash}
    return {**same, **drawn, "contents": held, "mixture": mixture.fingerprint}


def rate_note(before: Beginning, settings: TrainSettings, given: bool = True) -> str:
    """What to say where nothing is left to train, or the learning rate jumps up as a run goes on; empty elsewhere.

    The schedule follows the share of the run that is done: a run that is made longer goes back on it.

    Args:
        given: Whether a user gave the steps.
    """
    done = progress(settings, before.step, before.seconds)
    if done >= 1:
        return f"step {before.step:,} was the last one: nothing is left to train; a larger steps= or minutes= goes on"
    if given and settings.steps is not None:
        done = before.step / settings.steps
    was, now = before.rate, learning_rate(settings, before.step, before.seconds, given)
    if not was or now <= 1.5 * was or done < settings.warmup:
        return ""
    usual = "" if settings.cooldown == COOLDOWN else f" trainer.cooldown={COOLDOWN}"
    return (
        f"the learning rate was {was:.2g} and rises to {now:.2g}: the run is {done:.0%} done now and goes back on its "
        f"schedule; to go on at the rate it had: trainer.schedule=constant{usual} trainer.lr={was:.2g}"
    )


def same_rows(folder: RunFolder, before: Mapping[str, Any], contents: Mapping[str, Contents]) -> None:
    """Compares the training rows of each task, by what they hold, with those the checkpoint was trained on.

    Not compared: tasks whose line reads other columns now (`same_plans` has told), and checkpoints that know no rows.

    Raises:
        CheckpointError: Rows are new or gone, hold other values or stand in another order; all tasks at once.
    """
    old = read_contents(folder.rows)
    told = []
    for task, digest in before.get("contents", {}).items():
        now, then = contents.get(task), old.get(task)
        if now is None or now.digest == digest or (then is not None and then.columns != now.columns):
            continue
        what = now.change(then) if then is not None and then.digest == digest else "its training rows are others"
        told.append(f"task {task}: {what}")
    if told:
        raise CheckpointError(
            f"checkpoint {folder.path}: the data have changed: {'; '.join(told)}. Pass rows=changed to accept.",
            help="or resume on the data it was started with, or start a new run under another name",
        )


def same_facts(
    folder: RunFolder, before: Mapping[str, Any], now: Mapping[str, Any], ignore: bool, changed: bool = False
) -> None:
    """Compares `facts_of` two runs.

    Args:
        ignore: Other facts of the mixture are accepted.
        changed: Other numbers of rows are accepted.

    Raises:
        CheckpointError: The weights would not fit; or, unless `ignore`, other samples would be drawn.
    """
    plain = {each.name: each.default for each in fields(ModelConfig)}
    for key, value in now["model"].items():
        then = before["model"].get(key, plain.get(key))  # a run of before a choice was named has what was usual
        if then != value:
            raise CheckpointError(
                f"checkpoint {folder.path}: model.{key} was {then} and is now {value}",
                help="resume with the model it was started with, or start a new run under another name",
            )
    if before["vocabulary"] != now["vocabulary"]:
        raise CheckpointError(
            f"checkpoint {folder.path}: the vocabulary has changed; its data declares other values now",
            help="resume on the data it was started with, or start a new run under another name",
        )
    for key in ("seed", "samples_per_step", "rows", "mixture"):
        if (changed if key == "rows" else ignore) or (key == "mixture" and before["rows"] != now["rows"]):
            continue  # the mixture follows from the numbers of rows, which come before it
        if before[key] != now[key]:
            said = "weights or epochs of tasks" if key == "mixture" else key
            change = "have changed" if key == "mixture" else f"was {before[key]} and is now {now[key]}"
            raise CheckpointError(
                f"checkpoint {folder.path}: {said} {change}; the steps to come would draw other samples. "
                f"Pass {'rows=changed' if key == 'rows' else 'plans=ignore'} to accept."
            )


def same_optimizers(folder: RunFolder, before: Beginning, now: Sequence[Mapping[str, Any]]) -> None:
    """Compares who trains which parameters (`structure_of`) with what the checkpoint's optimizers hold.

    Raises:
        CheckpointError: The state of the optimizers would not fit.
    """
    then = before.facts.get("optimizers")
    if then is None:  # from before there was a choice
        sizes = [[group["tensors"] for group in now]] if {g["optimizer"] for g in now} == {"adamw"} else []
        if sizes == before.sizes:
            return
    elif [(g["optimizer"], g["names"]) for g in then] == [(g["optimizer"], g["names"]) for g in now]:
        return
    was, is_ = (
        "; ".join(f"{g['optimizer']}: {g['tensors']} of {g['group']}" for g in groups)
        for groups in (then or [{"optimizer": "adamw", "tensors": sum(map(sum, before.sizes)), "group": "all"}], now)
    )
    # converters are compared by what was asked of them, not by what they took
    taken = [each if isinstance(each, str) else each.get("path") for each in before.facts.get("converters", ())]
    layers = "; lora took linear layers alone at first, and takes convolutions too" if "lora" in taken else ""
    raise CheckpointError(
        f"checkpoint {folder.path}: its optimizers hold other groups of parameters ({was}) than are asked for ({is_})",
        help="resume with trainer.optimizer and trainer.parameters as in its config.yaml (rates, decay and steps may "
        f"change{layers}), or begin a new run with these weights: start={folder.path}",
    )


def same_converters(folder: RunFolder, before: Mapping[str, Any], asked: Sequence[ConverterSpec]) -> None:
    """Compares the converters of the checkpoint's network with those that are asked for.

    Raises:
        CheckpointError: They differ: its weights would not fit.
    """
    then, now = before.get("converters", []), [spec.to_plain() for spec in asked]
    if then != now:
        raise CheckpointError(
            f"checkpoint {folder.path}: trainer.converters was {then} and is now {now}",
            help=f"resume with those it was started with, or begin a new run with its weights: start={folder.path}",
        )


def same_plans(folder: RunFolder, tasks: Sequence[ReadyTask]) -> None:
    """Compares the tasks of a run with those its folder tells of.

    Raises:
        CheckpointError: A task is new, is gone, or its line or closed set has changed.
    """
    path = folder.path / "plans.json"
    if not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    names = [task.card.name for task in tasks]
    for name in before:
        if name not in names:
            raise CheckpointError(
                f"checkpoint {folder.path}: task {name} was trained in this run and is now left out. "
                "Pass plans=ignore to accept."
            )
    for task in tasks:
        old = before.get(task.card.name)
        if old is None:
            raise CheckpointError(
                f"checkpoint {folder.path}: task {task.card.name} was not trained in this run",
                help=f"it holds {', '.join(before)}; start a new run for another mixture",
            )
        if old["hash"] == task.plan.hash:
            continue
        if old["line"] == task.plan.line:
            raise CheckpointError(
                f"checkpoint {folder.path}: task {task.card.name} has another closed set, or its cards mean "
                "something else now. Pass plans=ignore to accept."
            )
        raise CheckpointError(
            f'checkpoint {folder.path}: task {task.card.name} was trained with "{old["line"]}" and is now '
            f'"{task.plan.line}". Pass plans=ignore to accept.'
        )


def trained_rows(ready: Ready) -> tuple[dict[str, Contents], dict[str, dict[str, Hashes]]]:
    """(rows that each task is trained on, hashes of the rows of its splits); of no task whose rows vary.

    Of a stream the first rows are known, and nothing of one that can be read once.
    """
    tasks = [task for task in ready.tasks if task.first is None or not task.first.stream.once]
    hashes = {task.card.name: hashes_of(task.plan, task.sources) for task in tasks}
    found = {task.card.name: contents_of(task.plan, hashes[task.card.name]) for task in tasks}
    contents = {task: held for task, held in found.items() if held is not None}
    return contents, {task: hashes[task] for task in contents}


def row_notes(
    contents: Mapping[str, Contents], hashes: Mapping[str, Mapping[str, Hashes]], checked: Collection[str]
) -> Iterator[str]:
    """Notes of rows of valid and test that were trained on earlier; and of those in train, where no check looked.

    Args:
        contents: Which rows each task is and was trained on.
        checked: Notes of the check before the run.
    """
    for task, splits in hashes.items():
        for split in ("valid", "test"):
            rows = splits.get(split)
            if rows is None or not len(rows):
                continue
            count = int(contents[task].trained(rows).sum())
            if count:
                yield (
                    f"task {task}: {count:,} of {len(rows):,} {split} rows were trained on earlier; "
                    f"{'validation' if split == 'valid' else 'evaluation'} leaves them out"
                )
            twice = int(contents[task].doubled(rows).sum())
            if twice and f"task {task}: {NOT_COMPARED}" in checked:
                yield f"task {task}: {doubled_rows(split, len(rows), twice)}"
