"""How far two pictures are apart for a network that somebody else trained: a loss for codecs.

LPIPS without its learned weights (arXiv 1801.03924). Shapes: N pictures, C channels of a stage, S side in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ofasys_lite.cards.classes import load_object
from ofasys_lite.errors import CardError, did_you_mean, needed

_HALF = (0.5, 0.5, 0.5)
#: What timm's own names of models elsewhere begin with.
_HUBS = ("hf-hub:", "hf_hub:", "timm/", "local-dir:")
_WRITE = "write the name of a timm model (resnet18), or package.module:function, which returns a torch.nn.Module"


class PerceptualDistance(nn.Module):
    """Sum over a frozen network's stages of the squared distance of features, brought to length 1 at every position.

    The network is `package.module:function` (called without arguments, it returns a module whose maps (N, C, h, w), one
    or a sequence of them, are the stages) or a timm model with its published weights. Pixels are normalised with the
    network's attributes `mean` and `std` (three numbers each, of pixels 0 to 1); where it has none they are -1 to 1.

    Raises:
        CardError: There is no such network, its weights cannot be had, or it makes no maps of such pictures.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, side: int) -> None:
        super().__init__()
        self.name = name
        with torch.random.fork_rng(devices=[]):
            path = ":" in name and not name.startswith(_HUBS)
            network, mean, std = _of_function(name) if path else _of_timm(name)
        self.network = network.requires_grad_(False)
        numbers = [_three(name, what, given) for what, given in (("mean", mean), ("std", std))]
        self.register_buffer("scale", (0.5 / numbers[1])[:, None, None])
        self.register_buffer("shift", ((0.5 - numbers[0]) / numbers[1])[:, None, None])
        self.train(False)
        self._try(side)

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stays in evaluation mode: it judges each picture alone, and the same picture always alike."""
        return super().train(False)

    def stages(self, pixels_NCHW: Tensor) -> list[Tensor]:
        """The maps (N, C, h, w) of pictures in -1 to 1."""
        made = self.network(pixels_NCHW * self.scale + self.shift)
        return [made] if isinstance(made, Tensor) else list(made)

    def forward(self, made_NCHW: Tensor, real_NCHW: Tensor) -> Tensor:
        """The mean distance of made pictures to the real ones, both in -1 to 1; only the made ones get a gradient."""
        with torch.no_grad():
            wanted = self.stages(real_NCHW)
        gaps = [unit_gap(one, other) for one, other in zip(self.stages(made_NCHW), wanted, strict=True)]
        return torch.stack(gaps).sum()

    def identity(self) -> str:
        """16 hex digits of the sha256 of its weights: another download or training is another loss."""
        digest = hashlib.sha256()
        for key, value in sorted(self.state_dict().items()):
            digest.update(f"{key}/{tuple(value.shape)}/{value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def _try(self, side: int) -> None:
        """Looks at two grey pictures, so that a wrong network is told before a training begins."""
        pixels = torch.zeros(2, 3, side, side, requires_grad=True)
        what = f"perceptual network {self.name}"
        try:
            maps = self.stages(pixels)
        except Exception as error:  # whatever a network of somebody else raises
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise CardError(
                f"{what} cannot look at pictures of {side} x {side} pixels: {told}",
                help="name a network that takes any size, most often a convolutional one",
            ) from error
        for n, x in enumerate(maps):
            if not isinstance(x, Tensor) or x.ndim != 4 or len(x) != 2 or not x.is_floating_point():
                found = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
                raise CardError(f"{what}: stage {n + 1} of 2 pictures is {found}", help="return maps (N, C, h, w)")
        if not maps or not all(x.requires_grad for x in maps):
            help = "return at least one map, and leave out torch.no_grad and detach: the codec learns through it"
            raise CardError(f"{what} passes no gradient to the pictures", help=help)


def unit_gap(one_NCHW: Tensor, other_NCHW: Tensor) -> Tensor:
    """Squared distance of two maps whose vectors are brought to length 1, mean over pictures and positions: 0 to 4."""
    return (_unit(one_NCHW) - _unit(other_NCHW)).square().sum(1).mean()


def _unit(x_NCHW: Tensor) -> Tensor:
    # the small number stands inside the root: a vector of zeros has a gradient too
    return x_NCHW * (x_NCHW.square().sum(1, keepdim=True) + 1e-8).rsqrt()


def _three(name: str, what: str, given: Any) -> Tensor:
    try:
        numbers = torch.as_tensor(given, dtype=torch.float32).flatten()
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.zeros(0)
    if len(numbers) != 3 or not bool(numbers.isfinite().all()) or (what == "std" and not bool((numbers > 0).all())):
        raise CardError(
            f"perceptual network {name}: its `{what}` is {given!r}", help="three numbers, for pixels from 0 to 1"
        )
    return numbers


def _of_function(name: str) -> tuple[nn.Module, Any, Any]:
    """The module that a function returns, and how it wants its pixels."""
    path, _, function = name.partition(":")
    if not path or not function or path.startswith("."):
        raise CardError(f"perceptual network `{name}`", help=_WRITE)
    found = load_object(f"{path}.{function}", "perceptual network")
    if not callable(found) or isinstance(found, nn.Module):
        raise CardError(f"perceptual network {name}: `{function}` is no function", help=_WRITE)
    torch.manual_seed(0)  # weights that it draws are the same in a resumed training; the import may have drawn too
    try:
        network = found()
    except Exception as error:  # whatever a function of somebody else raises, one that wants arguments included
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise CardError(
            f"perceptual network {name}: calling it without arguments failed: {told}", help=_WRITE
        ) from error
    if not isinstance(network, nn.Module):
        raise CardError(f"perceptual network {name} returned {type(network).__name__}", help=_WRITE)
    return network, getattr(network, "mean", _HALF), getattr(network, "std", _HALF)


def _of_timm(name: str) -> tuple[nn.Module, Sequence[float], Sequence[float]]:
    """All stages of a timm model with its published weights, and how it wants its pixels."""
    who, otherwise = f"the perceptual network `{name}`", ", or write package.module:function"
    timm = needed("timm", who, "image", otherwise, CardError)
    plain = name.split(".", 1)[0]
    if not name.startswith(_HUBS) and not timm.is_model(plain):
        known = [n for n in timm.list_models() if n[:3] == plain[:3]] or timm.list_models()
        help = f"{did_you_mean(plain, known, 'timm has')}; {_WRITE}"
        raise CardError(f"perceptual network `{name}` is not known", help=help)
    chosen: dict[str, Any] = {"pretrained": True, "features_only": True}
    try:
        try:  # Vision Transformers are told that sizes vary; convolutional networks take no such argument
            model = timm.create_model(name, **chosen, dynamic_img_size=True, dynamic_img_pad=True)
        except TypeError:
            model = timm.create_model(name, **chosen)
    except Exception as error:  # of the network, of the hub's client, of a name without weights
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise CardError(
            f"the weights of the perceptual network `{name}` cannot be had: {told}",
            help="run it once with a connection; for weights in a file write package.module:function, which loads them",
        ) from error
    numbers = getattr(model, "default_cfg", None) or getattr(model, "pretrained_cfg", None) or {}
    return model, numbers.get("mean", _HALF), numbers.get("std", _HALF)
