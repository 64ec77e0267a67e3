"""Worker processes for tests of tasks, and what a caller does with a task."""

import asyncio
import os
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from services.tasks.worker import TaskWorker
from services.worker import REDIS_SECONDS
from tests.support.databases import databases
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
WORK_SECONDS = 40


class Workers:
    """Processes over the data and the settings of a service, which end with the test."""

    def __init__(self, service: RunningService, settings: dict[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
        own = {"PYTHONPATH": str(ROOT), "LOG_FORMAT": "json", **databases.settings(service.data_dir)}
        self._folder = service.data_dir
        self._environment = {**kept, **own, **settings}
        self._started: list[asyncio.subprocess.Process] = []

    async def start(self, **settings: str) -> asyncio.subprocess.Process:
        with (self._folder / f"worker{len(self._started)}.log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.worker", cwd=self._folder, env={**self._environment, **settings},
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self._started.append(process)
        return process

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        process.kill()
        await process.wait()

    async def stop(self, process: asyncio.subprocess.Process) -> int:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await process.wait()

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self._folder.glob("worker*.log")))

    async def close(self) -> None:
        for process in self._started:
            if process.returncode is None:
                await self.kill(process)


@asynccontextmanager
async def working(service: RunningService) -> AsyncIterator[None]:
    """A worker's part that runs tasks, in the process of the service: for tests in which nothing has to die."""
    service.container.task_runner.is_stopping = False  # a process has one worker in its life, a test may have several
    worker = TaskWorker(service.container, REDIS_SECONDS)
    worker.start()
    try:
        yield
    finally:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # arq closes its Redis as of old
            await worker.stop()


async def submit(
    guest: Guest, prompt: str = "a lighthouse", *, fields: Mapping[str, str] | None = None, **params: Any
) -> str:
    """A task by /api/v1, taken for granted that it is accepted; answers its id. `fields` stand beside `params`."""
    body = {"params": {"prompt": prompt, **params}, **(fields or {})}
    response = await guest.client.post("/api/v1/tasks/generate", json=body)
    assert response.status_code == 202, response.text
    task_id: str = response.json()["data"]["task_id"]
    return task_id


async def submit_batch(guest: Guest, count: int, prompt: str = "a lighthouse") -> str:
    response = await guest.client.post("/api/generate/batch", json={"prompt": prompt, "count": count})
    assert response.status_code == 202, response.text
    task_id: str = response.json()["data"]["task_id"]
    return task_id


async def read(guest: Guest, task_id: str) -> dict[str, Any]:
    response = await guest.client.get(f"/api/v1/tasks/{task_id}")
    assert response.status_code == 200, response.text
    task: dict[str, Any] = response.json()["data"]
    return task


async def cancel(guest: Guest, task_id: str) -> httpx.Response:
    return await guest.client.post(f"/api/v1/tasks/{task_id}/cancel")


async def until(guest: Guest, task_id: str, *statuses: str, seconds: float = WORK_SECONDS) -> dict[str, Any]:
    """The task once it is in one of these states."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [await read(guest, task_id)]
        return found[0]["status"] in statuses

    assert await eventually(there, seconds), found
    return found[0]


async def until_settled(guest: Guest, points: int) -> None:
    """Until the counters show as many points as were charged."""

    async def settled() -> bool:
        return await guest.used() == points

    assert await eventually(settled, WORK_SECONDS), await guest.used()
