"""What a codec's pictures are judged by beside their error, a discriminator of patches too; an update under all of it.

A frozen network's features (arXiv 1801.03924) and a discriminator of patches (arXiv 1611.07004) whose weight follows
from the gradients at the decoder's last layer, as in VQGAN (arXiv 2012.09841).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.codec.image_codec import ImageCodec, centred
from ofasys_lite.codec.perceptual import PerceptualDistance
from ofasys_lite.errors import CardError, OfasysError

#: Pixels that one judgement sees, by the number of halvings.
_PATCHES = (7, 16, 34, 70)
_WIDTH = 64


def patch(side: int) -> int:
    """Pixels a judged patch is wide and high: the largest of 7, 16, 34 and 70 that the picture holds.

    Raises:
        CardError: The picture is smaller than the smallest patch.
    """
    if side < _PATCHES[0]:
        raise CardError(
            f"a discriminator judges patches of {_PATCHES[0]} pixels, the pictures have {side}",
            help="leave --gan-weight out, or take larger pictures",
        )
    return max(p for p in _PATCHES if p <= side)


class PatchDiscriminator(nn.Module):
    """Pictures to one number per patch: above 0 where the patch looks real.

    Convolutions of 4 x 4 as published, 64 channels wide. Groups of channels are normalised within a picture instead of
    within the batch: samples must not see each other.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        halvings = _PATCHES.index(patch(side))
        strides = [2] * halvings + [1]
        widths = [3, *(_WIDTH * min(8, 2**i) for i in range(len(strides)))]
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            layers.append(nn.Conv2d(widths[i], widths[i + 1], 4, stride, 1))
            if i:
                layers.append(nn.GroupNorm(16, widths[i + 1]))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        """(N, 1, h, w) of pictures in -1 to 1."""
        judged: Tensor = self.layers(pixels_NCHW)
        return judged


def hinge_discriminator(real: Tensor, made: Tensor) -> Tensor:
    """What the discriminator minimises: judgements of real patches below 1 and of made ones above -1 cost."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())


def hinge_generator(made: Tensor) -> Tensor:
    """What the maker of the pictures minimises: made patches judged as real."""
    return -made.mean()


#: Bounds of the adaptive weight, as published.
_MOST, _LEAST = 1e4, 1e-4


@dataclass(frozen=True, slots=True)
class CodecLosses:
    """Losses beside the error of the pixels; a wrong value raises CardError with what is allowed.

    Attributes:
        perceptual: Network whose features are compared, as PerceptualDistance names it; none if not given.
        perceptual_weight: How much their distance counts.
        gan_weight: How much the discriminator counts, times the adaptive weight; 0 for none.
        gan_start: Step from which on there is a discriminator.
    """

    perceptual: str | None = None
    perceptual_weight: float = 1.0
    gan_weight: float = 0.0
    gan_start: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.perceptual_weight) and self.perceptual_weight > 0):
            help = "write a number above 0, often 1; without the loss leave --perceptual out"
            raise CardError(f"codec: perceptual weight is {self.perceptual_weight}", help=help)
        if not (math.isfinite(self.gan_weight) and self.gan_weight >= 0):
            raise CardError(f"codec: gan weight is {self.gan_weight}", help="write 0 (none) or more, often 0.1 to 1")
        if self.gan_start < 0:
            raise CardError(f"codec: gan start is {self.gan_start}", help="write a step from 0 on")

    def network(self, side: int) -> PerceptualDistance | None:
        """The perceptual network for pictures of this side, if one is named; CardError where it cannot be had."""
        return None if self.perceptual is None else PerceptualDistance(self.perceptual, side)

    def recorded(self, network: PerceptualDistance | None) -> dict[str, object]:
        """What codec.json and the checkpoint say of these losses; empty where there are none."""
        said: dict[str, object] = {}
        if network is not None:
            said = {"perceptual": self.perceptual, "perceptual_weight": self.perceptual_weight}
            said["perceptual_hash"] = network.identity()
        if self.gan_weight:
            said.update(gan_weight=self.gan_weight, gan_start=self.gan_start)
        return said


class Adversary:
    """A discriminator of patches and its optimizer.

    Args:
        weight: How much it counts for the codec, times the adaptive weight.

    Raises:
        CardError: The pictures are too small for it.
    """

    def __init__(self, side: int, weight: float, device: torch.device | None = None) -> None:
        self.network, self.weight = PatchDiscriminator(side).to(device), weight
        # averages over few steps: what is judged changes all the time
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.5, 0.9), fused=True)

    def pull(self, made_NCHW: Tensor, error: Tensor, last: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The weighted loss of pictures that it sees through, and what is logged of it."""
        self.network.requires_grad_(False)
        adversarial = hinge_generator(self.network(made_NCHW))
        adaptive = adaptive_weight(error, adversarial, last)
        told = {"adversarial": adversarial.item(), "gan_weight": adaptive.item()}
        return self.weight * adaptive * adversarial, told

    def judge(self, real_NCHW: Tensor, made_NCHW: Tensor, lr: float, step: int) -> dict[str, float]:
        """One update of it; its loss, and the shares of patches that it told rightly."""
        self.network.requires_grad_(True)
        real, made = self.network(real_NCHW), self.network(made_NCHW.detach())
        loss = hinge_discriminator(real, made)
        _learn(self.network, self.optimizer, loss, lr, f"the discriminator at step {step + 1}")
        right = {"real_seen": (real > 0).float().mean().item(), "made_seen": (made < 0).float().mean().item()}
        return {"discriminator": loss.item(), **right}


class CodecLearner:
    """A codec, its optimizer, and what judges its pictures.

    Raises:
        CardError: The pictures are too small for a discriminator.
    """

    def __init__(self, codec: ImageCodec, losses: CodecLosses, perceptual: PerceptualDistance | None = None) -> None:
        self.codec, self.losses = codec, losses
        self.perceptual = None if perceptual is None else perceptual.to(codec.device)
        # the learning rate is set at each update
        self.optimizer = torch.optim.AdamW(codec.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
        self.adversary = Adversary(codec.config.size, losses.gan_weight, codec.device) if losses.gan_weight else None

    def update(self, pixels_NHWC: Tensor, step: int, plain: bool, lr: float) -> dict[str, float]:
        """One update of the codec, then one of the discriminator; returns what is logged of them.

        Args:
            plain: Leave the codes out: the decoder gets the vectors as they are.

        Raises:
            OfasysError: A loss or a gradient is not finite; then the weights it belongs to stay as they are.
        """
        real_NCHW = centred(pixels_NHWC)
        if plain:
            made_NCHW, error = self.codec.compared(self.codec.latents(pixels_NHWC), pixels_NHWC)
            loss, used = error, 0
        else:
            out = self.codec(pixels_NHWC)
            made_NCHW, error, loss = out.pixels_NCHW, out.error, out.loss
            used = len(out.quantized.codes.unique())
        told = {"error": error.item()} if self.perceptual is not None or self.adversary is not None else {}
        if self.perceptual is not None:
            gap = self.perceptual(made_NCHW, real_NCHW)
            told["perceptual"] = gap.item()
            error, loss = error + self.losses.perceptual_weight * gap, loss + self.losses.perceptual_weight * gap
        adversary = self.adversary if step >= self.losses.gan_start else None
        if adversary is not None:
            pulled, seen = adversary.pull(made_NCHW, error, self.codec.last_weight)
            loss = loss + pulled
            told.update(seen)
        _learn(self.codec, self.optimizer, loss, lr, f"the codec at step {step + 1}")
        if adversary is not None:
            told.update(adversary.judge(real_NCHW, made_NCHW, lr, step))
        return {"loss": loss.item(), **told, "codes_used": used}

    def state(self) -> dict[str, Any]:
        """What a resumed training needs; of the discriminator too, which no codec folder holds."""
        state = {"codec": self.codec.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.adversary is not None:
            state["discriminator"] = self.adversary.network.state_dict()
            state["discriminator_optimizer"] = self.adversary.optimizer.state_dict()
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` gave."""
        self.codec.load_state_dict(state["codec"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.adversary is not None:
            self.adversary.network.load_state_dict(state["discriminator"])
            self.adversary.optimizer.load_state_dict(state["discriminator_optimizer"])


def adaptive_weight(error: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """Length of the error's gradient at weights over that of the adversarial loss, 0 to 10,000; without gradient.

    So the discriminator pulls at the last layer as strongly as the error does (VQGAN, arXiv 2012.09841).
    """
    of_error = torch.autograd.grad(error, last, retain_graph=True)[0].norm()
    of_adversarial = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    weight: Tensor = (of_error / (of_adversarial + _LEAST)).clamp(0.0, _MOST)
    return weight


def _learn(module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, lr: float, what: str) -> None:
    """One step down the gradient, clipped to length 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    length = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    if not bool((loss.detach() + length).isfinite()):
        raise OfasysError(
            f"training has diverged: loss {loss.item():.4g} and gradient {length.item():.4g} of {what}",
            help="the last checkpoint is kept; lower --lr, or the weights of the losses",
        )
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
