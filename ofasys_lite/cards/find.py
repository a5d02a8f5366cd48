"""Cards by name: the project's own folders, then users' folders; a name in two places is refused."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ofasys_lite.cards.load import load_modality_card, load_task_card
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.errors import CardError, did_you_mean


def content_folder(kind: str) -> Path:
    """The project's own folder of `tasks`, `modalities`, `presets` or `instructions`, installed or in a checkout.

    Raises:
        CardError: The installation lacks it.
    """
    spec = importlib.util.find_spec(f"ofasys_lite.{kind}")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        return Path(place)
    beside = Path(__file__).resolve().parents[2] / kind
    if beside.is_dir():
        return beside
    raise CardError(f"the folder `{kind}` of ofasys_lite is missing", help="install the package again: pip install .")


def card_files(kind: str, folders: Iterable[str | Path] = ()) -> dict[str, tuple[Path, ...]]:
    """All files that could be the card of a name: name -> paths, the project's own first.

    Args:
        kind: `tasks` or `modalities`.
        folders: Users' folders; their cards stand in `folder/tasks` and `folder/modalities`.

    Raises:
        CardError: A user's folder does not exist.
    """
    found: dict[str, list[Path]] = {}
    for folder in (content_folder(kind), *(_user_folder(each) / kind for each in folders)):
        for path in sorted(folder.glob("*.yaml")):
            same = found.setdefault(path.stem, [])
            if path.resolve() not in [other.resolve() for other in same]:
                same.append(path)
    return {name: tuple(paths) for name, paths in found.items()}


def _user_folder(folder: str | Path) -> Path:
    path = Path(os.path.expanduser(folder))
    if not path.is_dir():
        raise CardError(f"{path}: no such folder", help="name a folder that holds tasks/ or modalities/")
    return path


def find_card(kind: str, name: str, folders: Iterable[str | Path] = ()) -> Path:
    """The one file that holds a card; CardError: no card has that name (the nearest one is offered), or two have."""
    files = card_files(kind, folders)
    paths = files.get(name)
    if paths is None:
        singular = {"tasks": "task", "modalities": "modality"}[kind]
        raise CardError(f"no card for {singular} `{name}`", help=near_card(kind, name, sorted(files)))
    return the_one(kind, name, paths)


def near_card(kind: str, name: str, names: Sequence[str], label: str = "allowed") -> str:
    """The help for a name that no card has: a task of that name that lies here, else the nearest of `names`."""
    here = Path(kind) / f"{name}.yaml"
    if kind == "tasks" and here.is_file():
        return f"{here} lies here: `check` and `explain` take its path, all take tasks=[{name}] data.cards=."
    return did_you_mean(name, names, label)


def the_one(kind: str, name: str, paths: tuple[Path, ...]) -> Path:
    """The only path; CardError if there are several."""
    if len(paths) > 1:
        both = " and ".join(str(path) for path in paths)
        raise CardError(f"{kind}/{name} is ambiguous: {both}", help="rename or remove one of them")
    return paths[0]


def find_task(name: str, folders: Iterable[str | Path] = ()) -> TaskCard:
    """The task card of that name, found and loaded."""
    return load_task_card(find_card("tasks", name, folders), name=name)


def task_names(folders: Iterable[str | Path] = ()) -> list[str]:
    """Names of all task cards, sorted."""
    return sorted(card_files("tasks", folders))


def own_task_names(folders: Sequence[str | Path]) -> list[str]:
    """Names of the task cards in users' folders, sorted; CardError if there are none."""
    found = {path.stem for folder in folders for path in (_user_folder(folder) / "tasks").glob("*.yaml")}
    if not found:
        others = [path for folder in folders for path in sorted((Path(folder) / "tasks").glob("*.*"))]
        others += [path for folder in folders for path in sorted(Path(folder).glob("*.y*ml"))]
        seen = f"; found: {', '.join(map(str, others[:3]))}" if others else ""
        help = f"they lie in tasks/NAME.yaml below it{seen}"
        raise CardError(f"{', '.join(map(str, folders))}: no cards of tasks", help=help)
    return sorted(found)


def modalities(folders: Iterable[str | Path] = ()) -> dict[str, ModalityCard]:
    """All modality cards by name and by alias; CardError: a card is wrong, or a name or alias is declared twice."""
    found: dict[str, ModalityCard] = {}
    for file, paths in card_files("modalities", folders).items():
        card = load_modality_card(the_one("modalities", file, paths))
        for name in (card.name, *card.aliases):
            other = found.get(name)
            if other is not None:
                raise CardError(
                    f"modality {name} is ambiguous: {other.path} and {card.path}", help="rename or remove one of them"
                )
            found[name] = card
    return {name: _completed(card, found) for name, card in found.items()}


def _completed(card: ModalityCard, cards: Mapping[str, ModalityCard]) -> ModalityCard:
    """The card with what it has from the one that it is like."""
    if not card.like:
        return card
    other = cards.get(card.like)
    if other is None or other.like or other is card:
        names = sorted({each.name for each in cards.values() if not each.like})
        raise CardError(f"{card.path}: `like` is `{card.like}`", help=did_you_mean(card.like, names, "it may be"))
    return replace(
        card,
        adapter_name=card.adapter_name or other.adapter_name or other.name.lower(),
        settings={**other.settings, **card.settings},
        shared=tuple(key for key in other.settings if key not in card.settings),
    )


def modality(cards: Mapping[str, ModalityCard], name: str) -> ModalityCard:
    """The card of a modality by name or alias; CardError with the nearest name if there is none."""
    if name not in cards:
        raise CardError(f"unknown modality {name}", help=did_you_mean(name, sorted(cards)))
    return cards[name]
