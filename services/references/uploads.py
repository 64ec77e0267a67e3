"""The images of one request while they arrive: each goes to a file, with its size watched on the way."""

import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from core.errors import FieldProblem, ValidationFailed
from services.references.errors import ImageTooLarge
from services.storage.spool import Spool, SpoolFile, SpoolFileTooLarge
from services.storage.threads import on_disk

MAX_IMAGES = 14
FLUSH_BYTES = 512 * 1024


class Uploads:
    """`open` an image, `write` to it, `settle` between pieces of the body, `finish`; else `discard`.

    A place-holder stands for an image in what is left of the body. It cannot be guessed, so that no caller can name a
    file.
    """

    def __init__(self, spool: Spool, threads: Executor, max_bytes: int) -> None:
        self._spool = spool
        self._threads = threads
        self._max_bytes = max_bytes
        self._mark = secrets.token_hex(16)
        self._files: list[SpoolFile] = []
        self._unwritten = 0

    def open(self) -> int:
        """The index of one more image. Raises ValidationFailed when it is one too many."""
        if len(self._files) == MAX_IMAGES:
            raise ValidationFailed([FieldProblem("images", "too_long", limit=MAX_IMAGES)])
        self._files.append(SpoolFile(self._spool.new_path(), self._max_bytes))
        return len(self._files) - 1

    def write(self, index: int, data: bytes) -> None:
        """Only keeps the bytes until `settle`. Raises ImageTooLarge."""
        try:
            self._files[index].write(data)
        except SpoolFileTooLarge as error:
            raise ImageTooLarge(field_of(index), self._max_bytes) from error
        self._unwritten += len(data)

    def place_holder(self, index: int) -> str:
        return f"{self._mark}:{index}"

    def index_of(self, text: str) -> int | None:
        """The image that a place-holder stands for; None for any other text."""
        mark, _, index = text.partition(":")
        return int(index) if mark == self._mark else None

    async def settle(self) -> None:
        """Write to disk when much waits in memory. Raises StorageUnavailable."""
        if self._unwritten >= FLUSH_BYTES:
            await on_disk(self._threads, self._flush)

    async def finish(self, order: Sequence[int]) -> list[Path]:
        """All is written; the files of the images of `order`, which are the caller's now. The others are gone."""
        await on_disk(self._threads, self._close)
        for index, file in enumerate(self._files):
            if index not in order:
                file.discard()
        return [self._files[index].path for index in order]

    def discard(self) -> None:
        for file in self._files:
            file.discard()

    def _flush(self) -> None:
        for file in self._files:
            file.flush()
        self._unwritten = 0

    def _close(self) -> None:
        self._flush()
        for file in self._files:
            file.close()


def field_of(index: int) -> str:
    """How an error names an image."""
    return f"images.{index}"
