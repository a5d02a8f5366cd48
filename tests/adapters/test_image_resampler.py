"""The resampler: any number of cells becomes the asked number of rows, an image at a time, packed as one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from torch import nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image import ImageAdapter
from ofasys_lite.adapters.image_resampler import Resampler, _places
from ofasys_lite.errors import CardError, InstructionError, OfasysError
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Part, Side
from ofasys_lite.plan import build_plan
from ofasys_lite.preprocess.base import Context, Piece, RowContext
from ofasys_lite.preprocess.image_resampled import ResampledImage

D = 48
SIZES = [(64, 64), (48, 64), (8, 8), (64, 64), (8, 40)]
LINE = "[IMAGE:img,adapter=resampler(queries=5)] what is shown? -> [TEXT:cap]"


def pieces(sizes: Sequence[tuple[int, int]] = SIZES, queries: Sequence[int] = (6, 3, 6, 1, 4)) -> list[Piece]:
    rng = np.random.default_rng(0)
    tool = ResampledImage(Context({"queries": 6}, None, adapter="image:resampler"))  # type: ignore[arg-type]
    return [
        tool.encode(rng.integers(0, 256, (*size, 3)).astype(np.uint8), (("queries", count),), RowContext())
        for size, count in zip(sizes, queries, strict=False)
    ]


def part(held: Sequence[Piece]) -> Part:
    batch = to_device(collate([Example("t", "1", (Side((piece,)),), ()) for piece in held]), torch.device("cpu"))
    return batch.source.parts[0]


@pytest.fixture
def adapter() -> Resampler:
    torch.manual_seed(0)
    return Resampler({"queries": 6}, Shared(D, nn.Embedding(4, D)))


def test_packed_equals_one_by_one_in_values_and_gradients(adapter: Resampler) -> None:
    held = pieces()
    together = adapter.embed(part(held))
    assert together.shape == (20, D)
    weights = torch.randn(together.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((together * weights).sum(), [*adapter.parameters()], allow_unused=True)
    alone = torch.cat([adapter.embed(part([piece])) for piece in held])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    grads = torch.autograd.grad((alone * weights).sum(), [*adapter.parameters()], allow_unused=True)
    for one, two in zip(grads, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_it_is_cross_attention_over_the_cells_of_the_default_adapter(adapter: Resampler) -> None:
    (piece,) = pieces([(24, 40)], [4])
    cells = ImageAdapter.embed(
        adapter, Part("image", torch.arange(15), (15,), part([piece]).arrays, part([piece]).sizes, ((1, 3, 5),))
    )
    keys = adapter.to_key(cells + _places(3, 5, D))
    queries = adapter.to_query(adapter.asking(adapter.queries[:4]))
    shares = (queries @ keys.T * D**-0.5).softmax(-1)
    assert adapter.heads == 1
    wanted = F.layer_norm(adapter.out(shares @ adapter.to_value(cells)), (D,))
    torch.testing.assert_close(adapter.embed(part([piece])), wanted, rtol=1e-4, atol=1e-5)


def test_where_a_cell_lies_is_told_by_its_line_and_its_column() -> None:
    places = _places(3, 4, 32).view(3, 4, 32)
    assert torch.equal(places[1, 2, :16], places[1, 0, :16])
    assert torch.equal(places[1, 2, 16:], places[0, 2, 16:])
    assert len({tuple(each.tolist()) for each in places.view(12, 32)}) == 12
    assert _places(2, 2, 30).shape == (4, 30)


def test_every_parameter_learns_and_none_is_left_out_without_images(adapter: Resampler) -> None:
    adapter.embed(part(pieces())).square().mean().backward()
    still = {name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert still == {"mask"}  # which only masked cells read
    none = Part("image:resampler", torch.zeros(0, dtype=torch.int64), (), {}, {}, ())
    assert adapter.embed(none).shape == (0, D)
    assert adapter.touch().requires_grad


def test_a_line_with_it_trains_and_predicts_and_its_rows_are_its_queries() -> None:
    cards = [worlds.task("caption", line=LINE), worlds.task("find")]
    found = worlds.ready(cards)
    assert set(found.adapters) >= {"image", "image:resampler"}
    model = worlds.generalist(found)
    task = found.tasks[0]
    rows = worlds.rows(4)
    batch = collate([task.maker.example(row, row["id"], np.random.default_rng(0), True) for row in rows])
    assert next(p for p in batch.source.parts if p.adapter == "image:resampler").counts == (5,) * 4
    losses = model.network(to_device(batch, torch.device("cpu")))
    (losses.values_U.mean() + losses.touch).backward()
    resampler: Any = model.network.adapters["image:resampler"]
    assert resampler.queries.grad[:5].abs().sum() > 0
    assert not resampler.queries.grad[5:].any()
    alone = [predict(model, [Request("caption", row)])[0] for row in rows]
    assert [p.value for p in predict(model, [Request("caption", row) for row in rows]) if p] == [
        p.value for p in alone if p
    ]


def plan(line: str) -> Any:
    return build_plan(worlds.task("t", line=line), worlds.modalities())


def test_the_call_is_the_adapter_with_its_attribute() -> None:
    one, two = (
        plan(LINE.replace("resampler(queries=5)", said)) for said in ("resampler(queries=5)", "resampler,queries=5")
    )
    assert one.slots()[0].options == two.slots()[0].options
    assert one.slots()[0].preprocess.endswith("ResampledImage")
    assert plan("[IMAGE:img,preprocess=resampler] -> [TEXT:cap]").slots()[0].adapter.endswith("Resampler")
    assert not plan("[IMAGE:img,adapter=timm] -> [TEXT:cap]").slots()[0].preprocess.endswith("ResampledImage")


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        ("adapter=resampler(query=3)", "unknown slot attribute `query`"),
        ("adapter=resampler(queries=0)", "queries"),
        ("adapter=resampler(queries=3),queries=4", "`queries` is given twice"),
        ("adapter=resampler(3)", "adapter"),
        ("adapter=resampler,preprocess=imagenet", "preprocess `imagenet` does not go with `resampler`"),
        ("adapter=timm,preprocess=resampler", "adapter `timm` does not go with `resampler`"),
    ],
)
def test_what_cannot_be_is_told(slot: str, message: str) -> None:
    with pytest.raises(OfasysError, match=message):
        plan(f"[IMAGE:img,{slot}] -> [TEXT:cap]")


def test_what_settings_do_not_allow_is_told() -> None:
    for slot, message in {
        "adapter=resampler(queries=65)": "`queries=65`, and the resampler has 64",
        "adapter=resampler,mask_ratio=0.5": "`mask_ratio` hides rows",
        "queries=3": "`queries` is of the resampler",
    }.items():
        with pytest.raises(InstructionError, match=message):
            worlds.ready([worlds.task("caption", line=f"[IMAGE:img,{slot}] -> [TEXT:cap]")])
    with pytest.raises(CardError, match="learns a row for each cell"):
        Resampler({"objectives": ["mae"]}, Shared(D, nn.Embedding(4, D)))
