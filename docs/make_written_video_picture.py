"""docs/images/video_written.png: clips of moving digits that a model wrote, frame by frame.

`python docs/make_written_video_picture.py runs/films` (a run of moving_digits_writing).
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict

PAGE = Path(__file__).with_name("images") / "video_written.png"
CAPTIONS = (
    *("a 0 moves left", "a 1 moves right", "a 2 moves up", "a 3 moves down", "a 4 moves right"),
    *("a 5 moves left", "a 6 moves down", "a 7 moves up", "a 8 moves right", "a 9 moves left"),
)
SCALE, GAP, TEXT = 2, 4, 130


def main(run: str, task: str = "moving_digits_writing") -> None:
    """Writes the picture."""
    model = Generalist.from_pretrained(run, "cpu")
    options = model.entry(task).options(seed=1, cfg=2.0)
    found = predict(model, [Request(task, {"caption": text}, text, options) for text in CAPTIONS])
    strips = []
    for each in found:
        if each is None:
            raise SystemExit("nothing was written")
        frames = [Image.fromarray(frame) for frame in each.values["clip"].frames_FHW3]
        side = SCALE * frames[0].width
        strip = Image.new("RGB", (len(frames) * (side + GAP), side), "white")
        for number, frame in enumerate(frames):
            strip.paste(frame.resize((side, side), Image.Resampling.NEAREST), (number * (side + GAP), 0))
        strips.append(strip)
    lines = -(-len(strips) // 2)
    width, height = TEXT + strips[0].width + 4 * GAP, strips[0].height + GAP
    sheet = Image.new("RGB", (2 * width, lines * height + GAP), "white")
    for number, (text, strip) in enumerate(zip(CAPTIONS, strips, strict=True)):
        left, top = number // lines * width + GAP, number % lines * height + GAP
        ImageDraw.Draw(sheet).text((left, top + strip.height // 2 - 8), text, "#333333", ImageFont.load_default(14))
        sheet.paste(strip, (left + TEXT, top))
    sheet.convert("L").quantize(64).save(PAGE, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
