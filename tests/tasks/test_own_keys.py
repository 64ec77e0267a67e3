"""The caller's own Google key on a task: sealed while it is needed, gone afterwards, and no other in its place."""

import pytest
from redis import Redis

from benchmarks.gemini_standin import GeminiStandin
from tests.faults.test_canaries import dumped, found_in
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.event_source import all_of
from tests.support.service import Guest, RunningService
from tests.tasks.workers import Workers, read, until, until_settled, working

OWN_KEY = "AIzaCanaryOwn41e7c9a85b2d4f06c3a19e57"
NEXT_KEY = "AIzaCanaryNext7d2b8f4e1c9a5036d8f2b47a"
KEYS = (OWN_KEY, NEXT_KEY)


async def submit_with(guest: Guest, key: str, count: int = 1) -> str:
    body = {"prompt": "a lighthouse", "count": count}
    response = await guest.client.post("/api/generate/batch", json=body, headers={"X-API-Key": key})
    assert response.status_code == 202, response.text
    assert key not in response.text
    task_id: str = response.json()["data"]["task_id"]
    return task_id


def kept(service: RunningService, task_id: str) -> str | None:
    ((sealed,),) = databases.ask(service.data_dir, "SELECT own_key FROM tasks WHERE id = :id", id=task_id)
    return None if sealed is None else str(sealed)


def lies_about(service: RunningService, redis_url: str) -> list[str]:
    """Which of the keys are in clear in the database or in Redis."""
    with Redis.from_url(redis_url) as redis:
        return found_in(dumped(redis) + databases.contents(service.data_dir), KEYS)


def sent_with(gemini: GeminiStandin) -> set[str]:
    return {request["headers"]["x-goog-api-key"] for request in gemini.requests()}


async def test_it_travels_sealed_and_is_wiped_when_the_task_ends(
    tasks_service: RunningService,
    workers: Workers,
    gemini: GeminiStandin,
    redis_url: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    guest = await tasks_service.guest()
    task_id = await submit_with(guest, OWN_KEY, 2)
    assert kept(tasks_service, task_id) is not None
    assert lies_about(tasks_service, redis_url) == []
    await workers.start(LOG_LEVEL="DEBUG")
    task = await until(guest, task_id, "completed", "failed")

    assert (task["status"], task["completed"]) == ("completed", 2)
    assert sent_with(gemini) == {OWN_KEY}
    await until_settled(guest, 0)
    assert kept(tasks_service, task_id) is None
    events = await all_of(guest.client, task_id)
    told = f"{workers.log()}{''.join(capfd.readouterr())}{task}{events}"
    assert task_id in told
    assert found_in(told.encode(), KEYS) == []
    assert lies_about(tasks_service, redis_url) == []


async def test_it_has_to_be_given_again_for_another_try(tasks_service: RunningService, gemini: GeminiStandin) -> None:
    guest = await tasks_service.guest()
    gemini.configure(mode="safety")
    async with working(tasks_service):
        task_id = await submit_with(guest, OWN_KEY)
        await until(guest, task_id, "failed")
        assert kept(tasks_service, task_id) is None, "also of one that failed"
        gemini.configure(pixels=(64, 64))
        gemini.clear_requests()
        retry = f"/api/v1/tasks/{task_id}/retry"
        error_of(await guest.client.post(retry, json={}), 400, "API_KEY_REQUIRED")
        error_of(await guest.client.post(retry, json={"api_key": "nbk_of_ours"}), 400, "INVALID_API_KEY")
        assert (await read(guest, task_id))["status"] == "failed"
        answer = await guest.client.post(retry, json={"api_key": NEXT_KEY})
        assert answer.status_code == 202, answer.text
        assert (await until(guest, task_id, "completed", "failed"))["status"] == "completed"
    assert sent_with(gemini) == {NEXT_KEY}, "neither the first one nor the operator's"
    assert kept(tasks_service, task_id) is None
    await until_settled(guest, 0)


async def test_a_key_that_cannot_be_opened_any_more_is_never_replaced_by_the_operators(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    guest = await tasks_service.guest()
    task_id = await submit_with(guest, OWN_KEY)
    await workers.start(SECRET_KEY="another secret that has never seen the first one")
    task = await until(guest, task_id, "completed", "failed")
    assert (task["status"], task["error"]["code"]) == ("failed", "INVALID_API_KEY")
    assert gemini.requests() == []
    await until_settled(guest, 0)
