"""The Redis clients: one that all requests of a process share, and a pool that waits rather than fails when full."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from core.clients.redis_line import RedisLine

Result = TypeVar("Result")

MAX_CONNECTIONS = 64
# A burst may wait long for one of them, since Redis is there; a Redis that hangs ends the wait at once.
POOL_WAIT_SECONDS = 30
# A Redis that hangs must be known within 1 s, and a request may need two commands to find out; with much less, a busy
# processor would look like a Redis that hangs.
SOCKET_TIMEOUT_SECONDS = 0.45
SCAN_PAGE = 500


@dataclass(frozen=True)
class RedisKey:
    """One family of keys: its pattern with `{placeholders}`, what it holds, how long (seconds; None: for ever).

    Stores keep theirs as constants; the documentation and a test find them there.
    """

    pattern: str
    holds: str
    ttl: int | None

    def __call__(self, **parts: str) -> str:
        return self.pattern.format(**parts)

    def matches(self, key: str) -> bool:
        literal = re.split(r"\{\w+\}", self.pattern)
        return re.fullmatch(".+?".join(re.escape(part) for part in literal), key) is not None


class QueueingPool(BlockingConnectionPool):
    """Who waits for a connection stops waiting when one comes back broken: then Redis is away, not just busy."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._broken = 0

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """Raises redis.exceptions.ConnectionError when Redis is away."""
        async with self._condition:
            broken = self._broken
            try:
                async with asyncio.timeout(self.timeout):
                    await self._condition.wait_for(lambda: self.can_get_connection() or self._broken != broken)
            except TimeoutError as error:
                raise RedisConnectionError("no connection came free") from error
            if self._broken != broken:
                raise RedisConnectionError("Redis went while a connection was waited for")
            connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        if connection.is_connected:
            await super().release(connection)
            return
        async with self._condition:
            self._broken += 1
            self._condition.notify_all()
        await super().release(connection)


class SharedRedis(Redis):
    """redis-py's commands over one line that all callers share."""

    def __init__(self, line: RedisLine, pool: ConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self._line = line

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = await self._line.send([_words(args)])
        if isinstance(reply, RedisError):
            raise reply
        return _understood(self, args, options, reply)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "SharedPipeline":
        return SharedPipeline(self._line, self, transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self._line.close()
        await super().aclose(close_connection_pool)


class SharedPipeline(Pipeline):
    """Commands that travel together, with `transaction` as one step; WATCH it does not know."""

    def __init__(self, line: RedisLine, client: SharedRedis, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._line = line

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        commands = [_words(args) for args, _ in stack]
        if self.is_transaction:
            *_, replies = before = await self._line.send([("MULTI",), *commands, ("EXEC",)])
            if isinstance(replies, RedisError):
                raise next(reply for reply in before if isinstance(reply, RedisError))
        else:
            replies = await self._line.send(commands)
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, RedisError):
                    raise reply
        return [
            reply if isinstance(reply, RedisError) else _understood(self, args, options, reply)
            for (args, options), reply in zip(stack, replies, strict=True)
        ]


def _words(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """redis-py writes a command of two words as one argument."""
    return (*args[0].split(), *args[1:]) if " " in args[0] else args


def _understood(client: Redis, args: tuple[Any, ...], options: Mapping[str, Any], reply: Any) -> Any:
    """The reply as redis-py's documentation has it: a dict for HGETALL and so on."""
    understand = client.response_callbacks.get(args[0])
    if understand is None:
        return reply
    # "keys" is for its cache alone.
    return understand(reply, **{name: value for name, value in options.items() if name != "keys"})


def open_redis(url: SecretStr) -> Redis:
    """Open a client that answers text; its commands raise `redis.exceptions.RedisError` when Redis is away.

    Nothing that blocks inside Redis may be asked of it.
    """
    pool = open_pool(url, decode_responses=True)
    return SharedRedis(RedisLine(pool, SOCKET_TIMEOUT_SECONDS), pool)


def open_pool(
    url: SecretStr, *, decode_responses: bool, timeout_seconds: float = SOCKET_TIMEOUT_SECONDS
) -> BlockingConnectionPool:
    """Connections that another library's client, such as the queue's, can use too; `timeout_seconds` for one answer.

    A command on a connection that a restart of Redis has cut is sent once more on a new one: each of ours may be
    repeated without doing its work twice.
    """
    pool: BlockingConnectionPool = QueueingPool.from_url(
        url.get_secret_value(),
        max_connections=MAX_CONNECTIONS,
        timeout=POOL_WAIT_SECONDS,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        decode_responses=decode_responses,
        # Not after a time-out, which by itself takes half of what a request may wait.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        retry_on_error=[RedisConnectionError],
    )
    return pool


async def reply(answer: Awaitable[Result] | Result) -> Result:
    """Await a command whose stub in redis-py leaves open whether the client is the asynchronous one."""
    return await answer if isinstance(answer, Awaitable) else answer


async def scan_pages(redis: Redis, pattern: str) -> AsyncIterator[list[str]]:
    """All keys that fit a pattern, a few hundred at a time; for work in the background, since it looks at every key."""
    cursor = 0
    while True:
        cursor, keys = await redis.scan(cursor, match=pattern, count=SCAN_PAGE)
        if keys:
            yield keys
        if cursor == 0:
            return


async def delete_matching(redis: Redis, pattern: str) -> None:
    """Remove all keys that fit a pattern; in the background too."""
    async for keys in scan_pages(redis, pattern):
        await redis.delete(*keys)
