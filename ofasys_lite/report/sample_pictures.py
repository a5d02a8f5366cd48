"""Pictures and sounds of samples as PIL images and data URIs: images with boxes, spectrograms, players."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofasys_lite.metrics.baselines.nearest import waveform
from ofasys_lite.metrics.baselines.problem import image_of
from ofasys_lite.metrics.values import as_box, as_objects

if TYPE_CHECKING:
    from PIL import Image

PREDICTED = "#ff7a1a"
REFERENCE = "#12b886"
_LEAST, _MOST = 224, 448  # pixels of a picture's longer side
_BOXED = 384  # the least of one with boxes, whose labels must be read
_LABEL = 24  # pixels of a box's label
_SECONDS = 20  # longest sound that is embedded
_BANDS = 96


def picture(value: Any, predicted: Sequence[Any] = (), reference: Sequence[Any] = ()) -> Image.Image | None:
    """The image at 224 (with boxes 384) to 448 pixels or so with boxes drawn in; None if it cannot be read.

    Args:
        value: Image as PIL, bytes, array or path.
        predicted: (box, label) pairs in pixels of the original, drawn solid in orange.
        reference: The same, drawn in green around them.
    """
    from PIL import Image, ImageDraw

    image = image_of(value)
    if image is None:
        return None
    try:
        image = image.convert("RGB")
    except OSError:  # truncated file
        return None
    longest = max(image.size)
    scale = 1.0
    least = _BOXED if predicted or reference else _LEAST
    if longest < least:
        scale = float(-(-least // longest))  # whole factors keep small images crisp
        image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.NEAREST)
    elif longest > _MOST:
        scale = _MOST / longest
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    draw = ImageDraw.Draw(image)
    sides = ((reference, REFERENCE, 2, True), (predicted, PREDICTED, -1, False))
    placed = [
        (_outline(draw, [number * scale for number in box], colour, grow), label, colour, above)
        for pairs, colour, grow, above in sides
        for box, label in pairs
    ]
    for box, label, colour, above in placed:  # after all outlines, so that none crosses a label
        if label:
            _label(draw, box, label, colour, above)
    return image


def _outline(draw: Any, box: Sequence[float], colour: str, grow: int) -> tuple[float, float, float, float]:
    """The corners of the rectangle that was drawn, `grow` pixels outside the box."""
    x0, y0, x1, y1 = box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow
    corners = (x0, y0, max(x0, x1), max(y0, y1))
    draw.rectangle(corners, outline=colour, width=3)
    return corners


def _label(draw: Any, box: Sequence[float], label: str, colour: str, above: bool) -> None:
    """Draws the label as a tab in the box's colour, above its left end or below its right; inside the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), label, font_size=_LABEL)
    width, height = right - left + 8, bottom - top + 7
    x, y = (box[0], box[1] - height + 2) if above else (box[2] - width, box[3] - 2)
    most_x, most_y = (side - 1 for side in draw.im.size)
    x, y = max(0, min(x, most_x - width)), max(0, min(y, most_y - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 4 - left, y + 3 - top), label, fill="#000000", font_size=_LABEL, stroke_width=0.4)


def is_picture(value: Any) -> bool:
    """Whether a prediction or reference is a picture: a PIL image, or one as bytes or path."""
    return hasattr(value, "getbbox") or isinstance(value, (bytes, Path))


def png(value: Any) -> bytes | None:
    """A picture as the bytes of a PNG file, or of the file that it is; None if it cannot be read."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Path):
        return value.read_bytes() if value.is_file() else None
    image, file = image_of(value), io.BytesIO()
    if image is None:
        return None
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def boxes_of(value: Any) -> list[tuple[tuple[float, float, float, float], str]]:
    """(box, label) pairs in a value: one box, a record with a box, or a list of such records; else nothing."""
    box = as_box(value)
    if box is not None:
        return [(box, "")]
    return [(found, label) for found, label in as_objects(value) if found is not None]


def data_uri(image: Image.Image) -> str:
    """The image as a PNG data URI."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return uri(file.getvalue(), "image/png")


def uri(data: bytes, mime: str) -> str:
    """Bytes as a base64 data URI."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def wav_uri(value: Any) -> str:
    """The first 20 seconds of a sound as a 16-bit WAV data URI."""
    import soundfile

    samples, rate = waveform(value)
    samples = samples[: _SECONDS * rate]
    loudest = float(np.abs(samples).max()) if len(samples) else 0.0
    file = io.BytesIO()
    soundfile.write(file, samples / loudest if loudest > 1 else samples, rate, format="WAV", subtype="PCM_16")
    return uri(file.getvalue(), "audio/wav")


def spectrogram(value: Any, width: int = 448, height: int = 112) -> Image.Image:
    """Log power over time (left to right) and frequency (up to half the rate), bright is loud."""
    from PIL import Image

    samples, rate = waveform(value)
    samples = samples[: _SECONDS * rate]
    size = max(32, int(0.025 * rate))
    samples = np.pad(samples, (0, max(0, 2 * size - len(samples))))
    step = max(1, min(size // 2, (len(samples) - size) // width + 1))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::step] * np.hanning(size)
    power = np.log10(np.abs(np.fft.rfft(frames, axis=1)).T[::-1] ** 2 + 1e-10)
    top = float(power.max())
    grey = np.clip((power - top + 6) / 6, 0, 1)  # 60 dB
    stops = np.array([[13, 8, 35], [88, 24, 110], [200, 62, 90], [252, 160, 60], [252, 250, 190]], dtype=np.float64)
    places = np.linspace(0, 1, len(stops))
    colours = np.stack([np.interp(grey, places, stops[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(colours.astype(np.uint8)).resize((width, height))
