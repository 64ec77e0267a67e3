"""Watchers when a part goes: the server stops, Redis goes, a client does not read."""

import asyncio
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import OpenService
from tests.faults.support import OwnRedis
from tests.support.event_source import watching
from tests.support.service import run_service
from tests.support.waiting import eventually
from tests.tasks.watched import WatchedTasks

SECONDS = 10
STOP_SECONDS = 3


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    redis = OwnRedis(tmp_path / "redis")
    redis.start()
    yield redis
    redis.close()


async def test_streams_end_at_once_when_the_server_stops(redis_url: str, empty_database: Path, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path / "data"), "REDIS_URL": redis_url}
    async with asyncio.timeout(SECONDS), httpx.AsyncClient(timeout=SECONDS) as client:
        async with run_service(settings, empty_database) as service:
            tasks, guest = WatchedTasks(service, look_seconds=60, heartbeat_seconds=60), await service.guest()
            task_id = tasks.add(guest.id)
            client.base_url = httpx.URL(service.url)
            client.headers["authorization"] = f"Bearer {guest.tokens['access_token']}"
            watchers = [watching(client, task_id) for _ in range(5)]
            streams = [await watcher.__aenter__() for watcher in watchers]
            stopped_at = time.monotonic()
        assert time.monotonic() - stopped_at < STOP_SECONDS
        # Whole to the last byte: httpx would say otherwise.
        for stream in streams:
            assert {event.type async for event in stream} <= {"heartbeat"}
        for watcher in watchers:
            await watcher.__aexit__(None, None, None)


async def test_a_watcher_outlives_redis(open_service: OpenService, own_redis: OwnRedis) -> None:
    service = await open_service(REDIS_URL=own_redis.url)
    tasks, guest = WatchedTasks(service), await service.guest()
    task_id = tasks.add(guest.id)
    await tasks.start(task_id)
    async with watching(guest.client, task_id) as events, asyncio.timeout(30):
        assert (await anext(events)).type == "started"
        own_redis.kill()
        # It lives on, whatever of the row changes meanwhile.
        tasks.set(task_id, status="completed", percent=100)
        assert [(await anext(events)).type for _ in range(5)] == ["heartbeat"] * 5
        own_redis.start()
        assert [event.what async for event in events if event.type != "heartbeat"] == ["completed 100"]
        own_redis.kill()
        refused = await guest.client.get(f"/api/v1/tasks/{task_id}/events")
        assert refused.status_code == 503


async def test_a_client_that_does_not_read_makes_nothing_grow(open_service: OpenService) -> None:
    service = await open_service()
    tasks, guest = WatchedTasks(service), await service.guest()
    task_id = tasks.add(guest.id)
    await tasks.start(task_id)
    address = httpx.URL(service.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (address.host, address.port))
        head = f"GET /api/v1/tasks/{task_id}/events HTTP/1.1\r\nHost: nbl\r\n"
        await loop.sock_sendall(client, f"{head}Authorization: Bearer {guest.tokens['access_token']}\r\n\r\n".encode())
        assert (await loop.sock_recv(client, 15)).startswith(b"HTTP/1.1 200 OK")
        tracemalloc.start()
        try:
            for percent in range(1500):  # 22 MB
                await tasks.progress(task_id, percent % 100, text="x" * 15_000)
            await asyncio.sleep(1)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 6_000_000

    async def gone() -> bool:
        return "event_streams_open 0.0" in (await service.client.get("/metrics")).text

    assert await eventually(gone)
