"""What goes of tasks by itself: those of guests, and references that belong to none."""

import os
import time

import pytest

from api.schemas.generate import EXAMPLE_IMAGES
from core.clock import DAY_MS, now_ms
from core.errors import NotFound
from services.tasks.events import EVENTS
from services.tasks.retention import ORPHANED_MS
from tests.support.databases import databases
from tests.support.people import bearer, registered
from tests.support.service import Guest, RunningService
from tests.tasks.workers import cancel, submit


async def cancelled_blend(guest: Guest) -> str:
    answer = await guest.client.post(
        "/api/generate/blend",
        json={"prompt": "Both as one flag", "images": list(EXAMPLE_IMAGES)},
        headers={"Prefer": "respond-async"},
    )
    task_id: str = answer.json()["data"]["task_id"]
    await cancel(guest, task_id)
    return task_id


def expiry(service: RunningService, task_id: str) -> int | None:
    ((found,),) = databases.ask(service.data_dir, "SELECT expires_at FROM tasks WHERE id = :id", id=task_id)
    return None if found is None else int(found)


def let_it_pass(service: RunningService) -> None:
    """The retention of all that guests have made so far."""
    databases.change(service.data_dir, "UPDATE tasks SET expires_at = expires_at - :by", by=2 * DAY_MS)


async def test_what_a_guest_had_made_goes_after_its_time_with_all_that_hangs_on_it(
    tasks_service: RunningService,
) -> None:
    guest, ada = await tasks_service.guest(), await registered(tasks_service, "ada@example.org")
    over, going_on, hers = await cancelled_blend(guest), await submit(guest), await submit(ada)
    await cancel(ada, hers)
    kept_until = expiry(tasks_service, over)
    assert kept_until is not None
    assert 0 <= now_ms() + DAY_MS - kept_until < 60_000, "GUEST_RETENTION_HOURS is 24"
    assert expiry(tasks_service, hers) is None
    retention, tasks, redis = (
        tasks_service.container.task_retention, tasks_service.container.tasks, tasks_service.container.redis,
    )  # fmt: skip
    assert await retention.forget_expired() == 0
    assert len(tasks_service.stored("tasks/**/*")) == 2, "for another try"
    assert await redis.exists(EVENTS(task_id=over))

    let_it_pass(tasks_service)
    assert await retention.forget_expired() == 1
    with pytest.raises(NotFound):
        await tasks.get(guest.id, over)
    assert tasks_service.stored("tasks/**/*") == []
    assert not await redis.exists(EVENTS(task_id=over))
    assert (await tasks.get(guest.id, going_on)).status == "pending", "what goes on is not taken from anybody"
    assert (await tasks.get(ada.id, hers)).status == "cancelled"
    await cancel(guest, going_on)
    assert await retention.forget_expired() == 1


async def test_what_a_guest_had_made_stays_with_whom_they_become(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    task_id = await submit(guest)
    await cancel(guest, task_id)
    ada = await registered(tasks_service, "ada@example.org", headers=bearer(guest))
    assert expiry(tasks_service, task_id) is None
    assert await tasks_service.container.task_retention.forget_expired() == 0
    assert (await tasks_service.container.tasks.get(ada.id, task_id)).status == "cancelled"


async def test_references_without_a_task_are_removed_once_nobody_can_come_for_them(
    tasks_service: RunningService,
) -> None:
    guest = await tasks_service.guest()
    await cancelled_blend(guest)
    for task_id in ("task_broken_off", "task_just_now"):
        await tasks_service.container.storage.put(f"tasks/{task_id}/0", b"an image", content_type="image/png")
    long_ago = time.time() - ORPHANED_MS / 1000 - 60
    for path in tasks_service.stored("tasks/**/*"):
        if "just_now" not in str(path):
            os.utime(path, (long_ago, long_ago))
    retention = tasks_service.container.task_retention
    assert await retention.clear_orphans() == 1
    left = {path.parent.name for path in tasks_service.stored("tasks/**/*")}
    assert len(left) == 2
    assert "task_broken_off" not in left
    assert await retention.clear_orphans() == 0
