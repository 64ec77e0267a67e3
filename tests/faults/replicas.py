"""API processes and workers that are replaced one by one under load, behind what a proxy does for them."""

import asyncio
import os
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.databases import databases
from tests.support.installation import ROOT
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

START_SECONDS = 30
STOP_SECONDS = 30
PAUSE_SECONDS = 0.05
TRIES = 200
RETRY_SECONDS = 0.05


class Replica:
    """One process over a service's data that can be replaced by another: an API on a port of its own, or a worker."""

    def __init__(self, service: RunningService, settings: dict[str, str], *, port: int | None) -> None:
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._folder = service.data_dir
        self._environment = {**kept, "LOG_FORMAT": "json", **databases.settings(service.data_dir), **settings}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, root: Path = ROOT) -> None:
        """From the code in `root`; an API answers then."""
        if self._port is None:
            self._process = await self._run(root, "services.worker")
            return
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            listener.listen(128)
            self._process = await self._run(root, "api", "--fd", str(listener.fileno()), pass_fds=[listener.fileno()])
        assert await eventually(self._answers, START_SECONDS)

    async def stop(self) -> None:
        """As a supervisor does; what takes longer than a process is given fails the test."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            # uvicorn ends by the signal that it was sent, once it has seen to everything.
            assert await self._process.wait() in {0, -signal.SIGTERM}

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _run(self, root: Path, *module: str, **more: Any) -> asyncio.subprocess.Process:
        with (self._folder / f"replica-{self._port or id(self)}.log").open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", *module, cwd=root, env=self._environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, **more,
            )  # fmt: skip

    async def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(verify=False) as client:
                return (await client.get(f"{self.url}/api/health/ready")).status_code == 200
        return False


@dataclass
class Proxy:
    """Sends each request to one of the APIs, and to another where nobody listens, as a proxy may; it asks nobody twice
    who may have heard the first time. `answers`: how often each kind of request got each status.
    """

    replicas: list[Replica]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    async def send(self, kind: str, guest: Guest, method: str, path: str, **content: Any) -> httpx.Response:
        headers = {"Authorization": guest.client.headers["authorization"]}
        for _ in range(TRIES):
            url = random.choice(self.replicas).url
            async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers, verify=False) as client:
                try:
                    answer = await client.request(method, path, **content)
                except httpx.ConnectError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
            self.answers[kind, answer.status_code] += 1
            return answer
        raise AssertionError(f"nobody listens: {kind}")


@dataclass
class Traffic:
    """What people do meanwhile. `accepted`: images of each task, by its id; `images` that were waited for; `failed`:
    requests that got no answer.
    """

    proxy: Proxy
    accepted: dict[str, int] = field(default_factory=dict)
    images: int = 0
    failed: list[str] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def of(self, guests: list[Guest]) -> AsyncIterator[None]:
        kinds: list[Callable[[Guest], Awaitable[None]]] = [self._submit, self._generate, self._look]
        async with asyncio.TaskGroup() as group:
            for guest in guests:
                for kind in kinds:
                    group.create_task(self._for_ever(kind, guest))
            try:
                yield
            finally:
                self._over.set()

    async def _for_ever(self, kind: Callable[[Guest], Awaitable[None]], guest: Guest) -> None:
        while not self._over.is_set():
            try:
                await kind(guest)
            except httpx.TransportError as error:
                self.failed.append(f"{kind.__name__}: {error!r}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _submit(self, guest: Guest) -> None:
        body = {"params": {"prompt": "a lighthouse"}}
        answer = await self.proxy.send("submit", guest, "POST", "/api/v1/tasks/generate", json=body)
        if answer.status_code == 202:
            self.accepted[answer.json()["data"]["task_id"]] = 1

    async def _generate(self, guest: Guest) -> None:
        answer = await self.proxy.send("generate", guest, "POST", "/api/generate/basic", json={"prompt": "a tower"})
        self.images += answer.status_code == 200

    async def _look(self, guest: Guest) -> None:
        for path in ("/api/v1/tasks", "/api/quota", "/api/history"):
            await self.proxy.send("look", guest, "GET", path)
