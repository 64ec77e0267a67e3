"""Going through a file by its structure alone: what a format's walker needs, bounded in memory and in steps."""

import struct
import zlib
from typing import BinaryIO

from services.references.models import Limits

# For all images of one request. The longest way through honest files is that of GIFs, in blocks of 255 bytes: 263,000
# for the 64 MiB that a request may have.
MAX_STEPS = 300_000
CHUNK_STEPS = 4  # what a chunk or segment counts for, of which honest files have hundreds
PIECE_BYTES = 64 * 1024


class Refused(Exception):
    """The file is no image that we take. `reason` is the i18n key `errors.fields.{reason}`; `limit` what it is over."""

    def __init__(self, reason: str, limit: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.limit = limit


class Steps:
    """Counts what a request's images make us do."""

    def __init__(self, allowed: int = MAX_STEPS) -> None:
        self._left = allowed

    def take(self, count: int = 1) -> None:
        """Raises Refused when there were too many."""
        self._left -= count
        if self._left < 0:
            raise Refused("image_intricate")


class Walk:
    """A position in a file. Reading past the end refuses it as truncated."""

    def __init__(self, file: BinaryIO, size: int, limits: Limits, steps: Steps) -> None:
        self._file = file
        self.size = size
        self._limits = limits
        self.step = steps.take
        self.position = 0

    def seek(self, position: int) -> None:
        """From the start of the file."""
        self._file.seek(position)
        self.position = position

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, which is for headers: a few."""
        data = self._file.read(count)
        self.position += len(data)
        if len(data) < count:
            raise Refused("image_truncated")
        return data

    def byte(self) -> int:
        return self.read(1)[0]

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.read(struct.calcsize(form)))

    def skip(self, count: int) -> None:
        if count > self.size - self.position:
            raise Refused("image_truncated")
        self.seek(self.position + count)

    def checksum(self, count: int, start: int) -> int:
        """The CRC-32 of the next `count` bytes, which goes on from `start`."""
        while count:
            piece = self.read(min(count, PIECE_BYTES))
            start = zlib.crc32(piece, start)
            count -= len(piece)
        return start

    def piece(self) -> bytes:
        """The next of the file, empty at its end."""
        data = self._file.read(PIECE_BYTES)
        self.position += len(data)
        return data

    def must_end_here(self) -> None:
        """Whoever hides something behind an image hides it from whoever looks at the image alone."""
        if self.position != self.size:
            raise Refused("image_trailing_data")

    def allow(self, width: int, height: int, frames: int) -> None:
        """Hold what a header claims against the limits, before anything that it claims is believed."""
        if not width or not height:
            raise Refused("image_damaged")
        if frames > self._limits.frames:
            raise Refused("image_frames", self._limits.frames)
        if width * height * frames > self._limits.pixels:
            raise Refused("image_pixels", self._limits.pixels)
