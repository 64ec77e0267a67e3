"""A folder for files in the making, on the same disk as local storage, so that storing one is a rename."""

import contextlib
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, cast

STALE_AFTER_SECONDS = 2 * 3600
MAX_PIECES = os.sysconf("SC_IOV_MAX")
HEAD_BYTES = 8 * 1024


class SpoolFileTooLarge(Exception):
    """What was written is over the file's limit."""


class SpoolFile:
    """A file that arrives in pieces: `write` only keeps them, `flush` works on the disk, so it belongs in a thread."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.size = 0
        self.head = b""
        """How it begins; all of it, when it is small."""
        self._limit = limit
        self._file: int | None = None
        self._unwritten: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Raises SpoolFileTooLarge once the whole is over the limit (bytes)."""
        self.size += len(data)
        if self.size > self._limit:
            raise SpoolFileTooLarge(f"over {self._limit} bytes")
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]
        if data:
            self._unwritten.append(data)

    def flush(self) -> None:
        """Raises OSError."""
        if self._file is None:
            self._file = _open_new(self.path)
        _write_out(self._file, self._unwritten)

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def discard(self) -> None:
        # A disk that broke is the error to tell of, not that it cannot be tidied up.
        with contextlib.suppress(OSError):
            self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def write_new(path: Path, data: bytes) -> None:
    """A small file, with a third of the calls that `Path.write_bytes` makes. Raises OSError."""
    file = _open_new(path)
    try:
        _write_out(file, [data])
    finally:
        os.close(file)


def _open_new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def _write_out(file: int, pieces: list[bytes]) -> None:
    """Write the pieces, and forget them as far as they are written.

    Many in one call: around each the interpreter is given away, and has to be waited for.
    """
    while pieces:
        written = os.writev(file, pieces[:MAX_PIECES])
        # A disk that fills up takes a part, and says so only when it is asked again.
        whole = 0
        while whole < len(pieces) and written >= len(pieces[whole]):
            written -= len(pieces[whole])
            whole += 1
        del pieces[:whole]
        if written:
            pieces[0] = pieces[0][written:]


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
