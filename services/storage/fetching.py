"""An object out of storage, as a file in the spool."""

import contextlib
from concurrent.futures import Executor
from pathlib import Path

from services.storage.base import Storage
from services.storage.spool import SpoolFile
from services.storage.threads import on_disk


async def fetch_file(storage: Storage, key: str, path: Path, size: int, threads: Executor) -> None:
    """Write an object of `size` bytes to a new file, which is there, in part, also when this fails.

    Raises ObjectNotFound or StorageUnavailable.
    """
    file = SpoolFile(path, size)
    async with contextlib.aclosing(storage.stream(key)) as pieces:
        async for piece in pieces:
            file.write(piece)
            await on_disk(threads, file.flush)
    await on_disk(threads, file.close)
