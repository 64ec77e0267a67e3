"""uvicorn's HTTP protocol with what it lacks: an end to waiting for the head of a request, and to the head's size.

As it is, a connection that sends nothing, or a head a byte at a time, stays for ever.
"""

from asyncio import BaseTransport, TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HeadLimit(HttpToolsProtocol):
    """`head_seconds` from the connection, or from the first byte of a later request, until its head is whole.

    20 s and 500 bytes/s are what Apache's mod_reqtimeout has by default; 64 KiB is four times what most servers take.
    """

    head_seconds: ClassVar[float] = 20.0
    max_head_bytes: ClassVar[int] = 64 * 1024

    _head_timer: TimerHandle | None = None
    _head_bytes = 0
    _in_message = False  # from the end of its head to the end of its body

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn says Transport, which is what it gets
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            # Also for the rest of a body that nobody reads any more: uvicorn stops its keep-alive timer for it.
            self._await_head()
        in_head = not self._in_message
        super().data_received(data)
        if in_head and self._head_timer is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.max_head_bytes:
                self.send_400_response("The request's head is too large.")

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._in_message = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_seconds, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
