"""At most one tree of processes on one folder.

The lock is the kernel's (flock) on a descriptor that every process of the tree inherits: it lasts until the last of
them is gone, however they ended, and nothing that a crash leaves behind looks like a lock.
"""

import fcntl
import os
import time
from pathlib import Path

LEFTOVER_WAIT_SECONDS = 5.0
POLL_SECONDS = 0.05


class InstanceLocked(Exception):
    """Another tree of processes works on the folder; `str()` is one line that names it and its leader's pid."""

    def __init__(self, folder: Path, holder: int | None) -> None:
        if holder is not None and is_running(holder):
            line = f"{folder} is in use by another instance (pid {holder}); stop that one first"
        else:
            line = f"{folder} is still in use by processes of an instance that ended (pid {holder or 'unknown'})"
        super().__init__(line)
        self.holder = holder


class InstanceLock:
    """A lock that is held; hand `fd` to all children (`pass_fds`)."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self.fd = fd

    def release(self) -> None:
        """Give the folder free. Call it when the children are gone."""
        self._path.unlink(missing_ok=True)
        os.close(self.fd)


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in {"Z", "X"}


def acquire_instance_lock(path: Path, folder: Path, wait: float = LEFTOVER_WAIT_SECONDS) -> InstanceLock:
    """Lock `path`, a file inside `folder`, for this process and the children that it will start.

    Raises InstanceLocked at once when the holder's leader lives; when only its children are left, which are stopping
    by themselves, after `wait` seconds. OSError when the file can't be made.
    """
    deadline = time.monotonic() + wait
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(fd, path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return InstanceLock(path, fd)
        holder = _read_pid(fd)
        os.close(fd)
        if (holder is not None and is_running(holder)) or time.monotonic() >= deadline:
            raise InstanceLocked(folder, holder)
        time.sleep(POLL_SECONDS)


def _lock(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The holder before may have removed the file between our open and our lock.
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
