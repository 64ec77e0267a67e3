"""A zip that is made while it is sent: nothing of it is kept but its table of contents, about 1 KB a file.

Files are stored as they are, since images do not get smaller. The sizes and checksums stand behind each file, as the
format has it for what cannot be rewound; over 4 GiB it goes on as Zip64.
"""

import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from core.clock import Milliseconds, utc
from services.storage.errors import ObjectNotFound

FIRST_YEAR = 1980  # no earlier one can be written in a zip
_READABLE_FILE = 0o100644 << 16


class _Sink:
    """What the zip is written to: it cannot be rewound, and gives away what it has."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing below it."""

    def take(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        yield from pieces


class ZipStream:
    """Files one after the other, then the end. Whoever stops half-way just drops it."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]

    async def file(
        self, name: str, modified_at: Milliseconds, pieces: AsyncIterator[bytes], *, size: int
    ) -> AsyncGenerator[bytes]:
        """The bytes of the zip that hold this file. `size` in bytes, as far as it is known beforehand."""
        entry = zipfile.ZipInfo(name, _date_time(modified_at))
        entry.external_attr = _READABLE_FILE
        entry.file_size = size
        with self._zip.open(entry, "w") as target:
            async for piece in pieces:
                target.write(piece)
                for part in self._sink.take():
                    yield part
        for part in self._sink.take():
            yield part

    def end(self) -> bytes:
        """The table of contents, which makes it whole."""
        self._zip.close()
        return b"".join(self._sink.take())


async def opened(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes] | None:
    """The bytes of an object; None when it is gone, which must be known before anything of it is in the zip."""
    try:
        first = await anext(pieces, b"")
    except ObjectNotFound:
        return None
    return _joined(first, pieces)


async def whole(content: bytes) -> AsyncGenerator[bytes]:
    """As pieces."""
    yield content


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _date_time(moment: Milliseconds) -> tuple[int, int, int, int, int, int]:
    when = utc(moment)
    if when.year < FIRST_YEAR:
        return FIRST_YEAR, 1, 1, 0, 0, 0
    return when.year, when.month, when.day, when.hour, when.minute, when.second
