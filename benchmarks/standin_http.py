"""The stand-in's HTTP/1.1: a small server of its own, because no framework lets an answer stop halfway or reset."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

_REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}
_DRIP_SLICES = 20
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Reply:
    """What goes back: `pieces` are written one after another; `seconds` spreads them, `cut` ends them halfway."""

    status: int
    pieces: list[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    seconds: float = 0.0
    cut: bool = False


class Connection(asyncio.Protocol):
    """One client connection with keep-alive; requests on it are answered one at a time."""

    def __init__(
        self,
        serve: Callable[[Request, "Connection"], Coroutine[Any, Any, None]],
        connected: Callable[[int], None],
    ) -> None:
        self._serve = serve
        self._connected = connected
        self._parser = httptools.HttpRequestParser(self)
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connected(1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected(-1)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, path, query, self._headers, b"".join(self._body))
        self._task = asyncio.create_task(self._serve(request, self))

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        connection = cast(socket.socket, self._transport.get_extra_info("socket"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    async def write(self, reply: Reply) -> None:
        size = sum(map(len, reply.pieces))
        framing = {"Transfer-Encoding": "chunked"} if reply.chunked else {"Content-Length": str(size)}
        headers = reply.headers | framing | {"Server": "scaffolding on HTTPServer2"}
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Error')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        pieces = reply.pieces
        if reply.cut or reply.seconds:
            whole = b"".join(pieces)
            step = max(1, -(-len(whole) // _DRIP_SLICES))
            pieces = [whole[start : start + step] for start in range(0, len(whole), step)]
        for piece in pieces[: len(pieces) // 2 if reply.cut else None]:
            await self._write_piece(piece, reply)
        if reply.cut:
            self._transport.close()
        elif reply.chunked:
            self._transport.write(b"0\r\n\r\n")

    async def _write_piece(self, piece: bytes, reply: Reply) -> None:
        if reply.seconds:
            await asyncio.sleep(reply.seconds / _DRIP_SLICES)
        await self._writable.wait()
        if not piece:
            return
        if reply.chunked:
            self._transport.writelines([b"%x\r\n" % len(piece), piece, b"\r\n"])
        else:
            self._transport.write(piece)
