"""Entering images into index and ledger, each for the account that has it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from core.errors import InternalError
from core.failpoints import FailPoints
from services.accounts.owners import Claim, Evidence, OwnerRegistry
from services.history.models import Image
from services.history.service import HistoryService
from services.quota.models import Reservation
from services.quota.service import QuotaService
from services.reindex.models import Entry, Run, Tally
from services.storage.base import Storage
from services.storage.errors import ObjectNotFound
from services.tasks.service import TaskService


class Entering:
    def __init__(
        self,
        storage: Storage,
        history: HistoryService,
        quota: QuotaService,
        tasks: TaskService,
        owners: OwnerRegistry,
        fail_points: FailPoints,
    ) -> None:
        self._storage = storage
        self._history = history
        self._quota = quota
        self._tasks = tasks
        self._owners = owners
        self._fail_points = fail_points

    async def enter(self, entries: Sequence[Entry], run: Run[Tally]) -> None:
        """Images that have no row, each with its charge. One that has its charge already was deleted for good, and one
        of a task that is known is that task's, which charges what it delivers and removes all else.
        """
        entries = await self._without_tasks(entries, run)
        fresh = await self._uncharged(entries, run)
        claims = _claims(fresh)
        if run.dry_run:
            run.report.accounts |= (await self._owners.find(claims)).new
            for entry in fresh:
                run.report.count_indexed(entry)
            return
        owners = await self._owners.find_or_make(claims)
        self._fail_points.reach("owners_made")
        run.report.accounts |= owners.new
        for entry in fresh:
            await self._enter(entry, owners.ids[_claim(entry)], run)

    async def _uncharged(self, entries: Sequence[Entry], run: Run[Tally]) -> list[Entry]:
        charged = await self._quota.charged_among([entry.image.id for entry in entries])
        delivered = [entry.image.key for entry in entries if entry.image.id in charged]
        # Another run, or its call, may have entered it since we looked.
        there = await self._history.indexed_among(delivered) if delivered else set[str]()
        run.report.there += len(there)
        for key in delivered:
            if key not in there:
                run.report.found_odd("deleted", key)
        return [entry for entry in entries if entry.image.id not in charged]

    async def _without_tasks(self, entries: Sequence[Entry], run: Run[Tally]) -> list[Entry]:
        known = await self._tasks.closed_among({entry.image.task_id for entry in entries if entry.image.task_id})
        free = list[Entry]()
        for entry in entries:
            is_over = known.get(entry.image.task_id or "")
            if is_over is None:
                free.append(entry)
            elif is_over:
                run.report.found_odd("task_over", entry.image.key)
            else:
                run.report.under_way += 1
        return free

    async def _enter(self, entry: Entry, user_id: str, run: Run[Tally]) -> None:
        image, charge = replace(entry.image, user_id=user_id), _charge(entry, user_id)
        try:
            added = await self._history.add(image, None if charge is None else self._quota.charge(charge, image.id))
        except InternalError as error:
            if await self._quota.charged_among([image.id]):
                run.report.found_odd("deleted", image.key)
            else:
                run.report.found_odd("refused", image.key, str(error))
            return
        if not added:
            run.report.there += 1
        elif entry.modified_at > run.settled and not await self._is_stored(image):
            # Its call indexed it, and its owner deleted it for good, since we looked whether it had a row.
            await self._history.delete_many(user_id, [image.id], final=True)
            run.report.found_odd("deleted", image.key)
        else:
            run.report.count_indexed(entry)
        self._fail_points.reach("entered")

    async def _is_stored(self, image: Image) -> bool:
        try:
            await self._storage.stat(image.key)
        except ObjectNotFound:
            return False
        return True


def _claim(entry: Entry) -> Claim:
    return Claim(entry.image.user_id or None, entry.owner_folder_id)


def _claims(entries: Iterable[Entry]) -> dict[Claim, Evidence]:
    claims: dict[Claim, Evidence] = {}
    for entry in entries:
        image, claim = entry.image, _claim(entry)
        seen = claims.get(claim, Evidence(image.created_at, stays=False))
        stays = seen.stays or (image.listed and image.expires_at is None)
        claims[claim] = Evidence(min(seen.since, image.created_at), stays)
    return claims


def _charge(entry: Entry, user_id: str) -> Reservation | None:
    """A charge that is not its owner's, since the image was handed on, stays with whom it names."""
    charge = entry.charge
    if charge is None or charge.identity.user_id != entry.image.user_id:
        return charge
    return replace(charge, identity=replace(charge.identity, user_id=user_id))
