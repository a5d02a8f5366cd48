"""A small classifier of real images that judges reconstructed and generated ones: its features and its classes.

    OMP_NUM_THREADS=1 python benchmarks/judge.py                      # digits at 16 x 16: accuracy and the floor
    OMP_NUM_THREADS=1 python benchmarks/judge.py --task caption --label caption --side 32

    from judge import Judge, load_digits
    splits = load_digits(16)                              # {"train": (images uint8 NHWC, labels), "valid": ..., ...}
    judge = Judge.train(*splits["train"])                 # seconds; from the cache the second time
    frechet_distance(judge.features(drawn), judge.features(splits["test"][0]))

It is trained on the training split alone. No judge with published weights installs offline, so distances in its
features compare rows of one table, never with numbers of other papers. Floor: train against test split.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from frechet import frechet_distance
from numpy.typing import NDArray
from torch import Tensor, nn

from ofasys_lite.cards.find import find_task
from ofasys_lite.codec.train_codec import Images
from ofasys_lite.data.array_cache import atomic, cache_folder
from ofasys_lite.data.splits import open_card
from ofasys_lite.errors import DataError, ShapeError

__all__ = ["FEATURES", "Judge", "load_card", "load_digits"]

#: Width of the penultimate layer.
FEATURES = 64
#: Part of the cache's key: changes with the network or its training.
_VERSION = 1
_EPOCHS, _BATCH, _LR = 15, 64, 2e-3

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Split = tuple[Pixels, Labels]


class _Network(nn.Module):
    """Pixels in -1 to 1 (N, 3, S, S) to features (N, 64)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2)):
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(8, after), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, FEATURES), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, pixels_NHWC: Tensor) -> Tensor:
        features: Tensor = self.body(pixels_NHWC.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return features


@dataclass(frozen=True, slots=True)
class Judge:
    """A trained classifier.

    Attributes:
        network: Its weights.
        side: Side in pixels of the images it reads.
    """

    network: _Network
    side: int

    @classmethod
    def train(cls, images_NHWC: Pixels, labels_N: Labels, seed: int = 0, cache: Path | None = None) -> Judge:
        """The judge trained on real images; equal images, labels and seed give an equal judge.

        Args:
            images_NHWC: uint8, square.
            labels_N: Numbers of classes from 0.
            seed: Of weights and order.
            cache: Folder of trained judges; the user's cache folder if not given.

        Raises:
            ShapeError: The images are not square uint8 RGB, or the labels are not one for each.
            DataError: Fewer images than one batch of 64.
        """
        _check(images_NHWC, images_NHWC.shape[1] if images_NHWC.ndim == 4 else 0)
        if labels_N.shape != (len(images_NHWC),):
            raise ShapeError(f"judge: {len(images_NHWC)} images, labels of shape {labels_N.shape}")
        if len(images_NHWC) < _BATCH:
            raise DataError(f"judge: {len(images_NHWC)} images are too few", help=f"give at least {_BATCH}")
        settings = f"{_VERSION}/{seed}/{images_NHWC.shape}".encode()
        key = hashlib.sha256(settings + images_NHWC.tobytes() + labels_N.astype(np.int64).tobytes()).hexdigest()[:24]
        path = (cache or cache_folder() / "judges") / f"{key}.pt"
        network = _fresh(int(labels_N.max()) + 1, seed)
        if path.exists():
            network.load_state_dict(torch.load(path, weights_only=True))
        else:
            _fit(network, images_NHWC, labels_N, seed)
            with atomic(path) as partial:
                torch.save(network.state_dict(), partial)
        return cls(network.eval(), images_NHWC.shape[1])

    def features(self, images_NHWC: Pixels, batch: int = 256) -> NDArray[np.float64]:
        """(N, 64) of uint8 images; ShapeError for images of another size."""
        return self._run(images_NHWC, batch).double().numpy()

    def classes(self, images_NHWC: Pixels, batch: int = 256) -> Labels:
        """(N,) numbers of the most likely classes of uint8 images; ShapeError for images of another size."""
        with torch.no_grad():
            logits_NC: Tensor = self.network.head(self._run(images_NHWC, batch))
        return logits_NC.argmax(-1).numpy()

    @torch.no_grad()
    def _run(self, images_NHWC: Pixels, batch: int) -> Tensor:
        _check(images_NHWC, self.side)
        parts = [self.network(torch.from_numpy(images_NHWC[i : i + batch])) for i in range(0, len(images_NHWC), batch)]
        return torch.cat(parts) if parts else torch.zeros(0, FEATURES)


def _check(images_NHWC: Pixels, side: int) -> None:
    if images_NHWC.dtype != np.uint8 or images_NHWC.ndim != 4 or images_NHWC.shape[1:] != (side, side, 3):
        raise ShapeError(
            f"judge: images of {images_NHWC.dtype} {images_NHWC.shape}", help=f"give uint8 (N, {side}, {side}, 3)"
        )


def _fresh(classes: int, seed: int) -> _Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Network(classes)


def _fit(network: _Network, images_NHWC: Pixels, labels_N: Labels, seed: int) -> None:
    """15 epochs of AdamW with a cosine; pictures are moved by up to one pixel."""
    rng = np.random.default_rng(seed)
    steps = _EPOCHS * (len(images_NHWC) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LR, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    side = images_NHWC.shape[1]
    edged_NHWC = np.pad(images_NHWC, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    for _ in range(_EPOCHS):
        order = rng.permutation(len(images_NHWC))
        for start in range(0, len(order) - _BATCH + 1, _BATCH):
            rows = order[start : start + _BATCH]
            top, left = rng.integers(0, 3, 2)
            moved = edged_NHWC[rows, top : top + side, left : left + side]
            logits_NC = network.head(network(torch.from_numpy(moved)))
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits_NC, torch.from_numpy(labels_N[rows])).backward()
            optimizer.step()
            schedule.step()


def load_card(
    task: str, image: str, label: str, side: int, folders: Sequence[str] = ()
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Split -> (uint8 images (N, side, side, 3), label numbers (N,)) of a task card, and the names of the labels.

    Args:
        task: Name of the card.
        image: Its column of images.
        label: Its column of labels.
        side: Side of the images in pixels.
        folders: Folders of the user's own that hold `tasks/`.

    Raises:
        DataError: A label of another split that the training split does not have.
    """
    sources, _ = open_card(find_task(task, folders))
    texts = {split: [str(source.value(i, label)) for i in range(len(source))] for split, source in sources.items()}
    names = tuple(sorted(set(texts["train"])))
    if unknown := sorted({text for each in texts.values() for text in each} - set(names)):
        raise DataError(f"judge: label `{unknown[0]}` of {task} is not in its training split")
    out = {}
    for split, source in sources.items():
        pixels = Images(source, image, side).batch(range(len(source))).numpy()
        out[split] = pixels, np.array([names.index(text) for text in texts[split]], np.int64)
    return out, names


def load_digits(side: int) -> dict[str, Split]:
    """Split -> (uint8 images (N, side, side, 3), digits (N,)) of the card `digits`."""
    return load_card("digits", "image", "label", side)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits")
    parser.add_argument("--image", default="image", help="column of images")
    parser.add_argument("--label", default="label", help="column of labels")
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    splits, names = load_card(given.task, given.image, given.label, given.side)
    judge = Judge.train(*splits["train"], given.seed)
    seen = {split: judge.features(images) for split, (images, _) in splits.items()}
    for split, (images, labels) in splits.items():
        right = float((judge.classes(images) == labels).mean())
        print(f"{split}: accuracy {right:.3f} of {len(labels)} images in {len(names)} classes")
    print(f"floor: Frechet distance of train and test split {frechet_distance(seen['train'], seen['test']):.3f}")
    if len(seen["valid"]) > FEATURES:
        print(f"       Frechet distance of valid and test split {frechet_distance(seen['valid'], seen['test']):.3f}")


if __name__ == "__main__":
    main()
