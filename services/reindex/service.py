"""Index and ledger from storage alone: for a database that is lost, and for what crashes left that nobody knows of.

It may run beside the service, and again at any time. What is in the index stays as it is; an image is entered with its
charge in one transaction; what a call, a task, the sweep or a deletion is at work on is left to them.
"""

import re
from collections.abc import AsyncIterator, Sequence
from functools import partial

from core.clock import Milliseconds, now_ms, utc_day
from services.generation.recovery import Recovery
from services.history.service import HistoryService
from services.quota.service import QuotaService
from services.reindex.entering import Entering
from services.reindex.listing import batches, by_stem, side_by_side
from services.reindex.models import Found, Report, Run
from services.reindex.reading import read_alone, read_recorded
from services.storage.base import ObjectInfo, Storage
from services.tasks.service import TaskService

# What says more of an account comes first: of images that go by themselves anybody may be the owner.
FOLDERS = ("users/", "unlisted/")
LEGACY_YEARS = "2"  # 2025 and the like, in which the old app kept what it made without users
LEGACY_INDEX = "/history.json"
_LEGACY_KEY = re.compile(r"\d{4}/\d\d/\d\d/", re.ASCII)
BATCH = 200


class Reindexer:
    """`call_lifetime_seconds`: after that the sweep takes a call's reservation for dead."""

    def __init__(
        self,
        storage: Storage,
        history: HistoryService,
        quota: QuotaService,
        recovery: Recovery,
        entering: Entering,
        tasks: TaskService,
        *,
        call_lifetime_seconds: float,
    ) -> None:
        self._storage = storage
        self._history = history
        self._quota = quota
        self._recovery = recovery
        self._entering = entering
        self._tasks = tasks
        self._lifetime_ms = int(call_lifetime_seconds * 1000)

    async def run(self, report: Report, *, dry_run: bool) -> None:
        """Enter what is missing; `dry_run`: only find out what that is.

        Raises StorageUnavailable, DependencyUnavailable or RedisError when a part is away. What was entered until then
        stays, and the next run goes on from there.
        """
        run = Run(report, await self.settled(), dry_run)
        while not dry_run and await self._recovery.sweep():
            pass
        without_record = 0
        async for batch in self._batches():
            without_record += await self._enter_recorded(batch, run)
        async for batch in batches(by_stem(self._legacy()), BATCH):
            report.legacy_images += await self._enter_recorded(batch, run)
        # Afterwards, since records alone say by which id an owner is known.
        if without_record:
            async for batch in self._batches():
                await self._enter_others(batch, run)
        if not dry_run:
            await self._quota.recount(utc_day(now_ms()))

    async def settled(self) -> Milliseconds:
        """What was stored before is no call's any more, and no task's, which may take up what it left hours ago."""
        calls_are_over = now_ms() - self._lifetime_ms
        oldest_task = await self._tasks.oldest_open()
        return calls_are_over if oldest_task is None else min(calls_are_over, oldest_task)

    async def _batches(self) -> AsyncIterator[list[Found]]:
        for folder in FOLDERS:
            async for batch in batches(by_stem(self._storage.list(folder)), BATCH):
                yield batch

    async def _legacy(self) -> AsyncIterator[ObjectInfo]:
        """What the old app had made without users: an image has a record since it was moved to somebody."""
        async for info in self._storage.list(LEGACY_YEARS):
            if _LEGACY_KEY.match(info.key):
                yield info

    async def _enter_recorded(self, batch: Sequence[Found], run: Run[Report]) -> int:
        """Images with their records. Answers how many there are without one that are not in the index either."""
        report = run.report
        keys = {info.key for found in batch for info in found.images}
        known = await self._history.indexed_among(keys)
        report.count_images(len(keys))
        report.there += len(known)
        to_read, without = list[Found](), 0
        for found in batch:
            for info in found.others:
                report.found_odd("unknown", info.key)
            new = [info for info in found.images if info.key not in known]
            if found.record is None:
                without += len(new)
            elif not found.images and found.record.key.endswith(LEGACY_INDEX):
                report.legacy_indexes += 1
            elif new or not found.images:
                to_read.append(found)
        read = await side_by_side(partial(read_recorded, storage=self._storage, report=report), to_read)
        await self._entering.enter([entry for entry in read if entry.image.key not in known], run)
        return without

    async def _enter_others(self, batch: Sequence[Found], run: Run[Report]) -> None:
        """Images without a record, but for those whose call may still write it."""
        alone = {info.key: info for found in batch if found.record is None for info in found.images}
        unknown = alone.keys() - await self._history.indexed_among(alone.keys())
        over = [alone[key] for key in sorted(unknown) if alone[key].modified_at <= run.settled]
        run.report.under_way += len(unknown) - len(over)
        read = await side_by_side(partial(read_alone, storage=self._storage, report=run.report), over)
        await self._entering.enter(read, run)
