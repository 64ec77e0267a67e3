"""What the `demo` provider makes of given images: a collage over the drawn scene, or one in the colours of another.

No AI and no understanding: enough to see which images arrived, in which order, and that all of them count.
"""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFilter, ImageOps, ImageStat

from core.errors import FieldProblem
from core.pictures import BROKEN_PICTURE
from services.references.errors import UnsupportedImage
from services.references.models import ReferenceImage

Size = tuple[int, int]

_MARGIN, _FEATHER = 0.035, 0.03  # of the shorter side
_STYLE_STRENGTH = 0.9
_SPARE = 2  # how much larger than its place an image stays until it is cropped


def blend(scene: Image.Image, references: Sequence[ReferenceImage]) -> Image.Image:
    """Lay the images over the scene in rows, first one first, with soft edges. Raises UnsupportedImage."""
    width, height = scene.size
    short = min(width, height)
    columns = min(len(references), math.ceil(math.sqrt(len(references) * width / height)))
    rows = math.ceil(len(references) / columns)
    margin, soft = short * _MARGIN, short * _FEATHER / max(1, rows)
    across, down = (width - margin) / columns, (height - margin) / rows
    tile = (max(1, round(across - margin)), max(1, round(down - margin)))
    mask = _soft_edges(tile, soft)
    for index, reference in enumerate(references):
        row, column = divmod(index, columns)
        spot = (round(margin + column * across), round(margin + row * down))
        scene.paste(_opened(index, reference, tile), spot, mask)
    return scene


def restyle(references: Sequence[ReferenceImage], size: Size) -> Image.Image:
    """The first image with the colours of the second: in each channel its mean and its spread."""
    content, style = (_opened(index, reference, size) for index, reference in enumerate(references[:2]))
    ours, theirs = ImageStat.Stat(content), ImageStat.Stat(style)
    table: list[int] = []
    for mean, spread, wanted_mean, wanted_spread in zip(
        ours.mean, ours.stddev, theirs.mean, theirs.stddev, strict=True
    ):  # fmt: skip
        gain = wanted_spread / max(1.0, spread)
        table += [min(255, max(0, round((value - mean) * gain + wanted_mean))) for value in range(256)]
    return Image.blend(content, content.point(table), _STYLE_STRENGTH)


def _opened(index: int, reference: ReferenceImage, size: Size) -> Image.Image:
    """Upright, on white, filling `size`."""
    try:
        with Image.open(reference.path, formats=("JPEG", "PNG", "WEBP")) as picture:
            # A JPEG is decoded at a fraction of its size where that is enough.
            picture.draft("RGB", size)
            small = _in_colours(picture)
            # Each step from here on copies the picture, which may have 50 million pixels.
            wanted = _SPARE * max(size) / min(small.size)
            if wanted < 1:
                small.thumbnail((small.width * wanted, small.height * wanted), reducing_gap=2.0)
            fitted = ImageOps.fit(ImageOps.exif_transpose(small).convert("RGBA"), size)
    except BROKEN_PICTURE as wrong:
        raise UnsupportedImage([FieldProblem(f"images.{index}", "image_damaged")]) from wrong
    flat = Image.new("RGB", size, (255, 255, 255))
    flat.paste(fitted, mask=fitted.getchannel("A"))
    return flat


def _in_colours(picture: Image.Image) -> Image.Image:
    """As a mode that can be shrunk smoothly; the picture itself when it has one already."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which a conversion would cut off at 255
        return picture.point(lambda grey: grey * (1 / 256)).convert("L")
    return picture if picture.mode in {"L", "RGB", "RGBA", "CMYK"} else picture.convert("RGBA")


def _soft_edges(size: Size, soft: float) -> Image.Image:
    mask = Image.new("L", size, 0)
    inset = min(soft, min(size) / 4)
    ImageDraw.Draw(mask).rectangle((inset, inset, size[0] - 1 - inset, size[1] - 1 - inset), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(inset / 2))
