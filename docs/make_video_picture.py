"""Writes docs/images/video.png: a clip, and what the model reads of it with four sets of attributes.

python docs/make_video_picture.py
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ofasys_lite.cards import modalities
from ofasys_lite.preprocess.base import Context, RowContext
from ofasys_lite.preprocess.video import VideoPreprocess
from ofasys_lite.recipes.moving_digits import animation, moving

PAGE = Path(__file__).with_name("images") / "video.png"
#: What stands left of a line of frames, and the attributes.
LINES = (
    ("frames=6", {"frames": 6}),
    ("frames=4", {"frames": 4}),
    ("frames=6, max_rows=12", {"frames": 6, "max_rows": 12}),
    ("frames=6, mask_ratio=0.4", {"frames": 6, "mask_ratio": 0.4}),
)
SCALE, GAP, TEXT = 3, 6, 18


def seven() -> np.ndarray:
    """(28, 28) uint8: the digit 7, white on black."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).text((8, 0), "7", 255, ImageFont.load_default(26))
    return np.asarray(image)


def main() -> None:
    """Writes the picture."""
    tool = VideoPreprocess(Context(modalities()["VIDEO"].settings, None, adapter="image"))  # type: ignore[arg-type]
    clip = animation(moving(seven(), "right", random.Random(3)), "GIF")
    strips = []
    for text, said in LINES:
        piece = tool.encode(clip, tuple(said.items()), RowContext(rng=np.random.default_rng(0)))
        strip = tool.seen(piece)
        depth, lines, columns = piece.grid or (1, 1, 1)
        told = f"{text}: {piece.count} rows, {depth} pairs of frames x {lines} x {columns} cells"
        strips.append((told, strip.resize((strip.width * SCALE, strip.height * SCALE), Image.Resampling.NEAREST)))
    width = max(max(strip.width, 7 * len(told)) for told, strip in strips) + 2 * GAP
    sheet = Image.new("RGB", (width, sum(strip.height + TEXT + GAP for _, strip in strips) + GAP), "white")
    top = GAP
    for told, strip in strips:
        ImageDraw.Draw(sheet).text((GAP, top), told, "#333333", ImageFont.load_default(13))
        sheet.paste(Image.new("RGB", strip.size, "#d9c8ff"), (GAP, top + TEXT), None)
        sheet.paste(strip, (GAP, top + TEXT), strip)
        top += strip.height + TEXT + GAP
    sheet.save(PAGE, optimize=True)


if __name__ == "__main__":
    main()
