"""Tasks as operators know them: how many wait and run, and why some have failed.

The numbers are asked of the database and of the queue, so that they are the same whichever process answers, and cost a
look into indices that hold what is open alone.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy import Connection, case, func, select

from core.clients.database import Database
from core.clock import Milliseconds, now_ms
from core.errors import AppError
from core.logging import get_logger
from core.metrics import Measured
from core.paging import Page
from services.tasks import store
from services.tasks.models import Task, TaskFilter
from services.tasks.queue import TaskQueue
from services.tasks.store import tasks

FAILED_WITHIN_MS = 3600 * 1000
# Whoever asks more often is told the same.
LOAD_KEPT_SECONDS = 1.0

log = get_logger(__name__)


@dataclass(frozen=True)
class Standing:
    """Tasks that are in one state now, and for how long the oldest has been in it; 0 without any."""

    count: int
    oldest_seconds: float

    @classmethod
    def since(cls, count: int, oldest: Milliseconds | None, now: Milliseconds) -> "Standing":
        return cls(count, 0.0 if oldest is None else max(0, now - oldest) / 1000)


@dataclass(frozen=True)
class TaskLoad:
    """Of all users. `queued` may run and wait for a worker, `waiting` for their user's turn; `failed` by the code of
    the error, within the last hour.
    """

    queued: Standing
    waiting: Standing
    running: Standing
    failed: Mapping[str, int]


class TaskOperations:
    def __init__(self, database: Database, queue: TaskQueue) -> None:
        self._database = database
        self._queue = queue
        self._asking = asyncio.Lock()
        self._known: TaskLoad | None = None
        self._known_until = 0.0

    async def load(self) -> TaskLoad:
        """At most a second old. Raises DependencyUnavailable."""
        async with self._asking:
            if self._known is None or time.monotonic() > self._known_until:
                now = now_ms()
                self._known = await self._database.read(lambda connection: load(connection, now))
                self._known_until = time.monotonic() + LOAD_KEPT_SECONDS
            return self._known

    async def measure(self) -> list[Measured]:
        """For a scrape; what is away now is left out of it."""
        measured: list[Measured] = []
        try:
            measured += _measured(await self.load())
            depth = await self._queue.depth()
        except (AppError, RedisError) as error:
            log.warning("tasks not measured", reason=str(error))
        else:
            measured.append(Measured("tasks_queue_depth", "Tickets in Redis that wait for a worker", {"": depth}))
        return measured

    async def page(self, where: TaskFilter, limit: int, offset: int) -> Page[Task]:
        """Anybody's, the newest first."""
        items, total = await self._database.read(lambda connection: store.page(connection, where, limit, offset))
        return Page(items, total, limit, offset)


def load(connection: Connection, now: Milliseconds) -> TaskLoad:
    queued_at, held_since = tasks.c.queued_at, case((tasks.c.queued_at.is_(None), tasks.c.created_at))
    pending, queued, oldest_queued, oldest_held = connection.execute(
        select(func.count(), func.count(queued_at), func.min(queued_at), func.min(held_since)).where(store.waiting)
    ).one()
    running, oldest_running = connection.execute(
        select(func.count(), func.min(tasks.c.started_at)).where(store.running)
    ).one()
    failed = connection.execute(
        select(tasks.c.error_code, func.count())
        .where(store.failed, tasks.c.completed_at > now - FAILED_WITHIN_MS)
        .group_by(tasks.c.error_code)
    )
    return TaskLoad(
        queued=Standing.since(queued, oldest_queued, now),
        waiting=Standing.since(pending - queued, oldest_held, now),
        running=Standing.since(running, oldest_running, now),
        failed={str(code): count for code, count in failed},
    )


def _measured(found: TaskLoad) -> list[Measured]:
    states = {"queued": found.queued, "waiting": found.waiting, "running": found.running}
    return [
        Measured(
            "tasks_open",
            "Tasks that wait for a worker (queued), for their user's turn (waiting), or run",
            {state: standing.count for state, standing in states.items()},
            label="state",
        ),
        Measured(
            "tasks_oldest_seconds",
            "For how long the oldest of them has been so",
            {state: standing.oldest_seconds for state, standing in states.items()},
            label="state",
        ),
        Measured("tasks_failed_last_hour", "Tasks that failed within an hour", found.failed, label="reason"),
    ]
