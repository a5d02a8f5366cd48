"""A stored reference of OFASys against a model here: states, logits, losses, gradients, what is generated.

A case is what OFASys itself gave: slots of token ids and pictures, teacher-forced outputs, hypotheses. It is run
through the flat batch, as one pack and sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import Hypothesis, decode
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.network import Network, NetworkSession
from ofasys_lite.generalist.parts import Origin
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.imported import Imported
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import Learned, Term
from ofasys_lite.layout.objectives import TOKENS
from ofasys_lite.layout.pack import Batch, Example, Side, Target
from ofasys_lite.plan.constraints import Free
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.image import grid_positions
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: What a difference in fp32 may be.
LIMIT = 1e-4
_CELL = 16
_NEEDED = ("src_slots", "tgt_slots", "target", "logits")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was compared.

    Attributes:
        what: Its name.
        value: The greatest difference; of hypotheses how many differ.
        limit: What it may be.
        about: How much was compared.
    """

    what: str
    value: float
    limit: float
    about: str = ""

    @property
    def fits(self) -> bool:
        """Whether it is within its limit; NaN is not."""
        return self.value <= self.limit


def read_case(path: Path) -> Mapping[str, Any]:
    """A case; CheckpointError where the file is none."""
    try:
        case = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file", help="name a stored reference") from None
    except Exception as error:  # torch names several classes, all of one meaning here
        raise CheckpointError(f"{path} cannot be read: {str(error).splitlines()[0]}", help="copy it again") from None
    lacking = [key for key in _NEEDED if key not in case] if isinstance(case, Mapping) else list(_NEEDED)
    if lacking:
        raise CheckpointError(f"{path} is no stored reference: it lacks {', '.join(lacking)}")
    found: Mapping[str, Any] = case
    return found


def compare(imported: Imported, case: Mapping[str, Any]) -> list[Difference]:
    """Everything that the case holds, in one pack and one by one."""
    network, vocabulary = imported.generalist.network, imported.generalist.vocabulary
    examples = _examples(case, vocabulary)
    found = list[Difference]()
    for name, packs in (("packed", [examples]), ("one by one", [[each] for each in examples])):
        batches = [to_device(collate(pack), torch.device("cpu")) for pack in packs]
        found += _states(network, batches, case, name)
        found += _losses(network, batches, case, name, len(vocabulary))
        found += _gradients(network, batches, case, name, imported.origins)
    generated = case.get("generation", {})
    for name, stored in generated.items():
        found += _generated(network, vocabulary, examples, stored, name)
    return found


def _examples(case: Mapping[str, Any], vocabulary: Vocabulary) -> list[Example]:
    """Rows of the case as examples; padding is left out."""
    pad, start = vocabulary.control("pad"), vocabulary.control("start")
    term = Term("reference", "target", "token", 1.0)
    found = []
    for row in range(len(case["target"])):
        pieces = tuple(_piece(slot[1][row], pad) for slot in case["src_slots"])
        ids = case["target"][row]
        target = Piece.of_ids(ids[ids != pad].tolist())
        targets = (Target((target,), (Learned(0, TOKENS, (term,)),), True, start),)
        found.append(Example("reference", str(row), (Side(pieces),), targets))
    return found


def _piece(value: Tensor, pad: int) -> Piece:
    """A slot of a row: ids, or a normalised picture (3, h, w)."""
    if not value.is_floating_point():
        return Piece.of_ids(value[value != pad].tolist())
    lines, columns = value.shape[1] // _CELL, value.shape[2] // _CELL
    # the adapter normalises pixels of 0 to 255 itself
    pixels = ((value.permute(1, 2, 0).double() + 1) * 127.5).float().reshape(-1, 3).numpy()
    arrays = {"pixels": pixels, "mask": np.zeros(0, np.bool_)}
    return Piece("image", grid_positions(lines, columns), arrays, grid=(1, lines, columns))


@torch.no_grad()
def _states(network: Network, batches: Sequence[Batch], case: Mapping[str, Any], how: str) -> Iterator[Difference]:
    """Encoder states and logits, row by row."""
    encoded, logits = list[Tensor](), list[Tensor]()
    for batch in batches:
        states_SD = network.encode(batch.source)
        states_TD = network.decode(batch, states_SD)
        encoded += states_SD.split_with_sizes(list(batch.source.lengths))
        logits += network.text.scores(states_TD).split_with_sizes(list(batch.target.lengths))
    if "enc_out_TBC" in case:
        wanted = case["enc_out_TBC"].transpose(0, 1)
        kept = [states[~mask] for states, mask in zip(wanted, case["enc_pad_mask"], strict=True)]
        yield Difference(f"encoder states, {how}", _most(encoded, kept), LIMIT, f"{sum(map(len, kept))} rows")
    wanted_logits = [each[: len(own)] for each, own in zip(case["logits"], logits, strict=True)]
    yield Difference(f"logits, {how}", _most(logits, wanted_logits), LIMIT, f"{sum(map(len, logits))} rows")


def _most(own: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    pairs = list(zip(own, wanted, strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return max(float((a - b).abs().max()) for a, b in pairs)


@torch.no_grad()
def _losses(
    network: Network, batches: Sequence[Batch], case: Mapping[str, Any], how: str, rows: int
) -> Iterator[Difference]:
    """Sums of the cross entropy, relative to their size: plain, and smoothed as OFASys does it, over V - 1 others."""
    smoothings = {"ce_sum": 0.0, "label_smoothed_0.1_sum": 0.1 * rows / (rows - 1)}
    for key, smoothing in smoothings.items():
        if key in case:
            own = sum(float(network(batch, smoothing).values_U.double().sum()) for batch in batches)
            wanted = float(case[key])
            yield Difference(f"{key}, {how}", abs(own - wanted) / max(1.0, abs(wanted)), LIMIT, f"{wanted:.4f}")


def _gradients(
    network: Network, batches: Sequence[Batch], case: Mapping[str, Any], how: str, origins: Mapping[str, Origin]
) -> Iterator[Difference]:
    """Norms of the gradient of the summed cross entropy, by OFASys' names, relative to their size."""
    norms = case.get("grad_norm_of_ce_sum")
    if not norms:
        return
    network.zero_grad(set_to_none=True)
    for batch in batches:
        losses = network(batch)
        (losses.values_U.sum() + losses.touch).backward()
    own = dict(network.named_parameters())
    worst, compared = 0.0, 0
    for name, wanted in norms.items():
        origin = origins.get(name)
        if origin is None:
            if wanted > LIMIT:
                yield Difference(f"gradient of {name}, {how}", float("inf"), LIMIT, "it went nowhere")
            continue
        gradient = own[origin.ours].grad
        part = (
            None
            if gradient is None
            else gradient[origin.first : origin.first + origin.rows]
            if gradient.ndim
            else gradient
        )
        norm = 0.0 if part is None else float(part.double().norm())
        worst, compared = max(worst, abs(norm - float(wanted)) / max(1.0, float(wanted))), compared + 1
    network.zero_grad(set_to_none=True)
    yield Difference(f"gradient norms, {how}", worst, LIMIT, f"{compared} parameters")


def _generated(
    network: Network, vocabulary: Vocabulary, examples: Sequence[Example], stored: Mapping[str, Any], name: str
) -> Iterator[Difference]:
    """Hypotheses: how many differ, and the greatest difference of their scores."""
    options, most, least = _options(stored["args"])
    low, pad = vocabulary.control("close") + 1, vocabulary.control("pad")
    others = tuple(i for i in range(low) if i not in (pad, vocabulary.control("close")))
    automaton = compile(Free(low, len(vocabulary), least, most, vocabulary.control("close"), others))
    start = vocabulary.control("start")

    def run(pack: Sequence[Example]) -> list[Hypothesis]:
        batch = to_device(collate([Example(e.task, e.id, e.sources, ()) for e in pack]), torch.device("cpu"))
        with torch.inference_mode():
            session = NetworkSession(network, batch.source, network.encode(batch.source))
            return decode(session, [automaton] * len(pack), options, start=start)

    yield from _hypotheses(run(examples), stored["hyps"], f"{name}, packed")
    alone: Callable[[Example], Hypothesis] = lambda example: run([example])[0]  # noqa: E731
    yield from _hypotheses([alone(each) for each in examples], stored["hyps"], f"{name}, one by one")


def _options(args: Mapping[str, Any]) -> tuple[DecodeOptions, int, int]:
    """fairseq's arguments as options, and most and fewest ids before the end."""
    beam = int(args.get("beam", 1))
    given: dict[str, Any] = {
        "method": "beam" if beam > 1 else "greedy",
        "renormalize": False,
        "length_penalty": float(args.get("lenpen", 1.0)) if args.get("normalize_scores") else 0.0,
        "no_repeat_ngram": int(args.get("no_repeat_ngram_size", 0)),
    }
    if beam > 1:
        given |= {"beam": beam, "n_best": int(args.get("return_n_best", 1))}
    return DecodeOptions(**given), int(args["max_len"]), int(args.get("min_len", 1))


def _hypotheses(own: Sequence[Hypothesis], wanted: Sequence[Any], name: str) -> Iterator[Difference]:
    others, worst, count = 0, 0.0, 0
    for hypothesis, stored in zip(own, wanted, strict=True):
        listed = hypothesis.n_best or (hypothesis,)
        for place, each in enumerate(stored):
            count += 1
            same = place < len(listed) and list(listed[place].ids) == each["tokens"].tolist()
            others += not same
            if same:
                worst = max(worst, abs(listed[place].score - float(each["score"])))
    yield Difference(f"{name}: other hypotheses", float(others), 0.0, f"of {count}")
    yield Difference(f"{name}: scores", worst, 5 * LIMIT, f"{count - others} hypotheses")
