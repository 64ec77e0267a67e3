"""In which of a segment's slots a gram stands: a set of small numbers, in memory a Roaring bitmap.

In the database a few numbers are kept as they are, more of them as the bitmap writes itself: in a hundred bytes or in
eight thousand, either is read back in a microsecond.
"""

from array import array
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyroaring import BitMap

MOST_LISTED = 12  # more take less room as a bitmap
_LISTED, _BITMAP = b"l", b"r"


def pack(slots: "array[int]") -> bytes:
    """Of ascending numbers (an array of type I)."""
    if len(slots) <= MOST_LISTED:
        return _LISTED + slots.tobytes()
    packed = _made()(slots)
    packed.run_optimize()
    return _BITMAP + packed.serialize()


def unpack(packed: bytes) -> "BitMap":
    kind, content = packed[:1], packed[1:]
    return _made()(array("I", content)) if kind == _LISTED else _made().deserialize(content)


def join(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """Packed slots, each part's counted from the number before it, one after the other."""
    joined = array("I")
    for start, packed in parts:
        joined.extend(unpack(packed).shift(start).to_array())
    return pack(joined)


def everything(size: int) -> "BitMap":
    return _made()(range(size))


def nothing() -> "BitMap":
    return _made()()


@cache
def _made() -> type["BitMap"]:
    # Its library takes 1.7 MB, in processes that search or seal alone.
    made: type[BitMap] = import_module("pyroaring").BitMap
    return made
