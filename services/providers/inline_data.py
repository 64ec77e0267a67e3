"""Reads a JSON answer with base64 images in it as it arrives: images go to files, only the rest is kept.

An image of 15 MB is 20 MB of text in the answer; held as text, as parsed JSON and as bytes it would be 55 MB for each
generation under way. Here a generation holds what one read from the socket brought.
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from core.base64_stream import Base64Stream, DamagedBase64
from services.storage.spool import Spool, SpoolFile, SpoolFileTooLarge

# The quote before the name is one that stands for itself: inside a JSON text it would have a backslash before it.
_PAYLOAD_START = re.compile(rb'[{,]\s*"data"\s*:\s*"')
_LONGEST_START = 256


class BrokenAnswer(Exception):
    """The answer is no JSON, its base64 is damaged, or it breaks off."""


class AnswerTooLarge(Exception):
    """An image, what stands around the images, or their number is over its limit."""


@dataclass(frozen=True)
class Payload:
    """`head`: how the file begins. `size` in bytes."""

    path: Path
    size: int
    head: bytes


class _PayloadFile(SpoolFile):
    """A file whose bytes arrive as base64."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, limit)
        self._base64 = Base64Stream()

    def feed(self, text: bytes) -> int:
        """Answers how many bytes this piece became. Raises BrokenAnswer or AnswerTooLarge."""
        before = self.size
        try:
            for data in self._base64.feed(text):
                self.write(data)
        except DamagedBase64 as error:
            raise BrokenAnswer(str(error)) from error
        except SpoolFileTooLarge as error:
            raise AnswerTooLarge(f"an image {error}") from error
        return self.size - before

    def end(self) -> Payload:
        """No more comes; `flush` and `close` are still to be called."""
        try:
            self._base64.end()
        except DamagedBase64 as error:
            raise BrokenAnswer(str(error)) from error
        return Payload(self.path, self.size, self.head)


class InlineDataReader:
    """Feed it the body in order, `flush` it when much is `unwritten`, then `finish`.

    Every string under a key `data` becomes a file, and in the JSON a number: the index of its Payload. `feed` only
    computes; `flush`, `finish` and `discard` work on files, so they belong in a thread. Call `discard` when anything
    goes wrong, so that no file is left.
    """

    def __init__(self, spool: Spool, *, max_payloads: int, max_payload_bytes: int, max_rest_bytes: int) -> None:
        self._spool = spool
        self._max_payloads = max_payloads
        self._max_payload = max_payload_bytes
        self._max_rest = max_rest_bytes
        self._rest = bytearray()
        self._searched = 0
        self._current: _PayloadFile | None = None
        self._files: list[_PayloadFile] = []
        self._payloads: list[Payload] = []
        self.unwritten = 0
        """Bytes that are decoded and wait for `flush`."""

    def feed(self, chunk: bytes) -> None:
        """Raises BrokenAnswer or AnswerTooLarge."""
        while chunk:
            chunk = self._feed_rest(chunk) if self._current is None else self._feed_payload(self._current, chunk)

    def flush(self) -> None:
        """Write what is decoded. Raises OSError."""
        for file in self._files:
            file.flush()
            if file is not self._current:
                file.close()
        # One that has ended is closed for good, and stays known by its payload alone.
        self._files = [] if self._current is None else [self._current]
        self.unwritten = 0

    def finish(self) -> tuple[Any, list[Payload]]:
        """The parsed JSON and its payloads, all of them in their files. Raises BrokenAnswer or OSError."""
        if self._current is not None:
            raise BrokenAnswer("the answer breaks off inside an image")
        self.flush()
        try:
            return orjson.loads(self._rest), self._payloads
        except orjson.JSONDecodeError as error:
            raise BrokenAnswer("not JSON, or cut off") from error

    def discard(self) -> None:
        for file in self._files:
            file.discard()
        for payload in self._payloads:
            with contextlib.suppress(OSError):
                payload.path.unlink()

    def _feed_rest(self, chunk: bytes) -> bytes:
        before = len(self._rest)
        self._rest += chunk
        found = _PAYLOAD_START.search(self._rest, self._searched)
        if found is None:
            if len(self._rest) > self._max_rest:
                raise AnswerTooLarge(f"over {self._max_rest} bytes besides the images")
            self._searched = max(0, len(self._rest) - _LONGEST_START)
            return b""
        if len(self._payloads) == self._max_payloads:
            raise AnswerTooLarge(f"over {self._max_payloads} images")
        remainder = chunk[found.end() - before :]
        # The opening quote goes: a bare number takes the place of the text.
        del self._rest[found.end() - 1 :]
        self._rest += str(len(self._payloads)).encode()
        self._searched = len(self._rest)
        self._current = _PayloadFile(self._spool.new_path(), self._max_payload)
        self._files.append(self._current)
        return remainder

    def _feed_payload(self, payload: _PayloadFile, chunk: bytes) -> bytes:
        end = chunk.find(b'"')
        if end < 0:
            self.unwritten += payload.feed(chunk)
            return b""
        self.unwritten += payload.feed(chunk[:end])
        self._payloads.append(payload.end())
        self._current = None
        return chunk[end + 1 :]
