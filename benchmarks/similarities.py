"""A picture of how alike the sides of some rows are: the matrix of cosines of a line with `<->`, as a PNG.

    python benchmarks/similarities.py runs/pairs shape_pairs --rows 24 --out docs/images/similarities.png

Rows of different texts are taken from the test split; pictures stand left, texts above. A ring marks what each picture
finds: white where it is right.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl

from ofasys_lite.data.source import spread
from ofasys_lite.generalist.embedding import embed
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.report.evaluate_model import open_split
from ofasys_lite.report.retrieval import side_text
from ofasys_lite.report.sample_pictures import picture


def matrix(model: Generalist, task: str, count: int) -> tuple[Any, list[Any], list[str]]:
    """(cosines (N, N) of left and right sides, pictures of the left ones, texts of the right ones), by their texts."""
    rows = open_split(model, task, "test").rows
    by_text: dict[str, int] = {}
    for i in spread(len(rows.source), 8 * count):
        by_text.setdefault(side_text(rows, i, 1), i)
    texts = sorted(list(by_text)[:count], key=lambda text: text.split())
    chosen = [by_text[text] for text in texts]
    asked = [Request(task, rows.source.row(i), rows.source.ids(i), folder=rows.source.base or None) for i in chosen]
    left, right = (embed(model, asked, side) for side in (0, 1))
    (read,) = rows.inputs(0)
    return left @ right.T, [picture(rows.input(i, read)) for i in chosen], texts


def draw(cosines: Any, pictures: list[Any], texts: list[str], path: Path) -> None:
    """Writes the picture."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    count = len(texts)
    figure, axes = plt.subplots(figsize=(1.6 + 0.48 * count, 1.9 + 0.42 * count), dpi=110)
    drawn = axes.imshow(cosines, cmap="viridis")
    axes.set_xticks(range(count), [text[:26] for text in texts], rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(count), [""] * count)
    for number, shown in enumerate(pictures):
        place = axes.inset_axes((-1.15 / count, 1 - (number + 0.95) / count, 0.9 / count, 0.9 / count))
        place.imshow(shown)
        place.axis("off")
    for number in range(count):
        best = int(cosines[number].argmax())
        axes.plot(best, number, "o", mfc="none", mec="white" if best == number else "tab:red", ms=12)
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="cosine")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    """Draws the matrix of a run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("task")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("similarities.png"))
    given = parser.parse_args()
    draw(*matrix(Generalist.from_pretrained(given.run), given.task, given.rows), given.out)
    print(given.out)


if __name__ == "__main__":
    main()
