"""Single statements over PostgreSQL's driver alone.

SQLAlchemy's pool and its greenlets take four times the driver's processor time: 190 µs a page of history with them,
46 µs without. Imported only where DATABASE_URL is set.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg


class Readers:
    """Up to `most` connections, opened when they are needed; who finds none free waits up to `wait_seconds`."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], most: int, wait_seconds: float) -> None:
        self._connect = connect
        self._turns = asyncio.Semaphore(most)
        self._wait_seconds = wait_seconds
        self._free: list[asyncpg.Connection] = []

    async def rows(self, statement: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        """Raises TimeoutError for one who waited too long, and what the driver raises."""
        await self._turn()
        try:
            connection = self._idle() or await self._connect()
            try:
                found: list[asyncpg.Record] = await connection.fetch(statement, *values)
            except BaseException:
                # A server that fell silent, or an answer that nobody waits for any more: nothing more is said on it.
                connection.terminate()
                raise
            self._free.append(connection)
        finally:
            self._turns.release()
        return found

    async def close(self) -> None:
        await asyncio.gather(*(connection.close(timeout=1) for connection in self._free), return_exceptions=True)

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        async with asyncio.timeout(self._wait_seconds):
            await self._turns.acquire()

    def _idle(self) -> asyncpg.Connection | None:
        """A server that was restarted has closed all connections; the driver knows without asking it."""
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
        return None
