"""Somebody's server at a URL that a caller gave, behind a real socket: it answers as told, or as no server should."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

Harm = Literal[
    "none", "hang", "drip_head", "endless_head", "endless_body", "half_body", "hang_in_body", "hang_up", "no_http"
]

PIECE = b"x" * 65536


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b"thanks"
    headers: Mapping[str, str] = field(default_factory=dict)
    harm: Harm = "none"

    def head(self) -> bytes:
        length = {} if self.harm == "endless_body" else {"content-length": str(len(self.body))}
        lines = [
            f"HTTP/1.1 {self.status} x",
            *(f"{name}: {value}" for name, value in (length | dict(self.headers)).items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """`answers`: one a request, the last of them for all that follow. `sent`: bytes of endless answers so far."""

    def __init__(self) -> None:
        self.answers = [Answer()]
        self.received: list[Received] = []
        self.connections = 0
        self.sent = 0
        self.address = ""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{self.authority}/hook"

    @property
    def authority(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.received.append(await _read(reader))
            await self._answer(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], writer)
        writer.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        match answer.harm:
            case "hang":
                await asyncio.sleep(600)
            case "hang_up":
                return
            case "no_http":
                writer.write(b"220 mail.example ESMTP\r\n")
            case "drip_head":
                for place in range(len(answer.head())):
                    writer.write(answer.head()[place : place + 1])
                    await asyncio.sleep(0.05)
            case "endless_head":
                writer.write(b"HTTP/1.1 200 x\r\n")
                await self._pour(writer, b"x-more: " + b"x" * 4000 + b"\r\n")
            case "endless_body":
                writer.write(answer.head())
                await self._pour(writer, PIECE)
            case "half_body":
                writer.write(answer.head() + answer.body[: len(answer.body) // 2])
            case "hang_in_body":
                writer.write(answer.head() + answer.body[: len(answer.body) // 2])
                await asyncio.sleep(600)
            case "none":
                writer.write(answer.head() + answer.body)
        await writer.drain()

    async def _pour(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            self.sent += len(piece)


async def _read(reader: asyncio.StreamReader) -> Received:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.split(": ", 1) for line in lines if line)
    headers = {name.lower(): value for name, value in pairs}
    return Received(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@asynccontextmanager
async def running_receiver(
    address: str = "127.0.0.1", *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.accept, address, port, ssl=tls)
    receiver.address, receiver.port = server.sockets[0].getsockname()[:2]
    try:
        yield receiver
    finally:
        server.close()
        await receiver.close()


class Names:
    """A resolver for names that only the tests know. Each look-up takes the next answer, the last one for good.

    An answer is a list of addresses, or what is raised instead.
    """

    def __init__(self, **answers: list[list[str] | OSError]) -> None:
        self._answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        given = self._answers[host]
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, OSError):
            raise answer
        return answer
