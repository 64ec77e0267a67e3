"""One connection to Redis that all requests of a process share: commands that come together travel together.

redis-py takes a connection out of a pool for each call and reads each reply through several coroutines, which costs
more than all else that a short request does (docs/adr/0005 has the figures). Here a command is packed by hiredis, waits
for the end of the event loop's turn, and goes out with the others of that turn in one write; a reply finds its caller
by its place in the order, which is what Redis promises.

Nothing that blocks inside Redis (BLPOP, XREAD BLOCK, SUBSCRIBE) may go over it: it would stop everybody.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ExecAbortError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Command = tuple[Any, ...]

# A processor that was busy for longer than a reply may take must not look like a Redis that hangs: before a verdict the
# event loop is given this long to read what came meanwhile.
LAST_LOOK_SECONDS = 0.02

_REPLY_ERRORS: dict[str, type[RedisError]] = {
    "NOSCRIPT": NoScriptError,
    "LOADING": BusyLoadingError,
    "READONLY": ReadOnlyError,
    "EXECABORT": ExecAbortError,
    "OOM": OutOfMemoryError,
    "NOAUTH": AuthenticationError,
}


class RedisLine:
    """Commands in, replies out, over a connection that is made when it is needed and made anew when it is lost.

    `pool` knows how to make and greet one; `timeout_seconds`: how long Redis may owe a reply without sending anything.
    """

    def __init__(self, pool: ConnectionPool, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout = timeout_seconds
        self._current: _Conversation | None = None
        self._connecting: asyncio.Task[_Conversation] | None = None

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The replies in order; one that is an error reply stands there as an exception.

        Commands of one call stand beside each other, so that MULTI … EXEC is one transaction. Raises redis-py's
        ConnectionError or TimeoutError. What a lost connection left open is sent once more on a new one: each of our
        commands may be repeated without doing its work twice.
        """
        conversation = await self._conversation()
        try:
            return await conversation.ask(commands)
        except RedisConnectionError:
            # Not after a time-out, which by itself takes half of what a request may wait.
            return await (await self._conversation()).ask(commands)

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._current is not None:
            self._current.end(RedisConnectionError("the client is closed"))

    async def _conversation(self) -> "_Conversation":
        if self._current is not None and not self._current.is_over:
            return self._current
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        # Many wait for one connection; one that gives up must not take it from the others.
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> "_Conversation":
        connection = cast(AbstractConnection, self._pool.make_connection())  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            self._current = _Conversation(connection, self._timeout)
            return self._current
        finally:
            self._connecting = None


class _Question:
    """The commands of one call, until all their replies are there."""

    __slots__ = ("answer", "asked_at", "missing", "replies")

    def __init__(self, answer: asyncio.Future[list[Any]], count: int, asked_at: float) -> None:
        self.answer = answer
        self.missing = count
        self.replies: list[Any] = []
        self.asked_at = asked_at


class _Conversation(asyncio.Protocol):
    """What goes over one connection, which redis-py has made and greeted, until it is over."""

    def __init__(self, connection: AbstractConnection, timeout_seconds: float) -> None:
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout_seconds
        self._reader = hiredis.Reader(encoding="utf-8", replyError=_reply_error)
        self._unsent: list[bytes] = []
        self._open: deque[_Question] = deque()
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._writer, self._transport = take_over(connection, self)

    def ask(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.extend(map(hiredis.pack_command, commands))
        question = _Question(answer, len(commands), self._loop.time())
        self._open.append(question)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._look)
        return answer

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except (hiredis.ProtocolError, UnicodeDecodeError, IndexError) as error:
            self.end(RedisConnectionError(f"not what Redis answers: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.end(RedisConnectionError(f"the connection was lost: {error or 'closed by Redis'}"))

    def end(self, reason: RedisError) -> None:
        """Nothing is asked any more, and what is open fails for this reason."""
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        while self._open:
            question = self._open.popleft()
            if not question.answer.done():
                question.answer.set_exception(reason)

    def _flush(self) -> None:
        if not self.is_over:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _take(self, reply: Any) -> None:
        question = self._open[0]
        question.replies.append(reply)
        question.missing -= 1
        if question.missing == 0:
            self._open.popleft()
            if not question.answer.done():  # its caller may have gone
                question.answer.set_result(question.replies)

    def _look(self) -> None:
        self._timer = None
        if not self._open:
            return
        left = self._owed_since() + self._timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._timer = self._loop.call_later(LAST_LOOK_SECONDS, self._judge, self._heard_at)

    def _judge(self, heard_at: float) -> None:
        self._timer = None
        if self._heard_at != heard_at or not self._open:
            self._look()
        else:
            self.end(RedisTimeoutError("Redis owes a reply for too long"))

    def _owed_since(self) -> float:
        return max(self._open[0].asked_at, self._heard_at)


def take_over(
    connection: AbstractConnection, protocol: asyncio.Protocol
) -> tuple[asyncio.StreamWriter, asyncio.Transport]:
    """What redis-py has connected and greeted, for a protocol of ours.

    redis-py's connection would close it when it is collected; so would the writer, which is to be kept.
    """
    writer = cast(asyncio.StreamWriter, connection._writer)
    connection._reader = connection._writer = None
    transport = cast(asyncio.Transport, writer.transport)
    transport.set_protocol(protocol)
    return writer, transport


def _reply_error(text: str) -> RedisError:
    code, _, message = text.partition(" ")
    return _REPLY_ERRORS.get(code, ResponseError)(message if code == "ERR" else text)
