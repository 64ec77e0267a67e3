"""The sweep: finishes what a process that died left half-way (the table in SPEC section 9)."""

from core.errors import AppError
from core.logging import get_logger
from core.metrics import Metrics
from services.generation.delivery import ImageKeeper
from services.quota.models import Reservation
from services.quota.service import QuotaService
from services.quota.task_quota import TaskQuota

log = get_logger(__name__)


class Recovery:
    def __init__(self, quota: QuotaService, task_quota: TaskQuota, keeper: ImageKeeper, metrics: Metrics) -> None:
        self._quota = quota
        self._task_quota = task_quota
        self._keeper = keeper
        self._metrics = metrics

    async def sweep(self) -> int:
        """Settle every reservation whose time is over, and answer how many; safe to run in several workers at once.

        One that cannot be settled now waits for the next sweep and does not keep the others from theirs.
        """
        settled = 0
        for reservation in await self._quota.expired():
            try:
                action = await self._settle(reservation)
            except AppError as error:
                log.warning("reservation not swept", call_id=reservation.id, reason=str(error))
                continue
            settled += 1
            self._metrics.swept.labels(action).inc()
            log.info("reservation swept", call_id=reservation.id, action=action)
        return settled

    async def _settle(self, reservation: Reservation) -> str:
        """Commit what the ledger has; else index and charge what has a record; else give the points back.

        A task's reservation stands for as long as the task goes on. It has no note: tasks clear away what they leave.
        """
        if await self._task_quota.extend_if_held(reservation):
            return "extended"
        charged = await self._quota.charged_images(reservation.id)
        if charged:
            await self._quota.commit(reservation, delivered=charged)
            return "committed"
        if await self._index(reservation):
            await self._quota.commit(reservation)
            return "indexed"
        # It stays listed until its remains are gone: a worker that dies in between must not leave them for ever.
        if await self._quota.release(reservation, stays_listed=True) == "committed":
            return "committed"
        # Looked for once more, now that nothing is held: a call that got this far late must not lose its bytes.
        if await self._index(reservation):
            await self._quota.commit(reservation)
            return "indexed"
        if reservation.note:
            await self._keeper.discard_bytes(reservation.note)
        await self._quota.dismiss(reservation)
        return "released"

    async def _index(self, reservation: Reservation) -> bool:
        record = await self._keeper.find_record(reservation.note, reservation.id) if reservation.note else None
        if record is not None:
            await self._keeper.index(record)
        return record is not None
