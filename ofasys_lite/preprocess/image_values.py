"""Pictures as values: how they are located, compared, shown and saved; shared by what reads and what writes them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import Look, Preprocess, Size
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.media import elsewhere, locate, setting

if TYPE_CHECKING:
    from PIL import Image


#: Endings of picture files that are named in messages.
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
#: Larger references are refused by their header, as is done by default where pictures are read.
_MEGAPIXELS = 100.0


class ImageValues(Preprocess):
    """What is known of pictures, whether rows of pixels are read or codes are written."""

    kind: ClassVar[str] = kinds.PICTURE
    ending: str = ".png"
    typical: ClassVar[Size] = (224 * 224,)

    @classmethod
    def measure(cls, value: Any, folder: str | None) -> Size | None:
        """(pixels,) by the header."""
        from ofasys_lite.preprocess.image_decode import header_size

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of huge pictures; decoding decides about them
            height, width = header_size(value, folder, float("inf"))
        return (height * width,)

    @classmethod
    def located(cls, value: Any, folder: str | None) -> Any:
        """Bytes or path of the picture; a PIL image or an array as it is."""
        from ofasys_lite.preprocess.image_decode import BASE64_HEADS

        found = locate(value, folder, "image", BASE64_HEADS)
        return value if found is None else found

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> Any:
        """The picture as bytes, path or PIL image; DataError where its header says that it is none."""
        from ofasys_lite.preprocess.image_decode import BASE64_HEADS, open_image

        found = locate(value, folder, "image", BASE64_HEADS)
        image = open_image(value if found is None else found, None, _MEGAPIXELS)
        if found is None:
            return image
        image.close()
        return found

    def show(self, value: Any) -> Shown | None:
        """The picture itself."""
        return Shown(picture=value)

    def brief(self, value: Any) -> str:
        """`<image 16 x 16>`."""
        return f"<image {value.width} x {value.height}>"

    def save(self, value: Any, ending: str) -> bytes:
        """The bytes of an image file of any format that Pillow writes."""
        return picture_bytes(value, ending)

    @classmethod
    def place(cls, path: str | Path) -> Path:
        """`path`, with `.png` if it has no ending; DataError if no picture ends like that."""
        from PIL import Image

        place = Path(path)
        place = place if place.suffix else place.with_name(f"{place.name}.png")
        if place.suffix.lower() not in Image.registered_extensions():
            help = did_you_mean(place.suffix, ENDINGS, "such as")
            raise DataError(f"cannot write {place}: no picture ends like that", help=help)
        return place


def picture_bytes(image: Image.Image, ending: str) -> bytes:
    """The bytes of an image file of the format that ends like that."""
    from PIL import Image

    file = io.BytesIO()
    image.save(file, format=Image.registered_extensions()[ending.lower()])
    return file.getvalue()


def header_check(value: Any, settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) by the header of the image that `value` holds, None where it lies elsewhere; DataError if none.

    Relative paths are looked up in `settings["folder"]`.
    """
    from ofasys_lite.preprocess.image_decode import header_size

    if elsewhere(value, settings):
        return None
    most = setting(settings, "max_megapixels", 100.0, 1e-6)
    found: tuple[int, int] = header_size(value, settings.get("folder"), most)
    return found


def look_at_image(
    value: Any,
    settings: Mapping[str, Any],
    target: Callable[[int, int], tuple[int, int]],
    most: int | None,
    whole: bool,
) -> Look:
    """What `Preprocess.look` says of an image.

    Args:
        settings: As `check` has them.
        target: (height, width) it is resized to, of (height, width).
        most: Pixels above which it is reduced, which is worth a remark.
    """
    from ofasys_lite.preprocess.image_decode import open_image, pages, resized, turned

    if elsewhere(value, settings):
        return Look()
    image = open_image(value, settings.get("folder"), setting(settings, "max_megapixels", 100.0, 1e-6))
    try:
        orientation = turned(image)
        width, height = image.size if orientation < 5 else image.size[::-1]
        high, wide = target(height, width)
        remarks = []
        if most is not None and width * height > most and (high, wide) != (height, width):
            remarks.append((f"max_pixels={most} reduces", f"{width} x {height} to {wide} x {high}"))
        if (count := pages(image)) > 1:
            remarks.append(("the first of several pictures is read in", f"one of {count}"))
        if whole:
            resized(image, high, wide, orientation, draft=image is not value)
    finally:
        if image is not value:
            image.close()
    return Look((width, height), width * height, tuple(remarks))
