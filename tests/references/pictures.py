"""Pictures to be sent: honest ones of every format, and hostile ones, each made from its format's own parts."""

import base64
import io
import struct
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

RED, BLUE, GREEN = (208, 48, 48), (48, 80, 208), (32, 160, 64)
ZIP = b"PK\x03\x04" + bytes(200) + b"PK\x05\x06" + bytes(18)
HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'

Colour = tuple[int, int, int]


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), colour: Colour = RED, **options: Any) -> bytes:
    """A gradient towards `colour`, so that a lossy format has something to do."""
    ramp = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", [ramp.point([value * part // 255 for value in range(256)]) for part in colour])
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def plain(colour: Colour, size: tuple[int, int] = (64, 64), kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, kind)
    return target.getvalue()


def animation(kind: str, frames: int, size: tuple[int, int] = (32, 24)) -> bytes:
    """The first frame is red."""
    images = [Image.new("RGB", size, (RED, BLUE, GREEN)[index % 3]) for index in range(frames)]
    target = io.BytesIO()
    images[0].save(target, kind, save_all=True, append_images=images[1:], duration=40)
    return target.getvalue()


def deep_grey(level: float) -> bytes:
    """A PNG with 16 bits a pixel, all of this grey; 0 is black and 1 is white."""
    target = io.BytesIO()
    Image.new("I;16", (64, 64), round(level * 0xFFFF)).save(target, "PNG")
    return target.getvalue()


STICKER_AT, STICKER_SIZE = (8, 4), (40, 36)


def sticker(*, lossless: bool) -> bytes:
    """An animated WebP whose first frame is half transparent and smaller than the canvas."""
    first, second = Image.new("RGBA", (64, 48)), Image.new("RGBA", (64, 48), BLUE)
    half = Image.new("RGBA", STICKER_SIZE, (*RED, 255))
    half.putalpha(Image.linear_gradient("L").resize(STICKER_SIZE).point([max(1, value) for value in range(256)]))
    first.paste(half, STICKER_AT)
    target = io.BytesIO()
    first.save(target, "WEBP", save_all=True, append_images=[second], lossless=lossless)
    return target.getvalue()


def wide_animation() -> bytes:
    """Two frames of one colour on a canvas that they fill with all the pixels that are allowed."""
    sides = (4990, 4990)
    target = io.BytesIO()
    Image.new("RGB", sides, RED).save(
        target, "WEBP", save_all=True, append_images=[Image.new("RGB", sides, BLUE)], lossless=True, method=0, quality=0
    )
    return target.getvalue()


def with_metadata() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a red ramp", zip=True)
    info.add_itxt("Title", "红")
    return picture("PNG", pnginfo=info)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(width: int, height: int, content: bytes) -> bytes:
    """A PNG whose header says so, with this zlib stream as its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def png_bomb() -> bytes:
    """20,000 x 20,000 pixels of nothing: 1.2 GB decoded, about 1 MB as it is."""
    packer, row = zlib.compressobj(9), bytes(1 + 20_000 * 3)
    packed = b"".join(packer.compress(row) for _ in range(20_000))
    return png_claiming(20_000, 20_000, packed + packer.flush())


def apng_claiming(frames: int) -> bytes:
    small = picture("PNG")
    end_of_header = 8 + 25
    return small[:end_of_header] + chunk(b"acTL", struct.pack(">II", frames, 0)) + small[end_of_header:]


def gif_of(frames: int, size: tuple[int, int] = (1, 1)) -> bytes:
    """Each frame one pixel, on a canvas of `size`."""
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b"\x3b"


def gif_of_crumbs(size: int) -> bytes:
    """One frame in blocks of one byte: two bytes of file for each step of whoever walks over it."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return head + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02" + b"\x01\x44" * (size // 2) + b"\x00\x3b"


def jpeg_of_scans(count: int) -> bytes:
    """The same scan again and again: each costs a decoder the whole picture."""
    data = picture("JPEG", (16, 16), progressive=True)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:start] + data[start:end] * count + data[end:]


def webp_claiming(width: int, height: int) -> bytes:
    """A lossless WebP of at most 16,384 pixels a side."""
    content = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(15)
    body = b"WEBPVP8L" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def phone_photo() -> tuple[bytes, bytes]:
    """A JPEG as a phone writes it, a second picture and a video behind its end; and the part that is the image."""
    image = picture("JPEG", (160, 120), quality=90, exif=_exif())
    return image + picture("JPEG", (40, 30)) + bytes(16) + b"ftypmp42" + b"\xff\xd9" + bytes(3000), image


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0110] = "Phone"
    exif[0x0112] = 1
    return exif.tobytes()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, mime_type: str = "image/png") -> str:
    return f"data:{mime_type};base64,{text_of(data)}"


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
