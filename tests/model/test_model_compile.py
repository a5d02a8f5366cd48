"""Compiled blocks: few graphs, made once and not for each pack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_packs import SMALL, make_pack
from torch import nn
from torch._dynamo.testing import CompileCounter

from ofasys_lite.model import EncoderDecoder, ModelConfig

#: Sources, target sequences of each, samples with causal targets: other counts and lengths in each pack.
PACKS: list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...], int]] = [
    ((5, 3), ((4,), (2, 3)), 2),
    ((7,), ((6,),), 1),
    ((4, 0, 9), ((3,), (5,), (2, 2)), 2),
    ((2, 2, 2, 8), ((2,), (2,), (3,), (9,)), 0),
    *(((n, n + 3), ((n,), (n + 1,)), 1) for n in range(2, 10)),
]


# torch looks for .grad of whatever comes in, and would hide what it then says
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_packs_of_all_lengths_take_the_same_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    compile_module = nn.Module.compile

    def counted(module: nn.Module, **settings: Any) -> None:
        compile_module(module, backend=counter, **settings)

    monkeypatch.setattr(nn.Module, "compile", counted)
    torch.manual_seed(0)
    compiled = EncoderDecoder(ModelConfig(**{**SMALL, "qk_norm": True, "compile_blocks": True}))
    plain = EncoderDecoder(ModelConfig(**{**SMALL, "qk_norm": True}))
    plain.load_state_dict(compiled.state_dict())
    for number, (sources, targets, causal) in enumerate(PACKS):
        pack = make_pack(sources, targets, causal)
        pack.x_SD.requires_grad_()
        pack.y_TD.requires_grad_()
        found = [pack.run(model) for model in (compiled, plain)]
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
        if number == 0:
            # a block of the encoder is cut at its attention, one of the decoder at both of its; all blocks share them
            assert counter.frame_count == 2 + 3
    assert counter.frame_count == 2 + 3
