"""Images <-> grids of residual codes: a convolutional encoder and decoder around a quantizer; folders of them.

The tokenizer of DnD-Transformer (arXiv 2410.01912), after RQ-VAE (arXiv 2203.01941).
Shapes: N images of one size, H x W pixels, L = (H / f) * (W / f) positions line by line, K depth, C latent channels.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ofasys_lite.codec.residual_quantizer import Quantized, ResidualQuantizer
from ofasys_lite.codec.scalar_quantizer import ScalarQuantizer
from ofasys_lite.data.codec_facts import FORMAT, read_codec
from ofasys_lite.errors import CardError, CheckpointError, ShapeError, check_choice, check_keys, check_types
from ofasys_lite.model import pick_device
from ofasys_lite.writing import atomic, current, staged, write_atomic

LOSSES = ("mse", "l1")


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """Sizes of an image codec; a wrong value raises CardError with what is allowed.

    Attributes:
        size: Side of the square images in pixels; a multiple of `factor`.
        factor: Pixels a position is wide and high, a power of two from 2 on.
        depth: Codes per position K.
        codes: Codes of a book.
        channels: Latent channels C.
        width: Channels of the convolutions at full resolution; doubled with each halving up to 4 times.
        blocks: Residual blocks per resolution.
        shared: One codebook for all depths.
        decay: Of the codebooks' averages.
        commitment: Weight of the commitment loss.
        loss: `mse` or `l1` of pixels in -1 to 1.
        levels: Values of each number of a code (finite scalar quantization, arXiv 2309.15505), their product is
            `codes`; then there is no book, and `shared`, `decay` and `commitment` say nothing. Empty: residual codes.
    """

    size: int = 32
    factor: int = 4
    depth: int = 2
    codes: int = 256
    channels: int = 32
    width: int = 32
    blocks: int = 1
    shared: bool = True
    decay: float = 0.99
    commitment: float = 0.25
    loss: str = "mse"
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_types("codec", self)
        for name in ("size", "factor", "depth", "codes", "channels", "width", "blocks"):
            if getattr(self, name) < 1:
                raise CardError(f"codec: {name} is {getattr(self, name)}", help=f"{name} is a whole number from 1 on")
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise CardError(f"codec: factor is {self.factor}", help="write a power of two: 2, 4, 8, 16")
        if self.size % self.factor:
            near = max(1, round(self.size / self.factor)) * self.factor
            raise CardError(
                f"codec: size {self.size} is not divisible by factor {self.factor}", help=f"write size={near}"
            )
        check_choice("codec", "loss", self.loss, LOSSES)
        if self.commitment < 0:
            raise CardError(f"codec: commitment is {self.commitment}", help="write 0 or more, often 0.25")
        object.__setattr__(self, "levels", tuple(self.levels))  # JSON knows lists only
        if self.levels and (min(self.levels) < 2 or math.prod(self.levels) != self.codes):
            raise CardError(
                f"codec: levels {list(self.levels)} do not make {self.codes} codes",
                help="each level is at least 2, and their product is `codes`: 4, 4, 4 for 64",
            )

    @property
    def lines(self) -> int:
        """Lines (and columns) of the grid of positions."""
        return self.size // self.factor

    def to_dict(self) -> dict[str, object]:
        """Plain values that `from_dict` and JSON take; without `levels` as before there were any, so hashes stay."""
        values = asdict(self)
        if not self.levels:
            del values["levels"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> CodecConfig:
        """The config written by `to_dict`; an unknown key raises CardError with the nearest name."""
        check_keys("codec", values, (f.name for f in fields(cls)))
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Coded:
    """One pass through the codec.

    Attributes:
        pixels_NCHW: Reconstruction in -1 to 1.
        error: Of the reconstruction, as the config's `loss` measures it.
        loss: The error plus weighted commitment.
    """

    pixels_NCHW: Tensor
    quantized: Quantized
    error: Tensor
    loss: Tensor


class _Block(nn.Module):
    """x + two 3 x 3 convolutions, each behind a group norm and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(_groups(channels), channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W), as it came in shape."""
        out = x_NCHW
        for norm, conv in zip(self.norms, self.convs, strict=True):
            out = conv(F.silu(norm(out)))
        return x_NCHW + out


def centred(pixels_NHWC: Tensor) -> Tensor:
    """(N, 3, H, W) in -1 to 1 of uint8 images (N, H, W, 3)."""
    return pixels_NHWC.permute(0, 3, 1, 2).float() / 127.5 - 1


def _groups(channels: int) -> int:
    return next(n for n in (8, 4, 2, 1) if channels % n == 0)


class ImageCodec(nn.Module):
    """Square images to codes and back; `config`: its sizes."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        halvings = config.factor.bit_length() - 1
        widths = [config.width * min(4, 2**i) for i in range(halvings + 1)]
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for before, after in itertools.pairwise(widths):
            down += [*(_Block(before) for _ in range(config.blocks)), nn.Conv2d(before, after, 4, 2, 1)]
        down += [_Block(widths[-1]), nn.GroupNorm(_groups(widths[-1]), widths[-1]), nn.SiLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], config.channels, 1))
        up: list[nn.Module] = [nn.Conv2d(config.channels, widths[-1], 3, padding=1), _Block(widths[-1])]
        for before, after in itertools.pairwise(widths[::-1]):
            up += [nn.ConvTranspose2d(before, after, 4, 2, 1), *(_Block(after) for _ in range(config.blocks))]
        up += [nn.GroupNorm(_groups(widths[0]), widths[0]), nn.SiLU()]
        self.decoder = nn.Sequential(*up, nn.Conv2d(widths[0], 3, 3, padding=1))
        self.quantizer: ResidualQuantizer | ScalarQuantizer = (
            ScalarQuantizer(config.levels, config.channels, config.depth)
            if config.levels
            else ResidualQuantizer(config.codes, config.channels, config.depth, config.shared, config.decay)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def latents(self, pixels_NHWC: Tensor) -> Tensor:
        """(N, H / f, W / f, C) before quantization, of uint8 images; ShapeError: the images have another size."""
        side = self.config.size
        if pixels_NHWC.ndim != 4 or tuple(pixels_NHWC.shape[1:]) != (side, side, 3):
            raise ShapeError(f"codec for {side} x {side} pixels got images of shape {tuple(pixels_NHWC.shape[1:])}")
        z: Tensor = self.encoder(centred(pixels_NHWC)).permute(0, 2, 3, 1)
        return z

    def forward(self, pixels_NHWC: Tensor) -> Coded:
        """Reconstruction and loss of uint8 images (N, H, W, 3); in training the codebooks learn too."""
        quantized = self.quantizer(self.latents(pixels_NHWC))
        out_NCHW, error = self.compared(quantized.z, pixels_NHWC)
        return Coded(out_NCHW, quantized, error, error + self.config.commitment * quantized.commitment)

    def compared(self, z_NHWC: Tensor, pixels_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, H, W) in -1 to 1 that the decoder makes of vectors, and their error against uint8 images."""
        out_NCHW = self.decoder(z_NHWC.permute(0, 3, 1, 2))
        measure = F.mse_loss if self.config.loss == "mse" else F.l1_loss
        return out_NCHW, measure(out_NCHW, centred(pixels_NHWC))

    @property
    def last_weight(self) -> Tensor:
        """Weights of the decoder's last layer: through them every loss of the pictures goes."""
        last = self.decoder[-1]
        assert isinstance(last, nn.Conv2d)
        return last.weight

    @torch.no_grad()
    def encode(self, pixels_NHWC: Tensor) -> Tensor:
        """(N, L, K) codes of uint8 images; the codebooks stay as they are."""
        training = self.training
        self.eval()
        codes: Tensor = self.quantizer(self.latents(pixels_NHWC)).codes.flatten(1, 2)
        self.train(training)
        return codes

    @torch.no_grad()
    def decode(self, codes_NLK: Tensor, depth: int | None = None) -> Tensor:
        """(N, H, W, 3) uint8 images of codes.

        Args:
            codes_NLK: Codes, positions line by line.
            depth: Use the first codes of each position only.

        Raises:
            ShapeError: Another number of positions or codes than the codec has.
        """
        lines, config = self.config.lines, self.config
        if codes_NLK.ndim != 3 or tuple(codes_NLK.shape[1:]) != (lines**2, config.depth):
            raise ShapeError(
                f"codec: codes of shape {tuple(codes_NLK.shape)}", help=f"give (images, {lines**2}, {config.depth})"
            )
        vectors = [self.quantizer.book(k).vectors(codes_NLK[..., k]) for k in range(depth or config.depth)]
        z_NCHW = torch.stack(vectors).sum(0).view(-1, lines, lines, config.channels).permute(0, 3, 1, 2)
        out_NHWC = self.decoder(z_NCHW).permute(0, 2, 3, 1)
        pixels: Tensor = ((out_NHWC + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return pixels


def save_codec(codec: ImageCodec, folder: Path, losses: Mapping[str, object] | None = None) -> Path:
    """Writes codec.json and model.safetensors into `folder`, both or none; other files there stay.

    Args:
        losses: What it was trained by beside the error of its pictures, kept in codec.json for the reader.
    """
    told = {"losses": dict(losses)} if losses else {}
    text = json.dumps({"format": FORMAT, "kind": "image", "codec": codec.config.to_dict(), **told}, indent=1)
    with staged(folder) as stage:
        with atomic(stage / "model.safetensors") as partial:
            save_file({n: t.detach().cpu().contiguous() for n, t in codec.state_dict().items()}, partial)
        write_atomic(stage / "codec.json", text)
    return folder


def load_codec(folder: str | Path, device: str | torch.device = "cpu") -> ImageCodec:
    """The codec saved in `folder`, in evaluation mode, on a device (`pick_device`).

    Raises:
        CheckpointError: The folder is missing, damaged or of another kind.
    """
    place = Path(folder)
    sizes = read_codec(place)
    with _whole(place):
        codec = ImageCodec(CodecConfig.from_dict(sizes))
        codec.load_state_dict(load_file(current(place, "model.safetensors")))
    return codec.eval().to(pick_device(device))


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Tells what is wrong with the weights that are read inside as a CheckpointError of the codec folder."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}/model.safetensors is missing", help="copy it, or train the codec again"
        ) from None
    except (SafetensorError, RuntimeError, KeyError, TypeError, CardError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}", help="copy it again, or train the codec again") from None


class Filled(Protocol):
    """What holds a codec, such as an adapter that writes with it."""

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the weights of a trained codec, by name."""


def fill_codecs(coder: Callable[[str], Filled], folders: Mapping[str, Path]) -> None:
    """Puts the trained codecs into the adapters that write with them; `coder` gives an adapter by its name."""
    for name, folder in folders.items():
        with _whole(folder):
            coder(name).fill(load_file(current(folder, "model.safetensors")))
