"""How a task ends: one transaction, then all that follows from it, which is done again until it was done whole."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from redis.exceptions import RedisError
from sqlalchemy import Connection

from core.clients.database import Database
from core.clients.together import Together
from core.clock import now_ms
from core.errors import AppError
from core.failpoints import FailPoints
from core.logging import get_logger
from core.metrics import Metrics
from services.quota.errors import HoldGone
from services.quota.task_quota import TaskQuota
from services.tasks import store, transitions
from services.tasks.events import TaskEvents
from services.tasks.kinds import TaskKind
from services.tasks.models import Ending, ItemResult, Task, TaskError
from services.tasks.queue import TaskQueue
from services.tasks.references import TaskReferences

# A task that has ended, and those that may run now.
_Ended = tuple[Task, list[Task]]

log = get_logger(__name__)


class TaskEnds:
    """`share`: how many tasks of one user may run or be queued at once."""

    def __init__(
        self,
        database: Database,
        queue: TaskQueue,
        events: TaskEvents,
        quota: TaskQuota,
        kinds: Mapping[str, TaskKind],
        references: TaskReferences,
        metrics: Metrics,
        fail_points: FailPoints,
        share: int,
    ) -> None:
        self._database = database
        self._queue = queue
        self._events = events
        self._quota = quota
        self._kinds = kinds
        self._references = references
        self._metrics = metrics
        self._fail_points = fail_points
        self._share = share
        self._endings = Together(database, self._end_all)
        self._closings = Together(database, _close_all)

    async def end(self, task: Task, ending: Ending) -> Task | None:
        """End the round of a task from the start that `task` is of. None: somebody else did, or it goes on elsewhere.

        Raises DependencyUnavailable, and then nobody knows.
        """
        found = await self._endings.write((task, ending))
        if found is None:
            return None
        ended, promoted = found
        self._fail_points.reach("task_ended")
        reason = "" if ended.error is None else ended.error.code
        self._metrics.tasks_ended.labels(ended.kind, ended.status, reason).inc()
        log.info("task ended", task_id=ended.id, kind=ended.kind, status=ended.status, reason=reason)
        await self._queue.enqueue(promoted)
        await self.close(ended)
        return ended

    async def close(self, task: Task) -> bool:
        """Do what follows an end; safe to repeat. False: something is away, and the sweep does it again."""
        event = task.event()
        assert event is not None, "it has ended"
        try:
            await self._events.end_once(task.id, task.round, event)
            if task.reservation is not None:
                await self._quota.settle(task.reservation)
            await self._kinds[task.kind].clear(task)
            if task.status == "completed":
                await self._references.remove(task.id, task.reference_count)
            await self._closings.write(task)
        except (AppError, RedisError) as error:
            log.warning("task is closed later", task_id=task.id, reason=str(error))
            return False
        return True

    async def remove_references(self, task: Task) -> None:
        """Of a task that will not be tried again."""
        await self._references.remove(task.id, task.reference_count)
        await self._database.write(lambda connection: store.without_references(connection, task.id))

    async def broken_off(self, task: Task, results: Iterable[ItemResult]) -> tuple[ItemResult, ...]:
        """The results of a run that did not come to its end, with what it has made without delivering it."""
        known = {result.index: result for result in results if result.is_done}
        for index in range(task.total):
            if index not in known:
                with contextlib.suppress(HoldGone):  # somebody else ends it
                    found = await self._kinds[task.kind].find(task, index)
                    if found is not None:
                        known[index] = found
        return tuple(known[index] for index in sorted(known))

    def _end_all(self, connection: Connection, items: Sequence[tuple[Task, Ending]]) -> list[_Ended | None]:
        now, answers = now_ms(), dict[int, _Ended | None]()
        # Users have their turns in one order everywhere, so that no two transactions wait for each other.
        for index in sorted(range(len(items)), key=lambda index: items[index][0].user_id):
            task, ending = items[index]
            answers[index] = transitions.end(connection, task, ending, now, self._share)
        return [answers[index] for index in range(len(items))]


def _close_all(connection: Connection, items: Sequence[Task]) -> list[None]:
    store.close(connection, items, now_ms())
    return [None] * len(items)


def finished(results: tuple[ItemResult, ...]) -> Ending:
    """Of a run that came to its end: it is completed if anything was made; each result says of itself."""
    if any(result.is_done for result in results):
        return Ending("completed", results)
    error = next((result.error for result in results), None)
    return Ending("failed", results, error)


def failed(task: Task, results: tuple[ItemResult, ...], error: AppError) -> Ending:
    """Of a run that could not go on: what it made counts, all else has failed for this reason."""
    why = TaskError.of(error)
    known = {result.index: result for result in results}
    whole = tuple(known.get(index) or ItemResult(index, error=why) for index in range(task.total))
    return finished(whole)
