"""Whether a file of sound is all there: what its header says of its size, against the bytes that follow."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

#: Formats of libsndfile whose samples stand in one piece behind a header that says how many bytes they are; it reads
#: what is left of one that was cut off without a word.
WHOLE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU")
#: Sizes from here on are those of a writer that did not know the end, a pipe: they say nothing, as 0 does; likewise in
#: headers with sizes of 64 bits.
_UNKNOWN, _UNKNOWN_LONG = 0x7FFFF000, 0x7FFFFFFFFFFFF000
#: Bytes that some writers count too many: they count the headers in.
_SPARE = 64
#: Bytes in which the first frame of an MP3 lies, behind its tags.
_FIRST = 4096
#: What begins a file -> (byte order, the chunk that holds the samples).
_CHUNKED = {b"RIFF": ("<", b"data"), b"RIFX": (">", b"data"), b"FORM": (">", b"SSND"), b"RF64": ("<", b"data")}


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
    return None if told == 0 or told - there <= _SPARE else (there, told)


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
        start, size = struct.unpack(">II", head[4:12]) if len(head) == 12 else (0, _UNKNOWN)
        return None if size >= _UNKNOWN else (start, size)
    if head[:4] == b"riff":
        return _wave64(file)
    if head[:4] not in _CHUNKED:
        return None
    order, name = _CHUNKED[head[:4]]
    long = _UNKNOWN_LONG
    while len(chunk := file.read(8)) == 8:
        (size,) = struct.unpack(f"{order}I", chunk[4:])
        if chunk[:4] == name:
            start = file.tell()
            if size < _UNKNOWN:
                return start, size
            # an RF64's own chunk in front has the size where 32 bits have no room for it (EBU Tech 3306)
            return None if long >= _UNKNOWN_LONG else (start, long)
        if chunk[:4] == b"ds64":
            sizes = file.read(16)
            long = struct.unpack("<8xQ", sizes)[0] if len(sizes) == 16 else long
            size -= len(sizes)
        file.seek(size + size % 2, io.SEEK_CUR)
    return None


def _wave64(file: BinaryIO) -> tuple[int, int] | None:
    """The same of a W64 file (Sony): names of 16 bytes, sizes of 64 bits with the headers, places by eights."""
    file.seek(40)
    while len(chunk := file.read(24)) == 24:
        (size,) = struct.unpack("<16xQ", chunk)
        if size < 24 or size >= _UNKNOWN_LONG:
            return None
        if chunk[:4] == b"data":
            return file.tell(), size - 24
        file.seek(-(-size // 8) * 8 - 24, io.SEEK_CUR)
    return None
