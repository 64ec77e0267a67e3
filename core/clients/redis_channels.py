"""One connection to Redis on which all of a process listens to channels, whatever becomes of Redis meanwhile.

Nothing that waits for Redis to speak may go over the line that requests share (`redis_line`). What was published while
the connection was gone is lost, so whoever listens has to look for themselves after each bell and now and then
without one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from core.clients.redis_line import take_over
from core.logging import get_logger

RECONNECT_SECONDS = 0.5
PING_SECONDS = 5.0

log = get_logger(__name__)


class RedisChannels:
    """`pool` knows how to make and greet a connection; it is made when somebody listens for the first time.

    Every `ping_seconds` Redis is asked whether it is still there, and taken for gone if it says nothing until the next
    time.
    """

    def __init__(self, pool: ConnectionPool, ping_seconds: float = PING_SECONDS) -> None:
        self._pool = pool
        self._ping_seconds = ping_seconds
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._hearing: _Hearing | None = None
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listening(self, channel: str) -> Iterator[asyncio.Event]:
        """An event that is set when something was published there, and when something may have been missed."""
        bell = asyncio.Event()
        bells = self._bells.setdefault(channel, set())
        bells.add(bell)
        if len(bells) == 1:
            self._say("SUBSCRIBE", channel)
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        try:
            yield bell
        finally:
            bells.discard(bell)
            if not bells:
                del self._bells[channel]
                self._say("UNSUBSCRIBE", channel)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _say(self, *command: str) -> None:
        if self._hearing is not None:
            self._hearing.say(*command)

    def _ring(self, channel: str) -> None:
        for bell in self._bells.get(channel, ()):
            bell.set()

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (RedisError, OSError) as error:
                log.warning("not listening to Redis", reason=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _hear(self) -> None:
        connection = cast(AbstractConnection, self._pool.make_connection())  # type: ignore[no-untyped-call]
        await connection.connect()  # type: ignore[no-untyped-call]
        hearing = self._hearing = _Hearing(connection, self)
        try:
            if self._bells:
                hearing.say("SUBSCRIBE", *self._bells)
            await hearing.until_over(self._ping_seconds)
        finally:
            self._hearing = None
            hearing.end()

    def heard(self, message: Any) -> None:
        """`[kind, channel, …]` of what is published, and of Redis's word that it listens from now on."""
        if isinstance(message, list) and message[0] in {"message", "subscribe"}:
            self._ring(message[1])


class _Hearing(asyncio.Protocol):
    """What comes over one connection, until it is lost or silent."""

    def __init__(self, connection: AbstractConnection, channels: RedisChannels) -> None:
        self._channels = channels
        self._reader = hiredis.Reader(encoding="utf-8")
        self._over = asyncio.Event()
        self._heard_something = False
        self._writer, self._transport = take_over(connection, self)

    def say(self, *command: Any) -> None:
        if not self._over.is_set():
            self._transport.write(hiredis.pack_command(command))

    async def until_over(self, ping_seconds: float) -> None:
        """Returns when the connection is lost, or when Redis says nothing any more."""
        while not self._over.is_set():
            self._heard_something = False
            self.say("PING")
            try:
                async with asyncio.timeout(ping_seconds):
                    await self._over.wait()
            except TimeoutError:
                if not self._heard_something:
                    return

    def end(self) -> None:
        self._over.set()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._heard_something = True
        self._reader.feed(data)
        try:
            while (message := self._reader.gets()) is not False:
                self._channels.heard(message)
        except (hiredis.ProtocolError, UnicodeDecodeError):
            self.end()

    def connection_lost(self, error: Exception | None) -> None:
        self.end()
