"""Whose turn it is to write into SQLite, among processes.

SQLite tells who comes second that somebody else is writing, and no more: whoever looks in the right moment is next. A
process with one transaction after the other would always be that, and others would wait for it to run out of work.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

# Between looks whether it is a writer's turn.
LOOK_SECONDS = 0.0002
# Who waits looks again meanwhile.
PAUSE_SECONDS = 2 * LOOK_SECONDS


class Turns:
    """Of one writing thread. Who waits holds a lock on a file, which goes with the process if it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._ended_at = 0.0

    def let_others_go_first(self) -> None:
        """Who has just written pauses while another one waits."""
        left = self._ended_at + PAUSE_SECONDS - time.monotonic()
        if left > 0 and self._others_wait():
            time.sleep(left)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        file = self._open()
        with contextlib.suppress(BlockingIOError):  # somebody is just looking, and will pause another time
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def ended(self) -> None:
        self._ended_at = time.monotonic()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _others_wait(self) -> bool:
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        return self._file
