"""tasks/ and modalities/ as Hydra groups, read by the rooms above: places kept, lines never interpolated.

Hydra's own reader would turn the label `yes` into True and `${` in a line into an interpolation, and would silently
prefer one of two cards of the same name. This source hands Hydra what the card says, escaped, and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from ofasys_lite.cards.find import card_files, the_one
from ofasys_lite.cards.load import load_modality_card
from ofasys_lite.cards.yaml_nodes import Item, plain, read_yaml, spelling
from ofasys_lite.commands.escapes import escape, escaped
from ofasys_lite.errors import CardError

#: Key under which a composed task says which file it came from.
CARD = "card"
GROUPS = ("modalities", "tasks")
Names: TypeAlias = list[str]  # within CardSource, `list` is Hydra's method


class CardSource(ConfigSource):
    """The groups `tasks` and `modalities`; its address holds the users' folders."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.folders = [unquote(each) for each in self.path.split(":") if each]

    @staticmethod
    def scheme() -> str:
        """`ofasys`."""
        return "ofasys"

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether this is `tasks` or `modalities`."""
        return config_path.strip("/") in ("", *GROUPS)

    def is_config(self, config_path: str) -> bool:
        """Whether a card of that name exists."""
        group, _, name = config_path.strip("/").removesuffix(".yaml").partition("/")
        return group in GROUPS and name in self._names(group)

    def list(self, config_path: str, results_filter: ObjectType | None) -> Names:
        """Names of the groups, or of a group's cards."""
        path = config_path.strip("/")
        if path == "":
            return [] if results_filter == ObjectType.CONFIG else list(GROUPS)
        return [] if results_filter == ObjectType.GROUP else self._names(path)

    def _names(self, group: str) -> Names:
        names = card_files(group, self.folders)
        return sorted({*names, "all"}) if group == "modalities" else sorted(names)

    def load_config(self, config_path: str) -> ConfigResult:
        """A task under `tasks.NAME`, or the settings of modalities under `modalities.NAME`."""
        group, _, name = config_path.strip("/").removesuffix(".yaml").partition("/")
        files = card_files(group, self.folders)
        if group == "tasks":
            content = _task_content(the_one(group, name, files[name]))
            return self._result(f"tasks.{name}", content)
        chosen = sorted(files) if name == "all" else [name]
        cards = [load_modality_card(the_one(group, each, files[each])) for each in chosen]
        return self._result("modalities", {card.name: escaped(dict(card.settings)) for card in cards})

    def _result(self, package: str, content: dict[str, Any]) -> ConfigResult:
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create(content),
            header={"package": package},
        )


def _task_content(path: Path) -> dict[str, Any]:
    """A card as plain values, labels of its sets as text, and its path."""
    item = read_yaml(path)
    if item.kind != "map":
        raise CardError("a task card is a mapping of keys to values", place=item.place)
    sets = item.get("sets")
    content: dict[str, Any] = escaped(plain(item))
    if sets is not None and sets.kind == "map":
        content["sets"] = escaped({key.text: _labels(value) for key, value in sets.pairs()})
    content[CARD] = escape(str(path))
    return content


def _labels(item: Item) -> Any:
    return [spelling(each) for each in item.value] if item.kind == "list" else plain(item)


_FOLDERS: ContextVar[tuple[str, ...] | None] = ContextVar("folders of cards", default=None)


class CardSearchPath(SearchPathPlugin):
    """Adds the card groups to Hydra's search path while `cards_as_groups` is open."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends the source before users' folders, so that it sees both and can refuse a name in two places."""
        folders = _FOLDERS.get()
        if folders is not None:
            address = ":".join(quote(folder, safe="/") for folder in folders)
            search_path.append(provider="ofasys_lite", path=f"{CardSource.scheme()}://{address}")


@contextmanager
def cards_as_groups(folders: Sequence[str | Path]) -> Iterator[None]:
    """Within it, Hydra knows `tasks` and `modalities`: the project's own and those of `folders`."""
    plugins = Plugins.instance()
    plugins.register(CardSource)
    plugins.register(CardSearchPath)
    token = _FOLDERS.set(tuple(str(Path(folder).resolve()) for folder in folders))
    try:
        yield
    finally:
        _FOLDERS.reset(token)
