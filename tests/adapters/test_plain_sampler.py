"""The plain loop of the sampling benchmark draws the codes that were published, and those of our steps."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from test_depth_heads import SIDE, Published

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("plain_sampler")


@pytest.fixture
def sampling(plain: ModuleType) -> ModuleType:
    return importlib.import_module("sampling_dnd")


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("name", ["dnd_d1", "dnd_d2"])
def test_the_plain_loop_draws_the_published_codes(plain: ModuleType, name: str, guidance: float) -> None:
    model = Published(name)
    null = model.want["config"]["num_classes"]
    start_ND = model.start(torch.tensor([*model.want["cond"][:2].tolist(), null, null])).detach()
    draw = plain.Draw(temperature=0.0, guidance=guidance)
    codes = plain.PlainSampler(model.body, model.heads).sample(start_ND, model.positions(SIDE**2), draw)
    assert torch.equal(codes, model.want[f"greedy_cfg{guidance}"])


@pytest.mark.parametrize("guidance", [None, 3.0])
@pytest.mark.parametrize("source", [0, 5])
def test_both_sides_of_the_benchmark_draw_the_same_codes(
    sampling: ModuleType, source: int, guidance: float | None
) -> None:
    sizes = sampling.Sizes(
        width=128, layers=3, heads=4, kv_heads=2, codes=60, side=10, batch=2, source=source, guidance=guidance
    )
    pair = sampling.Pair(sizes)
    ours, theirs = pair.ours(temperature=0.0), pair.plain(temperature=0.0)
    assert ours.shape == (2, 100, 2)
    assert ours.unique().numel() > 10
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, pair.plain(temperature=0.0, sliced=True))
    assert torch.equal(ours, pair.plain(temperature=0.0, copies=True))


def test_the_plain_loop_copies_its_cache_only_where_it_is_told(
    sampling: ModuleType, plain: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = sampling.Pair(sampling.Sizes(width=32, layers=2, heads=2, codes=16, side=3, batch=2, source=4))
    copies: list[int] = []
    repeat = torch.Tensor.repeat_interleave
    monkeypatch.setattr(torch.Tensor, "repeat_interleave", lambda x, *a: copies.append(1) or repeat(x, *a))
    pair.plain()
    assert copies == []
    pair.plain(copies=True)
    assert len(copies) == 9 * 2 * 4  # places, layers, keys and values of both attentions


def test_the_sampling_benchmark_runs_in_small(sampling: ModuleType, tmp_path: Path) -> None:
    row = sampling.main(["--smoke", "--repetitions", "2", "--out", str(tmp_path)])
    assert (tmp_path / "sampling_dnd_smoke.json").exists()
    for case in row["cases"]:
        assert case["codes_equal"] == 1.0
        assert len(case["seconds"]["ours"]) == 2
