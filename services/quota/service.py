"""Reserve, commit, release: the pool is never overdrawn and never leaks (SPEC section 9)."""

from collections.abc import Callable, Collection
from dataclasses import replace

from redis.exceptions import RedisError
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database
from core.clock import Milliseconds, next_utc_day, now_ms, utc_day
from core.errors import DependencyUnavailable
from core.logging import get_logger
from core.metrics import Metrics
from core.setting_groups import QuotaSettings
from services.quota import holds, ledger
from services.quota.errors import Cooldown, QuotaExceeded
from services.quota.models import (
    CARRIED_OVER,
    FORGOTTEN_USER,
    UNMETERED,
    DayBooks,
    ModeUsage,
    QuotaIdentity,
    QuotaMode,
    QuotaStatus,
    Reservation,
    Usage,
    guest_limit,
    quota_modes,
)
from services.quota.store import Counters, Limits, QuotaStore, ReserveOutcome

REBUILD_TRIES = 20
NO_COOLDOWN = -1
DAY_MS = 24 * 3600 * 1000
DAYS_KEPT = 4  # counters live two days from their last change, which may come a while after midnight

log = get_logger(__name__)


class QuotaService:
    """`call_lifetime_seconds`: after that a call's reservation is taken for dead (REQUEST_TIMEOUT_SECONDS + grace)."""

    def __init__(
        self,
        store: QuotaStore,
        database: Database,
        settings: QuotaSettings,
        metrics: Metrics,
        *,
        call_lifetime_seconds: float,
    ) -> None:
        self._store = store
        self._database = database
        self._settings = settings
        self._metrics = metrics
        self._lifetime_ms = int(call_lifetime_seconds * 1000)
        self.modes = quota_modes(settings)

    async def reserve(
        self, identity: QuotaIdentity, mode_key: str, count: int, *, reservation_id: str, note: str = ""
    ) -> Reservation:
        """Take the points of `count` images under `reservation_id`, all or nothing.

        Asked again with the same id it answers the reservation that stands. Raises Cooldown or QuotaExceeded.
        """
        mode = self.modes[mode_key]
        now = now_ms()
        wanted = Reservation(
            id=reservation_id,
            identity=identity,
            mode=mode_key,
            points=mode.cost * count,
            count=count,
            day=utc_day(now),
            made_at=now,
            note=note,
        )
        outcome = await self._reserve(wanted, self._limits(mode))
        if outcome.result in {"reserved", "held"}:
            self._metrics.reservations.labels("reserved").inc()
            return replace(wanted, day=outcome.day, made_at=outcome.made_at, note=outcome.note)
        raise await self._refusal(outcome, identity)

    async def hold(self, identity: QuotaIdentity, *, reservation_id: str, note: str) -> Reservation:
        """Mark a call that is not metered as under way, so that the sweep finds what it may leave."""
        now = now_ms()
        wanted = Reservation(
            id=reservation_id,
            identity=identity,
            mode=UNMETERED,
            points=0,
            count=1,
            day=utc_day(now),
            made_at=now,
            note=note,
        )
        outcome = await self._store.hold(wanted, self._lifetime_ms)
        return replace(wanted, day=outcome.day, made_at=outcome.made_at, note=outcome.note)

    async def commit(self, reservation: Reservation, delivered: int | None = None) -> str:
        """Keep the points of what was delivered (all, unless said) and give the rest back. Safe to repeat.

        Answers what became of the reservation: committed, released, or unknown when Redis has lost it.
        """
        return await self._settle(reservation, reservation.count if delivered is None else delivered)

    async def release(self, reservation: Reservation, *, stays_listed: bool = False) -> str:
        """Give everything back. Safe to repeat; answers as `commit`.

        `stays_listed`: it is still among the expired, because what its call left is not cleared away yet; `dismiss`
        ends that.
        """
        return await self._settle(reservation, 0, stays_listed=stays_listed)

    async def dismiss(self, reservation: Reservation) -> None:
        """Nothing is left of a released call; does nothing to one that was reserved anew meanwhile."""
        await self._store.dismiss(reservation)

    def charge(self, reservation: Reservation, image_id: str) -> Callable[[Connection], None]:
        """The ledger entry of one image, to be written in the transaction that indexes the image."""
        now = now_ms()
        return lambda connection: ledger.add_charge(connection, image_id, reservation, now)

    async def status(self, identity: QuotaIdentity, *, metered: bool = True) -> QuotaStatus:
        """What a caller may still do today; `metered` False: own key or admin, the numbers are for information."""
        now = now_ms()
        cooldown_since = now - int(self._settings.trial_cooldown_seconds * 1000)
        counters = await self._counters(identity, utc_day(now), cooldown_since)
        return self._status(counters, identity, metered)

    async def measure(self) -> None:
        """Set the gauges of today's pool; without Redis they stay as they are."""
        self._metrics.quota_points.labels("limit").set(self._settings.trial_global_quota)
        try:
            counters = await self._store.counters(QuotaIdentity(user_id="-"), utc_day(now_ms()))
        except RedisError as error:
            log.warning("quota not measured", reason=str(error))
        else:
            self._metrics.quota_points.labels("used").set(counters.pool)

    async def check(self, identity: QuotaIdentity, mode_key: str, count: int) -> tuple[str | None, QuotaStatus]:
        """Would a reservation go through now? Answers the reason why not (cooldown, pool, guest_share, mode)."""
        mode = self.modes[mode_key]
        status = await self.status(identity)
        points = mode.cost * count
        used = next(entry.usage for entry in status.modes if entry.mode.key == mode_key)
        if mode.cools_down and status.cooldown_remaining_seconds > 0:
            return "cooldown", status
        if points > status.pool.remaining:
            return "pool", status
        if status.guest_share is not None and points > status.guest_share.remaining:
            return "guest_share", status
        if count > used.remaining:
            return "mode", status
        return None, status

    async def expired(self, limit: int = 100) -> list[Reservation]:
        """Reservations whose call is taken for dead, and those released whose remains are still to be cleared away."""
        return await self._store.expired(limit)

    async def charged_images(self, reservation_id: str) -> int:
        """How many images of a reservation are in the ledger."""
        return await self._database.read(lambda connection: ledger.charged_images(connection, reservation_id))

    async def charged_among(self, image_ids: Collection[str]) -> set[str]:
        """Those of these images that are in the ledger, which keeps them when they are gone."""
        return await self._database.read(lambda connection: ledger.charged_among(connection, image_ids))

    async def is_under_way(self, user_id: str) -> bool:
        """Whether a call of this user runs, or has died and is not swept yet."""
        return await self._store.is_listed(user_id)

    async def forget(self, user_id: str) -> None:
        """Remove what is kept of somebody who has left and of whom nothing is under way; their points stay used."""
        await self._database.write(lambda connection: ledger.forget_user(connection, user_id))
        await self._database.write(lambda connection: holds.forget_user(connection, user_id))
        now = now_ms()
        await self._store.forget_user(user_id, [utc_day(now - days * DAY_MS) for days in range(DAYS_KEPT)])

    async def rebuild(self, day: str) -> bool:
        """Set a day's counters to what the ledger says and what is held besides. False: they changed meanwhile."""
        epoch = await self._store.epoch(day)
        books = await self._database.read(lambda connection: _day_books(connection, day))
        done = await self._store.rebuild(day, epoch, books, self._lifetime_ms)
        if done:
            log.info("quota counters set from the ledger", day=day, points=books.totals.pool)
        return done

    async def recount(self, day: str) -> None:
        """The same until it is done. Raises DependencyUnavailable when they keep changing."""
        for _ in range(REBUILD_TRIES):
            if await self.rebuild(day):
                return
        raise DependencyUnavailable("redis", "quota counters keep changing while they are rebuilt")

    async def carry_over(self, day: str, points: int, origin: str) -> bool:
        """Points that were spent elsewhere, by nobody whom we know, are spent of this day's pool; `recount` shows them.

        False: what `origin` names was carried over before.
        """
        spent = Reservation(origin, QuotaIdentity(FORGOTTEN_USER), CARRIED_OVER, points, 1, day, now_ms())
        try:
            await self._database.write(self.charge(spent, origin))
        except IntegrityError:
            return False
        return True

    async def _settle(self, reservation: Reservation, delivered: int, *, stays_listed: bool = False) -> str:
        state = await self._store.settle(reservation, delivered, stays_listed=stays_listed)
        self._metrics.reservations.labels(state).inc()
        if delivered and state in {"unknown", "released"}:
            # Redis lost the reservation, or gave it back as expired; the ledger has the charge, the counters follow.
            await self._store.forget(reservation.day)
        return state

    async def _reserve(self, wanted: Reservation, limits: Limits) -> ReserveOutcome:
        """A day that is unknown is set from the ledger first; whoever else does so at the same time helps."""
        for _ in range(REBUILD_TRIES):
            outcome = await self._store.reserve(wanted, limits)
            if outcome.result != "unknown_day":
                return outcome
            await self.rebuild(wanted.day)
        raise DependencyUnavailable("redis", "quota counters keep changing while they are rebuilt")

    async def _counters(self, identity: QuotaIdentity, day: str, cooldown_since: Milliseconds) -> Counters:
        for _ in range(REBUILD_TRIES):
            counters = await self._store.counters(identity, day, cooldown_since)
            if counters.known:
                return counters
            await self.rebuild(day)
        raise DependencyUnavailable("redis", "quota counters keep changing while they are rebuilt")

    def _limits(self, mode: QuotaMode) -> Limits:
        return Limits(
            pool=self._settings.trial_global_quota,
            guest_share=guest_limit(self._settings),
            mode=mode.limit,
            cooldown=int(self._settings.trial_cooldown_seconds * 1000) if mode.cools_down else NO_COOLDOWN,
            lifetime=self._lifetime_ms,
        )

    async def _refusal(self, outcome: ReserveOutcome, identity: QuotaIdentity) -> Cooldown | QuotaExceeded:
        self._metrics.reservations.labels(outcome.result).inc()
        if outcome.result == "cooldown":
            return Cooldown(outcome.wait / 1000)
        status = await self.status(identity)
        wait = max(1, (status.resets_at - now_ms()) // 1000)
        details = status.as_details()
        if identity.service_key_id is not None and identity.service_key_limit is not None:
            points = await self._store.service_key_points(identity.service_key_id, utc_day(now_ms()))
            details["service_key"] = Usage(points, identity.service_key_limit).as_details()
        return QuotaExceeded(outcome.result, details, wait)

    def _status(self, counters: Counters, identity: QuotaIdentity, metered: bool) -> QuotaStatus:
        now = now_ms()
        cooldown_ms = self._settings.trial_cooldown_seconds * 1000
        since = now - (counters.last_generation or 0)
        share = Usage(counters.guest_points, guest_limit(self._settings)) if identity.guest_address else None
        return QuotaStatus(
            is_trial_mode=metered,
            pool=Usage(counters.pool, self._settings.trial_global_quota),
            modes=tuple(
                ModeUsage(mode, Usage(counters.modes.get(mode.key, 0), mode.limit)) for mode in self.modes.values()
            ),
            guest_share=share,
            cooldown_remaining_seconds=max(0.0, (cooldown_ms - since) / 1000) if metered else 0.0,
            resets_at=next_utc_day(now),
        )


def _day_books(connection: Connection, day: str) -> DayBooks:
    return DayBooks(
        totals=ledger.day_totals(connection, day),
        charged=ledger.day_charges(connection, day),
        holds=tuple(hold for hold in holds.held(connection, day) if hold.is_metered),
    )
