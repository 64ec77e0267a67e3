"""Stands before an S3 server and does to chosen requests what networks, proxies and buckets do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Harm = Literal["answer", "reset", "hang", "lose_answer", "half_body", "cut_head", "drip", "drip_head"]

DRIP_SECONDS = 0.2


@dataclass
class Fault:
    """What happens to requests whose method and path fit; to `times` of them, then no more.

    `answer`: `status` with `body`, else with an S3 error of `code`. `lose_answer`: the server does it, and nobody is
    told.
    """

    harm: Harm
    method: str = ""
    path: str = ""
    times: int = 1_000_000
    status: int = 503
    code: str = "SlowDown"
    body: str = ""

    def takes(self, method: str, path: str) -> bool:
        if self.times == 0 or self.path not in path or self.method not in ("", method):
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    data: bytes


class FaultProxy:
    """One request a connection. `faults`: the first that fits counts; `seen`: method and path of all requests, and
    `last_headers` of the last one, names in lower case.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.last_headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def listen(self) -> None:
        """Also again after `go_away`, on the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def go_away(self) -> None:
        """Connections are refused from now on."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        self.seen.append(f"{request.method} {request.path}")
        self.last_headers = request.headers
        fault = next((entry for entry in self.faults if entry.takes(request.method, request.path)), None)
        if fault is None:
            writer.write(await self._forward(request))
        elif fault.harm == "answer":
            text = fault.body or f"<Error><Code>{fault.code}</Code></Error>"
            body = b"" if request.method == "HEAD" else text.encode()
            head = f"HTTP/1.1 {fault.status} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + body)
        elif fault.harm == "hang":
            await asyncio.sleep(600)
        elif fault.harm == "reset":
            writer.transport.abort()
        elif fault.harm == "lose_answer":
            await self._forward(request)
            writer.transport.abort()
        else:
            await _hurt(fault.harm, await self._forward(request), writer)
        await writer.drain()

    async def _forward(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        writer.write(request.data)
        answer = await reader.read()
        writer.close()
        return answer


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    kept = [line for line in lines if line and not line.lower().startswith("connection:")]
    return Request(
        method, path, headers, "\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1") + body
    )


async def _hurt(harm: Harm, answer: bytes, writer: asyncio.StreamWriter) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    if harm == "half_body":
        writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])
        return
    if harm == "cut_head":
        status, _, _ = head.partition(b"\r\n")
        writer.write(status + b"\r\nServer: x\r\n")
        return
    start = 0 if harm == "drip_head" else len(head) + 4
    writer.write(answer[:start])
    for place in range(start, len(answer)):
        writer.write(answer[place : place + 1])
        await writer.drain()
        await asyncio.sleep(DRIP_SECONDS)


@asynccontextmanager
async def fault_proxy(target: str) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(target)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.go_away()
