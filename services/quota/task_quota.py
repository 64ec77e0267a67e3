"""The points of tasks: one reservation for all images of a round, which lasts for as long as the task does.

Redis answers at once whether there are points; the hold in the database makes them last. The images are charged one by
one, as those of calls are, and what is left goes back when the task has ended.
"""

from collections.abc import Callable

from sqlalchemy import Connection

from core.clients.database import Database
from core.clock import now_ms, utc_day
from core.ids import derived_id
from services.quota import holds, ledger
from services.quota.models import UNMETERED, QuotaIdentity, Reservation
from services.quota.service import QuotaService
from services.quota.store import QuotaStore

# How many times a day cancelling gives back calls that the provider had been sent (SPEC section 9).
DROPS_GIVEN_BACK = 5


class TaskQuota:
    """`lifetime_ms`: how long a reservation that nobody extends stands, as a call's."""

    def __init__(self, quota: QuotaService, store: QuotaStore, database: Database, *, lifetime_ms: int) -> None:
        self._quota = quota
        self._store = store
        self._database = database
        self._lifetime_ms = lifetime_ms

    async def reserve(
        self, identity: QuotaIdentity, mode_key: str, count: int, *, task_id: str, round_: int
    ) -> Reservation:
        """Take the points of `count` images, all or nothing; the same again for the same round.

        They go back by themselves unless `hold` follows. Raises Cooldown or QuotaExceeded.
        """
        return await self._quota.reserve(
            identity, mode_key, count, reservation_id=derived_id("rsv", task_id, round_), note=""
        )

    @staticmethod
    def unmetered(identity: QuotaIdentity, count: int, *, task_id: str, round_: int) -> Reservation:
        """What a task holds that takes no points: it says that its images may still be delivered."""
        now = now_ms()
        return Reservation(
            id=derived_id("rsv", task_id, round_),
            identity=identity,
            mode=UNMETERED,
            points=0,
            count=count,
            day=utc_day(now),
            made_at=now,
        )

    async def release(self, reservation: Reservation) -> None:
        """Of a task, or a round of it, that was not accepted after all; one that was keeps its points."""
        accepted = await self._database.read(lambda connection: holds.is_held(connection, reservation.id))
        if reservation.is_metered and not accepted:
            await self._quota.release(reservation)

    @staticmethod
    def hold(connection: Connection, reservation: Reservation) -> None:
        """In the transaction that accepts the task."""
        holds.add_hold(connection, reservation)

    @staticmethod
    def end(connection: Connection, reservation: Reservation, dropped: int) -> None:
        """In the transaction that ends the task: from here on nothing is charged to it.

        `dropped` calls were sent and then cancelled: they are given back a few times a day, and else charged.
        """
        holds.remove_hold(connection, reservation.id)
        if not dropped or not reservation.is_metered:
            return
        now = now_ms()
        if holds.give_back_dropped(connection, reservation, utc_day(now), DROPS_GIVEN_BACK):
            return
        for index in range(dropped):
            ledger.add_charge(connection, derived_id("drop", reservation.id, index), reservation, now)

    @staticmethod
    def charge(reservation: Reservation, image_id: str) -> Callable[[Connection], None]:
        """What goes into the transaction that indexes an image of a task; it raises HoldGone once that has ended."""
        now = now_ms()

        def work(connection: Connection) -> None:
            holds.check_hold(connection, reservation.id)
            if reservation.is_metered:
                ledger.add_charge(connection, image_id, reservation, now)

        return work

    async def settle(self, reservation: Reservation) -> None:
        """After the end: what was charged stays taken, the rest goes back. Safe to repeat."""
        if not reservation.is_metered:
            return
        charged = await self._quota.charged_images(reservation.id)
        if await self._quota.commit(reservation, delivered=charged) == "unknown":
            # Redis has lost it, or never had it; a rebuild that is under way may just be putting it back.
            await self._store.forget(reservation.day)

    async def extend_if_held(self, reservation: Reservation) -> bool:
        """Whether a reservation that has expired is a task's that goes on; then it stands for longer."""
        if not await self._database.read(lambda connection: holds.is_held(connection, reservation.id)):
            return False
        await self._store.extend(reservation, self._lifetime_ms)
        return True

    async def restore(self) -> int:
        """Have the days counted anew of which Redis has lost holds. Answers how many holds those were."""
        standing = await self._database.read(holds.held)
        lost = await self._store.missing([hold for hold in standing if hold.is_metered])
        for day in {hold.day for hold in lost}:
            await self._store.forget(day)
        return len(lost)
