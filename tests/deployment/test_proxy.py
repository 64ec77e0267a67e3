"""The reverse proxy of docker-compose.yml, with its own file, in front of an API."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tests.deployment.dockerfile import ROOT
from tests.support.event_source import next_event, watching
from tests.support.installation import free_port
from tests.support.service import RunningService
from tests.support.waiting import eventually
from tests.tasks.watched import WatchedTasks

CADDY = Path(sys.executable).parent / "caddy"
SECONDS = 20


class Upstream:
    """Sends one event, and the next only when it is told to: a proxy that waits for more would wait for ever."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.forwarded: list[str | None] = []
        self.port = free_port()

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"id: 1\nevent: started\ndata: {}\n\n")
        await self.go_on.wait()
        await response.write(b"id: 2\nevent: completed\ndata: {}\n\n")
        return response

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """Its length is known, which is where a proxy is most tempted to collect."""
        response = web.StreamResponse(headers={"content-type": "image/png", "content-length": "10"})
        await response.prepare(request)
        await response.write(b"first")
        await self.go_on.wait()
        await response.write(b"other")
        return response

    async def anything(self, request: web.Request) -> web.Response:
        self.forwarded.append(request.headers.get("x-forwarded-for"))
        return web.Response(text="ok")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/events", self.events)
        app.router.add_get("/picture", self.picture)
        app.router.add_get("/{path:.*}", self.anything)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    async with upstream.running():
        yield upstream


@asynccontextmanager
async def running_proxy(api_port: int, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Caddy with the file as it is, over plain HTTP on a free port."""
    address = f"http://127.0.0.1:{free_port()}"
    settings = {
        "SITE_ADDRESS": address, "ADMIN_ADDRESS": f"localhost:{free_port()}", "API_HOST": "localhost",
        "API_PORT": str(api_port), "HOME": str(tmp_path), "PATH": os.environ["PATH"],
    }  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            CADDY, "run", "--config", ROOT / "deploy/Caddyfile", "--adapter", "caddyfile",
            env=settings, cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    async with httpx.AsyncClient(base_url=address, timeout=SECONDS) as client:

        async def answers() -> bool:
            try:
                return (await client.get("/")).status_code == 200
            except httpx.TransportError:
                return False

        try:
            assert await eventually(answers), (tmp_path / "log").read_text(encoding="utf-8")
            yield client
        finally:
            process.terminate()
            await process.wait()


@pytest.fixture
async def proxy(upstream: Upstream, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with running_proxy(upstream.port, tmp_path) as client:
        yield client


@pytest.mark.parametrize(("path", "first", "rest"), [("/events", b"id: 1", b"id: 2"), ("/picture", b"first", b"other")])
async def test_what_is_sent_piece_by_piece_arrives_piece_by_piece(
    proxy: httpx.AsyncClient, upstream: Upstream, path: str, first: bytes, rest: bytes
) -> None:
    async with asyncio.timeout(SECONDS), proxy.stream("GET", path) as response:
        pieces = response.aiter_raw()
        assert (await anext(pieces)).startswith(first)
        upstream.go_on.set()
        assert rest in b"".join([piece async for piece in pieces])


async def test_the_events_of_a_task_arrive_as_they_happen(service: RunningService, tmp_path: Path) -> None:
    tasks, guest = WatchedTasks(service, look_seconds=60), await service.guest()
    task_id = tasks.add(guest.id)
    async with running_proxy(httpx.URL(service.url).port or 0, tmp_path) as client, asyncio.timeout(SECONDS):
        client.headers["authorization"] = f"Bearer {guest.tokens['access_token']}"
        async with watching(client, task_id) as events:
            assert (await anext(events)).type == "heartbeat"
            await tasks.start(task_id)
            assert (await next_event(events)).what == "started 0"
            await tasks.end(task_id)
            assert (await next_event(events)).what == "completed 0"


async def test_a_client_cannot_say_where_it_comes_from(proxy: httpx.AsyncClient, upstream: Upstream) -> None:
    await proxy.get("/", headers={"X-Forwarded-For": "203.0.113.7"})
    assert upstream.forwarded[-1] == "127.0.0.1"


async def test_the_metrics_stay_inside(proxy: httpx.AsyncClient, upstream: Upstream) -> None:
    reached = len(upstream.forwarded)
    assert (await proxy.get("/metrics")).status_code == 404
    assert len(upstream.forwarded) == reached
