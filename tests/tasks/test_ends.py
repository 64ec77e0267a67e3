"""How tasks end that nobody completes: cancelled too often, at their time limit, given up after too many deaths."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from benchmarks.gemini_standin import GeminiStandin
from services.quota.task_quota import DROPS_GIVEN_BACK
from services.tasks.sweep import MOST_DEATHS
from tests.support.databases import databases
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.test_at_once import AGO_MS, started
from tests.tasks.workers import cancel, read, submit_batch, until, until_settled, working


@pytest.fixture
async def guest(tasks_service: RunningService) -> Guest:
    return await tasks_service.guest()


@pytest.fixture
async def worker(tasks_service: RunningService) -> AsyncIterator[None]:
    async with working(tasks_service):
        yield


def limit(service: RunningService, task_id: str, milliseconds: int) -> None:
    """How long the task may take, from its start."""
    text = "UPDATE tasks SET time_limit_ms = :limit WHERE id = :id"
    assert databases.change(service.data_dir, text, limit=milliseconds, id=task_id) == 1


def charges(service: RunningService) -> int:
    ((points,),) = databases.ask(service.data_dir, "SELECT coalesce(sum(points), 0) FROM charges")
    return int(points)


@pytest.mark.usefixtures("worker")
async def test_from_the_sixth_cancelled_task_of_a_day_calls_on_their_way_are_charged(
    tasks_service: RunningService, guest: Guest, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="hang")

    async def cancel_under_way(count: int) -> None:
        gemini.clear_requests()
        task_id = await submit_batch(guest, count)

        async def all_sent() -> bool:
            return len(gemini.requests()) == count

        assert await eventually(all_sent)
        assert (await cancel(guest, task_id)).json()["data"]["status"] == "cancelled"

    for _ in range(DROPS_GIVEN_BACK):
        await cancel_under_way(2)
    await until_settled(guest, 0)
    await cancel_under_way(2)
    await until_settled(guest, 2)
    assert charges(tasks_service) == 2
    assert (await guest.history())["total"] == 0
    await cancel_under_way(1)
    await until_settled(guest, 3)


async def test_what_waits_is_given_back_however_often_it_is_cancelled(
    tasks_service: RunningService, guest: Guest
) -> None:
    for _ in range(DROPS_GIVEN_BACK + 2):
        assert (await cancel(guest, await submit_batch(guest, 2))).status_code == 200
    assert await guest.used() == 0
    assert charges(tasks_service) == 0
    assert databases.ask(tasks_service.data_dir, "SELECT count(*) FROM dropped_calls") == [(0,)]


async def test_at_its_time_limit_a_task_drops_its_calls_and_keeps_what_it_has_made(
    tasks_service: RunningService, guest: Guest, gemini: GeminiStandin
) -> None:
    gemini.script({"mode": "ok", "pixels": (64, 64), "times": 1}, {"mode": "hang"})

    async def at_its_limit(count: int) -> dict[str, Any]:
        task_id = await submit_batch(guest, count)
        limit(tasks_service, task_id, 1_500)
        async with working(tasks_service):
            return await until(guest, task_id, "completed", "failed")

    partly = await at_its_limit(2)
    assert (partly["status"], partly["completed"], partly["error"]) == ("completed", 1, None)
    assert [item["error"]["code"] for item in partly["results"] if item["error"]] == ["TASK_TIMEOUT"]
    failed = await at_its_limit(1)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "TASK_TIMEOUT")
    assert failed["error"]["details"] == {"limit": 1}
    await until_settled(guest, 1)
    assert charges(tasks_service) == 1
    assert (await gemini.until(lambda stats: stats["dropped"] == 2))["dropped"] == 2


async def test_the_sweep_ends_at_its_time_limit_what_a_dead_worker_has_left(
    tasks_service: RunningService, guest: Guest
) -> None:
    task_id = await submit_batch(guest, 3)
    assert await started(tasks_service, task_id, "wrk_dead", ago=AGO_MS) is not None
    # Over, but the death was not the task's.
    limit(tasks_service, task_id, AGO_MS - 1_000)
    await tasks_service.container.task_sweep.sweep()
    assert (await read(guest, task_id))["status"] == "pending"
    assert await started(tasks_service, task_id, "wrk_dead", ago=AGO_MS) is not None
    limit(tasks_service, task_id, AGO_MS // 3 - 1_000)
    await tasks_service.container.task_sweep.sweep()
    task = await read(guest, task_id)
    assert (task["status"], task["error"]["code"]) == ("failed", "TASK_TIMEOUT")
    assert [item["error"]["code"] for item in task["results"]] == ["TASK_TIMEOUT"] * 3
    await until_settled(guest, 0)


async def test_a_task_that_outlives_ten_workers_is_given_up(tasks_service: RunningService, guest: Guest) -> None:
    task_id, sweep = await submit_batch(guest, 2), tasks_service.container.task_sweep
    for death in range(1, MOST_DEATHS + 1):
        assert (await read(guest, task_id))["status"] == "pending"
        assert await guest.used() == 2
        assert await started(tasks_service, task_id, f"wrk_{death}", ago=AGO_MS) is not None
        await sweep.sweep()
    task = await read(guest, task_id)
    assert (task["status"], task["attempts"]) == ("failed", MOST_DEATHS)
    assert (task["error"]["code"], task["error"]["details"]) == ("TASK_ABANDONED", {"deaths": MOST_DEATHS})
    await asyncio.gather(*(sweep.sweep() for _ in range(3)))
    await until_settled(guest, 0)
    assert databases.ask(tasks_service.data_dir, "SELECT count(*) FROM quota_holds") == [(0,)]
    # And another try has its ten again.
    assert (await guest.client.post(f"/api/v1/tasks/{task_id}/retry", json={})).status_code == 202
    assert await started(tasks_service, task_id, "wrk_again", ago=AGO_MS) is not None
    await sweep.sweep()
    assert (await read(guest, task_id))["status"] == "pending"
