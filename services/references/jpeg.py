"""JPEG (ITU T.81): segments and scans, from SOI to EOI.

What phones write behind EOI (MPF's further pictures, the video of a motion photo) is no reason to refuse a photo; the
image ends at EOI all the same, and `Shape.end` says where.
"""

import re

from services.references.models import Shape
from services.references.walk import CHUNK_STEPS, Refused, Walk

SIGNATURE = b"\xff\xd8\xff"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Baseline, extended and progressive, by Huffman: what providers and browsers decode.
_FRAMES = {0xC0, 0xC1, 0xC2}
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
# What has no length, and no place outside of a scan.
_BARE = {0x00, 0x01, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, _SOI}
# Each scan goes over the whole picture again: a file of 20 MiB could ask for millions. Encoders write about ten.
_MAX_SCANS = 100
# A marker may be filled up with 0xFF in front of it; so much of it in a row is no filling any more.
_MARKER = re.compile(rb"\xff(?:[^\x00\xff\xd0-\xd7]|\xff{64})")


def walk_jpeg(walk: Walk) -> Shape:
    """Raises Refused."""
    walk.skip(2)
    size: tuple[int, int] | None = None
    scans = 0
    marker = _next_marker(walk)
    while marker != _EOI:
        walk.step(CHUNK_STEPS)
        if marker == _SOS:
            scans += 1
            marker = _scan(walk, size, scans)
            continue
        if marker in _FRAMES:
            size = _frame(walk, size)
        elif marker in _OTHER_FRAMES or marker in _BARE:
            raise Refused("image_damaged")
        else:
            walk.skip(_length(walk))
        marker = _next_marker(walk)
    if size is None or not scans:
        raise Refused("image_damaged")
    return Shape("image/jpeg", *size, 1, walk.position)


def _next_marker(walk: Walk) -> int:
    if walk.byte() != 0xFF:
        raise Refused("image_damaged")
    while (marker := walk.byte()) == 0xFF:
        walk.step()
    return marker


def _length(walk: Walk) -> int:
    (length,) = walk.unpack(">H")
    if length < 2:
        raise Refused("image_damaged")
    return length - 2


def _frame(walk: Walk, earlier: tuple[int, int] | None) -> tuple[int, int]:
    length = _length(walk)
    depth, height, width = walk.unpack(">BHH")
    if earlier is not None or depth != 8 or length < 6:
        raise Refused("image_damaged")
    walk.allow(width, height, 1)
    walk.skip(length - 5)
    return width, height


def _scan(walk: Walk, size: tuple[int, int] | None, scans: int) -> int:
    """Go over the entropy-coded data; answers the marker that ends it."""
    if size is None:
        raise Refused("image_damaged")
    if scans > _MAX_SCANS:
        raise Refused("image_intricate")
    walk.skip(_length(walk))
    carried = b""
    while piece := walk.piece():
        data = carried + piece
        found = _MARKER.search(data)
        if found is not None:
            if found[0].endswith(b"\xff"):
                raise Refused("image_damaged")
            walk.seek(walk.position - len(data) + found.end())
            return data[found.end() - 1]
        carried = b"\xff" if data.endswith(b"\xff") else b""
    raise Refused("image_truncated")
