"""Counters that Redis has lost follow the ledger, whatever happens meanwhile."""

import asyncio
import random

import pytest

from core.clients.redis import reply
from core.clock import now_ms, utc_day
from services.quota import ledger
from services.quota.errors import QuotaExceeded
from services.quota.models import DayBooks, QuotaIdentity, Reservation
from services.quota.store import POOL, RESERVATIONS, QuotaStore
from tests.quota.conftest import OpenParts
from tests.support.parts import Counted, Parts

ADDRESS = "203.0.113.7"
SEED = 20260131

LIFETIME_MS = 60_000


async def read_ledger(parts: Parts, day: str) -> DayBooks:
    return await parts.container.database.read(
        lambda connection: DayBooks(ledger.day_totals(connection, day), ledger.day_charges(connection, day), ())
    )


async def delivered(parts: Parts, user: str = "usr_a") -> Reservation:
    held = await parts.reserve(user)
    await parts.charge(held)
    await parts.quota.commit(held)
    return held


async def test_an_unknown_day_is_set_from_the_ledger(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_GLOBAL_QUOTA="3")
    day = (await delivered(parts)).day
    await delivered(parts, "usr_b")
    await parts.redis.flushall()

    await parts.reserve("usr_c")
    with pytest.raises(QuotaExceeded):
        await parts.reserve("usr_c")
    assert await parts.counters(day) == Counted(3, {(f"usr_{name}", "basic_1k"): 1 for name in "abc"}, {})


async def test_redis_emptied_between_reserving_and_charging(parts: Parts) -> None:
    held = await parts.reserve("usr_a", "batch_1k", 5, address=ADDRESS)
    await parts.redis.flushall()
    for index in range(3):
        await parts.charge(held, index)

    assert await parts.quota.commit(held, delivered=3) == "unknown"
    assert await parts.counters(held.day) == await parts.ledger(held.day)
    assert (await parts.ledger(held.day)).pool == 3


async def test_redis_emptied_and_others_at_work_before_the_commit(parts: Parts) -> None:
    held = await parts.reserve("usr_a")
    await parts.redis.flushall()
    await delivered(parts, "usr_b")
    await parts.charge(held)

    await parts.quota.commit(held)

    assert await parts.counters(held.day) == await parts.ledger(held.day)
    assert (await parts.ledger(held.day)).pool == 2


async def test_a_release_after_redis_was_emptied_leaves_nothing_behind(parts: Parts) -> None:
    held = await parts.reserve()
    await parts.redis.flushall()

    assert await parts.quota.release(held) == "unknown"
    assert await parts.counters(held.day) == Counted(0, {}, {})


@pytest.mark.parametrize("lost", ["quota:{day}:global", "quota:{day}:*"])
async def test_a_release_after_counters_were_lost_opens_no_pool_below_zero(open_quota: OpenParts, lost: str) -> None:
    """Counting down what is not there would make a pool of -1, which lets one more through than there is."""
    parts = await open_quota(TRIAL_GLOBAL_QUOTA="3", TRIAL_GUEST_SHARE="1")
    day = (await delivered(parts)).day
    held = await parts.reserve("usr_b", address=ADDRESS)
    for key in [key async for key in parts.redis.scan_iter(lost.format(day=day))]:
        await parts.redis.delete(key)

    await parts.quota.release(held)

    assert await parts.counters(day) == await parts.ledger(day)
    await parts.reserve("usr_c", "search")
    with pytest.raises(QuotaExceeded):
        await parts.reserve("usr_c")


async def test_what_is_held_and_partly_charged_counts_once(parts: Parts) -> None:
    held = await parts.reserve("usr_a", "batch_4k", 3, address=ADDRESS)
    await parts.charge(held)
    expected = Counted(9, {("usr_a", "batch_4k"): 3}, {ADDRESS: 9})

    assert await parts.quota.rebuild(held.day)
    assert await parts.counters(held.day) == expected
    await parts.charge(held, 1)
    assert await parts.quota.rebuild(held.day)
    assert await parts.counters(held.day) == expected

    await parts.quota.commit(held, delivered=2)
    assert await parts.counters(held.day) == Counted(6, {("usr_a", "batch_4k"): 2}, {ADDRESS: 6})
    assert await parts.counters(held.day) == await parts.ledger(held.day)


async def test_what_is_held_and_wholly_charged_is_committed_by_the_rebuild(parts: Parts) -> None:
    held = await parts.reserve("usr_a")
    await parts.charge(held)

    assert await parts.quota.rebuild(held.day)

    assert await parts.counters(held.day) == await parts.ledger(held.day)
    assert await parts.redis.zcard(RESERVATIONS()) == 0
    assert await parts.quota.release(held) == "committed"
    assert await parts.counters(held.day) == await parts.ledger(held.day)


async def test_what_another_day_holds_stays_out(parts: Parts) -> None:
    held = await parts.reserve("usr_a")
    await parts.quota.rebuild("2026-01-31")
    assert (await QuotaStore(parts.redis).counters(held.identity, "2026-01-31")).pool == 0


async def test_made_and_charged_while_the_ledger_is_read_counts_once(parts: Parts) -> None:
    """A fast call may reserve after a rebuild has begun and stand in the ledger before it is read."""
    store = QuotaStore(parts.redis)
    day = (await delivered(parts)).day
    epoch = await store.epoch(day)
    held = await parts.reserve("usr_b")
    await parts.charge(held)
    books = await read_ledger(parts, day)

    await store.rebuild(day, epoch, books, LIFETIME_MS)
    await parts.quota.commit(held)

    assert await parts.counters(day) == await parts.ledger(day)


async def test_settled_after_the_ledger_was_read_makes_the_rebuild_start_over(parts: Parts) -> None:
    store, held = QuotaStore(parts.redis), await parts.reserve("usr_a")
    epoch = await store.epoch(held.day)
    books = await read_ledger(parts, held.day)
    await parts.charge(held)
    await parts.quota.commit(held)

    assert not await store.rebuild(held.day, epoch, books, LIFETIME_MS)
    assert await parts.counters(held.day) == await parts.ledger(held.day)


async def test_settled_on_an_unknown_day_makes_the_rebuild_start_over(parts: Parts) -> None:
    store, held = QuotaStore(parts.redis), await parts.reserve("usr_a")
    await parts.redis.delete(POOL(date=held.day))
    epoch = await store.epoch(held.day)
    books = await read_ledger(parts, held.day)
    await parts.charge(held)
    await parts.quota.commit(held)

    assert not await store.rebuild(held.day, epoch, books, LIFETIME_MS)
    assert await parts.counters(held.day) == await parts.ledger(held.day)


async def test_redis_emptied_after_the_ledger_was_read_makes_the_rebuild_start_over(parts: Parts) -> None:
    store, day = QuotaStore(parts.redis), utc_day(now_ms())
    epoch = await store.epoch(day)
    books = await read_ledger(parts, day)
    await delivered(parts)
    await parts.redis.flushall()

    assert not await store.rebuild(day, epoch, books, LIFETIME_MS)
    await store.epoch(day)  # another process begins a rebuild of its own
    assert not await store.rebuild(day, epoch, books, LIFETIME_MS)
    assert (await parts.counters(day)).pool == 1


async def one_call(parts: Parts, dice: random.Random, number: int) -> None:
    mode, count = dice.choice([("basic_1k", 1), ("batch_1k", 4), ("batch_4k", 2), ("search", 1)])
    address = dice.choice([None, ADDRESS, "203.0.113.8"])
    held = await parts.reserve(f"usr_{dice.randrange(5)}", mode, count, address=address)
    await asyncio.sleep(dice.random() / 100)
    images = dice.choice([0, count, dice.randrange(count + 1)])
    for index in range(images):
        await parts.charge(held, index)
        await asyncio.sleep(dice.random() / 200)
    await parts.quota.commit(held, delivered=images)
    if number % 3 == 0:
        await parts.quota.commit(held, delivered=images)


async def lose(parts: Parts, dice: random.Random, day: str) -> None:
    """Lose everything, all counters of the day, or the pool alone."""
    what = dice.choice(["everything", "counters", "pool"])
    if what == "everything":
        await parts.redis.flushall()
    elif what == "counters":
        await parts.redis.delete(*[key async for key in parts.redis.scan_iter(f"quota:{day}:*")], "-")
    else:
        await parts.redis.delete(POOL(date=day))


async def disturb(parts: Parts, dice: random.Random, day: str) -> None:
    """One loss and one rebuild; more would put right what the ones before have spoilt."""
    await asyncio.sleep(dice.random() / 100)
    await lose(parts, dice, day)
    await asyncio.sleep(dice.random() / 100)
    await parts.quota.rebuild(day)


async def test_a_storm_of_calls_losses_and_rebuilds_ends_with_counters_that_equal_the_ledger(
    open_quota: OpenParts,
) -> None:
    ample = {"TRIAL_GLOBAL_QUOTA": "100000", "TRIAL_GUEST_SHARE": "1"}
    ample |= {f"TRIAL_{mode}_LIMIT": "100000" for mode in ("BASIC_1K", "BATCH_1K", "BATCH_4K", "SEARCH")}
    processes = [await open_quota(**ample), await open_quota(**ample)]
    parts, day, dice = processes[0], utc_day(now_ms()), random.Random(SEED)

    for number in range(40):
        calls = [one_call(processes[n % 2], random.Random(f"{SEED} {number} {n}"), number) for n in range(8)]
        await asyncio.gather(disturb(parts, dice, day), *calls)
        assert await parts.counters(day) == await parts.ledger(day), f"round {number}"

    assert (await parts.ledger(day)).pool > 200
    assert await parts.redis.zcard(RESERVATIONS()) == 0


async def test_the_numbers_of_a_lost_day_are_there_at_once(parts: Parts) -> None:
    held = await delivered(parts)
    await parts.redis.flushall()

    status = await parts.quota.status(QuotaIdentity("usr_a"))

    assert status.pool.used == 1
    assert {entry.mode.key: entry.usage.used for entry in status.modes}["basic_1k"] == 1
    assert await reply(parts.redis.hget(POOL(date=held.day), "global_used")) == "1"


async def test_points_of_a_service_key_are_counted_given_back_and_set_from_the_ledger(parts: Parts) -> None:
    key, other = ("key_a", 5), ("key_b", None)
    kept = await parts.reserve("usr_a", "batch_1k", 4, service_key=key)
    await parts.reserve("usr_a", service_key=other)
    for index in range(2):
        await parts.charge(kept, index)
    with pytest.raises(QuotaExceeded) as refused:
        await parts.reserve("usr_a", "search", service_key=key)
    assert refused.value.details["service_key"] == {"used": 4, "limit": 5, "remaining": 1}

    await parts.quota.commit(kept, delivered=2)
    assert (await parts.counters(kept.day)).service_keys == {"key_a": 2, "key_b": 1}
    held = await parts.reserve("usr_a", "batch_1k", 3, service_key=key)
    # Redis loses the counters, and not what is held: the key's points are those charged and those held.
    await parts.redis.delete(*[name async for name in parts.redis.scan_iter(f"quota:{kept.day}:*")])
    assert (await parts.counters(kept.day)).service_keys == {"key_a": 5, "key_b": 1}
    await parts.quota.release(held)
    assert (await parts.counters(kept.day)).service_keys == {"key_a": 2, "key_b": 1}


async def test_an_expired_reservation_gives_the_service_keys_points_back(open_quota: OpenParts) -> None:
    parts = await open_quota(REQUEST_TIMEOUT_SECONDS="1", RESERVATION_GRACE_SECONDS="0")
    held = await parts.reserve("usr_a", service_key=("key_a", 1))
    await parts.until_expired()
    await parts.recovery.sweep()
    assert (await parts.counters(held.day)).service_keys == {}
