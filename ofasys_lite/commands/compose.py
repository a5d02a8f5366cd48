"""Hydra's edge: command line -> composed configuration -> plain values; its errors in the project's own form."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ofasys_lite.cards.find import content_folder, modalities, near_card, task_names
from ofasys_lite.cards.typed import typed_source
from ofasys_lite.commands.arguments import MANY, literal, quoted
from ofasys_lite.commands.hydra_sources import cards_as_groups
from ofasys_lite.commands.run_keys import refuse_unknown, settings_of, unknown_key
from ofasys_lite.errors import CardError, OfasysError, raise_all
from ofasys_lite.preprocess.absence import home

PRESETS = "pkg://ofasys_lite.presets"
#: Hydra's flags that take a value.
_VALUED = frozenset(("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"))
_VALUED |= {"--config-dir", "-cd", "--info", "-i"}
#: Hydra's other long flags.
_BARE = frozenset(("--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun"))
_BARE |= {"--shell-completion", "--experimental-rerun"}
#: What Lightning adds to the command line of each further rank that it starts.
_RANK = "hydra.job.name=train_ddp_process_"
_CARDS = re.compile(r"\+{0,2}data\.cards=(?P<value>.*)")


def compose(verb: str, overrides: Sequence[str], config_dir: str | Path | None = None) -> dict[str, Any]:
    """The composed configuration of a verb as plain values; strings of tasks and modalities stay escaped."""
    with (
        _searching(verb, overrides, config_dir),
        hydra.initialize_config_module("ofasys_lite.presets", job_name="ofasys_lite", version_base="1.3"),
    ):
        extra = [] if config_dir is None else [f"hydra.searchpath=[{quoted(f'file://{Path(config_dir).resolve()}')}]"]
        return _plain(hydra.compose(verb, [*literal(overrides, many=False), *extra]))


def run_hydra(verb: str, arguments: Sequence[str], function: Callable[[dict[str, Any], str | None], None]) -> None:
    """Runs `function(configuration, job)` as the command line asks: once, once per job of a multirun, or not at all.

    Args:
        verb: `train` or `evaluate`: the name of the file in presets/.
        function: Gets plain values, and in a multirun the job's folder under runs/ (else None).

    Raises:
        OfasysError: What was wrong with the arguments or in the jobs, all of it at the end of a multirun.
    """

    _refuse_flags(arguments)
    _refuse_folder(verb, arguments)
    errors: list[OfasysError] = []

    def job(config: DictConfig) -> None:
        own = HydraConfig.get()
        many = own.mode == RunMode.MULTIRUN
        folder = f"{own.sweep.dir}/{own.job.num}".removeprefix("runs/") if many else None
        ours, sys.argv = sys.argv, before  # a launcher of further ranks repeats the command line as it was typed
        try:
            function(_plain(config), folder)
        except OfasysError as error:  # Hydra would print its own lines around it; the other jobs of a sweep go on
            errors.append(error)
        finally:
            sys.argv = ours

    config_dir = _flag(arguments, "--config-dir", "-cd")
    if _flag(arguments, "--cfg", "-c") is not None and not _is_multirun(arguments):
        # what a run would refuse beside its tasks: Hydra prints, and no run looks
        content = compose(verb, _sorted(arguments)[1], config_dir)
        refuse_unknown(content, verb)
        if verb == "train":
            settings_of({**content, "steps": 1, "minutes": None, "seed": 0})
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    with _searching(verb, arguments, config_dir):
        flags, overrides = _sorted(literal(arguments, _is_multirun(arguments)))
        sys.argv = [f"ofasys-lite {verb}", *flags, *overrides]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed with a traceback
        try:
            hydra.main(version_base="1.3", config_path=PRESETS, config_name=verb)(job)()
        finally:
            sys.argv = before
            os.environ.pop("HYDRA_FULL_ERROR") if full is None else os.environ.update(HYDRA_FULL_ERROR=full)
    raise_all(errors)


def user_folders(arguments: Sequence[str], config_dir: str | Path | None = None) -> tuple[str, ...]:
    """Users' folders of cards: `--config-dir`, and what `data.cards=` names."""
    given = config_dir if config_dir is not None else _flag(arguments, "--config-dir", "-cd")
    found = [] if given is None else [home(str(given))]
    for argument in arguments:
        match = _CARDS.fullmatch(argument)
        if match is not None:
            value = typed_source(match["value"])
            found += [home(str(each)) for each in (value if isinstance(value, list) else [value]) if each != "null"]
    for folder in found:
        if not Path(folder).is_dir():
            raise CardError(f"{folder}: no such folder", help="name a folder that holds tasks/, modalities/ or presets")
    return tuple(dict.fromkeys(found))


@contextmanager
def _searching(verb: str, arguments: Sequence[str], config_dir: str | Path | None) -> Iterator[None]:
    """Hydra with our groups, its state cleared before and after, its errors translated."""
    folders = user_folders(arguments, config_dir)
    if config_dir is not None:
        _refuse_doubles(Path(config_dir))
    GlobalHydra.instance().clear()
    try:
        if verb == "train":
            with cards_as_groups(folders):
                yield
        else:
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise _translated(error, verb, arguments, config_dir) from error
    except ValueError as error:
        key = _key_of_list(error, arguments)
        if key is None:
            raise
        raise _list_with_keys(key) from error
    finally:
        GlobalHydra.instance().clear()


def _refuse_flags(arguments: Sequence[str]) -> None:
    """Stops with exit code 2 at a flag that Hydra does not have: who writes `--model tiny` means `model=tiny`."""
    for name in (argument.partition("=")[0] for argument in arguments):
        if name.startswith("--") and name not in _BARE | _VALUED:
            shown = "--help, --config-dir, --cfg, --multirun, --hydra-help"
            help = f"values are written without dashes: {name[2:]}=...; flags: {shown}"
            print(CardError(f"there is no flag `{name}`", help=help), file=sys.stderr)
            raise SystemExit(2)


def _refuse_folder(verb: str, arguments: Sequence[str]) -> None:
    """Hydra's own folder of a run would be made, and stay empty; Lightning names it to the ranks that it starts."""
    if any(argument.startswith(_RANK) for argument in arguments):
        return
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if key == "hydra.run.dir":
            ours = (
                "name=NAME writes to runs/NAME" if verb == "train" else f"output={value or 'FOLDER'} names its folder"
            )
            raise CardError("`hydra.run.dir` has no effect here", help=ours)


def _refuse_doubles(folder: Path) -> None:
    """Hydra would silently take ours of two presets with one name."""
    own = content_folder("presets")
    for path in sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder)
        if name.parts[0] not in ("tasks", "modalities") and (own / name).is_file():
            raise CardError(f"{name.with_suffix('')} is ambiguous: {own / name} and {path}", help="rename yours")


def _is_multirun(arguments: Sequence[str]) -> bool:
    return "-m" in arguments or "--multirun" in arguments


def _flag(arguments: Sequence[str], *names: str) -> str | None:
    """The value of a flag, written `--flag value` or `--flag=value`."""
    for number, argument in enumerate(arguments):
        for name in names:
            if argument == name and number + 1 < len(arguments):
                return arguments[number + 1]
            if argument.startswith(f"{name}="):
                return argument[len(name) + 1 :]
    return None


def _sorted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides, which Hydra wants in one piece."""
    flags: list[str] = []
    overrides: list[str] = []
    before = ""
    for argument in arguments:
        value = before in _VALUED and "=" not in argument
        (flags if value or argument.startswith("-") else overrides).append(argument)
        before = argument
    return flags, overrides


def _plain(config: DictConfig) -> dict[str, Any]:
    """Plain values: interpolations resolved everywhere but in tasks and modalities, whose strings stay escaped."""
    literal = ("tasks", "modalities")
    raw = OmegaConf.to_container(config, resolve=False)
    kept = {key: raw[key] for key in literal if isinstance(raw, dict) and key in raw}
    rest = OmegaConf.masked_copy(config, [str(key) for key in config if key not in (*literal, "hydra")])
    resolved = OmegaConf.to_container(rest, resolve=True, throw_on_missing=True)
    return {**{str(key): value for key, value in dict(resolved).items()}, **kept}  # type: ignore[arg-type]


def _key_of_list(error: ValueError, arguments: Sequence[str]) -> str | None:
    """The argument's key that OmegaConf took for a place in a list (`trainer.betas.x`), None for other errors."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    wrong = re.fullmatch(r"invalid literal for int\(\) with base 10: '(?P<part>.*)'", str(error))
    if wrong is None or trace is None or not trace.tb_frame.f_globals["__name__"].startswith("omegaconf."):
        return None
    keys = (argument.partition("=")[0] for argument in arguments)
    return next((key for key in keys if key.endswith(f".{wrong['part']}")), None)


def _list_with_keys(key: str) -> CardError:
    """The error for a key below a list."""
    parent = key.rpartition(".")[0]
    return CardError(f"unknown key `{key}`", help=f"{parent} is a list, without keys: {parent}=[...]")


def _translated(error: Exception, verb: str, arguments: Sequence[str], config_dir: str | Path | None) -> CardError:
    """Hydra's error in our form, with the nearest name where a name is wrong."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        options = [each for each in error.options or () if each != "all"]
        if group == "tasks":
            options = task_names(user_folders(arguments, config_dir))
        return CardError(f"{group}={name}: there is no {group}/{name}", help=near_card(group, name, options, group))
    if isinstance(error, OverrideParseException):
        help = "write key=value; quote a value with spaces or marks: 'key=\"a value\"'"
        bare = str(error.override).lstrip("+")
        typed = next((each for each in arguments if each.lstrip("+") == bare), error.override)
        return CardError(f"cannot read the argument `{typed}`", help=help)
    text = str(error).strip()
    several = re.search(
        r"(?:Ambiguous value for argument|Sweep parameters) '(?P<argument>[^=]+)=(?P<value>[^']*)", text
    )
    if several is not None:
        point = re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", several["value"])
        key = several["argument"].lstrip("+")  # which a verb may have put in front
        decimal = f"decimals have a point: {key}={point}; " if point != several["value"] else ""
        return CardError(f"`{key}` is given several values", help=decimal + MANY)
    merged = re.match(r"Error merging override \+*(?P<key>[^=]+)=", text)
    if merged is not None:
        return unknown_key(merged["key"], verb, modalities(user_folders(arguments, config_dir)))
    wrong = re.search(r"Could not (?:override|delete|append to config)[^']*'(?P<key>[^']+)'", text)
    if wrong is not None and "No match in the defaults list" not in text and "already at" not in text:
        # a mapping given for a group is refused by the name of the group, its cause names the key
        inside = re.search(r"full_key: (\S+)", str(error.__cause__))
        key = inside[1] if inside is not None and inside[1].startswith(f"{wrong['key']}.") else wrong["key"]
        return unknown_key(key, verb, modalities(user_folders(arguments, config_dir)))
    merging = re.match(r"Error merging override \+*(?P<key>[^=\s]+)", text)
    if merging is not None and error.__cause__ is not None:
        return _list_with_keys(merging["key"])
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing is not None:
        return CardError(f"`{missing[1]}` is not given", help=f"write {missing[1]}=...")
    inside = re.search(r"full_key: (\S+)", text)
    if inside is not None:
        return CardError(f"`{inside[1]}`: {text.splitlines()[0]}", help="${...} names another key, or oc.env:VARIABLE")
    return CardError(text.splitlines()[0] if text else type(error).__name__, help=" ".join(text.splitlines()[1:2]))
