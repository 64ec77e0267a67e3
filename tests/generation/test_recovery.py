"""The sweep against the crash table of SPEC section 9: a process that died at each step, then two sweeps."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.history.models import HistoryFilter, Image
from services.quota.models import Reservation
from services.quota.store import RESERVATIONS
from services.storage.names import record_key
from tests.support.parts import IMAGE_BYTES, Counted, Parts, image_id, open_parts

LIFETIME = "0.05"
NOTHING = Counted(0, {}, {})
ONE_IMAGE = Counted(1, {("usr_a", "basic_1k"): 1}, {})


@dataclass(frozen=True)
class Found:
    """What stands after a sweep."""

    counters: Counted
    ledger: Counted
    images: tuple[str, ...]
    objects: tuple[str, ...]
    held: int


@pytest.fixture
async def workers(redis_url: str, empty_database: Path, tmp_path: Path) -> AsyncIterator[tuple[Parts, Parts]]:
    """Two processes over the same data, in which a reservation is taken for dead at once."""
    environment = {
        "DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0",
        "REQUEST_TIMEOUT_SECONDS": LIFETIME, "RESERVATION_GRACE_SECONDS": "0",
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_parts(environment, empty_database))
        yield first, await stack.enter_async_context(open_parts(environment, empty_database))


async def nothing_but_reserved(parts: Parts, reservation: Reservation) -> None:
    """The process died before it stored anything."""


async def bytes_alone(parts: Parts, reservation: Reservation) -> None:
    await parts.store_bytes(reservation)


async def bytes_and_record(parts: Parts, reservation: Reservation) -> None:
    await parts.store(reservation)


async def indexed_and_charged(parts: Parts, reservation: Reservation) -> None:
    await parts.keeper.index(await parts.store(reservation))


async def look(parts: Parts, day: str) -> Found:
    page = await parts.container.history.page("usr_a", HistoryFilter(), "newest", 50, 0)
    return Found(
        await parts.counters(day),
        await parts.ledger(day),
        tuple(image.id for image in page.items),
        tuple([info.key async for info in parts.container.storage.list("users/")]),
        await parts.redis.zcard(RESERVATIONS()),
    )


def kept(reservation: Reservation) -> Found:
    objects = (record_key(reservation.note), f"{reservation.note}.png")
    return Found(ONE_IMAGE, ONE_IMAGE, (image_id(reservation.id),), objects, 0)


GIVEN_BACK = Found(NOTHING, NOTHING, (), (), 0)
Crash = Callable[[Parts, Reservation], Awaitable[None]]
TABLE: list[tuple[Crash, bool]] = [
    (nothing_but_reserved, False),
    (bytes_alone, False),
    (bytes_and_record, True),
    (indexed_and_charged, True),
]


@pytest.mark.parametrize(("crash", "finished"), TABLE, ids=[crash.__name__ for crash, _ in TABLE])
async def test_what_a_dead_process_left_is_finished_or_given_back_and_a_second_sweep_changes_nothing(
    workers: tuple[Parts, Parts], crash: Crash, finished: bool
) -> None:
    parts, other = workers
    held = await parts.reserve()
    await crash(parts, held)
    await parts.until_expired()

    assert await parts.recovery.sweep() == 1
    after = await look(parts, held.day)
    assert after == (kept(held) if finished else GIVEN_BACK)

    assert await other.recovery.sweep() == 0
    assert await look(parts, held.day) == after


@pytest.mark.parametrize(("crash", "finished"), TABLE, ids=[crash.__name__ for crash, _ in TABLE])
async def test_sweeps_of_several_workers_at_once_do_the_same_as_one(
    workers: tuple[Parts, Parts], crash: Crash, finished: bool
) -> None:
    parts, other = workers
    held = await parts.reserve()
    await crash(parts, held)
    await parts.until_expired()

    await asyncio.gather(*(one.recovery.sweep() for one in (parts, other, parts, other)))

    assert await look(parts, held.day) == (kept(held) if finished else GIVEN_BACK)


async def test_a_worker_that_dies_before_it_clears_away_the_bytes_leaves_them_to_the_next(
    workers: tuple[Parts, Parts],
) -> None:
    parts, other = workers
    held = await parts.reserve()
    await parts.store_bytes(held)
    await parts.until_expired()
    # As far as it gets that dies here: the points are given back, the bytes are not gone.
    await parts.quota.release(held, stays_listed=True)

    assert (await parts.counters(held.day), await parts.redis.zcard(RESERVATIONS())) == (NOTHING, 1)
    assert await other.recovery.sweep() == 1
    assert await look(parts, held.day) == GIVEN_BACK


async def test_a_call_reserved_anew_while_its_remains_were_cleared_away_is_still_found(
    workers: tuple[Parts, Parts],
) -> None:
    parts, worker = workers
    held = await parts.reserve()
    await parts.until_expired()
    await worker.quota.release(held, stays_listed=True)
    again = await parts.quota.reserve(held.identity, held.mode, 1, reservation_id=held.id, note=held.note)
    await worker.quota.dismiss(held)

    assert await parts.counters(held.day) == ONE_IMAGE
    await parts.store(again)
    await parts.until_expired()
    assert await worker.recovery.sweep() == 1
    assert await look(parts, held.day) == kept(again)


async def test_counters_set_from_the_ledger_leave_a_released_call_listed_and_uncounted(
    workers: tuple[Parts, Parts],
) -> None:
    parts, _ = workers
    held = await parts.reserve()
    await parts.quota.release(held, stays_listed=True)

    assert await parts.quota.rebuild(held.day)
    assert (await parts.counters(held.day), await parts.redis.zcard(RESERVATIONS())) == (NOTHING, 1)


async def test_a_sweep_leaves_alone_what_is_still_under_way(
    redis_url: str, empty_database: Path, tmp_path: Path
) -> None:
    environment = {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "REQUEST_TIMEOUT_SECONDS": "60"}
    async with open_parts(environment, empty_database) as parts:
        held = await parts.reserve()
        stored = await parts.store_bytes(held)

        assert await parts.recovery.sweep() == 0
        assert stored.exists()
        assert (await parts.counters(held.day)).pool == 1


async def test_a_call_that_is_late_but_alive_is_charged_although_its_points_were_given_back(
    workers: tuple[Parts, Parts],
) -> None:
    parts, worker = workers
    held = await parts.reserve()
    await parts.until_expired()
    await worker.recovery.sweep()
    assert await parts.counters(held.day) == NOTHING

    await parts.keeper.index(await parts.store(held))
    assert await parts.quota.commit(held) == "released"

    assert await look(parts, held.day) == kept(held)


async def test_a_swept_image_has_its_bytes_and_all_that_its_record_says(workers: tuple[Parts, Parts]) -> None:
    parts, _ = workers
    held = await parts.reserve()
    record = await parts.store(held)
    await parts.until_expired()
    await parts.recovery.sweep()

    image: Image = await parts.container.history.get("usr_a", image_id(held.id))
    assert image == record.image
    assert await parts.container.storage.get(image.key) == IMAGE_BYTES


async def test_of_several_images_only_those_in_the_ledger_are_kept_charged(workers: tuple[Parts, Parts]) -> None:
    parts, _ = workers
    held = await parts.reserve(mode="batch_1k", count=5)
    await parts.charge(held, 0)
    await parts.charge(held, 1)
    await parts.until_expired()

    await parts.recovery.sweep()

    assert await parts.counters(held.day) == await parts.ledger(held.day)
    assert (await parts.ledger(held.day)).pool == 2


async def test_an_image_whose_record_cannot_be_read_is_given_back_but_not_removed(
    workers: tuple[Parts, Parts],
) -> None:
    """A record of a newer version, for instance, while a roll-out goes on."""
    parts, _ = workers
    held = await parts.reserve()
    stored = await parts.store_bytes(held)
    record = b'{"version": 99, "something": "else"}'
    await parts.container.storage.put(record_key(held.note), record, content_type="application/json")
    await parts.until_expired()

    assert await parts.recovery.sweep() == 1
    assert await parts.counters(held.day) == NOTHING
    assert stored.read_bytes() == IMAGE_BYTES


async def test_one_that_cannot_be_settled_keeps_no_other_from_it(workers: tuple[Parts, Parts]) -> None:
    parts, _ = workers
    first = await parts.reserve("usr_b")
    # A name too long for the disk: the storage fails for this one, and for this one alone.
    broken = await parts.quota.reserve(
        first.identity, "chat", 1, reservation_id="call_broken", note="users/" + "x" * 300
    )
    last = await parts.reserve("usr_a")
    await parts.store(last)
    await parts.until_expired(3)

    assert await parts.recovery.sweep() == 2
    assert (await parts.container.history.get("usr_a", image_id(last.id))).call_id == last.id
    left = await parts.quota.expired()
    assert left == [broken]


async def test_the_database_away_leaves_the_reservation_for_the_next_sweep(workers: tuple[Parts, Parts]) -> None:
    parts, _ = workers
    held = await parts.reserve()
    await parts.store(held)
    await parts.until_expired()
    rename = "ALTER TABLE {} RENAME TO {}".format
    await parts.container.database.write(lambda connection: connection.exec_driver_sql(rename("images", "gone")))

    assert await parts.recovery.sweep() == 0
    assert len(await parts.quota.expired()) == 1

    await parts.container.database.write(lambda connection: connection.exec_driver_sql(rename("gone", "images")))
    assert await parts.recovery.sweep() == 1
    assert await look(parts, held.day) == kept(held)
