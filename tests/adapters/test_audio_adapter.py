"""The audio adapter: packed equals one by one, every parameter learns."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.audio import AudioAdapter
from ofasys_lite.adapters.base import Shared
from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.pack import Part

D, MELS = 32, 8
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 30, 98, 1, 61]


def adapter() -> AudioAdapter:
    torch.manual_seed(0)
    return AudioAdapter({"mels": MELS, "channels": 16}, Shared(D, nn.Embedding(4, D)))


def pack(sounds: Sequence[Tensor]) -> Part:
    """The part that collation makes of audio pieces."""
    counts = tuple(-(-len(s) // 4) for s in sounds)
    frames = torch.cat([*sounds, torch.zeros(0, MELS, dtype=torch.float16)])
    return Part(
        "audio", torch.arange(sum(counts)), counts, {"frames": frames}, {"frames": tuple(len(s) for s in sounds)}
    )


def sounds(lengths: Sequence[int] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, MELS, generator=generator).half() for n in lengths]


def test_one_sound_equals_two_plain_padded_convolutions() -> None:
    model = adapter()
    for (sound,) in ([s] for s in sounds()):
        x = F.gelu(model.first(sound.float().T[None]))
        x = F.gelu(model.second(x))[0].T
        torch.testing.assert_close(model.embed(pack([sound])), model.norm(model.project(x)), rtol=1e-5, atol=1e-5)


def test_packed_sounds_equal_sounds_one_by_one_in_values_and_gradients() -> None:
    model = adapter()
    judge = torch.randn(sum(-(-n // 4) for n in LENGTHS), D)
    packed = model.embed(pack(sounds()))
    (packed * judge).sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    model.zero_grad()
    single = torch.cat([model.embed(pack([sound])) for sound in sounds()])
    (single * judge).sum().backward()
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-5)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, key
        torch.testing.assert_close(gradients[key], parameter.grad, rtol=1e-4, atol=1e-4, msg=key)


def test_a_pack_without_sounds_gives_no_rows_and_touches_every_parameter() -> None:
    model = adapter()
    rows = model.embed(pack([]))
    assert rows.shape == (0, D)
    rows.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_padding_of_a_pack_is_at_most_five_frames_a_sound() -> None:
    model = adapter()
    seen: list[int] = []
    model.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    model.embed(pack(sounds()))
    assert len(seen) == 1
    assert sum(LENGTHS) < seen[0] <= sum(LENGTHS) + 5 * len(LENGTHS)


def test_bf16_autocast_gives_nearly_the_same() -> None:
    model, part = adapter(), pack(sounds())
    full = model.embed(part)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.embed(part)
    assert (full - half).abs().mean() < 0.03
    assert model.to(torch.bfloat16).embed(part).dtype == torch.bfloat16


def test_frames_that_do_not_fit_are_refused() -> None:
    part = pack(sounds([8]))
    with pytest.raises(ShapeError, match="8 frames do not fill 3 rows"):
        adapter().embed(Part("audio", part.rows_P, (3,), part.arrays, part.sizes))
    other = Part("audio", part.rows_P, (2,), {"frames": torch.zeros(8, 5)}, part.sizes)
    with pytest.raises(ShapeError, match="frames have 5 mel bands, the adapter was made for 8"):
        adapter().embed(other)
