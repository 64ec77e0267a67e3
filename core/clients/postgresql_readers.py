"""Single statements over PostgreSQL's driver alone.

SQLAlchemy's pool and its greenlets take four times the driver's processor time: 190 µs a page of history with them,
46 µs without. Imported only where DATABASE_URL is set.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

MOST_STATEMENTS = 50


class Readers:
    """Up to `most` connections, opened when they are needed; who finds none free waits up to `wait_seconds`."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], most: int, wait_seconds: float) -> None:
        self._connect = connect
        self._turns = asyncio.Semaphore(most)
        self._wait_seconds = wait_seconds
        self._free: list[_Reader] = []

    async def rows(self, statement: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        """Raises TimeoutError for one who waited too long, and what the driver raises."""
        await self._turn()
        try:
            reader = self._idle() or _Reader(await self._connect())
            try:
                found = await reader.rows(statement, values)
            except asyncpg.InvalidCachedStatementError:
                # A table has changed, and all connections have their statements from before.
                reader.connection.terminate()
                while self._free:
                    self._free.pop().connection.terminate()
                raise
            except BaseException:
                # A server that fell silent, or an answer that nobody waits for any more: nothing more is said on it.
                reader.connection.terminate()
                raise
            self._free.append(reader)
        finally:
            self._turns.release()
        return found

    async def close(self) -> None:
        await asyncio.gather(*(reader.connection.close(timeout=1) for reader in self._free), return_exceptions=True)

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        async with asyncio.timeout(self._wait_seconds):
            await self._turns.acquire()

    def _idle(self) -> "_Reader | None":
        """A server that was restarted has closed all connections; the driver knows without asking it."""
        while self._free:
            reader = self._free.pop()
            if not reader.connection.is_closed():
                return reader
        return None


class _Reader:
    """A connection, and some of the statements that it was asked for: finding them itself costs the driver 20 µs."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._statements: dict[str, PreparedStatement[asyncpg.Record]] = {}

    async def rows(self, statement: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        prepared = self._statements.get(statement)
        if prepared is None:
            if len(self._statements) == MOST_STATEMENTS:
                # Hundreds of filters and orders are possible, and few are asked for.
                self._statements.clear()
            prepared = self._statements[statement] = await self.connection.prepare(statement)
        found: list[asyncpg.Record] = await prepared.fetch(*values)
        return found
