"""In which of a segment's slots a gram stands: a set of small numbers, in memory a Roaring bitmap.

In the database a few numbers are kept as they are, more of them as the bitmap writes itself: in a hundred bytes or in
eight thousand, either is read back in a microsecond.
"""

from array import array
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyroaring import BitMap

MOST_LISTED = 24
_LISTED, _BITMAP = b"l", b"r"


def pack(slots: "array[int]") -> bytes:
    """Of ascending numbers below 65,536 (an array of type H)."""
    if len(slots) <= MOST_LISTED:
        return _LISTED + slots.tobytes()
    return _BITMAP + _made()(array("I", slots)).serialize()


def unpack(packed: bytes) -> "BitMap":
    kind, content = packed[:1], packed[1:]
    return _made()(array("I", array("H", content))) if kind == _LISTED else _made().deserialize(content)


def everything(size: int) -> "BitMap":
    return _made()(range(size))


def nothing() -> "BitMap":
    return _made()()


@cache
def _made() -> type["BitMap"]:
    # Its library takes 1.7 MB, in processes that search or seal alone.
    made: type[BitMap] = import_module("pyroaring").BitMap
    return made
