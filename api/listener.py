"""Who takes the next connection, where several processes listen on one socket.

Left to themselves, the process that is awake takes all that come at once, and keeps them: of ten connections of a proxy
often one of two processes had all and the other nothing to do. So one that has connections waits for a moment, in which
another may come first. A socket for each process (SO_REUSEPORT) needs no waiting, but what comes to one that is just
started again would wait for that while others are free.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from core.logging import get_logger

# uvloop's timers count in milliseconds. At two a turn a process still takes 2,000 connections a second.
PAUSE_SECONDS = 0.001
TAKEN_A_TURN = 2
# Without a file descriptor left, there is none in a moment either.
REST_SECONDS = 0.5

log = get_logger(__name__)


class PoliteListener:
    """`connected` says how many connections this process has. Closed as uvicorn closes its own servers."""

    def __init__(
        self, listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol], connected: Callable[[], int]
    ) -> None:
        self._socket = listening
        self._make_protocol = make_protocol
        self._connected = connected
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.TimerHandle | None = None
        self._opening = set[asyncio.Task[None]]()

    def start(self) -> None:
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._asked)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._turn is not None:
            self._turn.cancel()

    async def wait_closed(self) -> None:
        if self._opening:
            await asyncio.wait(self._opening)

    def _asked(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._opening or self._connected():
            self._turn = self._loop.call_later(PAUSE_SECONDS, self._take, TAKEN_A_TURN)
        else:
            self._take(1)

    def _take(self, most: int) -> None:
        try:
            # Another process may be faster, and whoever asks may have gone.
            with contextlib.suppress(BlockingIOError, InterruptedError, ConnectionAbortedError):
                for _ in range(most):
                    self._begin(self._socket.accept()[0])
        except OSError as error:
            log.warning("connections wait", reason=str(error))
            self._turn = self._loop.call_later(REST_SECONDS, self._take, most)
        else:
            self._loop.add_reader(self._socket, self._asked)

    def _begin(self, connection: socket.socket) -> None:
        opening = self._loop.create_task(self._open(connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError as error:
            log.debug("connection was gone before it was taken", reason=str(error))
            connection.close()
