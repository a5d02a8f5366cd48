"""A discriminator judges patches of the size it says, each picture alone; the hinge costs what the formula says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ofasys_lite.codec.losses import PatchDiscriminator, hinge_discriminator, hinge_generator, patch
from ofasys_lite.errors import CardError


@pytest.mark.parametrize(("side", "pixels"), [(8, 7), (16, 16), (32, 16), (40, 34), (80, 70)])
def test_one_judgement_sees_a_patch_of_the_size_that_is_said(side: int, pixels: int) -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(side)
    for i, layer in enumerate(network.layers):
        if isinstance(layer, nn.GroupNorm):  # it looks at the whole picture
            network.layers[i] = nn.Identity()
    picture = torch.randn(1, 3, side, side, requires_grad=True)
    judged = network(picture)
    judged[0, 0, judged.shape[2] // 2, judged.shape[3] // 2].backward()
    assert picture.grad is not None
    seen = picture.grad[0].abs().sum(0) > 0
    assert patch(side) == pixels
    # a patch at the edge of a small picture reaches into the padding
    assert pixels - 4 <= int(seen.any(0).sum()) <= pixels
    assert pixels - 4 <= int(seen.any(1).sum()) <= pixels
    if side >= 2 * pixels:
        assert int(seen.sum()) == pixels**2


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network, pictures = PatchDiscriminator(32), torch.randn(3, 3, 32, 32)
    alone = torch.cat([network(p[None]) for p in pictures])
    torch.testing.assert_close(network(pictures), alone)


def test_the_hinge_costs_what_lies_on_the_wrong_side_of_its_margin() -> None:
    real, made = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0])
    # real: 0, 0.5, 2; made: 0, 1
    assert hinge_discriminator(real, made).item() == pytest.approx(0.5 * (2.5 / 3 + 0.5))
    assert hinge_discriminator(torch.full((4,), 1.0), torch.full((4,), -1.0)).item() == 0.0
    assert hinge_generator(made).item() == pytest.approx(1.5)


def test_it_learns_to_tell_smooth_pictures_from_noise() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(16)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(20):
        real, made = torch.randn(8, 3, 1, 1).expand(-1, -1, 16, 16), torch.randn(8, 3, 16, 16)
        loss = hinge_discriminator(network(real), network(made))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    assert (network(torch.randn(8, 3, 16, 16)) < 0).float().mean() > 0.9


def test_pictures_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(CardError, match="patches of 7 pixels, the pictures have 4"):
        PatchDiscriminator(4)
