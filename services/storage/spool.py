"""A folder for files in the making, on the same disk as local storage, so that storing one is a rename."""

import contextlib
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, cast

STALE_AFTER_SECONDS = 2 * 3600


class SpoolFileTooLarge(Exception):
    """What was written is over the file's limit."""


class SpoolFile:
    """A file that arrives in pieces: `write` only keeps them, `flush` works on the disk, so it belongs in a thread."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.size = 0
        self._limit = limit
        self._file: BinaryIO | None = None
        self._unwritten: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Raises SpoolFileTooLarge once the whole is over the limit (bytes)."""
        self.size += len(data)
        if self.size > self._limit:
            raise SpoolFileTooLarge(f"over {self._limit} bytes")
        if data:
            self._unwritten.append(data)

    def flush(self) -> None:
        """Raises OSError."""
        if self._file is None:
            # Buffered, because a raw write to a disk that fills up may write a part and say so in its answer alone.
            self._file = self.path.open("wb")
        self._file.writelines(self._unwritten)
        self._unwritten.clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        # A disk that broke is the error to tell of, not that it cannot be tidied up.
        with contextlib.suppress(OSError):
            self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


class Spool:
    """Hands out paths of files that do not exist yet; whoever asks for one removes it or gives it to the storage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def new_path(self) -> Path:
        return self._folder / secrets.token_hex(12)

    def open_unnamed(self) -> BinaryIO:
        """A file to write and to read again that is gone when it is closed, or its process is."""
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))

    def remove_stale(self) -> int:
        """Remove what processes that died left behind; no generation may take as long as the age limit."""
        oldest = time.time() - STALE_AFTER_SECONDS
        removed = 0
        for entry in os.scandir(self._folder):
            try:
                if entry.stat().st_mtime < oldest:
                    Path(entry.path).unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed
