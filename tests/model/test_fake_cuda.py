"""What a GPU would meet, found without one: devices, types, attention kernels and waits of every task and preset.

It cannot see numbers: whether kernels are right, how fast and how large they are, memory, streams, what torch's own
operations wait for inside, and what depends on values (the search of decoding).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import code_worlds
import numpy as np
import pytest
import tiny_worlds
import torch
import yaml
from fake_cuda import CUDA, FakeCuda
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.depth_sampling import RowChoice, RowsChoice
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import decode
from ofasys_lite.generalist.network import Network, NetworkSession
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Batch
from ofasys_lite.layout.ready import Ready
from ofasys_lite.model import EncoderDecoder, ModelConfig, head_loss
from ofasys_lite.model.layers import HeadNorm
from ofasys_lite.training.accounting import RunTerms
from ofasys_lite.training.module import TrainingModule
from ofasys_lite.training.settings import TrainSettings

PRESETS = sorted((Path(__file__).parents[2] / "presets" / "model").glob("*.yaml"))
VARLEN = "torch_attn::_varlen_attn"
#: Places that run in fp32 whatever the precision: codes must not depend on it.
EXACT = ("codec/image_codec.py", "codec/residual_quantizer.py")

FILL = "fill [IMAGE:img,mask_ratio=0.5,size=16] -> [IMAGE:img,codec=dnd({codec}{more}),decode=mask_predict(steps=3)]"
DRAW = "draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec}{more})]"
#: Ways of learning codes that need a model of their own.
WAYS = {
    "judged": FILL.replace("{more}", ",judges=0.5"),
    "random order": DRAW.replace("{more}", ",order=random"),
    "corrected": DRAW.replace("{more}", ",correct=0.5"),
    "flat": DRAW.replace("{more}", ",layers=flat"),
    "parallel": DRAW.replace("{more}", ",layers=parallel,weights=(2,1)"),
}


def pack(prepared: Ready, each: int) -> Batch:
    """Samples of all tasks in one pack, as training has them."""
    examples = []
    for task in prepared.tasks:
        source = task.sources["train"]
        for number in range(each):
            rng = np.random.default_rng(number)
            examples.append(task.maker.example(source.row(number % len(source)), str(number), rng, True))
    return collate(examples)


def world(name: str, folder: Path) -> tuple[Batch, Network]:
    """A pack and an untrained network of one of the worlds."""
    if name == "all tasks":
        prepared = tiny_worlds.ready(tiny_worlds.tasks())
        return pack(prepared, 3), tiny_worlds.generalist(prepared).network
    place = code_worlds.codec(folder / "c")
    if name == "all codes":
        cards = [code_worlds.task(task, place) for task in code_worlds.LINES]
    else:
        cards = [code_worlds.task("draw", place, WAYS[name])]
    prepared = code_worlds.ready(cards)
    return pack(prepared, 48 if name == "judged" else 3), code_worlds.generalist(prepared).network


def learned(network: Network, batch: Batch, half: bool) -> FakeCuda:
    """What was seen in one forward and backward pass."""
    cuda = FakeCuda()
    with cuda():
        cuda.move(network)
        network.train()
        cuda.forget()
        with cuda.autocast(half):
            losses = network(to_device(batch, CUDA), 0.1)
        cuda.gradients = cuda.backward(losses.values_U.sum() + losses.touch)
    return cuda


def unwanted(cuda: FakeCuda) -> str:
    """The findings, but products of codecs in fp32."""
    return cuda.report(lambda f: not (f.what == "type" and f.where.startswith(EXACT)))


@pytest.mark.parametrize(
    ("name", "half"),
    [*((n, True) for n in ("all tasks", "all codes", *WAYS)), ("all tasks", False), ("all codes", False)],
)
def test_learning_on_a_gpu_mixes_nothing_and_waits_for_nothing(name: str, half: bool, tmp_path: Path) -> None:
    batch, network = world(name, tmp_path)
    cuda = learned(network, batch, half)
    assert unwanted(cuda) == ""
    assert (cuda.operations[VARLEN] > 0) == half
    for parameter in network.parameters():
        if parameter.requires_grad:
            gradient = cuda.gradients[parameter]
            assert (gradient.device, gradient.dtype) == (CUDA, torch.float32)


def test_a_pack_of_a_training_step_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = tiny_worlds.ready(tiny_worlds.tasks("speech", "both"))
    batch, network = pack(prepared, 3), tiny_worlds.generalist(prepared).network
    ledger = RunTerms([t for task in prepared.tasks for t in task.maker.terms()], [t.card.name for t in prepared.tasks])
    cuda = FakeCuda()
    with cuda():
        cuda.move(network.train())
        module = TrainingModule(network, ledger, TrainSettings(steps=1))
        module._device, module.autocast_bf16, module.sums = CUDA, True, module.sums.to(CUDA)
        monkeypatch.setattr(TrainingModule, "trainer", SimpleNamespace(world_size=1))
        module.manual_backward = cuda.backward
        cuda.forget()
        module._backward(batch, ledger.count([batch]), 0, 0, {})
    assert cuda.report() == ""
    assert cuda.operations["aten::index_add_"] == 1


@pytest.mark.parametrize("levels", [None, (8, 5, 5)])
def test_a_codec_learns_without_a_wait(levels: tuple[int, ...] | None) -> None:
    made = {"codes": 200, "channels": 3, "levels": levels, "depth": 1} if levels else {"codes": 8, "channels": 4}
    cuda = FakeCuda()
    with cuda():
        codec = ImageCodec(CodecConfig.from_dict({"size": 8, "factor": 2, "depth": 2, "width": 8, **made}))
        cuda.move(codec.train())
        pixels = torch.zeros(4, 8, 8, 3, dtype=torch.uint8, device=CUDA)
        cuda.forget()
        cuda.backward(codec(pixels).loss)
    assert cuda.report() == ""


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_has_the_kernel_for_ragged_packs(preset: Path) -> None:
    sizes = yaml.safe_load(preset.read_text(encoding="utf-8"))["model"]
    config = ModelConfig(**{**sizes, "encoder_layers": 2, "decoder_layers": 2})
    sources, targets = [700, 0, 4096, 30], [64, 1, 100, 8, 200]
    cross = [(64, 700), (1, 0), (108, 4096), (200, 30)]
    cuda = FakeCuda()
    with cuda(), torch.device("cuda"):
        body, table = EncoderDecoder(config), nn.Embedding(32_000, config.width)
        x_SD, y_TD = (torch.empty(sum(n), config.width, requires_grad=True) for n in (sources, targets))
        at_S3, at_T3 = (torch.zeros(sum(n), 3, dtype=torch.long) for n in (sources, targets))
        labels_T = torch.zeros(len(y_TD), dtype=torch.long)
    with cuda():
        cuda.forget()
        with cuda.autocast(True):
            states_SD = body.encode(x_SD, at_S3, sources)
            # three sequences are causal, two are not
            states_TD = body.decode(
                y_TD, at_T3, states_SD, at_S3, lengths=targets, cross_lengths=cross, causal_rows=165
            )
            loss = head_loss(states_TD, table.weight, labels_T)
        assert cuda.report() == ""
        assert cuda.operations[VARLEN] == 2 + 2 * 3
        gradients = cuda.backward(loss.sum())
    assert cuda.report() == ""
    assert len(gradients) == len([*body.parameters(), table.weight, x_SD, y_TD])


def test_the_head_takes_few_launches_for_many_rows() -> None:
    cuda = FakeCuda()
    with cuda(), torch.device("cuda"):
        states_LD, weight_VD = (torch.empty(n, 64, requires_grad=True) for n in (8192, 32_000))
        labels_L = torch.zeros(8192, dtype=torch.long)
        with cuda.autocast(True):
            loss_L = head_loss(states_LD, weight_VD, labels_L, 0.1)
        cuda.backward(loss_L.sum())
    assert cuda.report() == ""
    # four parts, whose logits are made twice
    assert cuda.launches < 250


@pytest.mark.parametrize("half", [True, False])
def test_steps_of_decoding_stay_on_the_device(half: bool) -> None:
    prepared = tiny_worlds.ready(tiny_worlds.tasks("caption", "speech"))
    network = tiny_worlds.generalist(prepared, qk_norm=True, kv_heads=1).network
    batch = pack(prepared, 2)
    cuda = FakeCuda()
    with cuda(), torch.no_grad():
        cuda.move(network.eval())
        source = to_device(batch, CUDA).source
        with cuda.autocast(half):
            session = NetworkSession(network, source, network.encode(source), 8)
            for parents in ([0, 1, 2, 3], [3, 3, 0, 0, 1], [0, 4]):
                session.select(torch.tensor(parents))
                ids_B, at_B3 = (torch.zeros(len(parents), *n, dtype=torch.long, device=CUDA) for n in ((), (3,)))
                cuda.forget()
                states_BD = session.advance(ids_B, at_B3)
                session.scores(states_BD, ids_B)
                assert cuda.report() == ""


def test_codes_are_chosen_without_a_wait() -> None:
    choices = [
        RowChoice(temperature=1.0, top_k=3, top_p=0.9, draws=(0.2, 0.7)),
        RowChoice(cfg=3.0, temperature=0.8, draws=(0.1, 0.9)),
        RowChoice(given=(1, 4), paired=True),
        RowChoice(),
    ]
    cuda = FakeCuda()
    with cuda():
        choose = RowsChoice(choices, CUDA)
        for depth in range(2):
            assert choose(depth, torch.empty(6, 8, device=CUDA)).shape == (6,)
    assert cuda.report() == ""


def test_a_step_of_the_search_waits_once_for_what_it_found() -> None:
    prepared = tiny_worlds.ready(tiny_worlds.tasks("caption"))
    network = tiny_worlds.generalist(prepared).network
    automata = [compile(prepared.tasks[0].maker.constraint(0, {}))] * 2
    cuda = FakeCuda()
    with cuda(), torch.no_grad():
        cuda.move(network.eval())
        source = to_device(pack(prepared, 2), CUDA).source
        session = NetworkSession(network, source, network.encode(source))
        cuda.forget()
        with pytest.raises(DataDependentOutputException):
            decode(session, automata, DecodeOptions("beam", beam=2), device=CUDA)
    assert [(f.what, f.where.partition(":")[0]) for f in cuda.findings] == [("wait", "decoding/ranking.py")]


# ---------------------------------------------------------------------- that it sees what it should see

MISTAKES: dict[str, tuple[str, Callable[[Tensor], Any]]] = {
    "a number is asked for": ("wait", lambda x: float(x.sum())),
    "rows are counted": ("wait", lambda x: (x > 0).nonzero()),
    "a list comes back": ("wait", lambda x: x.tolist()),
    "a mask chooses": ("index", lambda x: x[x > 0]),
    "an index of the host": ("index", lambda x: x[torch.tensor([0, 1])]),
    "a table from a list": ("copy", lambda x: torch.tensor([1.0, 2.0], device=x.device)),
    "a new table": ("copy", lambda x: x.new_tensor([1.0, 2.0])),
    "memory that is not locked": ("copy", lambda x: torch.ones(4).to(x.device, non_blocking=True)),
    "a copy that waits": ("copy", lambda x: torch.ones(4).pin_memory().to(x.device)),
    "a product in fp32": ("type", lambda x: _without_autocast(lambda: x @ x)),
    "lengths on the device": (
        "wait",
        lambda x: x.repeat_interleave((x[0] > 0).long(), 0),
    ),
    "dense attention": ("dense", lambda x: nn.functional.scaled_dot_product_attention(*3 * (x[None, None],))),
}


def _without_autocast(work: Callable[[], Any]) -> Any:
    with torch.autocast("cuda", enabled=False):
        return work()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake: str) -> None:
    what, work = MISTAKES[mistake]
    cuda = FakeCuda()
    with cuda(), cuda.autocast(True):
        x = torch.empty(4, 4, device=CUDA)
        with contextlib.suppress(DataDependentOutputException, DynamicOutputShapeException, NotImplementedError):
            work(x)  # what depends on values ends there
    assert [f.what for f in cuda.findings] == [what]
    assert next(iter(cuda.findings)).where.startswith("test_fake_cuda.py")


def test_tensors_of_the_host_and_the_device_do_not_mix() -> None:
    cuda = FakeCuda()
    with cuda(), pytest.raises(RuntimeError):
        torch.empty(4, device=CUDA) + torch.empty(4)
    assert [f.what for f in cuda.findings] == ["device"]


def test_a_norm_in_fp32_loses_the_kernel() -> None:
    plain: Callable[[HeadNorm, Tensor], Tensor] = nn.RMSNorm.forward
    config = ModelConfig(width=64, encoder_layers=1, decoder_layers=1, heads=2, qk_norm=True)
    cuda = FakeCuda()
    with cuda():
        with torch.device("cuda"):
            body, x_SD = EncoderDecoder(config), torch.empty(9, 64)
            positions_S3 = torch.zeros(9, 3, dtype=torch.long)
        with pytest.MonkeyPatch.context() as patch, cuda.autocast(True):
            patch.setattr(HeadNorm, "forward", plain)
            body.encode(x_SD, positions_S3, (4, 5))
    assert "dense" in {f.what for f in cuda.findings}
    assert cuda.operations[VARLEN] == 0


def test_the_device_is_gone_afterwards() -> None:
    with FakeCuda()():
        torch.empty(1, device=CUDA)
    assert not torch.cuda.is_available()
    with pytest.raises((AssertionError, RuntimeError)):
        torch.empty(1, device=CUDA)
