"""The part of the worker that runs tasks: what arq hands over, the leases, the sweep, the webhooks, and an end without
loss.
"""

import asyncio
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Retry, Worker, func

from core.clients.redis import open_pool
from services.container import Container
from services.tasks.queue import JOB, QUEUE_NAME
from services.tasks.runner import TaskRunner

# Tasks wait for providers, so a worker can have many; each batch may make BATCH_CONCURRENCY images at once.
TASKS_AT_ONCE = 64
POLL_SECONDS = 0.1
SWEEP_SECONDS = 5.0
FINISH_SECONDS = 20.0
LAST_WORDS_SECONDS = 3.0
# arq's own limit; a task's is kept by the runner.
NO_LIMIT_SECONDS = 7 * 24 * 3600


async def run_task(ctx: dict[str, Any], task_id: str) -> None:
    runner: TaskRunner = ctx["runner"]
    if runner.is_stopping:
        raise Retry  # arq goes through all that it has read of the queue; the ticket is another worker's
    await runner.run(task_id)


class TaskWorker:
    """`redis_seconds`: how long Redis may take for an answer."""

    def __init__(self, container: Container, redis_seconds: float) -> None:
        url = container.settings.redis.redis_url
        assert url is not None, "open_container has checked it"
        self._runner = container.task_runner
        self._sweep = container.task_sweep
        self._courier = container.webhook_courier
        self._worker = Worker(
            functions=[func(run_task, name=JOB)],
            queue_name=QUEUE_NAME,
            redis_pool=ArqRedis(open_pool(url, decode_responses=False, timeout_seconds=redis_seconds)),
            ctx={"runner": self._runner},
            handle_signals=False,
            max_jobs=TASKS_AT_ONCE,
            job_timeout=NO_LIMIT_SECONDS,
            poll_delay=POLL_SECONDS,
            keep_result=0,
            log_results=False,
        )
        self._loops: list[asyncio.Task[None]] = []
        self._delivering: list[asyncio.Task[None]] = []

    def start(self) -> list[asyncio.Task[None]]:
        """What goes on until `stop`; the first of these fails with redis.exceptions.RedisError when Redis is away."""
        self._loops = [asyncio.create_task(self._runner.keep_leases()), asyncio.create_task(self._sweep_for_ever())]
        self._delivering = [asyncio.create_task(self._courier.run())]
        return [asyncio.create_task(self._worker.async_run()), *self._loops, *self._delivering]

    async def stop(self) -> None:
        """Take no new tasks, let those that run end, and hand back what takes longer."""
        self._worker.allow_pick_jobs = False
        # Whoever is told of an end that is still to come is told by another worker, or the next one.
        await _cancelled(self._delivering)
        # Their leases go on being kept meanwhile, whatever has become of Redis.
        await asyncio.gather(self._runner.stop(FINISH_SECONDS), self._courier.stop(FINISH_SECONDS))
        await _cancelled(self._loops)
        if self._worker.tasks:
            # arq still has to tell Redis that these jobs are over.
            await asyncio.wait(self._worker.tasks.values(), timeout=LAST_WORDS_SECONDS)
        await self._worker.close()

    async def _sweep_for_ever(self) -> None:
        while True:
            await self._sweep.sweep()
            await asyncio.sleep(SWEEP_SECONDS)


async def _cancelled(loops: list[asyncio.Task[None]]) -> None:
    for loop in loops:
        loop.cancel()
    if loops:
        await asyncio.wait(loops)
