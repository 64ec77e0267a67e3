"""What goes of tasks by itself: those of guests after their time, and references of tasks that never came to be."""

import contextlib

from core.clients.database import Database
from core.clock import DAY_MS, now_ms
from core.errors import AppError, NotFound
from core.logging import get_logger
from core.metrics import Metrics
from services.tasks import store
from services.tasks.errors import WrongState
from services.tasks.references import TaskReferences
from services.tasks.service import TaskService

# So many a run, four times a minute.
PAGE = 200
# For so long a request with the same Idempotency-Key may still come and find what its first try has stored.
ORPHANED_MS = 2 * DAY_MS

log = get_logger(__name__)


class TaskRetention:
    def __init__(self, database: Database, service: TaskService, references: TaskReferences, metrics: Metrics) -> None:
        self._database = database
        self._service = service
        self._references = references
        self._metrics = metrics

    async def forget_expired(self) -> int:
        """Forget some tasks of guests whose time is over, once they have ended; answers how many.

        What storage or the database has against it is for the next time.
        """
        due, forgotten = store.expired(now_ms()), 0
        try:
            for task in await self._database.read(lambda connection: store.find(connection, due, PAGE)):
                with contextlib.suppress(NotFound, WrongState):  # its user was quicker, to forget it or to try it again
                    await self._service.forget(task.user_id, task.id)
                    forgotten += 1
        except AppError as error:
            log.warning("tasks of guests are forgotten later", reason=str(error))
        if forgotten:
            self._metrics.swept.labels("task_expired").inc(forgotten)
            log.info("tasks of guests forgotten", count=forgotten)
        return forgotten

    async def clear_orphans(self) -> int:
        """Remove references that are older than two days and whose task does not exist: its acceptance broke off.

        Answers how many. What storage or the database has against it is for the next time.
        """
        removed = 0
        page: list[tuple[str, str]] = []
        try:
            async for found in self._references.stored_before(now_ms() - ORPHANED_MS):
                page.append(found)
                if len(page) == PAGE:
                    removed += await self._remove_orphans(page)
                    page = []
            removed += await self._remove_orphans(page)
        except AppError as error:
            log.warning("references without a task are removed later", reason=str(error))
        return removed

    async def _remove_orphans(self, page: list[tuple[str, str]]) -> int:
        known = await self._service.closed_among({task_id for task_id, _ in page})
        orphans = [key for task_id, key in page if task_id not in known]
        if orphans:
            await self._references.discard(orphans)
            self._metrics.swept.labels("task_orphaned_reference").inc(len(orphans))
            log.info("references without a task removed", count=len(orphans))
        return len(orphans)
