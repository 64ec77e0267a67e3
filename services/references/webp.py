"""WebP (https://developers.google.com/speed/webp/docs/riff_container): chunks inside of one RIFF."""

from services.references.models import Shape
from services.references.walk import CHUNK_STEPS, Refused, Walk

SIGNATURE = b"RIFF"
FORM = b"WEBP"
_LOSSY_START = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE = 0x2F


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
        if kind == b"ANMF" or (kind in _STILLS and not frames):
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
_SIZES = {b"VP8 ": _lossy, b"VP8L": _lossless, b"VP8X": _canvas, b"ANMF": _frame}
