"""SVG to pixels in this process: resvg's extension module comes out of its wheel and is loaded from there."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.fetch import pinned
from ofasys_lite.writing import write_atomic

RESVG = pinned("resvg_py")
MODULE = "resvg_py"


def renderer(wheel: Path, cache: Path) -> Callable[[str, int], bytes]:
    """A function (SVG text, side in pixels) -> bytes of a PNG on white, from the extension module in the wheel.

    Raises:
        DataError: The wheel holds no extension module, or one that this Python cannot load.
    """
    path = _unpack(wheel, cache)
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(path))
    spec = importlib.util.spec_from_file_location(MODULE, path, loader=loader)
    try:
        module: Any = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        loader.exec_module(module)
    except ImportError as error:
        raise DataError(
            f"{wheel.name} cannot be loaded: {error}",
            help="prepare the data set where one of the pinned wheels fits and copy the prepared folder here",
        ) from error

    def render(svg: str, side: int) -> bytes:
        # fonts of the machine would make its pictures its own
        png = module.svg_to_bytes(svg_string=svg, width=side, height=side, background="white", skip_system_fonts=True)
        return bytes(png)

    return render


def _unpack(wheel: Path, cache: Path) -> Path:
    """Path of the extension module, unpacked once per wheel."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
        if len(members) != 1:
            raise DataError(f"{wheel.name} holds {len(members)} extension modules, not one", help="fetch it again")
        target = cache / "unpacked" / wheel.stem / Path(members[0]).name
        if target.is_file():
            return target
        write_atomic(target, archive.read(members[0]))
    return target
