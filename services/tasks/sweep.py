"""The sweep: it finds the tasks that a dead worker, a lost queue or a broken-off end has left, and sees to them.

Every worker does it every few seconds; who comes second finds nothing to do, since each step is a compare-and-set.
"""

from functools import partial

from redis.exceptions import RedisError

from core.clients.database import Database
from core.clock import Milliseconds, now_ms
from core.errors import AppError
from core.logging import get_logger
from core.metrics import Metrics
from services.quota.task_quota import TaskQuota
from services.tasks import store, transitions
from services.tasks.ends import TaskEnds, failed
from services.tasks.errors import TaskAbandoned, TaskTimeout
from services.tasks.models import Ending, Task
from services.tasks.queue import TaskQueue
from services.tasks.references import KEPT_MS

MOST_DEATHS = 10
# What is younger is most likely being done just now by whoever began it.
PATIENCE_MS = 5_000
TICKET_MS = 10_000
PAGE = 200

log = get_logger(__name__)


class TaskSweep:
    """`worker_id`: in whose name tasks are taken over. `share`: see TaskEnds."""

    def __init__(
        self,
        database: Database,
        queue: TaskQueue,
        ends: TaskEnds,
        quota: TaskQuota,
        metrics: Metrics,
        *,
        worker_id: str,
        share: int,
    ) -> None:
        self._database = database
        self._queue = queue
        self._ends = ends
        self._quota = quota
        self._metrics = metrics
        # Not the name of the runner beside it, which may be the one that let the lease run out.
        self._worker_id = f"{worker_id}:sweep"
        self._share = share

    async def sweep(self) -> None:
        """Once over everything; a part that cannot be done now does not keep the others from theirs."""
        for part in (
            self._take_over_what_has_no_worker,
            self._close_what_has_ended,
            self._let_the_next_ones_run,
            self._queue_again_what_the_queue_lost,
            self._tear_up_tickets_that_lead_nowhere,
            self._remove_old_references,
            self._quota.restore,
        ):
            try:
                await part()
            except (AppError, RedisError) as error:
                log.warning("sweep of tasks broken off", part=part.__name__, reason=str(error))

    async def _take_over_what_has_no_worker(self) -> None:
        now = now_ms()
        expired = store.running & (store.tasks.c.lease_until < now)
        for task in await self._database.read(lambda connection: store.find(connection, expired, PAGE)):
            taken = await self._database.write(
                partial(transitions.take_over, task=task, worker=self._worker_id, now=now_ms())
            )
            if taken is not None:
                # Under the old ticket stands that a worker has it.
                await self._queue.forget([task.ticket])
                await self._go_on_with(taken, now)

    async def _go_on_with(self, task: Task, now: Milliseconds) -> None:
        if task.cancel_requested_at is not None:
            action, ending = "cancelled", Ending("cancelled", await self._ends.broken_off(task, task.results))
        elif task.deaths >= MOST_DEATHS:
            results = await self._ends.broken_off(task, task.results)
            action, ending = "abandoned", failed(task, results, TaskAbandoned(task.deaths))
        elif task.deadline < now:
            results = await self._ends.broken_off(task, task.results)
            action, ending = "timed_out", failed(task, results, TaskTimeout(task.time_limit_ms // 1000))
        else:
            pending = await self._database.write(partial(transitions.hand_back, task=task, now=now_ms()))
            if pending is not None:
                await self._queue.enqueue([pending])
            self._told("taken_back", task)
            return
        await self._ends.end(task, ending)
        self._told(action, task)

    async def _close_what_has_ended(self) -> None:
        left = store.to_close & (store.tasks.c.completed_at < now_ms() - PATIENCE_MS)
        for task in await self._database.read(lambda connection: store.find(connection, left, PAGE)):
            if await self._ends.close(task):
                self._told("closed", task)

    async def _let_the_next_ones_run(self) -> None:
        for user_id in await self._database.read(store.users_waiting):
            promoted = await self._database.write(
                partial(transitions.promote, user_id=user_id, now=now_ms(), share=self._share)
            )
            await self._queue.enqueue(promoted)

    async def _queue_again_what_the_queue_lost(self) -> None:
        old = store.waiting & (store.tasks.c.queued_at < now_ms() - TICKET_MS)
        waiting = await self._database.read(lambda connection: store.find(connection, old, PAGE))
        for task in await self._queue.lost(waiting):
            again = await self._database.write(partial(transitions.requeue, task=task, now=now_ms()))
            if again is not None:
                await self._queue.enqueue([again])
                self._told("queued_again", task)

    async def _tear_up_tickets_that_lead_nowhere(self) -> None:
        tickets = await self._queue.oldest(TICKET_MS, PAGE)
        alive = await self._database.read(lambda connection: store.alive(connection, tickets))
        await self._queue.forget([ticket for ticket in tickets if ticket not in alive])

    async def _remove_old_references(self) -> None:
        old = store.with_references & (store.tasks.c.completed_at < now_ms() - KEPT_MS - TICKET_MS)
        for task in await self._database.read(lambda connection: store.find(connection, old, PAGE)):
            await self._ends.remove_references(task)

    def _told(self, action: str, task: Task) -> None:
        self._metrics.swept.labels(f"task_{action}").inc()
        log.info("task swept", task_id=task.id, action=action, deaths=task.deaths)
