"""In which of a segment's slots a gram stands: a set of small numbers, in memory the bits of one integer.

The bits of some thousand slots are joined with those of another gram in a microsecond. In the database a few numbers
are kept as they are, more of them as bits, which are compressed where that makes them much shorter.
"""

import zlib
from array import array
from collections.abc import Iterator, Sequence

MOST_LISTED = 24
_ONE = ord("1")
_LISTED, _BITS, _COMPRESSED = b"l", b"b", b"c"


def pack(slots: Sequence[int]) -> bytes:
    """Of ascending numbers below 65,536."""
    if len(slots) <= MOST_LISTED:
        return _LISTED + array("H", slots).tobytes()
    digits = bytearray(b"0") * (slots[-1] + 1)
    for slot in slots:
        digits[~slot] = _ONE
    # Read as a number in one go: setting bit after bit takes three times as long.
    bits = int(digits, 2).to_bytes(slots[-1] // 8 + 1, "little")
    compressed = zlib.compress(bits, 1)
    # Bits that are many and in no order: reading them back would cost more than it saves.
    return _COMPRESSED + compressed if len(compressed) < len(bits) / 2 else _BITS + bits


def unpack(packed: bytes) -> int:
    kind, content = packed[:1], packed[1:]
    if kind != _LISTED:
        return int.from_bytes(zlib.decompress(content) if kind == _COMPRESSED else content, "little")
    bits = 0
    for slot in array("H", content):
        bits |= 1 << slot
    return bits


def everything(size: int) -> int:
    return (1 << size) - 1


def highest_first(bits: int) -> Iterator[int]:
    while bits:
        slot = bits.bit_length() - 1
        yield slot
        bits ^= 1 << slot


def lowest_first(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
