"""The API under test: the real app behind a real server on a free port, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from api.__main__ import KEEP_ALIVE_SECONDS
from api.main import create_app
from api.server import ApiServer
from core.metrics import Metrics
from core.settings import load_settings
from services.container import Container
from tests.support.databases import databases

HTTP_SECONDS = 30


@dataclass(frozen=True)
class Guest:
    """A signed-in guest with a client of their own, whose requests carry the token."""

    id: str
    client: httpx.AsyncClient
    tokens: dict[str, Any]

    async def generate(self, prompt: str = "a lighthouse", **fields: Any) -> httpx.Response:
        return await self.client.post("/api/generate/basic", json={"prompt": prompt, **fields})

    async def image(self, prompt: str = "a lighthouse", **fields: Any) -> dict[str, Any]:
        """Generate, and take for granted that it works; answers `data`."""
        response = await self.generate(prompt, **fields)
        assert response.status_code == 200, response.text
        data: dict[str, Any] = response.json()["data"]
        return data

    async def used(self) -> int:
        """Points of today's pool that are used."""
        body = (await self.client.get("/api/quota")).json()
        used: int = body["global"]["used"]
        return used

    async def history(self, **query: Any) -> dict[str, Any]:
        response = await self.client.get("/api/history", params=query)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body


class RunningService:
    def __init__(self, app: FastAPI, url: str, data_dir: Path) -> None:
        self.app = app
        self.url = url
        self.data_dir = data_dir
        self.client = httpx.AsyncClient(base_url=url, timeout=HTTP_SECONDS)
        self._clients = [self.client]

    @property
    def container(self) -> Container:
        container: Container = self.app.state.container
        return container

    @property
    def storage_dir(self) -> Path:
        return self.data_dir / "storage"

    def stored(self, pattern: str) -> list[Path]:
        """Files in storage that fit a glob, such as `users/**/*.png`."""
        return sorted(path for path in self.storage_dir.glob(pattern) if path.is_file())

    async def guest(self) -> Guest:
        response = await self.client.post("/api/auth/guest", json={})
        assert response.status_code == 200, response.text
        tokens = response.json()
        client = self.with_headers(Authorization=f"Bearer {tokens['access_token']}")
        return Guest(tokens["user"]["id"], client, tokens)

    def with_headers(self, **headers: str) -> httpx.AsyncClient:
        client = httpx.AsyncClient(base_url=self.url, timeout=HTTP_SECONDS, headers=headers)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@asynccontextmanager
async def run_service(environment: Mapping[str, str], empty_database: Path) -> AsyncIterator[RunningService]:
    """Start the API with these settings over a copy of a migrated, empty database."""
    data_dir = load_settings(environment).storage.data_dir
    settings = load_settings({**databases.laid_out(data_dir, empty_database), **environment})
    app = create_app(settings, Metrics())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="on", http="httptools", server_header=False,
            proxy_headers=bool(settings.server.trusted_proxies),
            forwarded_allow_ips=list(settings.server.trusted_proxies), timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )  # fmt: skip
        server = ApiServer(config, app, is_alone=True)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not task.done(), "the app did not start"
            await asyncio.sleep(0.005)
        service = RunningService(app, f"http://127.0.0.1:{listener.getsockname()[1]}", data_dir)
        try:
            yield service
        finally:
            await service.close()
            server.should_exit = True
            await task
