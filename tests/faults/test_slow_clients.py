"""Clients that are slow, silent or gone hold nobody else up, and are given up at some time."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.head_limit import HeadLimit
from api.main import create_app
from benchmarks.gemini_standin import GeminiStandin
from core.metrics import Metrics
from core.settings import load_settings
from services.container import Container
from tests.conftest import OPERATOR_KEY
from tests.support.databases import databases
from tests.support.service import Guest
from tests.support.waiting import eventually

PATIENCE_SECONDS = 1.0
GIVEN_UP_SECONDS = 15  # far more than the patience, far less than for ever
IDLE_CONNECTIONS = 200
SLOW_CLIENTS = 20
HANG_UPS = 5
BODY = b'{"prompt": "a lighthouse"}'


class ImpatientHead(HeadLimit):
    head_seconds = PATIENCE_SECONDS


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Served:
    """The API as its process serves it, but for how long it is patient."""

    url: str
    port: int
    container: Container
    server: uvicorn.Server

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Streams]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @asynccontextmanager
    async def guest(self) -> AsyncIterator[Guest]:
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            tokens = (await client.post("/api/auth/guest", json={})).json()
            client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
            yield Guest(tokens["user"]["id"], client, tokens)

    async def connections_are(self, count: int) -> bool:
        async def so_many() -> bool:
            return len(self.server.server_state.connections) == count

        return await eventually(so_many)


@pytest.fixture
async def served(redis_url: str, empty_database: Path, tmp_path: Path, gemini: GeminiStandin) -> AsyncIterator[Served]:
    gemini.configure(pixels=(8, 8))
    settings = load_settings(
        databases.laid_out(tmp_path, empty_database)
        | {
            "DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0",
            "TRIAL_GUEST_SHARE": "1", "GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url,
        }
    )  # fmt: skip
    app = create_app(settings, Metrics(), body_seconds=PATIENCE_SECONDS)
    config = uvicorn.Config(
        app, port=0, http=ImpatientHead, ws="none", lifespan="on", log_config=None, access_log=False
    )  # fmt: skip
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done(), "the app did not start"
        await asyncio.sleep(0.005)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    yield Served(f"http://127.0.0.1:{port}", port, app.state.container, server)
    server.should_exit = True
    await running


def head(path: str = "/api/generate/basic", token: str = "", length: int | None = len(BODY)) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    sign_in = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{sign_in}{framing}\r\n\r\n".encode()


async def drip(writer: asyncio.StreamWriter, content: bytes, pause: float = 0.1) -> None:
    """A byte at a time, until all is sent or the other side has had enough."""
    with contextlib.suppress(OSError):
        for byte in content:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause)


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes. A reset is a close."""
    received = b""
    async with asyncio.timeout(GIVEN_UP_SECONDS):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(65536):
                received += piece
    return received


@pytest.mark.parametrize("sent", [b"", b"P", head()[:40], b"\r\n"], ids=["nothing", "a byte", "half a head", "a line"])
async def test_a_head_that_is_never_finished_is_given_up(served: Served, sent: bytes) -> None:
    async with served.connection() as (reader, writer):
        writer.write(sent)
        assert await all_of(reader) == b""
    assert await served.connections_are(0)


async def test_a_head_that_drips_is_given_up(served: Served) -> None:
    async with served.connection() as (reader, writer):
        dripping = asyncio.create_task(drip(writer, head()))
        assert await all_of(reader) == b""
        dripping.cancel()


async def test_a_second_request_has_to_come_in_time_too(served: Served) -> None:
    async with served.connection() as (reader, writer):
        writer.write(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.write(b"GET /api/heal")
        assert b"HTTP/1.1" not in await all_of(reader)


async def test_a_head_without_end_is_refused_by_its_size(served: Served) -> None:
    async with served.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(OSError):
            for _ in range(HeadLimit.max_head_bytes // 1000 + 2):
                writer.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
        answer = await all_of(reader)
    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b"", "closed with unread data, the answer may be lost"
    assert await served.connections_are(0)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("sent", [b"", BODY[:5]], ids=["nothing", "a part"])
async def test_a_body_that_is_never_finished_is_408(served: Served, sent: bytes, chunked: bool) -> None:
    piece = f"{len(sent):x}\r\n".encode() + sent + b"\r\n" if chunked and sent else sent
    async with served.connection() as (reader, writer):
        writer.write(head(length=None if chunked else 1000) + piece)
        answer = await all_of(reader)
    assert_timed_out(answer)
    assert await served.connections_are(0)


def assert_timed_out(answer: bytes) -> None:
    start, _, body = answer.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in start
    error = json.loads(body)["error"]
    assert (error["code"], error["details"]) == ("REQUEST_TIMEOUT", {"limit": round(PATIENCE_SECONDS)})


async def test_a_body_that_drips_is_408_and_one_that_flows_may_take_longer(served: Served) -> None:
    async with served.connection() as (reader, writer):
        writer.write(head(length=1000))
        dripping = asyncio.create_task(drip(writer, b" " * 1000))
        assert_timed_out(await all_of(reader))
        dripping.cancel()
    async with served.guest() as guest:
        padding = b" " * 2000  # 4 s more at 500 bytes/s
        started = time.monotonic()

        async def flowing() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield padding
                await asyncio.sleep(PATIENCE_SECONDS / 2)
            yield BODY

        response = await guest.client.post(
            "/api/generate/basic", content=flowing(), headers={"Content-Type": "application/json"}
        )
        assert time.monotonic() - started > 2 * PATIENCE_SECONDS * 0.9
        assert response.status_code == 200, response.text


async def test_an_answer_that_takes_longer_than_the_patience_is_waited_for(
    served: Served, gemini: GeminiStandin
) -> None:
    """The limits are on what a client sends, not on what it waits for."""
    gemini.configure(pixels=(8, 8), delay_seconds=2.5 * PATIENCE_SECONDS)
    async with served.guest() as guest:
        assert (await guest.generate()).status_code == 200


async def test_the_rest_of_a_body_that_nobody_reads_is_not_taken_for_a_head(served: Served) -> None:
    """404 comes before the body; what still arrives of it must not spoil the connection."""
    size = 2 * HeadLimit.max_head_bytes
    async with served.connection() as (reader, writer):
        writer.write(head("/nothing", length=size))
        assert b" 404 " in await reader.readline()
        for _ in range(8):
            writer.write(b"x" * (size // 8))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        rest = await all_of(reader)
    assert b"HTTP/1.1 400" not in rest
    assert b"HTTP/1.1 200" in rest


async def test_slow_clients_and_200_idle_connections_do_not_stop_the_others(served: Served) -> None:
    async with contextlib.AsyncExitStack() as stack, served.guest() as guest:
        idle = [await stack.enter_async_context(served.connection()) for _ in range(IDLE_CONNECTIONS)]
        slow = [await stack.enter_async_context(served.connection()) for _ in range(SLOW_CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for number, (_, writer) in enumerate(slow):
                whole = head(length=1000)
                writer.write(whole if number % 2 else b"")
                group.create_task(drip(writer, b" " * 1000 if number % 2 else whole, 0.05))
            async with asyncio.timeout(GIVEN_UP_SECONDS):
                for _ in range(3):
                    await guest.image()
                assert len(served.server.server_state.connections) > 1, "nobody was slow meanwhile"
            for _, writer in (*idle, *slow):
                writer.close()
    assert await served.connections_are(0)


def open_things() -> tuple[int, int]:
    """File descriptors and tasks."""
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


@pytest.mark.parametrize(
    "stage", ["connected", "in the head", "before the body", "in the body", "while it is made", "in the answer"]
)
async def test_who_hangs_up_leaves_nothing_behind(served: Served, gemini: GeminiStandin, stage: str) -> None:
    async with served.guest() as guest:
        await asyncio.gather(*(guest.image() for _ in range(2 * HANG_UPS)))  # fills the pools
        used = await guest.used()
        before = open_things()
        token = guest.tokens["access_token"]
        gemini.configure(pixels=(8, 8), delay_seconds=0.3)
        request = head(token=token) + BODY
        sent = {
            "connected": b"", "in the head": request[:30], "before the body": head(token=token),
            "in the body": request[:-5], "while it is made": request, "in the answer": request,
        }[stage]  # fmt: skip
        answered = len(gemini.requests())
        for _ in range(HANG_UPS):
            async with served.connection() as (reader, writer):
                writer.write(sent)
                await writer.drain()
                if stage == "while it is made":
                    answered += 1
                    await gemini.until(lambda stats, count=answered: stats["total"] >= count)  # type: ignore[misc]
                if stage == "in the answer":
                    await reader.read(1)
                writer.transport.abort()

        made = HANG_UPS if stage in {"while it is made", "in the answer"} else 0

        async def settled() -> bool:
            return all(now <= then for now, then in zip(open_things(), before, strict=True)) and (
                await guest.used() == used + made
            )

        assert await eventually(settled), (before, open_things(), used, made)
        assert (await guest.history())["total"] == used + made
        assert list((served.container.settings.storage.data_dir / "spool").iterdir()) == []
