"""Marking images while somebody else changes the same ones, in the order that only PostgreSQL allows."""

import asyncio
from collections.abc import Collection

import pytest
from sqlalchemy import Connection, select

from core.clients.database import Database
from services.history import due, trash
from services.history.store import images
from services.history.trash import Clearance
from tests.history.shelf import make, multiply
from tests.support.databases import databases
from tests.support.service import RunningService

pytestmark = pytest.mark.postgresql_only

LATER = 2**50
WAITING = 0.3


async def states(database: Database) -> dict[str, int | None]:
    rows = await database.read(lambda connection: connection.execute(select(images.c.id, images.c.deleted_at)).all())
    return {row[0]: row[1] for row in rows}


def quoted(ids: Collection[str]) -> str:
    return ", ".join(f"'{image_id}'" for image_id in ids)


async def shelf_of(service: RunningService, count: int) -> tuple[str, list[str]]:
    """A user and the ids of as many images."""
    guest = await service.guest()
    (first,) = await make(guest, 1)
    return guest.id, [first, *await multiply(service, first, count - 1)]


async def test_what_is_put_back_while_the_purge_takes_what_is_due_stays(shelf: RunningService) -> None:
    user, ids = await shelf_of(shelf, 4)
    database, back = shelf.container.database, ids[1]
    await database.write(lambda connection: trash.move(connection, user, ids, 5))

    with databases.holding(shelf.data_dir, f"UPDATE images SET deleted_at = NULL WHERE id = '{back}'", commit=True):
        taking = asyncio.create_task(
            database.write(lambda connection: due.take_trashed(connection, before=10, limit=100))
        )
        await asyncio.sleep(WAITING)
        assert not taking.done()

    assert {image.id for image in await taking} == set(ids) - {back}
    assert (await states(database))[back] is None


async def test_a_history_is_not_taken_for_cleared_because_some_of_it_went_by_itself(shelf: RunningService) -> None:
    user, ids = await shelf_of(shelf, 8)
    database, batch = shelf.container.database, 4
    clearance = Clearance("clr_a", user, "trash", LATER)
    await database.write(lambda connection: trash.note_clearance(connection, clearance))

    def clear(connection: Connection) -> bool:
        return trash.clear_some(connection, clearance, batch)

    # Whichever the batch begins with: all of them wait for the first ones of it.
    going = f"UPDATE images SET deleted_at = 5 WHERE id IN ({quoted(ids[:2])})"
    with databases.holding(shelf.data_dir, going, commit=True):
        first, second = (asyncio.create_task(database.write(clear)) for _ in range(2))
        await asyncio.sleep(WAITING)
        assert not (first.done() and second.done())

    assert await first or await second
    while await database.write(clear):
        pass
    assert await states(database) == dict.fromkeys(ids, LATER) | dict.fromkeys(ids[:2], 5), "none is marked twice"
    assert await database.read(lambda connection: trash.noted_clearances(connection, 10)) == []


async def test_two_runs_at_once_take_over_the_cap_what_one_would(shelf: RunningService) -> None:
    """Two that do not know of each other: a lease is no proof."""
    _, ids = await shelf_of(shelf, 8)
    database = shelf.container.database
    databases.change(shelf.data_dir, "UPDATE images SET size = 10")

    with databases.holding(shelf.data_dir, "SELECT pg_advisory_xact_lock(hashtextextended('storage cap', 0))"):
        taking = [
            asyncio.create_task(database.write(lambda connection: due.take_over_cap(connection, cap=50, limit=100)))
            for _ in range(2)
        ]
        await asyncio.sleep(WAITING)
        assert not any(task.done() for task in taking)

    taken = [image.id for task in taking for image in await task]
    assert len(taken) == len(set(taken)) == 3
    assert sum(deleted_at is None for deleted_at in (await states(database)).values()) == len(ids) - 3


async def test_what_its_owner_removes_while_the_cap_is_looked_at_counts_as_gone(shelf: RunningService) -> None:
    _, ids = await shelf_of(shelf, 8)
    database = shelf.container.database
    databases.change(shelf.data_dir, "UPDATE images SET size = 10")

    going = f"UPDATE images SET deleted_at = 0 WHERE id IN ({quoted(ids[:2])})"
    with databases.holding(shelf.data_dir, going, commit=True):
        taking = asyncio.create_task(
            database.write(lambda connection: due.take_over_cap(connection, cap=50, limit=100))
        )
        await asyncio.sleep(WAITING)
        assert not taking.done()

    assert len(await taking) == 1, "two of the three that were too many have gone already"
