"""OFASys' spellings (arXiv 2212.04408): its generation arguments, its line marks, its checkpoints.

Nothing here imports torch. What cannot be meant here is refused with what to use instead; nothing is ignored.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ofasys_lite.cards.other_names import other_names
from ofasys_lite.errors import CardError, CheckpointError, did_you_mean
from ofasys_lite.plan.decoding import option_names

#: OFASys' generation argument -> the decoding option that means the same; its long and its short spellings.
GENERATION = other_names("ofasys")
#: Arguments without a meaning here -> what to do instead.
_REFUSED = other_names("ofasys_refused")
_MARK = re.compile(r"\s*<(?:BOS|EOS)>\s*")
_MARK_ATTRIBUTE = re.compile(r",\s*add_(?:bos|eos)\b")


@dataclass(frozen=True, slots=True)
class Generation:
    """What generation arguments mean here.

    Attributes:
        options: Values by name of a decoding option.
        several: OFASys would give a list of outputs per sample.
    """

    options: Mapping[str, Any]
    several: bool = False


def generation(arguments: Mapping[str, Any]) -> Generation:
    """The decoding options that OFASys' generation arguments mean; arguments that are None are left out, as there.

    Raises:
        CardError: An argument without a meaning here (with what to use instead), or an unknown one (with the nearest).

    Example:
        >>> dict(generation({"beam_size": 5, "max_len": 20}).options)
        {'beam': 5, 'max_length': 20}
    """
    own = option_names()
    found: dict[str, Any] = {}
    given = {name: value for name, value in arguments.items() if value is not None}
    sampling = given.pop("sampling", False)
    for name, value in given.items():
        if name in _REFUSED:
            raise CardError(f"inference: `{name}` has no meaning here", help=_REFUSED[name])
        key = GENERATION.get(name, "beam" if name == "beam" else name)
        if key not in own:
            raise CardError(
                f"inference: unknown argument `{name}`",
                help=did_you_mean(name, ["data", "closed_set", "batch_size", "sampling", *GENERATION, *own]),
            )
        if key in found:
            raise CardError(f"inference: `{name}` says `{key}` a second time", help="keep one of the two")
        # fairseq writes "off" as -1 (or 0 in newer calls)
        off = key in ("top_k", "top_p", "no_repeat_ngram") and value in (-1, 0, -1.0)
        if not off:
            found[key] = value
    return _methods(found, sampling)


def _methods(found: dict[str, Any], sampling: Any) -> Generation:
    """Beam, sampling and the number of outputs settled against each other."""
    beam = found.get("beam", 1)
    best = found.get("n_best")
    if best == -1:  # as many as there are beams
        found["n_best"] = best = beam
    if not isinstance(sampling, bool):
        raise CardError(f"inference: sampling is {sampling!r}", help="allowed: True, False")
    if sampling:
        if beam != 1:
            raise CardError(
                f"inference: sampling=True with beam_size={beam}",
                help="sampling draws one output a call: leave beam_size out and call again with another seed=",
            )
        found.pop("beam", None)
        found["method"] = "sample"
    return Generation(MappingProxyType(found), isinstance(best, int) and best > 1)


def current_line(line: str) -> str:
    """The line without `<BOS>`, `<EOS>`, `add_bos` and `add_eos`, which early OFASys wrote; warns if it had any.

    Sequences are opened and closed by the plan here, so the marks mean nothing; as words they would be prompt text.

    Example:
        >>> current_line("[IMAGE:img] what is it? -> [TEXT:cap]")
        '[IMAGE:img] what is it? -> [TEXT:cap]'
    """
    if not isinstance(line, str):
        raise CardError(
            f"an instruction is text, not {type(line).__name__}",
            help="write it out: '[IMAGE:img] what does the image describe? -> [TEXT:cap]'",
        )
    without = _MARK_ATTRIBUTE.sub("", _MARK.sub(" ", line)).strip()
    if without == line.strip():
        return line
    warnings.warn(
        "<BOS>, <EOS>, add_bos and add_eos are left out: every sequence is opened and closed by itself",
        FutureWarning,
        stacklevel=3,
    )
    return without


def weight_of(micro_batch_size: int) -> float:
    """The task weight that `micro_batch_size` means: both are relative numbers of samples per step.

    In OFASys a step holds one micro batch of every task, so its tasks share a step as their micro batch sizes say.
    """
    if isinstance(micro_batch_size, bool) or not isinstance(micro_batch_size, int) or micro_batch_size < 1:
        raise CardError(
            f"micro_batch_size is {micro_batch_size!r}",
            help="a whole number from 1: how many samples of the task stand in a step for those of the other tasks",
        )
    return float(micro_batch_size)


def refuse_checkpoint(path: str | Path) -> None:
    """Raises CheckpointError if `path` names a checkpoint of OFASys or fairseq: a `.pt` file or a URL."""
    text = str(path)
    url = "://" in text
    if not (url or text.endswith((".pt", ".pth", ".bin", ".ckpt"))) or Path(text).is_dir():
        return
    if not url and text.endswith(".ckpt"):
        raise CheckpointError(
            f"{text} is a checkpoint to resume from, not a model",
            help="name the run's folder (runs/x), or resume the run: fit(..., name='x', resume=True)",
        )
    what = "is an address, and models are not fetched from addresses" if url else "is no folder of this package"
    first = "download it, then make" if url else "make"
    raise CheckpointError(
        f"{text} {what}",
        help=f"{first} a run of a checkpoint of OFASys or OFA: ofasys-lite import FILE.pt --to runs/x; "
        "or name a run (runs/x), a folder written by save_pretrained, or a Hugging Face id",
    )
