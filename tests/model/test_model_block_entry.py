"""A block has one entry: whoever hooks it sees it work in training, prefill and every step of decoding."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from ofasys_lite.model import EncoderDecoder, ModelConfig

ROWS, STEPS = [3, 5], 4


def model(**more: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    sizes = {"width": 32, "encoder_layers": 2, "decoder_layers": 3, "heads": 2, "ffn": 64}
    return EncoderDecoder(ModelConfig(**{**sizes, **more}))


def source(body: EncoderDecoder) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    positions = torch.cat([torch.arange(n)[:, None].expand(-1, 3) for n in ROWS])
    return body.encode(torch.randn(sum(ROWS), 32), positions, ROWS), positions


@torch.no_grad()
def written(body: EncoderDecoder, room: int | None) -> torch.Tensor:
    """States of a few steps."""
    states, positions = source(body)
    cache = body.start(states, positions, ROWS, room)
    torch.manual_seed(2)
    found = [body.step(torch.randn(2, 32), torch.full((2, 3), step), cache).clone() for step in range(STEPS)]
    return torch.stack(found)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # torch imports itself
@pytest.mark.parametrize("room", [None, 200])
@pytest.mark.parametrize("more", [{}, {"compile_blocks": True}, {"mlp": "gelu", "norm": "layernorm"}])
def test_hooks_of_each_block_see_prefill_and_every_step(room: int | None, more: dict[str, Any]) -> None:
    body, plain = model(**more).eval(), model(**{**more, "compile_blocks": False}).eval()
    before = written(plain, None)
    seen: Counter[str] = Counter()
    for name, block in [(f"{n}", b) for n, b in body.decoder.named_children()]:
        block.register_forward_pre_hook(lambda *_, name=name: seen.update([f"before {name}"]))
        block.register_forward_hook(lambda *_, name=name: seen.update([f"behind {name}"]))
    states, positions = (x.detach() for x in source(plain))
    with torch.no_grad():
        cache = body.start(states, positions, ROWS, room)
        assert cache.blocks is None  # laid out, the weights would be read before a hook can bring them
        assert seen == {f"{when} {n}": 1 for when in ("before", "behind") for n in range(3)}
        torch.manual_seed(2)
        for step in range(STEPS):
            seen.clear()
            out = body.step(torch.randn(2, 32), torch.full((2, 3), step), cache)
            assert seen == {f"{when} {n}": 1 for when in ("before", "behind") for n in range(3)}
            torch.testing.assert_close(out, before[step], rtol=0, atol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_hooks_of_each_block_see_training(checkpointing: bool) -> None:
    body = model(gradient_checkpointing=checkpointing).train()
    seen: Counter[str] = Counter()
    for side in ("encoder", "decoder"):
        for name, block in getattr(body, side).named_children():
            block.register_forward_hook(lambda *_, name=f"{side} {name}": seen.update([name]))
    states, positions = source(body)
    x = torch.randn(4, 32)
    out = body.decode(
        x, positions[:4] * 0 + torch.arange(4)[:, None], states, positions,
        lengths=[1, 3], cross_lengths=[(1, 3), (3, 5)],
    )  # fmt: skip
    assert set(seen) == {f"{s} {n}" for s, count in (("encoder", 2), ("decoder", 3)) for n in range(count)}
    assert set(seen.values()) == {1}
    out.sum().backward()
    assert all(p.grad is not None for p in body.parameters())


def test_without_hooks_steps_are_the_same_laid_out_or_not() -> None:
    body = model(mlp="gelu", norm="layernorm").eval()
    torch.testing.assert_close(written(body, None), written(body, 200), rtol=1e-5, atol=1e-5)


def test_hooks_may_gather_weights_for_a_call_and_take_them_away_again() -> None:
    """What a sharded strategy does: outside of a block's call its weights are not there."""
    body = model().eval()
    want = written(body, None)
    kept = {n: {k: p.detach().clone() for k, p in b.named_parameters()} for n, b in body.decoder.named_children()}

    def fill(block: Any, values: dict[str, torch.Tensor] | None) -> None:
        with torch.no_grad():
            for name, parameter in block.named_parameters():
                parameter.fill_(float("nan")) if values is None else parameter.copy_(values[name])

    for name, block in body.decoder.named_children():
        block.register_forward_pre_hook(lambda b, _, name=name: fill(b, kept[name]))
        block.register_forward_hook(lambda b, *_: fill(b, None))
        fill(block, None)
    for room in (None, 200):
        torch.testing.assert_close(written(body, room), want, rtol=0, atol=0)
