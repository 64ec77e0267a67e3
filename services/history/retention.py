"""The retention run: the one place from which images go by themselves, and where what a deletion began is finished.

It works through a page at a time: some images are marked as taken, from where nothing brings them back, then they are
removed. So it may die anywhere, and the next run first removes what this one had taken and then goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from core.clients.database import Database
from core.clients.lease import LEASE_SECONDS, Lease
from core.clients.redis import RedisKey
from core.clock import DAY_MS, Milliseconds, now_ms
from core.errors import AppError
from core.failpoints import FailPoints
from core.logging import get_logger
from core.metrics import Metrics
from core.setting_groups import StorageSettings
from services.history import due, trash
from services.history.clearing import Clearings
from services.history.removal import REMOVE_BATCH, Removal, Remover
from services.history.trash import Doomed

LOCK = RedisKey("lock:retention", "the worker that does the retention run, renewed while it does", LEASE_SECONDS)
GB = 1_000_000_000

Reason = Literal["unfinished", "trash", "unlisted", "guests", "days", "cap"]
Take = Callable[..., list[Doomed]]

log = get_logger(__name__)


@dataclass
class RetentionReport:
    """`removed` by reason; unfinished: what a request or an earlier run had taken. `failure`: why it ended early."""

    removed: dict[Reason, Removal] = field(default_factory=dict)
    failure: str = ""

    @property
    def total(self) -> Removal:
        return sum(self.removed.values(), Removal())


class Retention:
    def __init__(
        self,
        database: Database,
        remover: Remover,
        clearings: Clearings,
        lease: Lease,
        settings: StorageSettings,
        metrics: Metrics,
        fail_points: FailPoints,
    ) -> None:
        self._database = database
        self._remover = remover
        self._clearings = clearings
        self._lease = lease
        self._settings = settings
        self._metrics = metrics
        self._fail_points = fail_points

    async def run(self) -> RetentionReport | None:
        """Remove whatever is due now. None: another process is at it.

        Raises RedisError. What storage or the database has against it ends the run, and is for the next one.
        """
        async with self._lease.held() as alone:
            if not alone:
                self._metrics.retention_runs.labels("skipped").inc()
                return None
            report, started, outcome = RetentionReport(), time.monotonic(), "stopped"
            try:
                await self._work(report)
                outcome = "done"
            except AppError as error:
                report.failure, outcome = str(error), "failed"
            finally:
                self._tell(report, outcome, time.monotonic() - started)
            return report

    async def _work(self, report: RetentionReport) -> None:
        settings, now = self._settings, now_ms()
        await self._clearings.carry_out_noted()
        await self._finish(report)
        trashed_before: Milliseconds = now - settings.trash_minutes * 60_000
        await self._remove_all(report, "trash", partial(due.take_trashed, before=trashed_before))
        await self._remove_all(report, "unlisted", partial(due.take_expired, now=now, listed=False))
        await self._remove_all(report, "guests", partial(due.take_expired, now=now, listed=True))
        if settings.max_history_days:
            oldest = now - settings.max_history_days * DAY_MS
            await self._remove_all(report, "days", partial(due.take_older, before=oldest))
        if settings.max_storage_gb:
            await self._keep_to(report, round(settings.max_storage_gb * GB))

    async def _finish(self, report: RetentionReport) -> None:
        """Go through what is taken already once, whether it can be removed or not."""
        after = ""
        while some := await self._database.read(partial(trash.taken, after=after, limit=REMOVE_BATCH)):
            await self._remove(report, "unfinished", some)
            after = some[-1].id

    async def _keep_to(self, report: RetentionReport, cap: int) -> None:
        stored = await self._database.read(due.stored_bytes)
        if stored > cap:
            await self._remove_all(report, "cap", partial(due.take_over_cap, cap=cap))
            stored = await self._database.read(due.stored_bytes)
        self._metrics.stored_bytes.set(stored)

    async def _remove_all(self, report: RetentionReport, reason: Reason, take: Take) -> None:
        while some := await self._database.write(partial(take, limit=REMOVE_BATCH)):
            self._fail_points.reach("due_taken")
            await self._remove(report, reason, some)

    async def _remove(self, report: RetentionReport, reason: Reason, some: list[Doomed]) -> None:
        removal = await self._remover.remove(some)
        report.removed[reason] = report.removed.get(reason, Removal()) + removal
        self._metrics.retention_images.labels(reason).inc(removal.images)
        self._metrics.retention_bytes.labels(reason).inc(removal.bytes)

    def _tell(self, report: RetentionReport, outcome: str, seconds: float) -> None:
        """Of a run that had nothing to do only the metric tells, and the log at its finest."""
        self._metrics.retention_runs.labels(outcome).inc()
        total = report.total
        facts: dict[str, str | int | float] = {"outcome": outcome, "seconds": round(seconds, 2)}
        facts |= {"images": total.images, "bytes": total.bytes, "left": total.left}
        facts |= {reason: f"{part.images} images, {part.bytes} bytes" for reason, part in report.removed.items()}
        if report.failure:
            facts["failure"] = report.failure
        if outcome != "done" or total.left:
            log.warning("retention run", **facts)
        else:
            (log.info if total.images else log.debug)("retention run", **facts)
