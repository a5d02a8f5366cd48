"""The perceptual distance: zero for equal pictures, a gradient to the made ones only, and plain words for mistakes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ofasys_lite.codec.perceptual import PerceptualDistance, unit_gap
from ofasys_lite.errors import CardError

MODULE = '''
import torch
from torch import nn

class Two(nn.Module):
    """Two stages, a dropout and a batch norm, which would answer otherwise in training."""
    mean, std = (0.2, 0.4, 0.5), (0.1, 0.2, 0.25)
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.norm, self.drop = nn.BatchNorm2d(8), nn.Dropout(0.5)
    def forward(self, x):
        first = self.drop(self.norm(self.one(x))).relu()
        return first, self.two(first)

class Pixels(nn.Module):
    def forward(self, x):
        return x

class Named(Pixels):
    mean, std = (0.2, 0.4, 0.5), (0.1, 0.2, 0.25)

class Blind(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return [2 * x]

class Flat(nn.Module):
    def forward(self, x):
        return [x, x.flatten(1)]

class Fixed(nn.Module):
    def forward(self, x):
        raise AssertionError(f"Input height ({x.shape[-1]}) doesn't match model (224).")

class Lonely(Pixels):
    std = (0.1, 0.0, 0.1)

two, ready = (lambda: Two()), Two()
def text(): return "no network"
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_features.py").write_text(MODULE)
    (tmp_path / "my_needy.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_features", "my_needy"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def pictures(seed: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_distance_of_unit_vectors_is_computed_by_hand() -> None:
    one = torch.tensor([[3.0, 4.0], [0.0, 5.0]]).T.reshape(1, 2, 1, 2)  # (3, 4) and (0, 5) at two positions
    other = torch.tensor([[8.0, 6.0], [0.0, -2.0]]).T.reshape(1, 2, 1, 2)
    # (.6, .8) - (.8, .6): .08; (0, 1) - (0, -1): 4
    assert unit_gap(one, other).item() == pytest.approx((0.08 + 4) / 2)
    assert unit_gap(one, 7 * one).item() == pytest.approx(0.0, abs=1e-6)
    zero = torch.zeros(1, 2, 1, 2, requires_grad=True)
    unit_gap(zero, other).backward()
    assert zero.grad is not None
    assert bool(zero.grad.isfinite().all())


def test_equal_pictures_are_at_distance_zero_and_others_are_not() -> None:
    distance = PerceptualDistance("my_features:two", 16)
    assert distance(pictures(0), pictures(0)).item() == 0.0
    near = distance(pictures(0) + 0.02 * pictures(1), pictures(0)).item()
    assert 0.0 < near < distance(pictures(1), pictures(0)).item()


def test_stages_are_summed() -> None:
    distance = PerceptualDistance("my_features:two", 16)
    one, other = distance.stages(pictures(0)), distance.stages(pictures(1))
    want = sum(unit_gap(a, b).item() for a, b in zip(one, other, strict=True))
    assert len(one) == 2
    assert distance(pictures(0), pictures(1)).item() == pytest.approx(want)


def test_the_gradient_goes_to_the_made_pictures_alone() -> None:
    distance = PerceptualDistance("my_features:two", 16)
    before = {key: value.clone() for key, value in distance.state_dict().items()}
    made, real = pictures(0).requires_grad_(), pictures(1).requires_grad_()
    distance.train()(made, real).backward()
    assert made.grad is not None
    assert float(made.grad.abs().sum()) > 0
    assert real.grad is None
    assert all(parameter.grad is None for parameter in distance.parameters())
    assert not any(module.training for module in distance.modules())
    assert all(torch.equal(value, before[key]) for key, value in distance.state_dict().items())


def test_pixels_come_as_the_network_states() -> None:
    x = pictures(0)
    (plain,) = PerceptualDistance("my_features:Pixels", 16).stages(x)
    torch.testing.assert_close(plain, x)
    (named,) = PerceptualDistance("my_features:Named", 16).stages(x)
    for c, (mean, std) in enumerate([(0.2, 0.1), (0.4, 0.2), (0.5, 0.25)]):
        torch.testing.assert_close(named[:, c], ((x[:, c] + 1) / 2 - mean) / std)


def test_drawn_weights_are_the_same_again_and_leave_the_draws_of_others_alone() -> None:
    torch.manual_seed(5)
    one = PerceptualDistance("my_features:two", 16)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert one.identity() == PerceptualDistance("my_features:two", 16).identity()
    with torch.no_grad():
        next(one.network.parameters()).view(-1)[0] += 1e-6
    assert one.identity() != PerceptualDistance("my_features:two", 16).identity()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_features:flt", r"my_features.flt: the module has no `flt`[\s\S]*did you mean `Flat`\? it has: Two,"),
        ("my_feature:two", r"no module `my_feature`[\s\S]*on PYTHONPATH"),
        ("my_needy:two", r"needs the package `a_package_nobody_has`"),
        ("my_features:", r"network `my_features:`[\s\S]*package.module:function"),
        (":two", r"network `:two`[\s\S]*package.module:function"),
        ("my_features:ready", r"`ready` is no function"),
        ("my_features:text", r"returned str"),
        (
            "json:loads",
            r"json:loads: calling it without arguments failed: [\s\S]*missing 1 required positional argument",
        ),
        ("my_features:Blind", r"passes no gradient to the pictures[\s\S]*torch.no_grad"),
        ("my_features:Flat", r"stage 2 of 2 pictures is shape \(2, 768\)[\s\S]*return maps \(N, C, h, w\)"),
        ("my_features:Fixed", r"cannot look at pictures of 16 x 16 pixels: Input height \(16\)"),
        ("my_features:Lonely", r"its `std` is \(0.1, 0.0, 0.1\)"),
    ],
)
def test_wrong_networks_are_told(name: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        PerceptualDistance(name, 16)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CardError, match=r"needs timm: .*\n  help: pip install 'ofasys_lite\[image\]'"):
        PerceptualDistance("resnet18", 16)


def test_weights_that_cannot_be_fetched_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def create(name: str, **settings: Any) -> None:
        asked.append(settings)
        if "dynamic_img_size" in settings:
            raise TypeError("ResNet.__init__() got an unexpected keyword argument 'dynamic_img_size'")
        raise OSError("cannot find the requested files in the local cache.\nTrace ...")

    known = SimpleNamespace(is_model=lambda n: n == "resnet18", list_models=lambda: ["resnet18"], create_model=create)
    monkeypatch.setitem(sys.modules, "timm", known)
    with pytest.raises(CardError, match=r"`resnet18` cannot be had: cannot find .* cache\.\n  help: run it once with"):
        PerceptualDistance("resnet18", 16)
    assert asked[-1] == {"pretrained": True, "features_only": True}
    with pytest.raises(CardError, match=r"`resnet_18` is not known[\s\S]*did you mean `resnet18`\?"):
        PerceptualDistance("resnet_18", 16)


@pytest.mark.parametrize("name", ["resnet10t", "test_vit"])
def test_all_stages_of_a_timm_model_are_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision beside a torch of another build says so
        timm = pytest.importorskip("timm", exc_type=ImportError)
    real = timm.create_model
    # the weights lie on a server: those that are drawn serve as well
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **more: real(name, **more))
    distance = PerceptualDistance(name, 32)
    assert len(distance.stages(pictures(0))) >= 3
    made = pictures(0).requires_grad_()
    distance(made, pictures(1)).backward()
    assert made.grad is not None
    assert float(made.grad.abs().sum()) > 0
    assert distance(pictures(0), pictures(0)).item() == 0.0
    # what timm's models state is what they get
    stated = distance.network.default_cfg
    grey = (0.5 - torch.tensor(stated["mean"])) / torch.tensor(stated["std"])  # type: ignore[arg-type, index]
    torch.testing.assert_close(distance.shift.flatten(), grey)
