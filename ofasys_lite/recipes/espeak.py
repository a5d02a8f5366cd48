"""espeak-ng in this process: its library comes out of the espeakng-loader wheel and is called through ctypes."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.fetch import pinned
from ofasys_lite.writing import telling

if TYPE_CHECKING:
    from numpy.typing import NDArray

ESPEAK = pinned("espeakng-loader")
LIBRARY = {"linux": "libespeak-ng.so", "darwin": "libespeak-ng.dylib", "win32": "espeak-ng.dll"}
SYNCHRONOUS, DONT_EXIT, CHARS_UTF8, RATE, PITCH, RANGE = 2, 0x8000, 1, 1, 3, 4


def unpack(wheel: Path, cache: Path) -> Path:
    """Folder with the library and its data, unpacked once per wheel."""
    target = cache / "unpacked" / wheel.stem
    if target.is_dir():
        return target / "espeakng_loader"
    with telling(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with telling(target), tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as partial:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(partial) / "content", [n for n in archive.namelist() if "espeakng_loader/" in n])
        try:
            os.replace(Path(partial) / "content", target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target / "espeakng_loader"


class Speaker:
    """Speaks text into 16-bit samples at `rate` Hz.

    Each speaker loads a copy of the library of its own: the library's state outlives its own reset, and the same
    calls in the same order must give the same samples.
    """

    def __init__(self, folder: Path) -> None:
        name = LIBRARY.get(sys.platform)
        if name is None or not (folder / name).is_file():
            raise DataError(
                f"espeak-ng has no library for this platform ({sys.platform})",
                help="prepare the data set on Linux x86_64 and copy the prepared folder here",
            )
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own:
            self._library = ctypes.CDLL(shutil.copy(folder / name, own))
        self.rate = int(self._library.espeak_Initialize(SYNCHRONOUS, 0, str(folder).encode(), DONT_EXIT))
        if self.rate <= 0:
            raise DataError(f"espeak-ng cannot start from {folder}", help="delete that folder and prepare again")
        self._pieces: list[bytes] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        # the library keeps only the address: the callback must live as long as the speaker
        self._callback: Any = kind(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave: Any, samples: int, events: Any) -> int:
        del events
        if wave and samples > 0:
            self._pieces.append(ctypes.string_at(wave, samples * 2))
        return 0

    def speak(self, text: str, voice: str, speed: int, pitch: int) -> NDArray[np.int16]:
        """Samples of `text`; speed in words a minute, pitch 0 to 99. DataError for an unknown voice."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise DataError(f"espeak-ng has no voice `{voice}`")
        self._library.espeak_SetParameter(RATE, speed, 0)
        self._library.espeak_SetParameter(PITCH, pitch, 0)
        self._library.espeak_SetParameter(RANGE, 50, 0)
        self._pieces.clear()
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.frombuffer(b"".join(self._pieces), dtype=np.int16)
