"""Work on files, in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from core.errors import StorageUnavailable

Result = TypeVar("Result")


async def on_disk(threads: Executor, work: Callable[[], Result]) -> Result:
    """Run what reads or writes spooled files. Raises StorageUnavailable for what the disk says, and what `work` raises.

    Cancelled, it still waits for the thread, which cannot be stopped: its files must not be taken from under it.
    """
    done = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise
    except OSError as error:
        raise StorageUnavailable(f"spool: {error.strerror}") from error
