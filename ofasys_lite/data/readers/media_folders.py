"""A folder of media or texts as rows: `pics/cat/1.png` is the row with file `cat/1.png` and label `cat`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.readers.lines import decode
from ofasys_lite.data.source import NoRows, RowSource, combined, names_medium
from ofasys_lite.errors import DataError

#: What folders and columns call the splits.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "eval"), "valid"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_SHOWN = 8


def media_in(folder: str) -> list[str]:
    """The images, sounds, films and texts below a folder, by their path in it, sorted; hidden ones left out."""
    found: list[str] = []
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = sorted(one for one in inner if not one.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith(".") and (names_medium(name) or name.lower().endswith(".txt")):
                found.append(os.path.relpath(os.path.join(place, name), folder))
    return found


class FolderSource(RowSource):
    """Rows of a folder: `file`, and `label` where its files lie in a folder per class; `text` where they are texts.

    Raises:
        DataError: Its folders are splits, or it holds no media.
    """

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        self.name = folder
        self.base = str(Path(folder))
        media = [name for name in names if not name.lower().endswith(".txt")]
        self._aside = len(names) - len(media) if media else 0  # a text among pictures is somebody's note
        classes = Counter(_class(name) for name in media or names)
        _refuse_splits(folder, sorted(classes))
        self._labelled = any(classes)
        self._names = [name for name in media or names if _class(name) or not self._labelled]
        if not self._names:
            raise NoRows(f"{folder} holds no images, sounds, films or texts", help="name a file, or a folder of media")
        self._texts = all(name.lower().endswith(".txt") for name in self._names)
        self.columns = ("file", *(["text"] if self._texts else []), *(["label"] if self._labelled else []))
        self.notes = tuple(self._told(classes))

    def _told(self, classes: Counter[str]) -> Iterator[str]:
        beside = classes.pop("", 0) if self._labelled else 0
        if self._labelled:
            shown = ", ".join(f"{name} ({count:,})" for name, count in sorted(classes.items())[:_SHOWN])
            more = f", and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
            yield f"{self.name} is a folder of classes: {shown}{more}; columns {', '.join(self.columns)}"
        if self._aside:
            yield f"{self.name}: {self._aside:,} {'text' if self._aside == 1 else 'texts'} among the media left out"
        if beside:
            yield f"{self.name}: {beside:,} {'file' if beside == 1 else 'files'} beside the classes' folders left out"

    def _hash(self) -> str:
        """Hash of the files' paths and sizes; of texts, of what they say."""
        if self._texts:
            return combined("folder", *self._names, *(DataFile(self._path(i)).digest() for i in range(len(self))))
        return combined("folder", *(f"{name}|{os.path.getsize(self._path(i))}" for i, name in enumerate(self._names)))

    def __len__(self) -> int:
        return len(self._names)

    def _path(self, i: int) -> str:
        return os.path.join(self.base, self._names[i])

    def ids(self, i: int, row: Mapping[str, Any] | None = None) -> str:
        """The path of file `i` in the folder."""
        return self._names[self.check_row(i)]

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`: the path of the file from the folder on, its text where it is one, its class."""
        name = self._names[self.check_row(i)]
        row: dict[str, Any] = {"file": name}
        if self._texts:
            with DataFile(self._path(i)).open() as handle:
                row["text"] = decode(handle.read(), "utf-8-sig", f"{self.name}/{name}")
        return {**row, "label": _class(name)} if self._labelled else row


def _class(name: str) -> str:
    """The folder directly below the top, empty for a file at the top."""
    head, slash, _ = name.partition(os.sep)
    return head if slash else ""


def _refuse_splits(folder: str, names: Sequence[str]) -> None:
    """Raises DataError if the folders are called as splits are."""
    splits = {SPLIT_WORDS[name.lower()]: name for name in names if name.lower() in SPLIT_WORDS}
    if "train" in splits and len(splits) > 1:
        each = ", ".join(f"{split}: {folder}/{name}" for split, name in splits.items())
        raise DataError(f"{folder} holds folders of splits, not of classes", help=f"name them: data: {{{each}}}")
