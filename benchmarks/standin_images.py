"""Real pictures for the stand-in: Gemini's pixel sizes, any of its formats, and an exact number of bytes."""

import io
import random
import struct
from dataclasses import dataclass

from PIL import Image, PngImagePlugin

_SIZES_1K: dict[str, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
    "1:4": (512, 2064),
    "4:1": (2064, 512),
    "1:8": (352, 2928),
    "8:1": (2928, 352),
}
_FACTORS: dict[str, float] = {"512": 0.5, "1K": 1, "2K": 2, "4K": 4}
_PNG_PADDING_CHUNK = b"paDd"  # ancillary, private and safe to copy, so that every reader skips it
_PNG_CHUNK_OVERHEAD = 12  # length, type and CRC, four bytes each
_JPEG_SEGMENT = 65_533  # the most that the 16-bit length of one JPEG segment leaves for its content
_NOISE_SEED = 20251120


@dataclass(frozen=True, slots=True)
class Picture:
    """What one encoded image should be: `mime` png, jpeg or webp, pixels, and its size in bytes (None: as it falls)."""

    mime: str
    width: int
    height: int
    size: int | None


def pixel_size(aspect_ratio: str, image_size: str) -> tuple[int, int]:
    """Width and height that Gemini answers with.

    The 1K column of the ten ratios is from "Aspect ratios and image size" in Google's image generation guide
    (gemini-3-pro-image); 2K and 4K are exactly twice and four times it there. The four extreme ratios are as
    seen from gemini-nano-banana-2.1, and 512 is half of 1K. Raises KeyError for what the API doesn't know.
    """
    width, height = _SIZES_1K[aspect_ratio]
    factor = _FACTORS[image_size]
    return int(width * factor), int(height * factor)


def encode(picture: Picture) -> bytes:
    """The picture's file. Raises ValueError if it can't be as small as asked."""
    encoders = {"image/png": _png, "image/jpeg": _jpeg, "image/webp": _webp}
    if picture.mime not in encoders:
        raise ValueError(f"no encoder for {picture.mime}")
    data = encoders[picture.mime](picture)
    if picture.size is not None and len(data) != picture.size:
        raise ValueError(f"{picture} takes at least {len(data)} bytes")
    return data


def _canvas(picture: Picture, noisy_rows: int) -> Image.Image:
    """A gradient whose upper rows are noise: noise hardly compresses, so its share sets the size of the file,
    and decoding it costs about what decoding a photograph of that size does."""
    size = (picture.width, picture.height)
    ramp = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (ramp, ramp.rotate(180), Image.new("L", size, 96)))
    if noisy_rows > 0:
        noise = random.Random(_NOISE_SEED).randbytes(picture.width * noisy_rows * 3)
        image.paste(Image.frombytes("RGB", (picture.width, noisy_rows), noise), (0, 0))
    return image


def _png(picture: Picture) -> bytes:
    def save(noisy_rows: int, padding: int) -> bytes:
        info = PngImagePlugin.PngInfo()
        if padding >= 0:
            info.add(_PNG_PADDING_CHUNK, bytes(padding))
        target = io.BytesIO()
        _canvas(picture, noisy_rows).save(target, "PNG", compress_level=1, pnginfo=info)
        return target.getvalue()

    plain = save(0, -1)
    if picture.size is None or picture.size < len(plain) + _PNG_CHUNK_OVERHEAD:
        return plain
    row = picture.width * 3 + 64
    noisy_rows = max(0, min(picture.height, (picture.size - len(plain)) // row - 1))
    content = save(noisy_rows, -1)
    return save(noisy_rows, picture.size - len(content) - _PNG_CHUNK_OVERHEAD)


def _jpeg(picture: Picture) -> bytes:
    target = io.BytesIO()
    _canvas(picture, picture.height // 4).save(target, "JPEG", quality=90)
    content = target.getvalue()
    missing = 0 if picture.size is None else picture.size - len(content)
    segments: list[bytes] = []
    while missing > 4:  # marker and length of a comment segment
        length = min(missing - 4, _JPEG_SEGMENT)
        if 0 < missing - 4 - length < 5:
            length -= 8  # so that the last segment isn't smaller than its own header
        segments.append(struct.pack(">HH", 0xFFFE, length + 2) + bytes(length))
        missing -= length + 4
    return content[:2] + b"".join(segments) + content[2:]


def _webp(picture: Picture) -> bytes:
    def save(padding: int) -> bytes:
        target = io.BytesIO()
        _canvas(picture, picture.height // 4).save(target, "WEBP", quality=80, method=0, xmp=b" " * padding)
        return target.getvalue()

    smallest = save(2)
    if picture.size is None or picture.size < len(smallest):
        return smallest
    if picture.size % 2:
        raise ValueError("a WebP file has an even number of bytes")
    return save(2 + picture.size - len(smallest))
