"""PNG, animated PNG included (https://www.w3.org/TR/png-3/): chunks with their checksums, from IHDR to IEND."""

import zlib

from services.references.models import Shape
from services.references.walk import CHUNK_STEPS, Refused, Walk

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bit depths by colour type.
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_HEADER_BYTES = 13
_ANIMATION_BYTES = 8


def walk_png(walk: Walk) -> Shape:
    """Raises Refused."""
    walk.skip(len(SIGNATURE))
    width, height = _header(walk)
    frames, has_pixels = 1, False
    walk.allow(width, height, frames)
    while True:
        walk.step(CHUNK_STEPS)
        length, kind = _chunk(walk)
        if kind == b"acTL":
            frames = max(1, _frames(walk, length))
            walk.allow(width, height, frames)
        else:
            _check(walk, length, zlib.crc32(kind))
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            break
    if not has_pixels:
        raise Refused("image_damaged")
    walk.must_end_here()
    return Shape("image/png", width, height, frames, walk.position)


def _chunk(walk: Walk) -> tuple[int, bytes]:
    (length,) = walk.unpack(">I")
    return length, walk.read(4)


def _header(walk: Walk) -> tuple[int, int]:
    length, kind = _chunk(walk)
    if kind != b"IHDR" or length != _HEADER_BYTES:
        raise Refused("image_damaged")
    start = walk.position
    width, height, depth, colours, compression, filters, _ = walk.unpack(">IIBBBBB")
    if depth not in _DEPTHS.get(colours, ()) or compression or filters:
        raise Refused("image_damaged")
    walk.seek(start)
    _check(walk, length, zlib.crc32(kind))
    return width, height


def _frames(walk: Walk, length: int) -> int:
    if length != _ANIMATION_BYTES:
        raise Refused("image_damaged")
    start = walk.position
    frames, _ = walk.unpack(">II")
    walk.seek(start)
    _check(walk, length, zlib.crc32(b"acTL"))
    return frames


def _check(walk: Walk, length: int, start: int) -> None:
    if length + 4 > walk.size - walk.position:
        raise Refused("image_truncated")
    found = walk.checksum(length, start)
    if walk.unpack(">I") != (found,):
        raise Refused("image_damaged")
