"""The counters in Redis. The only place that spells their keys."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from core.clients.redis import RedisKey, reply, scan_pages
from core.clock import Milliseconds, utc_day
from services.quota import scripts
from services.quota.models import DayBooks, QuotaIdentity, Reservation

COUNTER_TTL_SECONDS = 2 * 24 * 3600
EPOCH_BITS = 48  # Lua counts exactly up to 2^53

POOL = RedisKey("quota:{date}:global", "hash: points used of the pool, change counter", COUNTER_TTL_SECONDS)
USER = RedisKey("quota:{date}:user:{user_id}", "hash: images by mode, time of the last generation", COUNTER_TTL_SECONDS)
GUESTS = RedisKey("quota:{date}:guests:{address}", "hash: points used by guests of one address", COUNTER_TTL_SECONDS)
SERVICE_KEY = RedisKey("quota:{date}:service_key:{id}", "hash: points used with one service key", COUNTER_TTL_SECONDS)
RESERVATIONS = RedisKey("quota:reservations", "sorted set: ids of live reservations by expiry", None)
RESERVATION = RedisKey("quota:reservation:{id}", "hash: what one reservation holds, for whom", COUNTER_TTL_SECONDS)


@dataclass(frozen=True)
class Limits:
    """What a reservation must fit into. `cooldown` and `lifetime` in milliseconds, the rest as in SPEC section 9."""

    pool: int
    guest_share: int
    mode: int
    cooldown: Milliseconds
    lifetime: Milliseconds


@dataclass(frozen=True)
class ReserveOutcome:
    """`result`: reserved, held, cooldown, pool, guest_share, mode, service_key, unknown_day.

    `made_at`, `day`, `note` and `state` (reserved or committed) belong to the first two, `wait` (milliseconds) to
    cooldown.
    """

    result: str
    made_at: Milliseconds = 0
    day: str = ""
    wait: Milliseconds = 0
    state: str = ""
    note: str = ""


@dataclass(frozen=True)
class Counters:
    """One caller's numbers of a day; `known` is False when they have to be set from the ledger first."""

    known: bool
    pool: int
    modes: dict[str, int]
    guest_points: int
    last_generation: Milliseconds | None


class QuotaStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._reserve = redis.register_script(scripts.RESERVE)
        self._hold = redis.register_script(scripts.HOLD)
        self._settle = redis.register_script(scripts.SETTLE)
        self._dismiss = redis.register_script(scripts.DISMISS)
        self._extend = redis.register_script(scripts.EXTEND)
        self._rebuild = redis.register_script(scripts.REBUILD)

    async def reserve(self, reservation: Reservation, limits: Limits) -> ReserveOutcome:
        identity = reservation.identity
        # Soon after midnight the last generation may stand in the day before.
        reaches_back_to = utc_day(reservation.made_at - limits.cooldown)
        result, *rest = await self._reserve(
            keys=[*self._keys(reservation), USER(date=reaches_back_to, user_id=identity.user_id)],
            args=[
                reservation.id, reservation.mode, reservation.points, reservation.count,
                limits.pool, limits.guest_share, limits.mode, limits.cooldown, limits.lifetime, COUNTER_TTL_SECONDS,
                identity.user_id, identity.guest_address or "", reservation.day, reservation.note,
                identity.service_key_id or "",
                "" if identity.service_key_limit is None else identity.service_key_limit,
            ],
        )  # fmt: skip
        if result == "cooldown":
            return ReserveOutcome(result, wait=int(float(rest[0])))
        if result in {"reserved", "held"}:
            made_at, day, state, note = rest
            return ReserveOutcome(result, made_at=int(made_at), day=day, state=state, note=note)
        return ReserveOutcome(result)

    async def hold(self, reservation: Reservation, lifetime: Milliseconds) -> ReserveOutcome:
        """Mark a call that takes no points as under way."""
        result, made_at, day, state, note = await self._hold(
            keys=[RESERVATIONS(), RESERVATION(id=reservation.id)],
            args=[
                reservation.id, reservation.mode, lifetime, COUNTER_TTL_SECONDS, reservation.identity.user_id,
                reservation.day, reservation.note,
            ],
        )  # fmt: skip
        return ReserveOutcome(result, made_at=int(made_at), day=day, state=state, note=note)

    async def settle(self, reservation: Reservation, delivered: int, *, stays_listed: bool = False) -> str:
        """End a reservation. Answers its state: committed, released, or unknown when Redis has lost it.

        `stays_listed`: one that is released is still among the expired, until `dismiss`.
        """
        state: str = await self._settle(
            keys=self._keys(reservation), args=[reservation.id, delivered, COUNTER_TTL_SECONDS, int(stays_listed)]
        )
        return state

    async def dismiss(self, reservation: Reservation) -> None:
        await self._dismiss(keys=[RESERVATIONS(), RESERVATION(id=reservation.id)], args=[reservation.id])

    async def extend(self, reservation: Reservation, lifetime: Milliseconds) -> None:
        """Let a reservation that stands expire later."""
        await self._extend(
            keys=[RESERVATIONS(), RESERVATION(id=reservation.id)], args=[reservation.id, lifetime, COUNTER_TTL_SECONDS]
        )

    async def missing(self, reservations: Sequence[Reservation]) -> list[Reservation]:
        """Those that Redis does not know."""
        pipeline = self._redis.pipeline(transaction=False)
        for reservation in reservations:
            pipeline.exists(RESERVATION(id=reservation.id))
        known: list[int] = await pipeline.execute()
        return [reservation for reservation, there in zip(reservations, known, strict=True) if not there]

    async def counters(self, identity: QuotaIdentity, day: str, cooldown_since: Milliseconds | None = None) -> Counters:
        """`cooldown_since`: a generation since then counts as the last one, also where it was another day's."""
        earlier_day = day if cooldown_since is None else utc_day(cooldown_since)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(POOL(date=day))
        pipeline.hgetall(USER(date=day, user_id=identity.user_id))
        pipeline.hget(GUESTS(date=day, address=identity.guest_address or "-"), "points")
        if earlier_day != day:
            pipeline.hget(USER(date=earlier_day, user_id=identity.user_id), "last_generation")
        pool, user, guest_points, *earlier = await pipeline.execute()
        last = user.get("last_generation") or next(iter(earlier), None)
        return Counters(
            known="global_used" in pool,
            pool=int(pool.get("global_used", 0)),
            modes={field[5:]: int(count) for field, count in user.items() if field.startswith("mode:")},
            guest_points=int(guest_points or 0),
            last_generation=int(last) if last else None,
        )

    async def service_key_points(self, key_id: str, day: str) -> int:
        return int(await reply(self._redis.hget(SERVICE_KEY(date=day, id=key_id), "points")) or 0)

    async def epoch(self, day: str) -> int:
        """The day's change counter. It starts somewhere, so that after a loss of all keys no old value comes again."""
        pipeline = self._redis.pipeline()
        pipeline.hsetnx(POOL(date=day), "epoch", str(secrets.randbits(EPOCH_BITS)))
        pipeline.expire(POOL(date=day), COUNTER_TTL_SECONDS)
        pipeline.hget(POOL(date=day), "epoch")
        return int((await pipeline.execute())[-1])

    async def forget(self, day: str) -> None:
        """Make the day unknown, so that whoever reserves next sets it from the ledger."""
        pipeline = self._redis.pipeline()
        pipeline.hdel(POOL(date=day), "global_used")
        pipeline.hincrby(POOL(date=day), "epoch", 1)
        pipeline.expire(POOL(date=day), COUNTER_TTL_SECONDS)
        await pipeline.execute()

    async def is_listed(self, user_id: str) -> bool:
        """Whether a reservation of this user is live, or released and not dismissed."""
        ids: list[str] = await self._redis.zrange(RESERVATIONS(), 0, -1)
        return user_id in await self._owners([RESERVATION(id=reservation_id) for reservation_id in ids])

    async def forget_user(self, user_id: str, days: list[str]) -> None:
        """Remove a user's counters of these days and what is left of their reservations, which have all ended."""
        await self._redis.delete(*(USER(date=day, user_id=user_id) for day in days))
        async for page in scan_pages(self._redis, RESERVATION(id="*")):
            owners = await self._owners(page)
            theirs = [key for key, owner in zip(page, owners, strict=True) if owner == user_id]
            if theirs:
                await self._redis.delete(*theirs)

    async def _owners(self, keys: list[str]) -> list[str | None]:
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hget(key, "user_id")
        owners: list[str | None] = await pipeline.execute()
        return owners

    async def expired(self, limit: int) -> list[Reservation]:
        """Reservations past their time, the oldest first; also those released, until they are dismissed."""
        seconds, microseconds = await self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        ids: list[str] = await self._redis.zrangebyscore(RESERVATIONS(), 0, now, start=0, num=limit)
        found = [await self._load(reservation_id) for reservation_id in ids]
        return [reservation for reservation in found if reservation is not None]

    async def rebuild(self, day: str, epoch: int, books: DayBooks, lifetime: Milliseconds) -> bool:
        """Set the day's counters to the ledger's totals and what is held besides. False: they changed meanwhile.

        `books` was read after `epoch`; `lifetime` is for the holds that Redis has lost.
        """
        totals = books.totals
        body = {
            "epoch": epoch,
            "ttl": COUNTER_TTL_SECONDS,
            "day": day,
            "pool": totals.pool,
            "user_key": USER(date=day, user_id=""),
            "guests_key": GUESTS(date=day, address=""),
            "service_key": SERVICE_KEY(date=day, id=""),
            "reservation_key": RESERVATION(id=""),
            "users": [
                {"id": user_id, "mode": mode, "count": count} for (user_id, mode), count in totals.by_user_mode.items()
            ],
            "guests": [{"address": address, "points": points} for address, points in totals.by_guest_address.items()],
            "service_keys": [{"id": key_id, "points": points} for key_id, points in totals.by_service_key.items()],
            "charged": books.charged,
            "holds": [
                {
                    "id": hold.id,
                    "user_id": hold.identity.user_id,
                    "guest_address": hold.identity.guest_address or "",
                    "service_key_id": hold.identity.service_key_id or "",
                    "mode": hold.mode,
                    "points": hold.points,
                    "count": hold.count,
                    "made_at": hold.made_at,
                }
                for hold in books.holds
            ],
            "lifetime": lifetime,
        }
        done = await self._rebuild(keys=[POOL(date=day), RESERVATIONS()], args=[json.dumps(body)])
        return bool(done)

    async def _load(self, reservation_id: str) -> Reservation | None:
        held = await reply(self._redis.hgetall(RESERVATION(id=reservation_id)))
        if not held:
            # The hash outlives its entry in the set by far; an entry without one has nothing left to give back.
            await self._redis.zrem(RESERVATIONS(), reservation_id)
            return None
        if held["state"] == "committed":
            return None  # since the set was read
        return Reservation(
            id=reservation_id,
            identity=QuotaIdentity(held["user_id"], held["guest_address"] or None, held.get("service_key_id") or None),
            mode=held["mode"],
            points=int(held["points"]),
            count=int(held["count"]),
            day=held["day"],
            made_at=int(held["made_at"]),
            note=held["note"],
        )

    @staticmethod
    def _keys(reservation: Reservation) -> list[str]:
        identity, day = reservation.identity, reservation.day
        return [
            POOL(date=day),
            USER(date=day, user_id=identity.user_id),
            GUESTS(date=day, address=identity.guest_address) if identity.guest_address else "",
            RESERVATIONS(),
            RESERVATION(id=reservation.id),
            SERVICE_KEY(date=day, id=identity.service_key_id) if identity.service_key_id else "",
        ]
