"""Reserving and settling, against the real Redis and the real ledger."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from core.clock import from_datetime, now_ms, utc_day
from core.ids import new_id
from services.quota.errors import Cooldown, QuotaExceeded
from services.quota.models import QuotaIdentity, Reservation
from services.quota.store import Limits, QuotaStore
from tests.quota.conftest import OpenParts
from tests.support.parts import Counted, Parts

ADDRESS = "203.0.113.7"
NOTHING = Counted(0, {}, {})
AMPLE = Limits(pool=100, guest_share=100, mode=100, cooldown=0, lifetime=60_000)


async def test_what_is_reserved_is_used_for_the_pool_the_mode_and_the_share(parts: Parts) -> None:
    held = await parts.reserve("usr_a", "search", 3, address=ADDRESS)

    assert held.points == 6
    assert await parts.counters(held.day) == Counted(6, {("usr_a", "search"): 3}, {ADDRESS: 6})


async def test_a_commit_keeps_the_points_and_a_release_gives_them_back(parts: Parts) -> None:
    kept, given_back = await parts.reserve("usr_a"), await parts.reserve("usr_b", address=ADDRESS)
    await parts.charge(kept)

    assert await parts.quota.commit(kept) == "committed"
    assert await parts.quota.release(given_back) == "released"
    assert await parts.counters(kept.day) == Counted(1, {("usr_a", "basic_1k"): 1}, {}) == await parts.ledger(kept.day)


@pytest.mark.parametrize(("mode", "cost"), [("batch_1k", 1), ("batch_4k", 3)])
async def test_of_five_images_with_three_delivered_two_are_given_back(
    open_quota: OpenParts, mode: str, cost: int
) -> None:
    parts = await open_quota(TRIAL_GUEST_SHARE="1")
    held = await parts.reserve("usr_a", mode, 5, address=ADDRESS)
    for index in range(3):
        await parts.charge(held, index)

    await parts.quota.commit(held, delivered=3)

    expected = Counted(3 * cost, {("usr_a", mode): 3}, {ADDRESS: 3 * cost})
    assert await parts.counters(held.day) == expected == await parts.ledger(held.day)


async def test_a_reservation_asked_for_again_is_the_one_that_stands(parts: Parts) -> None:
    identity, call_id = QuotaIdentity("usr_a"), new_id("call")
    first = await parts.quota.reserve(identity, "chat", 2, reservation_id=call_id, note="the first")
    again = await parts.quota.reserve(identity, "chat", 2, reservation_id=call_id, note="another")

    assert again == first
    assert await parts.counters(first.day) == Counted(2, {("usr_a", "chat"): 2}, {})


async def test_fifty_times_one_reservation_at_once_takes_its_points_once(parts: Parts) -> None:
    identity, call_id = QuotaIdentity("usr_a"), new_id("call")
    held = await asyncio.gather(*(parts.quota.reserve(identity, "chat", 1, reservation_id=call_id) for _ in range(50)))

    assert len({reservation.made_at for reservation in held}) == 1
    assert await parts.counters(held[0].day) == Counted(1, {("usr_a", "chat"): 1}, {})


async def test_a_reservation_that_was_committed_is_never_taken_again(parts: Parts) -> None:
    held = await parts.reserve()
    await parts.charge(held)
    await parts.quota.commit(held)

    again = await parts.quota.reserve(held.identity, held.mode, 1, reservation_id=held.id)
    await parts.quota.release(again)

    assert await parts.counters(held.day) == await parts.ledger(held.day)


async def test_a_reservation_that_was_released_can_be_made_anew(parts: Parts) -> None:
    held = await parts.reserve()
    await parts.quota.release(held)

    again = await parts.quota.reserve(held.identity, held.mode, 1, reservation_id=held.id)
    assert (await parts.counters(held.day)).pool == 1
    await parts.quota.release(again)
    assert await parts.counters(held.day) == NOTHING


@pytest.mark.parametrize("delivered", [0, 2])
async def test_settling_twice_changes_nothing(parts: Parts, delivered: int) -> None:
    held = await parts.reserve("usr_a", "batch_1k", 3, address=ADDRESS)
    for index in range(delivered):
        await parts.charge(held, index)
    for amount in (delivered, delivered, 0):
        await parts.quota.commit(held, delivered=amount)

    assert await parts.counters(held.day) == await parts.ledger(held.day)


async def test_many_releases_at_once_give_back_once(parts: Parts) -> None:
    other = await parts.reserve("usr_b")
    held = await parts.reserve("usr_a", "search", 2)
    outcomes = await asyncio.gather(*(parts.quota.release(held) for _ in range(20)))

    assert set(outcomes) == {"released"}
    assert await parts.counters(other.day) == Counted(1, {("usr_b", "basic_1k"): 1}, {})


async def test_the_cooldown_is_each_users_own_and_stays_on_failure(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_COOLDOWN_SECONDS="60")
    held = await parts.reserve("usr_a")
    await parts.quota.release(held)

    with pytest.raises(Cooldown) as refused:
        await parts.reserve("usr_a")
    assert refused.value.retry_after is not None
    assert 55 <= refused.value.retry_after <= 60
    await parts.reserve("usr_b")


async def test_the_cooldown_ends(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_COOLDOWN_SECONDS="0.2")
    await parts.reserve("usr_a")
    async with asyncio.timeout(5):
        while True:
            try:
                await parts.reserve("usr_a")
                break
            except Cooldown:
                await asyncio.sleep(0.02)
    assert (await parts.counters(utc_day(now_ms()))).pool == 2


async def test_the_cooldown_does_not_end_at_midnight(parts: Parts) -> None:
    store, limits = QuotaStore(parts.redis), replace(AMPLE, cooldown=60_000)
    before, after = (from_datetime(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)) + ms for ms in (0, 2_000))
    for day in ("2026-01-31", "2026-02-01"):
        await parts.quota.rebuild(day)
    one, other = (
        Reservation(new_id("call"), QuotaIdentity("usr_a"), "basic_1k", 1, 1, utc_day(at), at) for at in (before, after)
    )

    assert (await store.reserve(one, limits)).result == "reserved"
    assert (await store.reserve(other, limits)).result == "cooldown"
    assert (await store.counters(other.identity, other.day, after - limits.cooldown)).last_generation is not None
    assert (await store.reserve(other, replace(limits, cooldown=0))).result == "reserved"


async def test_a_refused_reservation_takes_nothing_and_starts_no_cooldown(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_COOLDOWN_SECONDS="60", TRIAL_GLOBAL_QUOTA="2")
    with pytest.raises(QuotaExceeded):
        await parts.reserve("usr_a", "basic_4k")

    assert (await parts.reserve("usr_a")).points == 1


async def test_the_pool_is_everybodys(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_GLOBAL_QUOTA="3")
    await parts.reserve("usr_a", "search")

    with pytest.raises(QuotaExceeded) as refused:
        await parts.reserve("usr_b", "search")
    assert refused.value.details["reason"] == "pool"
    await parts.reserve("usr_b", "basic_1k")


async def test_guests_of_one_address_share_and_other_people_do_not(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_GLOBAL_QUOTA="10", TRIAL_GUEST_SHARE="0.2")
    await parts.reserve("usr_a", address=ADDRESS)
    await parts.reserve("usr_b", address=ADDRESS)

    with pytest.raises(QuotaExceeded) as refused:
        await parts.reserve("usr_c", address=ADDRESS)
    assert refused.value.details["reason"] == "guest_share"
    await parts.reserve("usr_d", address="203.0.113.8")
    await parts.reserve("usr_e")


async def test_a_modes_limit_is_each_users_own(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_CHAT_LIMIT="2")
    await parts.reserve("usr_a", "chat", 2)

    with pytest.raises(QuotaExceeded) as refused:
        await parts.reserve("usr_a", "chat")
    assert refused.value.details["reason"] == "mode"
    await parts.reserve("usr_a", "search")
    await parts.reserve("usr_b", "chat", 2)


async def test_a_mode_that_costs_nothing_is_limited_all_the_same(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_GLOBAL_QUOTA="0", TRIAL_TEXT_LIMIT="1")
    await parts.reserve("usr_a", "text")
    with pytest.raises(QuotaExceeded) as refused:
        await parts.reserve("usr_a", "text")
    assert refused.value.details["reason"] == "mode"


async def test_the_checks_come_in_their_order(parts: Parts) -> None:
    store, taken = QuotaStore(parts.redis), await parts.reserve("usr_a", address=ADDRESS)
    wanted = Reservation(new_id("call"), taken.identity, taken.mode, 1, 1, taken.day, taken.made_at)
    limits = Limits(pool=1, guest_share=1, mode=1, cooldown=60_000, lifetime=60_000)

    found = []
    for opened in ({"cooldown": 0}, {"pool": 9}, {"guest_share": 9}, {"mode": 9}):
        found.append((await store.reserve(wanted, limits)).result)
        limits = replace(limits, **opened)
    found.append((await store.reserve(wanted, limits)).result)

    assert found == ["cooldown", "pool", "guest_share", "mode", "reserved"]


async def test_two_hundred_at_once_on_two_processes_never_overdraw_the_pool(open_quota: OpenParts) -> None:
    limits = {"TRIAL_GLOBAL_QUOTA": "10", "TRIAL_GUEST_SHARE": "1"}
    processes = [await open_quota(**limits), await open_quota(**limits)]
    outcomes = await asyncio.gather(
        *(processes[n % 2].reserve(f"usr_{n}", address=f"203.0.113.{n % 7}") for n in range(200)),
        return_exceptions=True,
    )

    made = [outcome for outcome in outcomes if isinstance(outcome, Reservation)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, QuotaExceeded)]
    assert (len(made), len(refused)) == (10, 190)
    assert {error.details["reason"] for error in refused} == {"pool"}
    assert (await processes[0].counters(made[0].day)).pool == 10


async def test_points_that_do_not_fit_whole_are_not_taken_in_part(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_GLOBAL_QUOTA="10")
    outcomes = await asyncio.gather(*(parts.reserve(f"usr_{n}", "basic_4k") for n in range(50)), return_exceptions=True)

    made = [outcome for outcome in outcomes if isinstance(outcome, Reservation)]
    assert len(made) == 3
    assert (await parts.counters(made[0].day)).pool == 9


async def test_one_users_limit_holds_against_many_at_once(open_quota: OpenParts) -> None:
    parts = await open_quota(TRIAL_CHAT_LIMIT="4")
    outcomes = await asyncio.gather(*(parts.reserve("usr_a", "chat") for _ in range(60)), return_exceptions=True)

    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 4
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 56


async def test_points_belong_to_the_day_of_their_reservation(parts: Parts) -> None:
    """A call over midnight: settled tomorrow, it counts for its own day."""
    store, day = QuotaStore(parts.redis), "2026-01-31"
    await parts.quota.rebuild(day)
    held = Reservation(new_id("call"), QuotaIdentity("usr_a"), "search", 4, 2, day, now_ms())
    await store.reserve(held, AMPLE)
    await parts.charge(held)

    await parts.quota.commit(held, delivered=1)

    assert (await store.counters(held.identity, day)).pool == 2 == (await parts.ledger(day)).pool
    assert await parts.counters(utc_day(now_ms())) == NOTHING


async def test_every_key_of_a_day_ends_by_itself(parts: Parts) -> None:
    held = await parts.reserve("usr_a", address=ADDRESS)
    await parts.quota.commit(held, delivered=0)
    await parts.quota.commit(replace(held, id=new_id("call")))

    keys = [key async for key in parts.redis.scan_iter("quota:*") if key != "quota:reservations"]
    assert len(keys) == 4
    for key in keys:
        assert 0 < await parts.redis.ttl(key) <= 2 * 24 * 3600, key
