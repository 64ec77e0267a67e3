"""What a worker does with a task: start it, keep its lease, run it, stop it, end it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import SecretStr
from sqlalchemy import Connection

from core.clients.database import Database
from core.clients.redis_channels import RedisChannels
from core.clients.together import Together
from core.clock import now_ms
from core.errors import AppError, DependencyUnavailable, InternalError
from core.failpoints import FailPoints
from core.ids import new_id
from core.logging import get_logger
from core.security import Vault
from services.providers.errors import InvalidApiKey
from services.quota.errors import HoldGone
from services.tasks import transitions
from services.tasks.ends import TaskEnds, failed, finished
from services.tasks.errors import TaskLost, TaskTimeout
from services.tasks.events import TaskEvent, TaskEvents
from services.tasks.kinds import TaskKind, TaskRun
from services.tasks.models import Ending, ItemResult, Task
from services.tasks.queue import CANCELS, TaskQueue

RENEW_SECONDS = 5.0

# Why a run is broken off: its user wants that, another worker has it by now, this one stops, its time is over.
Reason = Literal["cancelled", "lost", "stopping", "time"]

log = get_logger(__name__)


@dataclass
class _Running:
    task: Task
    run: TaskRun
    work: asyncio.Task[None]
    broken_off: Reason | None = None
    sent: frozenset[int] = frozenset()

    def break_off(self, reason: Reason) -> None:
        """Only for the first reason: what is being broken off has to clean up behind itself."""
        if self.broken_off is None and not self.work.done():
            self.broken_off, self.sent = reason, self.run.sent
            self.work.cancel()


class TaskRunner:
    def __init__(
        self,
        database: Database,
        queue: TaskQueue,
        channels: RedisChannels,
        events: TaskEvents,
        ends: TaskEnds,
        kinds: Mapping[str, TaskKind],
        vault: Vault,
        fail_points: FailPoints,
    ) -> None:
        self.worker_id = new_id("wrk")
        self.is_stopping = False
        self._database = database
        self._queue = queue
        self._channels = channels
        self._events = events
        self._ends = ends
        self._kinds = kinds
        self._vault = vault
        self._fail_points = fail_points
        self._starts = Together(database, self._start_all)
        self._running: dict[str, _Running] = {}
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, task_id: str) -> None:
        """Run a task that waits, and return when it has ended, was handed back, or is another worker's."""
        self._under_way += 1
        self._idle.clear()
        try:
            task = await self._starts.write(task_id)
            if task is not None:
                await self._run_started(task)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _run_started(self, task: Task) -> None:
        self._fail_points.reach("task_started")
        await self._queue.started(task)
        run = TaskRun(task, self._own_key(task), partial(self._deliver, task))
        running = _Running(task, run, asyncio.create_task(self._work(run)))
        self._running[task.id] = running
        try:
            await self._to_its_end(running)
        except AppError as error:
            # Something is away that its end needs: the lease runs out, and whoever takes it over goes on.
            log.warning("task is left to the sweep", task_id=task.id, reason=str(error))
        finally:
            del self._running[task.id]

    async def keep_leases(self) -> None:
        """For ever: renew what runs here, and break off what is to be cancelled or is another's by now."""
        with self._channels.listening(CANCELS) as bell:
            while True:
                bell.clear()
                try:
                    await self._renew()
                except DependencyUnavailable as error:
                    log.warning("leases not renewed", reason=str(error))
                try:
                    async with asyncio.timeout(RENEW_SECONDS):
                        await bell.wait()
                except TimeoutError:
                    continue

    async def stop(self, seconds: float) -> None:
        """Wait for what runs, and hand back what takes longer. Nothing new is to be run from now on."""
        self.is_stopping = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            for running in list(self._running.values()):
                running.break_off("stopping")
            await self._idle.wait()

    async def _renew(self) -> None:
        mine = dict(self._running)
        if not mine:
            return
        now = now_ms()
        kept = await self._database.write(lambda connection: transitions.renew(connection, mine, self.worker_id, now))
        for task_id, running in mine.items():
            attempts, cancelled = kept.get(task_id, (0, False))
            if attempts != running.task.attempts:
                running.break_off("lost")
            elif cancelled:
                running.break_off("cancelled")

    def _start_all(self, connection: Connection, items: Sequence[str]) -> list[Task | None]:
        started = {task.id: task for task in transitions.start(connection, items, self.worker_id, now_ms())}
        # Of an id that comes twice the first has it.
        return [started.pop(task_id, None) for task_id in items]

    async def _work(self, run: TaskRun) -> None:
        task = run.task
        await self._events.emit(task.id, TaskEvent("started", task.progress, "started", data={"total": task.total}))
        if task.own_key is not None and run.own_key is None:
            raise InvalidApiKey("the key was sealed with a SECRET_KEY that is gone")
        await self._kinds[task.kind].run(run)

    async def _to_its_end(self, running: _Running) -> None:
        task, work = running.task, running.work
        await asyncio.wait([work], timeout=max(0.0, (task.deadline - now_ms()) / 1000))
        running.break_off("time")
        await asyncio.wait([work])
        if running.broken_off == "lost":
            log.warning("task is another worker's by now", task_id=task.id)
        elif running.broken_off == "stopping" and work.cancelled():
            await self._hand_back(task)
        elif (ending := await self._ending(running)) is not None:
            await self._ends.end(task, ending)

    async def _ending(self, running: _Running) -> Ending | None:
        task, results = running.task, running.run.results
        if running.work.cancelled():
            if running.broken_off is None:
                return None  # the process is being torn down
            found = await self._ends.broken_off(task, results)
            if running.broken_off == "time":
                return failed(task, found, TaskTimeout(task.time_limit_ms // 1000))
            made = {result.index for result in found}
            return Ending("cancelled", found, dropped=len(running.sent - made))
        match running.work.exception():
            case None:
                return finished(results)
            case TaskLost() | HoldGone():
                log.warning("task was ended by somebody else", task_id=task.id)
                return None
            case DependencyUnavailable() as error:
                raise error
            case AppError() as error:
                return failed(task, results, error)
            case error:
                log.error("task failed by a defect", task_id=task.id, exc_info=error)
                return failed(task, results, InternalError())

    async def _hand_back(self, task: Task) -> None:
        now = now_ms()
        pending = await self._database.write(lambda connection: transitions.hand_back(connection, task, now))
        if pending is not None:
            log.info("task handed back", task_id=task.id)
            await self._queue.enqueue([pending])

    async def _deliver(self, task: Task, results: tuple[ItemResult, ...], percent: int, message: str) -> None:
        if not await self._database.write(lambda connection: transitions.deliver(connection, task, results, percent)):
            raise TaskLost(task.id)
        self._fail_points.reach("item_delivered")
        data = {"completed": sum(result.is_done for result in results), "total": task.total}
        await self._events.emit(task.id, TaskEvent("progress", percent, message, data=data))

    def _own_key(self, task: Task) -> SecretStr | None:
        return None if task.own_key is None else self._vault.open(task.own_key, vault_context(task.id))


def vault_context(task_id: str) -> str:
    """For what is encrypted on a task's row."""
    return f"task:{task_id}"
