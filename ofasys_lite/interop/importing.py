"""Weights of another house -> a model here: which house it is, what was mapped, what was left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ofasys_lite.errors import CheckpointError, did_you_mean
from ofasys_lite.interop.checkpoint_files import read_weights
from ofasys_lite.interop.decoder_weights import DECODERS, import_decoder
from ofasys_lite.interop.fairseq_weights import import_fairseq, is_fairseq
from ofasys_lite.interop.hugging_face import HOUSES, import_hugging_face
from ofasys_lite.interop.hugging_face_folder import FORMS, licence_of, read_config
from ofasys_lite.interop.imported import Imported
from ofasys_lite.interop.ofasys_weights import import_ofasys, is_ofasys
from ofasys_lite.interop.other_parts import other_file, other_kind

#: Name of the part of a model that is all of it.
WHOLE = "MODEL"


def import_model(source: Path, tokenizer: Path | None = None, dictionary: Path | None = None) -> Imported:
    """The model in a file or a folder of another house; whose it is stays with it.

    Args:
        tokenizer: Folder of the text model, where it is not beside the weights.
        dictionary: OFASys' or fairseq's dict.txt, where it is not beside the weights.

    Raises:
        CheckpointError: It is missing, damaged, unsafe to read, or of a house or an architecture that is not known.
    """
    imported = _imported(source, tokenizer, dictionary)
    licence = licence_of(source if source.is_dir() else source.parent)
    # an absolute path would tell of the machine
    name = source.name if source.is_absolute() else str(source)
    imported.generalist.parts = {WHOLE: {"house": imported.house, "source": name, "licence": licence}}
    return imported


def _imported(source: Path, tokenizer: Path | None, dictionary: Path | None) -> Imported:
    if not source.exists():
        raise CheckpointError(f"{source}: no such file or folder", help=FORMS)
    if source.is_file():
        weights = read_weights(source)
        if is_ofasys(weights.tensors):
            return import_ofasys(weights, tokenizer, dictionary)
        if is_fairseq(weights.tensors):
            return import_fairseq(weights, tokenizer, dictionary)
        first = ", ".join(list(weights.tensors)[:3])
        raise CheckpointError(
            f"{source} is not of OFASys, OFA or fairseq (it holds {first} ...)", help=other_file(weights) or FORMS
        )
    config = read_config(source)
    if dictionary is not None:
        raise CheckpointError(f"a dictionary for {source}, which has a text model", help="leave dictionary= out")
    kind = str(config.get("model_type"))
    if kind in DECODERS:
        return import_decoder(source, config, tokenizer)
    if kind not in HOUSES:
        help = other_kind(kind) or did_you_mean(kind, [*HOUSES, *DECODERS], "these can be imported")
        raise CheckpointError(f"{source}: a model of the type `{kind}` is not known", help=help)
    return import_hugging_face(source, config, tokenizer)


def account(imported: Imported) -> Iterator[str]:
    """What was mapped, what was left and why, what begins fresh, a line each."""
    network = imported.generalist.network
    numbers = sum(p.numel() for p in network.parameters())
    yield f"{imported.house}: {len(imported.origins)} tensors mapped, {numbers:,} numbers"
    groups = Counter((_head(theirs), _head(origin.ours)) for theirs, origin in imported.origins.items())
    for (theirs, ours), count in groups.items():
        yield f"  {theirs} -> {ours} ({count})"
    if imported.left:
        yield f"left: {len(imported.left)} tensors"
        reasons: dict[str, list[str]] = {}
        for name, why in imported.left.items():
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"  {names[0]}{more}: {why}"
    fresh = [name for name in imported.fresh if not name.endswith("num_batches_tracked")]
    if fresh:
        yield f"fresh, not in the weights: {', '.join(fresh)}"


def _head(name: str) -> str:
    """The parts of a name before its first number, at most three."""
    parts = name.split(".")[:-1]
    kept = []
    for part in parts[:3]:
        if part.isdigit():
            break
        kept.append(part)
    return ".".join(kept) + (".*" if len(parts) > len(kept) else "")
