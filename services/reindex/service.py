"""Index and ledger from storage alone: for a database that is lost, and for what crashes left that nobody knows of.

It may run beside the service, and again at any time. What is in the index stays as it is; an image is entered with its
charge in one transaction; what a call, the sweep or a deletion is at work on is left to them.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from core.clock import now_ms, utc_day
from core.errors import DependencyUnavailable
from services.generation.recovery import Recovery
from services.history.records import BrokenRecord, read_record
from services.history.service import HistoryService
from services.quota.service import REBUILD_TRIES, QuotaService
from services.reindex.entering import Entering
from services.reindex.foundlings import NoOwner, NoPicture, foundling
from services.reindex.listing import batches, by_stem
from services.reindex.models import Entry, Found, Report, Run
from services.storage.base import ObjectInfo, Storage
from services.storage.errors import ObjectNotFound
from services.storage.keys import holds_image
from services.storage.names import stem_of

Given = TypeVar("Given")

# What says more of an account comes first: of images that go by themselves anybody may be the owner.
FOLDERS = ("users/", "unlisted/")
LEGACY_INDEX = "/history.json"
_LEGACY_KEY = re.compile(r"\d{4}/\d\d/\d\d/", re.ASCII)
BATCH = 200
READS_AT_ONCE = 16


class Reindexer:
    """`call_lifetime_seconds`: after that the sweep takes a call's reservation for dead."""

    def __init__(
        self,
        storage: Storage,
        history: HistoryService,
        quota: QuotaService,
        recovery: Recovery,
        entering: Entering,
        *,
        call_lifetime_seconds: float,
    ) -> None:
        self._storage = storage
        self._history = history
        self._quota = quota
        self._recovery = recovery
        self._entering = entering
        self._lifetime_ms = int(call_lifetime_seconds * 1000)

    async def run(self, report: Report, *, dry_run: bool) -> None:
        """Enter what is missing; `dry_run`: only find out what that is.

        Raises StorageUnavailable, DependencyUnavailable or RedisError when a part is away. What was entered until then
        stays, and the next run goes on from there.
        """
        run = Run(report, now_ms() - self._lifetime_ms, dry_run)
        while not dry_run and await self._recovery.sweep():
            pass
        without_record = 0
        async for batch in self._batches():
            without_record += await self._enter_recorded(batch, run)
        # Afterwards, since records alone say by which id an owner is known.
        if without_record:
            async for batch in self._batches():
                await self._enter_others(batch, run)
        async for info in self._storage.list("2"):
            report.legacy_images += bool(_LEGACY_KEY.match(info.key) and holds_image(info.key))
        if not dry_run:
            await self._recount()

    async def _batches(self) -> AsyncIterator[list[Found]]:
        for folder in FOLDERS:
            async for batch in batches(by_stem(self._storage.list(folder)), BATCH):
                yield batch

    async def _enter_recorded(self, batch: Sequence[Found], run: Run) -> int:
        """Images with their records. Answers how many there are without one that are not in the index either."""
        report = run.report
        keys = {info.key for found in batch for info in found.images}
        unknown = keys - await self._history.indexed_among(keys)
        report.count_images(len(keys))
        report.there += len(keys) - len(unknown)
        to_read, without = list[Found](), 0
        for found in batch:
            for info in found.others:
                report.found_odd("unknown", info.key)
            new = [info for info in found.images if info.key in unknown]
            if found.record is None:
                without += len(new)
            elif not found.images and found.record.key.endswith(LEGACY_INDEX):
                report.legacy_indexes += 1
            elif new or not found.images:
                to_read.append(found)
        read = await _side_by_side(partial(self._recorded, run=run), to_read)
        await self._entering.enter([entry for entry in read if entry.image.key in unknown], run)
        return without

    async def _recorded(self, found: Found, run: Run) -> Entry | None:
        """What a record says; None for one that says nothing of an image that is there."""
        info = found.record
        assert info is not None, "those without one are for later"
        try:
            record = read_record(await self._storage.get(info.key))
        except ObjectNotFound:
            return None  # deleted since it was listed
        except BrokenRecord as error:
            run.report.found_odd("unreadable", info.key, str(error))
            return None
        image = record.image
        if stem_of(image.key) != found.stem:
            run.report.found_odd("unreadable", info.key, f"is of {image.key}")
            return None
        its_own = None
        for each in found.images:
            if each.key == image.key:
                its_own = each
            else:
                run.report.found_odd("unknown", each.key)
        if its_own is None:
            run.report.found_odd("no_image", info.key)
            return None
        modified_at = max(info.modified_at, its_own.modified_at)
        return Entry(image, record.charge, record.owner_folder_id, "record", modified_at)

    async def _enter_others(self, batch: Sequence[Found], run: Run) -> None:
        """Images without a record. Whether theirs was lost, or their call died before there was one, nothing tells."""
        alone = {info.key: info for found in batch if found.record is None for info in found.images}
        unknown = alone.keys() - await self._history.indexed_among(alone.keys())
        over = [alone[key] for key in sorted(unknown) if alone[key].modified_at <= run.settled]
        run.report.under_way += len(unknown) - len(over)
        read = await _side_by_side(partial(self._without_record, run=run), over)
        await self._entering.enter(read, run)

    async def _without_record(self, info: ObjectInfo, run: Run) -> Entry | None:
        try:
            return await foundling(self._storage, info)
        except ObjectNotFound:
            return None
        except NoOwner:
            run.report.found_odd("no_owner", info.key)
        except NoPicture:
            run.report.found_odd("no_picture", info.key)
        return None

    async def _recount(self) -> None:
        """Today's counters follow the ledger. They may change while they are set, and then it is done again."""
        day = utc_day(now_ms())
        for _ in range(REBUILD_TRIES):
            if await self._quota.rebuild(day):
                return
        raise DependencyUnavailable("redis", "quota counters keep changing while they are rebuilt")


async def _side_by_side(read: Callable[[Given], Awaitable[Entry | None]], given: Sequence[Given]) -> list[Entry]:
    entries: list[Entry] = []
    for start in range(0, len(given), READS_AT_ONCE):
        found = await asyncio.gather(*(read(one) for one in given[start : start + READS_AT_ONCE]))
        entries += [entry for entry in found if entry is not None]
    return entries
