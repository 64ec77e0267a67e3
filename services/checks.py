"""What the health report looks at."""

import time

from arq.constants import default_queue_name, health_check_key_suffix
from redis.asyncio import Redis
from sqlalchemy import text

from core.clients.database import Database
from core.errors import DependencyUnavailable
from services.health import Component, Details
from services.providers.service import ProviderService
from services.storage.base import Storage
from services.tasks.operations import TaskLoad, TaskOperations

PROVIDER_KEPT_SECONDS = 60.0
STORAGE_KEPT_SECONDS = 5.0
# The worker starts when the API answers, so as not to take the processor from it.
WORKER_START_SECONDS = 15.0


def components(
    redis: Redis,
    database: Database,
    storage: Storage,
    providers: ProviderService,
    tasks: TaskOperations,
    *,
    worker_start_seconds: float = WORKER_START_SECONDS,
) -> list[Component]:
    """The parts by the names of SPEC section 10. A worker that is missing counts after `worker_start_seconds`."""
    opened = time.monotonic()

    async def check_redis() -> Details:
        await redis.ping()
        return {}

    async def check_database() -> Details:
        await database.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
        return {}

    async def check_storage() -> Details:
        await storage.check()
        return {"backend": storage.backend}

    async def check_worker() -> Details:
        if await redis.get(default_queue_name + health_check_key_suffix) is not None:
            return {}
        if time.monotonic() - opened < worker_start_seconds:
            return {"starting": True}
        raise DependencyUnavailable("worker", "no sign of life of a worker")

    async def check_tasks() -> Details:
        return details_of(await tasks.load())

    async def check_gemini() -> Details:
        return await providers.probe("gemini")

    return [
        Component("redis", check_redis, vital=True),
        Component("database", check_database, vital=True),
        Component("r2_storage", check_storage, vital=True, kept_seconds=STORAGE_KEPT_SECONDS),
        Component("worker", check_worker, vital=False),
        Component("tasks", check_tasks, vital=False, in_overall=False),
        Component("gemini_api", check_gemini, vital=False, kept_seconds=PROVIDER_KEPT_SECONDS, in_overall=False),
    ]


def details_of(load: TaskLoad) -> Details:
    """What the report says of tasks."""
    return {
        "queued": load.queued.count,
        "oldest_queued_seconds": load.queued.oldest_seconds,
        "waiting": load.waiting.count,
        "oldest_waiting_seconds": load.waiting.oldest_seconds,
        "running": load.running.count,
        "oldest_running_seconds": load.running.oldest_seconds,
        "failed_last_hour": dict(load.failed),
    }
