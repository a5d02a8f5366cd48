"""Whether a file of sound is all there: what its header says of its size, against the bytes that follow."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

#: Formats of libsndfile whose samples stand in one piece behind a header that says how many bytes they are; it reads
#: what is left of one that was cut off without a word.
WHOLE = ("WAV", "WAVEX", "AIFF", "AU")
#: Sizes from here on are those of a writer that did not know the end, a pipe: they say nothing, as 0 does.
_UNKNOWN = 0x7FFFF000
#: Bytes that some writers count too many: they count the headers in.
_SPARE = 64
#: Bytes in which the first frame of an MP3 lies, behind its tags.
_FIRST = 4096
#: What begins a file -> (byte order, the chunk that holds the samples).
_CHUNKED = {b"RIFF": ("<", b"data"), b"RIFX": (">", b"data"), b"FORM": (">", b"SSND")}


def cut_off(source: Path | bytes) -> tuple[int, int] | None:
    """(bytes of sound that are there, bytes that the header names) of a file that ends before its end, else None."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        file.seek(0)
        found = _samples(file)
    if found is None:
        return None
    start, told = found
    there = max(0, end - start)
    return None if told == 0 or told >= _UNKNOWN or told - there <= _SPARE else (there, told)


def counts_frames(source: Path | bytes) -> bool:
    """Whether an MP3 says how many frames it has; that of one that does not is guessed by its size and first frame."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        head, start = file.read(10), 0
        if head[:3] == b"ID3" and len(head) == 10:
            seven_bits = head[6:10]
            start = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(seven_bits)))
        file.seek(start)
        first = file.read(_FIRST)
    return any(tag in first for tag in (b"Xing", b"Info", b"VBRI"))


def _samples(file: BinaryIO) -> tuple[int, int] | None:
    """(where the samples begin, how many bytes the header says they are); None where it does not say so."""
    head = file.read(12)
    if head[:4] == b".snd":
        return struct.unpack(">II", head[4:12]) if len(head) == 12 else None
    if head[:4] not in _CHUNKED:
        return None
    order, name = _CHUNKED[head[:4]]
    while len(chunk := file.read(8)) == 8:
        (size,) = struct.unpack(f"{order}I", chunk[4:])
        if chunk[:4] == name:
            return file.tell(), size
        file.seek(size + size % 2, io.SEEK_CUR)
    return None
