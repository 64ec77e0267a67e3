"""WebP (https://developers.google.com/speed/webp/docs/riff_container): chunks inside of one RIFF."""

import struct
from typing import BinaryIO

from services.references.models import Shape
from services.references.walk import CHUNK_STEPS, PIECE_BYTES, Refused, Walk

SIGNATURE = b"RIFF"
FORM = b"WEBP"
_LOSSY_START = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE = 0x2F
_ANIMATION_FRAME, _ALPHA = b"ANMF", b"ALPH"
_FRAME_HEAD_BYTES = 16
_HAS_ALPHA = 0x10


def walk_webp(walk: Walk) -> Shape:
    """Raises Refused."""
    walk.skip(4)
    (length,) = walk.unpack("<I")
    end = walk.position + length
    if end > walk.size:
        raise Refused("image_truncated")
    walk.skip(4)
    width = height = frames = 0
    while walk.position < end:
        walk.step(CHUNK_STEPS)
        kind, (length,) = walk.read(4), walk.unpack("<I")
        after = walk.position + length + length % 2
        if after > end:
            raise Refused("image_truncated")
        if kind == _ANIMATION_FRAME or (kind in _STILLS and not frames):
            frames += 1
        if kind in _SIZES:
            found = _SIZES[kind](walk)
            width, height = max(width, found[0]), max(height, found[1])
            walk.allow(width, height, max(1, frames))
        walk.seek(after)
    if not frames:
        raise Refused("image_damaged")
    walk.must_end_here()
    return Shape("image/webp", width, height, frames, walk.position)


def write_first_frame(walk: Walk, target: BinaryIO) -> tuple[int, int]:
    """Write the first frame of a checked animation as an image of its own; answers its width and height. Raises
    Refused.

    Its compressed pixels are copied as they are: a decoder takes sixteen bytes for each pixel of the whole canvas, and
    an animation of 150 bytes may have a canvas of 25 million.
    """
    end, width, height = _to_first_frame(walk)
    parts: dict[bytes, tuple[int, int]] = {}
    while walk.position < end and not _STILLS & parts.keys():
        walk.step(CHUNK_STEPS)
        start = walk.position
        kind, (length,) = walk.read(4), walk.unpack("<I")
        after = walk.position + length + length % 2
        if kind in _STILLS and _SIZES[kind](walk) != (width, height):
            raise Refused("image_damaged")
        if after > end or walk.position > after:
            raise Refused("image_damaged")
        if kind in _STILLS or kind == _ALPHA:
            parts[kind] = (start, after - start)
        walk.seek(after)
    if not _STILLS & parts.keys():
        raise Refused("image_damaged")
    _write_still(walk, target, (width, height), parts)
    return width, height


def _to_first_frame(walk: Walk) -> tuple[int, int, int]:
    """Go to what the first frame is made of; answers where that ends, and the frame's width and height."""
    walk.skip(len(SIGNATURE) + 4 + len(FORM))
    while True:
        walk.step(CHUNK_STEPS)
        kind, (length,) = walk.read(4), walk.unpack("<I")
        end = walk.position + length
        if kind != _ANIMATION_FRAME:
            walk.skip(length + length % 2)
            continue
        start = walk.position
        width, height = _frame(walk)
        walk.seek(start + _FRAME_HEAD_BYTES)
        return end, width, height


def _write_still(walk: Walk, target: BinaryIO, size: tuple[int, int], parts: dict[bytes, tuple[int, int]]) -> None:
    """`parts`: where each chunk starts, and its length with its head."""
    extended = b""
    if _ALPHA in parts:  # transparency apart from the colours makes it an extended file
        sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
        extended = b"VP8X" + struct.pack("<II", 10, _HAS_ALPHA) + sides
    length = len(FORM) + len(extended) + sum(length for _, length in parts.values())
    target.write(SIGNATURE + struct.pack("<I", length) + FORM + extended)
    for start, length in parts.values():
        walk.seek(start)
        while length:
            piece = walk.read(min(length, PIECE_BYTES))
            target.write(piece)
            length -= len(piece)


def _lossy(walk: Walk) -> tuple[int, int]:
    tag = walk.read(3)
    if tag[0] & 1 or walk.read(3) != _LOSSY_START:
        raise Refused("image_damaged")
    width, height = walk.unpack("<HH")
    return width & 0x3FFF, height & 0x3FFF


def _lossless(walk: Walk) -> tuple[int, int]:
    if walk.byte() != _LOSSLESS_SIGNATURE:
        raise Refused("image_damaged")
    (bits,) = walk.unpack("<I")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _canvas(walk: Walk) -> tuple[int, int]:
    walk.skip(4)
    return _less_one(walk), _less_one(walk)


def _frame(walk: Walk) -> tuple[int, int]:
    walk.skip(6)
    return _less_one(walk), _less_one(walk)


def _less_one(walk: Walk) -> int:
    """A number of pixels, kept in three bytes less one."""
    return int.from_bytes(walk.read(3), "little") + 1


_STILLS = frozenset({b"VP8 ", b"VP8L"})
_SIZES = {b"VP8 ": _lossy, b"VP8L": _lossless, b"VP8X": _canvas, _ANIMATION_FRAME: _frame}
