"""Codec folders as plans see them: what `codec.json` says and the hash of the content. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.plan.codecs import TOKENIZER_KEYS, codec_of
from ofasys_lite.plan.segments import SlotSegment, option
from ofasys_lite.writing import current

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Known:
    """A codec that a slot is written with."""

    folder: Path
    facts: Mapping[str, Any]


#: (card, slot, training rows) -> the codec of a slot whose line names none.
CodecFinder = Callable[[TaskCard, SlotSegment, RowSource], Known]


def read_codec(folder: str | Path, kind: str = "image") -> dict[str, Any]:
    """The sizes that codec.json holds; CheckpointError: the folder is missing, damaged or of another kind."""
    place = Path(folder)
    try:
        content = json.loads(current(place, "codec.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"no codec in {place}", help="train one: ofasys-lite codec train TASK --out FOLDER"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{place}/codec.json is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{place}/codec.json is of another version", help="train the codec again")
    if content.get("kind") != kind:
        raise CheckpointError(f"{place} is a codec of {content.get('kind')}, not of {kind}", help="name another folder")
    sizes = content.get("codec")
    if not isinstance(sizes, dict) or not all(isinstance(sizes.get(key), int) for key in ("codes", "depth")):
        raise CheckpointError(f"{place}/codec.json is damaged", help="copy it again, or train the codec again")
    return dict(sizes)


def codec_hash(folder: str | Path) -> str:
    """First 16 hex digits of the sha256 of the codec's sizes and weights."""
    digest = hashlib.sha256()
    for name in ("codec.json", "model.safetensors"):
        try:
            digest.update(current(Path(folder), name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(f"no codec in {folder}: {name} is missing") from None
    return digest.hexdigest()[:16]


def known(folder: str | Path, kind: str = "image") -> Known:
    """The codec in a folder, for the modality whose name in small letters is `kind`."""
    return Known(Path(folder), {**read_codec(folder, kind), "hash": codec_hash(folder)})


def named_codec(card: TaskCard, slot: SlotSegment) -> Known | None:
    """The codec folder that the slot names, held against what the line says of it; None where it names none.

    A relative folder is looked up beside the card, then in the working directory.

    Raises:
        CardError: There is no codec, or it is of another size or depth than the line says.
    """
    call = codec_of(slot)
    if call is None or not call.positional:
        return None
    named = Path(str(call.positional[0]))
    beside = Path(card.path).parent / named if card.path else named
    folder = beside if current(beside, "codec.json").exists() else named
    try:
        found = known(folder, slot.modality.lower())
    except CheckpointError as error:
        message = f"task {card.name}, slot [{slot.modality}:{slot.column}]: {error.message}"
        raise CardError(message, help=error.help) from None
    said = {key: value for key, value in call.keyed if key in TOKENIZER_KEYS}
    size = option(slot.options, "size")
    for key, value in {**said, **({} if size is None else {"size": size})}.items():
        if found.facts.get(key) != value:
            raise CardError(
                f"task {card.name}: the line says {key}={value}, "
                f"the codec in {folder} has {key}={found.facts.get(key)}",
                help=f"write {key}={found.facts.get(key)}, leave it out, or name another codec",
            )
    check_scalar(card, slot, found.facts)
    return found


def check_scalar(card: TaskCard, slot: SlotSegment, facts: Mapping[str, Any]) -> None:
    """Raises CardError where the line corrects codes by deeper ones, and the codec's stand side by side (FSQ)."""
    call = codec_of(slot)
    if call is not None and call.get("correct", 0) != 0 and facts.get("levels"):
        raise CardError(
            f"task {card.name}, slot [{slot.modality}:{slot.column}]: `correct={call.get('correct')}` with a codec of "
            f"levels {' '.join(map(str, facts['levels']))}, whose deeper codes do not refine the others",
            help="leave `correct` out, or train a codec without --levels",
        )
