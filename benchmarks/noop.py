"""Tasks that do nothing: through our own machinery with its rows, leases and events, and as bare jobs of arq.

`python -m benchmarks.noop ours|arq` is a worker for one of them, with its settings in the environment. Both take as
many at once and look into the queue as often.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import uvloop
from arq.connections import ArqRedis
from arq.worker import Worker
from arq.worker import func as arq_function
from pydantic import SecretStr
from sqlalchemy import func, select

from core.clients.redis import open_pool
from core.ids import new_id
from core.logging import configure_logging
from core.metrics import Metrics
from core.settings import load_settings
from services.container import open_container
from services.tasks.kinds import TaskRun
from services.tasks.models import ItemResult, Task, TaskRequest
from services.tasks.store import tasks
from services.tasks.worker import POLL_SECONDS, TASKS_AT_ONCE
from services.worker import work
from tests.support.waiting import eventually

_AT_ONCE = 64  # enqueued by their maker
_USERS = 100
_MOST_SECONDS = 120
_QUEUE = "arq:bare"


class Noop:
    """Of one item, which is done at once."""

    name = "noop"

    async def run(self, run: TaskRun) -> None:
        await run.deliver(ItemResult(0, data={}))

    async def find(self, task: Task, index: int) -> ItemResult | None:
        return None

    async def clear(self, task: Task) -> None:
        return None


async def ours_per_second(environment: Mapping[str, str], count: int) -> float:
    """Tasks a second, from the first that is submitted to the last that is closed, beside a worker that runs."""
    async with open_container(load_settings(environment), Metrics(), [Noop()]) as container:

        async def one(number: int) -> None:
            user_id = f"usr_{number % _USERS}"
            await container.tasks.create(TaskRequest(new_id("task"), user_id, Noop.name, {}, total=1))

        async def left() -> int:
            asked = select(func.count()).select_from(tasks).where(tasks.c.closed_at.is_(None))
            return await container.database.read(lambda connection: connection.execute(asked).scalar_one())

        await _all_of(one, left, _AT_ONCE)  # what is done for the first time
        return await _per_second(one, left, count)


async def arq_per_second(redis_url: str, count: int) -> float:
    """The same of bare jobs."""
    async with _arq_redis(redis_url) as redis:

        async def one(number: int) -> None:
            await redis.enqueue_job("noop", number, _queue_name=_QUEUE)

        async def left() -> int:
            return int(await redis.zcard(_QUEUE))

        await _all_of(one, left, _AT_ONCE)
        return await _per_second(one, left, count)


async def _per_second(one: Callable[[int], Awaitable[None]], left: Callable[[], Awaitable[int]], count: int) -> float:
    begun = time.perf_counter()
    await _all_of(one, left, count)
    return count / (time.perf_counter() - begun)


async def _all_of(one: Callable[[int], Awaitable[None]], left: Callable[[], Awaitable[int]], count: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await one(number)

    async def all_done() -> bool:
        return not await left()

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    if not await eventually(all_done, _MOST_SECONDS):
        raise RuntimeError(f"{await left()} of {count} are left")


async def _work_as_ours() -> None:
    settings = load_settings()
    configure_logging(settings)
    async with open_container(settings, Metrics(), [Noop()]) as container:
        await work(container)


async def _noop(ctx: dict[str, Any], number: int) -> None:
    return None


async def _work_as_arq() -> None:
    worker = Worker(
        functions=[arq_function(_noop, name="noop")],
        queue_name=_QUEUE,
        redis_pool=_arq_redis(os.environ["REDIS_URL"]),
        max_jobs=TASKS_AT_ONCE,
        poll_delay=POLL_SECONDS,
        keep_result=0,
        log_results=False,
    )
    with suppress(asyncio.CancelledError):  # it was told to stop
        await worker.async_run()


def _arq_redis(url: str) -> ArqRedis:
    return ArqRedis(open_pool(SecretStr(url), decode_responses=False))


if __name__ == "__main__":
    uvloop.run({"ours": _work_as_ours, "arq": _work_as_arq}[sys.argv[1]]())
