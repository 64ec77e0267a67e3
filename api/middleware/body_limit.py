"""Refuses a body that is too large: by its announced length before it is read, else as soon as it is over.

And one that comes too slowly, so that nobody can hold a request open for ever.
"""

import asyncio

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import render_error
from core.errors import AppError, PayloadTooLarge, RequestTimeout

# What Apache's mod_reqtimeout has by default: 20 s, and one more for every 500 bytes that came.
BODY_SECONDS = 20.0
BODY_BYTES_A_SECOND = 500


class BodyLimit:
    """`body_seconds`: how long a body may take that hardly moves."""

    def __init__(self, app: ASGIApp, max_bytes: int, body_seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _announced(scope) > self._max_bytes:
            await self._refuse(scope, receive, send, PayloadTooLarge(self._max_bytes))
            return
        body = _Body(receive, self._max_bytes, self._body_seconds)
        answering = False

        async def watching_send(message: Message) -> None:
            nonlocal answering
            if body.refused and not answering:
                return  # FastAPI answers any error while it reads a body as if the body were broken
            answering = True
            await send(message)

        try:
            await self._app(scope, body.receive, watching_send)
        except _Refused:
            if answering:
                raise
        if body.refused and not answering:
            await self._refuse(scope, receive, send, body.refused)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: AppError) -> None:
        response = render_error(Request(scope), error)
        # The rest of the body is not wanted; without this the server would read it to keep the connection.
        response.headers["connection"] = "close"
        await response(scope, receive, send)


class _Refused(Exception):
    """The body grew over its limit, or ran out of time, while it was read."""


class _Body:
    """Counts a body while it is read, and says why the rest of it is `refused`."""

    def __init__(self, receive: Receive, max_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._started = 0.0
        self._seen = 0
        self._ended = False
        self.refused: AppError | None = None

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()  # from here on it only tells whether the client is still there
        self._started = self._started or asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self._started + self._seconds + self._seen / BODY_BYTES_A_SECOND):
                message = await self._receive()
        except TimeoutError as error:
            self.refused = RequestTimeout(round(self._seconds))
            raise _Refused from error
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._seen > self._max_bytes:
                self.refused = PayloadTooLarge(self._max_bytes)
                raise _Refused
        return message


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
