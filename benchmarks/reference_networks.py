"""Small networks that a user would take for one task alone, each from its description, and how they are trained.

Legend: N samples, C channels, Y rows and X columns of a picture or of its cells, W words, L classes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

#: Cells of the detector are this many pixels wide.
STRIDE = 4


def pictures(files: Sequence[bytes], mode: str) -> Tensor:
    """Pictures of one size (N, C, Y, X) from -0.5 to 0.5; `mode` is Pillow's, `RGB` or `L`."""
    arrays = [np.asarray(Image.open(io.BytesIO(data)).convert(mode), dtype=np.float32) for data in files]
    x_NYXC: NDArray[np.float32] = np.stack(arrays).reshape(len(arrays), *arrays[0].shape[:2], -1) / 255 - 0.5
    return torch.from_numpy(x_NYXC).permute(0, 3, 1, 2).contiguous()


class EasyVQA(nn.Module):
    """The network that easy-VQA's authors publish (victorzhou.com, 2019): what is seen times what is asked.

    Two convolutions of 8 and 16 channels with pooling and a dense layer over the picture, two dense layers over the
    question's bag of words, tanh, their product, two more dense layers.
    """

    def __init__(self, words: int, answers: int, width: int = 32) -> None:
        super().__init__()
        self.seen = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(16 * 16 * 16, width), nn.Tanh()),
        )
        self.asked = nn.Sequential(nn.Linear(words, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.both = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, answers))
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):  # Keras' own start, with which the authors trained
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x_NCYX: Tensor, words_NW: Tensor) -> Tensor:
        out: Tensor = self.both(self.seen(x_NCYX) * self.asked(words_NW))
        return out


class LeNet(nn.Module):
    """Two convolutions with pooling and three dense layers (LeCun and others 1998), with ReLU, for 28 x 28 pixels."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(32 * 25, 120), nn.ReLU(), nn.Dropout(0.3), nn.Linear(120, 84), nn.ReLU()),
            nn.Linear(84, classes),
        )

    def forward(self, x_NCYX: Tensor) -> Tensor:
        out: Tensor = self.layers(shifted(x_NCYX) if self.training else x_NCYX)
        return out


def shifted(x_NCYX: Tensor, most: int = 2, fill: float = -0.5) -> Tensor:
    """The pictures of a batch moved together by up to `most` pixels: the usual augmentation of digits."""
    down, right = torch.randint(0, 2 * most + 1, (2,)).tolist()
    high, wide = x_NCYX.shape[-2:]
    return F.pad(x_NCYX, (most,) * 4, value=fill)[..., down : down + high, right : right + wide]


class SudokuLSTM(nn.Module):
    """A bidirectional LSTM of two layers over the 16 cells in reading order; each cell's number is a class of four."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.cells = nn.Embedding(5, width)
        self.places = nn.Parameter(torch.randn(16, width) * 0.02)
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * width, 4)

    def forward(self, cells_N16: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(self.cells(cells_N16) + self.places)[0])
        return out.transpose(1, 2)


class CentreNet(nn.Module):
    """Objects as points (arXiv 1904.07850): a heat map of centres by class, sizes and offsets at a quarter's size."""

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()

        def block(a: int, b: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

        self.body = nn.Sequential(
            *(block(channels, width, 2), block(width, 2 * width, 2), block(2 * width, 2 * width, 1)),
            *(block(2 * width, 2 * width, 1), block(2 * width, 2 * width, 1)),
        )
        self.head = nn.Conv2d(2 * width, classes + 4, 1)
        nn.init.constant_(self.head.bias[:classes], -2.2)  # few cells hold a centre

    def forward(self, x_NCYX: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x_NCYX))
        return out


def detector_loss(out: Tensor, heat: Tensor, boxes: Tensor, there: Tensor) -> Tensor:
    """The focal loss of centres and the absolute error of sizes and offsets, per object.

    Args:
        out: (N, classes + 4, Y, X) of `CentreNet`.
        heat: (N, classes, Y, X), 1 at a centre, falling around it.
        boxes: (N, 4, Y, X) width, height and offset in cells, at the centres.
        there: (N, 1, Y, X) whether a centre is in the cell.
    """
    classes = heat.shape[1]
    chance = out[:, :classes].sigmoid().clamp(1e-4, 1 - 1e-4)
    right = heat.eq(1)
    hit = -(1 - chance).pow(2) * chance.log() * right
    miss = -(1 - heat).pow(4) * chance.pow(2) * (1 - chance).log() * ~right
    far = (out[:, classes:] - boxes).abs() * there
    return (hit.sum() + miss.sum() + 0.2 * far.sum()) / there.sum().clamp(min=1)


def centres(objects: Sequence[Sequence[dict[str, Any]]], labels: Sequence[str], side: int) -> tuple[Tensor, ...]:
    """What `detector_loss` takes of every scene: heat, boxes, there; `side` is the scenes' width in pixels."""
    cells, number = side // STRIDE, {label: i for i, label in enumerate(labels)}
    heat = torch.zeros(len(objects), len(labels), cells, cells)
    boxes, there = torch.zeros(len(objects), 4, cells, cells), torch.zeros(len(objects), 1, cells, cells)
    grid = torch.arange(cells, dtype=torch.float32)
    for n, scene in enumerate(objects):
        for each in scene:
            x0, y0, x1, y1 = (v / STRIDE for v in each["box"])
            middle = ((x0 + x1) / 2, (y0 + y1) / 2)
            column, row = (min(int(v), cells - 1) for v in middle)
            spread = max((x1 - x0 + y1 - y0) / 12, 0.3)
            bump = torch.exp(-((grid - column) ** 2 + (grid[:, None] - row) ** 2) / (2 * spread**2))
            heat[n, number[each["label"]]] = torch.maximum(heat[n, number[each["label"]]], bump)
            boxes[n, :, row, column] = torch.tensor([x1 - x0, y1 - y0, middle[0] - column, middle[1] - row])
            there[n, 0, row, column] = 1
    return heat, boxes, there


def found(out: Tensor, labels: Sequence[str], least: float) -> list[list[dict[str, Any]]]:
    """The objects of every scene: peaks of the heat map of at least `least`, as boxes in pixels with labels."""
    heat = out[:, : len(labels)].sigmoid()
    # one centre per place, whatever its class: digits do not lie on one another's centres
    best, kind = heat.max(1)
    peak = best.eq(F.max_pool2d(best[:, None], 3, 1, 1)[:, 0]) & best.ge(least)
    scenes: list[list[dict[str, Any]]] = [[] for _ in range(len(out))]
    for n, row, column in peak.nonzero().tolist():
        wide, high, dx, dy = out[n, len(labels) :, row, column].tolist()
        x, y = (column + dx) * STRIDE, (row + dy) * STRIDE
        half = (max(wide, 0.1) * STRIDE / 2, max(high, 0.1) * STRIDE / 2)
        box = [x - half[0], y - half[1], x + half[0], y + half[1]]
        scenes[n].append({"box": box, "label": labels[int(kind[n, row, column])]})
    return scenes


def train(
    model: nn.Module,
    inputs: Callable[[Tensor], tuple[Tensor, ...]],
    loss: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    epochs: int,
    rate: float,
    batch: int,
    falling: bool = True,
) -> None:
    """Trains by Adam in drawn order; the rate falls to zero along a cosine, or stays as it is.

    Args:
        model: What is trained.
        inputs: Numbers of rows (B,) -> what the model takes of them.
        loss: (the model's output, numbers of the rows) -> the mean loss.
        rows: Rows of training.
        epochs: How often each is seen.
        rate: Of Adam.
        batch: Rows of an update.
        falling: Whether the rate falls.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    steps = epochs * ((rows + batch - 1) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        for numbers in torch.randperm(rows).split(batch):
            optimizer.zero_grad(set_to_none=True)
            loss(model(*inputs(numbers)), numbers).backward()
            optimizer.step()
            if falling:
                schedule.step()
    model.eval()


@torch.no_grad()
def outputs(model: nn.Module, inputs: Callable[[Tensor], tuple[Tensor, ...]], rows: int, batch: int = 256) -> Tensor:
    """The model's outputs of all rows."""
    model.eval()
    return torch.cat([model(*inputs(numbers)) for numbers in torch.arange(rows).split(batch)])


def parameters(model: nn.Module) -> int:
    """How many numbers the model learns."""
    return sum(p.numel() for p in model.parameters())
