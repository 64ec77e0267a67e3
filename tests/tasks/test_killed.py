"""Workers that are killed at each step of a task's way: the next one goes on, and the books balance."""

import asyncio
from dataclasses import dataclass

import pytest

from tests.support.databases import databases
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.workers import Workers, read, submit_batch, until, until_settled

IMAGES = 3


@dataclass(frozen=True)
class Death:
    """Where a worker dies, and what stands of its task then."""

    point: str
    status: str
    completed: int

    @property
    def attempts(self) -> int:
        """Only an end that is told is not begun anew."""
        return 1 if self.status == "completed" else 2


DEATHS = (
    Death("task_started", "processing", 0),
    Death("item_delivered:2", "processing", 2),
    Death("task_ended", "completed", IMAGES),
)


@pytest.fixture
async def guest(tasks_service: RunningService) -> Guest:
    return await tasks_service.guest()


async def test_whatever_step_a_worker_dies_at_the_next_one_finishes_it(
    tasks_service: RunningService, workers: Workers, guest: Guest
) -> None:
    data = tasks_service.data_dir
    tasks = dict[Death, str]()
    for death in DEATHS:
        tasks[death] = await submit_batch(guest, IMAGES, death.point)
        worker = await workers.start(FAIL_POINT=death.point, BATCH_CONCURRENCY="1")
        async with asyncio.timeout(30):
            assert await worker.wait() == -9, workers.log()
        left = await read(guest, tasks[death])
        assert (left["status"], left["completed"]) == (death.status, death.completed), death
    assert await guest.used() == len(DEATHS) * IMAGES, "what is held is held, though nobody is left"
    forgotten = await submit_batch(guest, 1, "made by a guest, long ago")
    databases.change(data, "UPDATE tasks SET expires_at = 1 WHERE id = :id", id=forgotten)
    # The leases of the dead run out.
    databases.change(data, "UPDATE tasks SET lease_until = lease_until - 20000 WHERE lease_until IS NOT NULL")
    await workers.start()

    for death, task_id in tasks.items():
        task = await until(guest, task_id, "completed", "failed")
        assert (task["status"], task["completed"], task["attempts"]) == ("completed", IMAGES, death.attempts), death

    async def all_closed() -> bool:
        return databases.ask(data, "SELECT count(*) FROM tasks WHERE closed_at IS NULL") == [(0,)]

    assert await eventually(all_closed, 20)
    # One that guests had made before goes by itself once it has ended.
    assert await eventually(lambda: is_gone(guest, forgotten), 20)
    await until_settled(guest, len(DEATHS) * IMAGES + 1)
    for table, rows in (("charges", 10), ("images", 10), ("quota_holds", 0), ("tasks", len(DEATHS))):
        assert databases.ask(data, f"SELECT count(*) FROM {table}") == [(rows,)], table
    assert len(tasks_service.stored("users/**/*.png")) == len(tasks_service.stored("users/**/*.json")) == 10
    assert list((data / "spool").iterdir()) == []


async def is_gone(guest: Guest, task_id: str) -> bool:
    return (await guest.client.get(f"/api/v1/tasks/{task_id}")).status_code == 404
