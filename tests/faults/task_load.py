"""What the fault tests of tasks share: workers that are started again when they end, many tasks, their books."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from sqlalchemy import Connection, func, select

from core.clock import Milliseconds, now_ms
from core.errors import DependencyUnavailable
from services.history.store import images
from services.quota.holds import holds
from services.tasks.store import running, tasks
from services.tasks.transitions import LEASE_MS
from tests.faults.support import read_books, until_nothing_is_held
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.workers import Workers, submit, submit_batch, until_settled

LOOK_SECONDS = 0.2
START_SECONDS = 30
# Of the 30 that are promised from a worker's death on; the lease was renewed before that.
MOST_WITHOUT_WORKER_MS = 30_000
BATCH_OF = 3
SUBMITTED_AT_ONCE = 50


class Crew:
    """So many workers, each started again when it has ended, as their leader does; `killed` of them so far."""

    def __init__(self, workers: Workers, count: int) -> None:
        self.killed = 0
        self._workers = workers
        self._count = count
        self._at_work: set[asyncio.subprocess.Process] = set()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(self._keep_one()) for _ in range(self._count)]
            try:
                yield
            finally:
                for task in keeping:
                    task.cancel()

    async def kill_one(self) -> None:
        victim = random.choice(sorted(self._at_work, key=lambda process: process.pid))
        self._at_work.discard(victim)
        await self._workers.kill(victim)
        self.killed += 1

    async def _keep_one(self) -> None:
        while True:
            process = await self._workers.start()
            self._at_work.add(process)
            await process.wait()
            self._at_work.discard(process)


async def submit_many(guests: Sequence[Guest], count: int) -> dict[str, int]:
    """So many tasks, every fifth a batch of three, up to 50 at once; how many images each is of, by its id."""
    places = asyncio.Semaphore(SUBMITTED_AT_ONCE)

    async def one(number: int) -> tuple[str, int]:
        guest, prompt = guests[number % len(guests)], f"number {number}"
        async with places:
            if number % 5 == 0:
                return await submit_batch(guest, BATCH_OF, prompt), BATCH_OF
            return await submit(guest, prompt), 1

    return dict(await asyncio.gather(*map(one, range(count))))


async def processing(service: RunningService) -> list[tuple[str, str, Milliseconds]]:
    """Id, worker and end of the lease of each task that is processing."""
    asked = select(tasks.c.id, tasks.c.worker, tasks.c.lease_until).where(running)
    rows = await service.container.database.read(lambda connection: connection.execute(asked).all())
    return [(task_id, worker, lease_until) for task_id, worker, lease_until in rows]


async def until_processing(service: RunningService, count: int) -> None:
    async def so_many() -> bool:
        return len(await processing(service)) >= count

    assert await eventually(so_many, START_SECONDS), await processing(service)


@asynccontextmanager
async def nothing_stays_with_the_dead(service: RunningService) -> AsyncIterator[None]:
    """While this is open no task is processing for longer than 30 s after its worker gave its last sign of life."""
    longest: Milliseconds = 0

    async def look() -> None:
        nonlocal longest
        while True:
            with suppress(DependencyUnavailable):
                for _, _, lease_until in await processing(service):
                    longest = max(longest, now_ms() - (lease_until - LEASE_MS))
            await asyncio.sleep(LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    assert longest < MOST_WITHOUT_WORKER_MS, f"a task was processing {longest} ms after its worker's last sign of life"


async def open_tasks(service: RunningService) -> list[tuple[str, str]]:
    """Id and status of each task that has not ended."""
    asked = select(tasks.c.id, tasks.c.status).where(tasks.c.closed_at.is_(None))
    return await service.container.database.read(lambda connection: [tuple(row) for row in connection.execute(asked)])


async def until_all_are_closed(service: RunningService, seconds: float) -> None:
    async def closed() -> bool:
        return not await open_tasks(service)

    assert await eventually(closed, seconds), await open_tasks(service)


async def assert_books_balance(
    service: RunningService, redis_url: str, accepted: Mapping[str, int], others: int = 0
) -> None:
    """Of a service whose tasks are all closed: each of those that were accepted, images of each by its id, is done; an
    image is stored once and charged once; nothing is held; rows, objects, ledger and counters say the same. `others`:
    images that no task has made.
    """
    database = service.container.database
    await until_nothing_is_held(redis_url)
    assert await database.read(_count_of_holds) == 0
    ends = await database.read(_ends)
    assert {task_id: ends.get(task_id) for task_id in accepted} == {
        task_id: ("completed", count) for task_id, count in accepted.items()
    }
    made = await database.read(_images_by_task)
    total = sum(made.values())
    assert made.pop(None, 0) == others
    assert made == {task_id: completed for task_id, (_, completed) in ends.items() if completed}
    books = read_books(service.data_dir)
    assert books.half_objects == (), "an object without its record, or a record without its object"
    assert books.unknown_objects == (), "an object that no row knows"
    assert books.missing_objects == (), "a row whose object is gone or cut"
    assert len(service.stored("users/**/*.png")) == total, "an image is stored twice"
    assert books.charged == books.listed
    assert books.points == total
    await until_settled(await service.guest(), books.points)


def _count_of_holds(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(holds)).scalar_one()


def _ends(connection: Connection) -> dict[str, tuple[str, int]]:
    rows = connection.execute(select(tasks.c.id, tasks.c.status, tasks.c.completed))
    return {task_id: (status, completed) for task_id, status, completed in rows}


def _images_by_task(connection: Connection) -> dict[str | None, int]:
    rows = connection.execute(select(images.c.task_id, func.count()).group_by(images.c.task_id))
    return dict(rows.all())
