"""GIF (the specification of GIF89a): blocks, from the header to the trailer."""

from services.references.models import Shape
from services.references.walk import Refused, Walk

SIGNATURES = (b"GIF87a", b"GIF89a")
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_HAS_TABLE = 0x80


def walk_gif(walk: Walk) -> Shape:
    """Raises Refused."""
    walk.skip(6)
    width, height, flags, _, _ = walk.unpack("<HHBBB")
    _skip_table(walk, flags)
    walk.allow(width, height, 1)
    frames = 0
    while (block := walk.byte()) != _TRAILER:
        walk.step()
        if block == _IMAGE:
            frames += 1
            right, bottom = _skip_image(walk)
            # A frame is drawn onto the whole picture, and some go beyond it.
            width, height = max(width, right), max(height, bottom)
            walk.allow(width, height, frames)
        elif block == _EXTENSION:
            walk.skip(1)
            _skip_blocks(walk)
        else:
            raise Refused("image_damaged")
    if not frames:
        raise Refused("image_damaged")
    walk.must_end_here()
    return Shape("image/gif", width, height, frames, walk.position)


def _skip_image(walk: Walk) -> tuple[int, int]:
    """Answers where its right and lower edges are."""
    left, top, width, height, flags = walk.unpack("<HHHHB")
    _skip_table(walk, flags)
    walk.skip(1)
    _skip_blocks(walk)
    return left + width, top + height


def _skip_table(walk: Walk, flags: int) -> None:
    if flags & _HAS_TABLE:
        walk.skip(3 << ((flags & 7) + 1))


def _skip_blocks(walk: Walk) -> None:
    while length := walk.byte():
        walk.step()
        walk.skip(length)
