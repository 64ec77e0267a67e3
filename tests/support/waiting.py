"""Waiting for what another process or task does, with an end."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_SECONDS = 0.02


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 10) -> bool:
    """True as soon as `holds` does, False if it never did."""
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(PAUSE_SECONDS)
    return True
