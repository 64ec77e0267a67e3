"""A folder for files in the making, on the same disk as local storage, so that storing one is a rename."""

import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, cast

STALE_AFTER_SECONDS = 2 * 3600


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
