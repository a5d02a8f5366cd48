"""A model here -> graphs of ONNX: rows of ids, the encoder of one sample, one step of its decoder with a cache.

Flat packs have no counterpart: their borders are plain numbers of the host. One sample of any length is exported.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ofasys_lite.errors import CheckpointError, needed
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.interop.fairseq_weights import EXPORT_MARK
from ofasys_lite.interop.onnx_graphs import Embed, Encode, Step
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side, Target
from ofasys_lite.preprocess.base import TOKEN_ADAPTER, Piece

#: What a difference between onnxruntime and this package may be, relative to values above 1.
LIMIT = 1e-4
#: Lengths of the samples that are compared.
_LENGTHS = ((1, 4), (7, 1), (5, 6))
_HOST = torch.device("cpu")
#: Bytes of weights above which they stand beside their graph: a file of ONNX holds 2 GB at most.
_INSIDE = 1_500_000_000
_REFUSED = {
    "positions": ("untied", "places have channels of their own (positions: untied)"),
    "entry": ("kinds", "rows are told apart by kind (entry: kinds)"),
}


def write_onnx(model: Generalist, folder: Path) -> list[str]:
    """Writes embed.onnx, encoder.onnx, step.onnx and our vocabulary; what was done and how near it is, a line each.

    Raises:
        CheckpointError: The stack has a part that no graph of one sample has, what writes them is not installed, or
            onnxruntime computes something else; nothing is written.
    """
    needed("onnxscript", "export --to onnx", "onnx", kind=CheckpointError)
    network = model.network.unconverted()
    _fit(network)
    network = network.eval()
    lines = list[str]()
    graphs = _graphs(network)
    for name, (graph, sizes) in graphs.items():
        _write(graph, sizes, folder / f"{name}.onnx")
    lines.append(
        f"onnx: {', '.join(f'{name}.onnx' for name in graphs)}; one sample of any length, rows of beams together"
    )
    lines.append(_checked(network, graphs, folder))
    others = [name for name in network.adapters if name != TOKEN_ADAPTER]
    if others:
        reader = "encoder" if "encoder" in graphs else "step"
        why = f"their rows are laid out by sizes that a graph does not see; give the {reader} their rows from here"
        lines.append(f"left: adapters {', '.join(others)}: {why}")
    model.vocabulary.save(folder)
    known = model.vocabulary
    facts = {
        "controls": {name: known.row_of(name) for name in ("start", "pad", "close")},
        "text": [known.text_low, known.text_high],
        "around": [list(side) for side in known.around],
        "blocks": network.config.decoder_layers,
        "heads": network.config.kv_groups,
        "channels": network.config.head_width,
    }
    (folder / EXPORT_MARK).write_text(json.dumps(facts), encoding="utf-8")
    return lines


def _fit(network: Network) -> None:
    config = network.config
    for field, (value, why) in _REFUSED.items():
        if getattr(config, field) == value:
            help = "a stack with rotary, learned, sinusoidal or no positions can be exported, such as model=small"
            raise CheckpointError(f"onnx: {why}, which one sample's graph has not", help=help)
    if config.rotary_blank:
        help = "it is a comparison's switch: train without model.rotary_blank"
        raise CheckpointError("onnx: rows before time 0 are blanked (rotary_blank)", help=help)


#: Shape, names of free sizes by axis, and what whole numbers are below (0: no whole numbers).
_Input = tuple[Sequence[int], Mapping[int, str], int]


class Sizes:
    """Example tensors of a graph, and which of their sizes are free.

    Args:
        inputs: By name.
        outputs: Names, in order.
    """

    def __init__(self, inputs: Mapping[str, _Input], outputs: Sequence[str]) -> None:
        self.inputs, self.outputs = inputs, list(outputs)

    def drawn(self, free: Mapping[str, int], seed: int) -> dict[str, Tensor]:
        """Tensors with the free sizes set; whole numbers below the third entry."""
        rng = torch.Generator().manual_seed(seed)
        found = {}
        for name, (shape, axes, below) in self.inputs.items():
            size = [free[axes[i]] if i in axes else n for i, n in enumerate(shape)]
            found[name] = torch.randint(below, size, generator=rng) if below else torch.randn(size, generator=rng)
        return found

    def free(self) -> dict[str, dict[int, Any]]:
        """Of each input, its free sizes as torch.export asks for them."""
        dims = {
            n: torch.export.Dim(n, min=0 if n == "past" else 1)
            for _, axes, _ in self.inputs.values()
            for n in axes.values()
        }
        return {name: {i: dims[n] for i, n in axes.items()} for name, (_, axes, _) in self.inputs.items()}


def _graphs(network: Network) -> dict[str, tuple[nn.Module, Sizes]]:
    config = network.config
    rows, layers = network.embedding.num_embeddings, config.decoder_layers
    far = min(config.places, 8) or 8
    found: dict[str, tuple[nn.Module, Sizes]] = {}
    found["embed"] = (Embed(network), Sizes({"ids": ([2], {0: "ids"}, rows)}, ["rows"]))
    memory = ["memory_keys", "memory_values"] if config.encoder_layers and layers else []
    if config.encoder_layers:
        inputs: dict[str, Any] = {
            "rows": ([2, config.width], {0: "source"}, 0),
            "positions": ([2, 3], {0: "source"}, far),
        }
        found["encoder"] = (Encode(network), Sizes(inputs, ["states", *memory]))
    if layers:
        past = [layers, 2, 2, config.kv_groups, config.head_width]
        kept = [layers, 2, config.kv_groups, config.head_width]
        inputs = {
            "ids": ([2], {0: "rows"}, rows),
            "positions": ([2, 3], {0: "rows"}, far),
            **{name: (past, {1: "rows", 2: "past"}, 0) for name in ("past_keys", "past_values")},
            **{name: (kept, {1: "source"}, 0) for name in memory},
        }
        found["step"] = (Step(network), Sizes(inputs, ["logits", "keys", "values"]))
    return found


def _write(graph: nn.Module, sizes: Sizes, path: Path) -> None:
    drawn = sizes.drawn({"ids": 5, "source": 6, "rows": 3, "past": 4}, 0)
    bytes_ = sum(t.numel() * t.element_size() for t in (*graph.parameters(), *graph.buffers()))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's advice on its own exporter
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of each library that it does not find
        torch.onnx.export(
            graph.eval(),
            tuple(drawn.values()),
            path,
            input_names=list(sizes.inputs),
            output_names=sizes.outputs,
            dynamic_shapes=tuple(sizes.free().values()),
            dynamo=True,
            external_data=bytes_ > _INSIDE,
            verbose=False,
        )


def _checked(network: Network, graphs: Mapping[str, tuple[nn.Module, Sizes]], folder: Path) -> str:
    """The greatest difference between onnxruntime and the network itself, on samples of other lengths than were traced.

    Raises:
        CheckpointError: It is above the limit.
    """
    try:
        runtime = needed("onnxruntime", "the comparison", "onnx", kind=CheckpointError)
    except CheckpointError:
        return "not compared: onnxruntime is not installed (pip install 'ofasys_lite[onnx]')"
    sessions = {
        name: runtime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in graphs
    }
    rng = torch.Generator().manual_seed(0)
    worst = 0.0
    for source, target in _LENGTHS:
        ids = torch.randint(network.embedding.num_embeddings, (source + target,), generator=rng).tolist()
        own = _of_network(network, ids[:source], ids[source:])
        for one, two in zip(own, _of_graphs(sessions, network, ids[:source], ids[source:]), strict=True):
            worst = max(worst, float((one - two).abs().div(one.abs().clamp(min=1)).max()))
    if not worst <= LIMIT:
        help = "nothing was written; tell which stack it is: it is a fault of the export"
        raise CheckpointError(f"onnx: onnxruntime differs by {worst:.3g}, the limit is {LIMIT:g}", help=help)
    return f"beside onnxruntime {runtime.__version__}: greatest difference {worst:.2g}"


@torch.no_grad()
def _of_network(network: Network, source: Sequence[int], target: Sequence[int]) -> list[Tensor]:
    """States of a source and logits behind each id of a target, as the flat batch gives them."""
    sides = (Side((Piece.of_ids(source),)),) if network.config.encoder_layers else (Side(()),)
    # the first of the ids is what the target begins with
    written = (Target((Piece.of_ids([*target[1:], 0]),), (), True, target[0]),)
    batch = to_device(collate([Example("onnx", "0", sides, written if network.config.decoder_layers else ())]), _HOST)
    states_SD = network.encode(batch.source)
    found = [states_SD] if network.config.encoder_layers else []
    if network.config.decoder_layers:
        found.append(network.text.scores(network.decode(batch, states_SD)))
    return found


def _of_graphs(
    sessions: Mapping[str, Any], network: Network, source: Sequence[int], target: Sequence[int]
) -> list[Tensor]:
    """The same, id by id, of two rows that are written alike."""
    config, found = network.config, list[Tensor]()
    memory: dict[str, Any] = {}
    if "encoder" in sessions:
        rows = sessions["embed"].run(None, {"ids": np.array(source, np.int64)})[0]
        positions = np.repeat(np.arange(len(source))[:, None], 3, 1)
        states, *kept = sessions["encoder"].run(None, {"rows": rows, "positions": positions})
        memory = dict(zip(("memory_keys", "memory_values"), kept, strict=False))
        found.append(torch.from_numpy(states))
    if "step" in sessions:
        past = np.zeros((config.decoder_layers, 2, 0, config.kv_groups, config.head_width), np.float32)
        keys, values, logits = past, past, list[Any]()
        for place, id in enumerate(target):
            asked = {
                "ids": np.full(2, id),
                "positions": np.full((2, 3), place),
                "past_keys": keys,
                "past_values": values,
            }
            scores, keys, values = sessions["step"].run(None, {**asked, **memory})
            logits.append(scores[1])
        found.append(torch.from_numpy(np.stack(logits)))
    return found
