"""What tasks survive: a stop, an emptied Redis, failures, impatient users."""

import asyncio

import pytest

from benchmarks.gemini_standin import GeminiStandin
from core.errors import NotFound
from tests.support.service import RunningService
from tests.support.waiting import eventually
from tests.tasks.workers import Workers, cancel, read, submit, submit_batch, until, until_settled


async def test_a_worker_that_is_told_to_stop_hands_back_what_takes_too_long(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    gemini.script({"mode": "hang", "times": 1}, {"mode": "ok", "pixels": (64, 64)})
    guest = await tasks_service.guest()
    task_id = await submit(guest)
    first = await workers.start()
    await until(guest, task_id, "processing")
    assert await workers.stop(first) == 0
    assert (await read(guest, task_id))["status"] == "pending"
    await workers.start()
    assert (await until(guest, task_id, "completed", "failed"))["status"] == "completed"
    await until_settled(guest, 1)


async def test_an_emptied_redis_loses_no_task_and_no_points(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64), delay_seconds=2)
    guest = await tasks_service.guest()
    await workers.start()
    running = await submit_batch(guest, 6)
    await until(guest, running, "processing")
    waiting = [await submit(guest, f"waiting {number}") for number in range(2)]
    await tasks_service.container.redis.flushall()
    again = await tasks_service.client.post("/api/auth/refresh", json={"refresh_token": guest.tokens["refresh_token"]})
    assert again.status_code == 401, "sessions are Redis's"
    database, store = tasks_service.container.database, tasks_service.container.tasks

    async def all_ended() -> bool:
        found = [await store.get(guest.id, task_id) for task_id in (running, *waiting)]
        return all(task.status == "completed" and task.closed_at for task in found)

    assert await eventually(all_ended, 60), [await store.get(guest.id, task_id) for task_id in (running, *waiting)]
    other = await tasks_service.guest()
    await until_settled(other, 8)
    assert database is not None


async def test_only_what_is_missing_is_made_again(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    gemini.script({"mode": "ok", "pixels": (64, 64), "times": 1}, {"mode": "hang"})
    guest = await tasks_service.guest()
    await workers.start()
    task_id = await submit_batch(guest, 3)

    async def one_is_made() -> bool:
        return int((await read(guest, task_id))["completed"]) == 1

    assert await eventually(one_is_made, 20)
    cancelled = (await cancel(guest, task_id)).json()["data"]
    assert (cancelled["status"], len(cancelled["results"])) == ("cancelled", 1)
    await until_settled(guest, 1)
    gemini.clear_requests()
    gemini.configure(pixels=(64, 64))
    answer = await guest.client.post(f"/api/v1/tasks/{task_id}/retry", json={})
    assert answer.status_code == 202, answer.text
    task = await until(guest, task_id, "completed", "failed")
    assert (task["status"], task["completed"]) == ("completed", 3)
    assert len(gemini.requests()) == 2
    await until_settled(guest, 3)
    assert (await guest.client.post(f"/api/v1/tasks/{task_id}/retry", json={})).status_code == 409
    assert (await cancel(guest, task_id)).status_code == 409


async def test_some_may_fail_while_others_succeed(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    gemini.script({"mode": "safety", "times": 2}, {"mode": "ok", "pixels": (64, 64)})
    guest = await tasks_service.guest()
    await workers.start()
    partly = await until(guest, await submit_batch(guest, 3), "completed", "failed")
    assert (partly["status"], partly["completed"]) == ("completed", 1)
    codes = sorted(item["error"]["code"] for item in partly["results"] if item["error"])
    assert codes == ["CONTENT_BLOCKED", "CONTENT_BLOCKED"]
    gemini.configure(mode="safety")
    failed = await until(guest, await submit(guest), "completed", "failed")
    assert (failed["status"], failed["error"]["code"]) == ("failed", "CONTENT_BLOCKED")
    await until_settled(guest, 1)


async def test_one_users_many_do_not_keep_another_waiting(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64), delay_seconds=1)
    many, single = await tasks_service.guest(), await tasks_service.guest()
    theirs = [await submit(many, f"number {number}") for number in range(8)]
    mine = await submit(single, "just one")
    await workers.start()
    await until(single, mine, "completed")
    states = [(await read(many, task_id))["status"] for task_id in theirs]
    assert states.count("completed") <= 6, "five at once, and their places may have gone to others by now"
    for task_id in theirs:
        await until(many, task_id, "completed")
    assert int(gemini.stats()["peak_waiting"]) <= 6


async def test_one_key_from_many_at_once_makes_one_task(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    answers = await asyncio.gather(
        *(
            guest.client.post(
                "/api/v1/tasks/generate", json={"params": {"prompt": "once"}}, headers={"Idempotency-Key": "k"}
            )
            for _ in range(20)
        )
    )
    made = {answer.json()["data"]["task_id"] for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert (await guest.client.get("/api/v1/tasks")).json()["data"]["total"] == 1
    assert await guest.used() == 1


async def test_with_an_account_go_its_tasks(tasks_service: RunningService) -> None:
    guest, other = await tasks_service.guest(), await tasks_service.guest()
    task_id = await submit_batch(guest, 3)
    assert await other.used() == 3
    assert (await guest.client.delete("/api/auth/me")).status_code == 200
    assert await other.used() == 0
    tasks, departures = tasks_service.container.tasks, tasks_service.container.departures
    assert (await tasks.get(guest.id, task_id)).status == "cancelled"
    await departures.finish()
    with pytest.raises(NotFound):
        await tasks.get(guest.id, task_id)
