"""POST /api/v1/tasks/execute: a task is started and watched in one call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from benchmarks.gemini_standin import GeminiStandin
from services.tasks.events import EVENTS
from services.tasks.streams import MAX_STREAMS
from tests.conftest import OpenService
from tests.support.answers import error_of, fields_of
from tests.support.event_source import Sent, all_of, next_event, parsed
from tests.support.service import Guest, RunningService
from tests.tasks.workers import read, submit, until, until_settled, working

EXECUTE = "/api/v1/tasks/execute"
BODY = {"params": {"prompt": "a lighthouse", "num": 2}}


@asynccontextmanager
async def executing(guest: Guest, **headers: str) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[Sent]]]:
    """The answer while it comes; leaving the block hangs up."""
    async with guest.client.stream("POST", EXECUTE, json=BODY, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield response, parsed(response)


async def test_one_call_tells_which_task_it_is_and_then_all_that_happens(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    async with executing(guest) as (response, events), asyncio.timeout(20):
        accepted = await anext(events)
        task_id = response.headers["x-task-id"]
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["location"] == f"{tasks_service.url}/api/v1/tasks/{task_id}"
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == (
            "no-store, no-transform", "no",
        )  # fmt: skip
        assert (accepted.id, accepted.what, accepted.data["task_id"]) == ("", "heartbeat 0", task_id)
        assert accepted.data["data"]["status"] == "pending"
        assert accepted.data["data"]["events_url"] == f"{response.headers['location']}/events"
        assert await guest.used() == 2, "nobody has begun, and it is told already"
        async with working(tasks_service):
            sent = [event async for event in events if event.type != "heartbeat"]
    assert [event.what for event in sent] == ["started 0", "progress 50", "completed 100"]
    assert sent == await all_of(guest.client, task_id)
    assert (await read(guest, task_id))["completed"] == 2


async def test_who_hangs_up_does_not_stop_it_and_comes_back_where_they_were(
    tasks_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64), delay_seconds=0.5)
    guest = await tasks_service.guest()
    async with working(tasks_service):
        async with executing(guest) as (response, events):
            task_id, started = response.headers["x-task-id"], await next_event(events)
        assert started.type == "started"
        assert (await until(guest, task_id, "completed", "failed"))["completed"] == 2
        rest = await all_of(guest.client, task_id, started.id)
    assert [event.type for event in rest] == ["progress", "completed"]
    await until_settled(guest, 2)


async def test_the_same_key_watches_the_same_task(tasks_service: RunningService) -> None:
    guest, key = await tasks_service.guest(), {"Idempotency-Key": "k"}
    async with working(tasks_service):
        async with executing(guest, **key) as (response, events):
            first = [event async for event in events]
            task_id = response.headers["x-task-id"]
            assert "idempotency-replayed" not in response.headers
        async with executing(guest, **key) as (response, events):
            accepted, *again = [event async for event in events]
            assert (response.headers["x-task-id"], response.headers["idempotency-replayed"]) == (task_id, "true")
        async with executing(guest, **key, **{"Last-Event-ID": again[-2].id}) as (_, events):
            _, *behind = [event async for event in events]
        async with executing(guest, **key, **{"Last-Event-ID": again[-1].id}) as (_, events):
            assert [event.type async for event in events] == ["heartbeat"], "nothing is left to tell"
    assert (accepted.what, accepted.data["data"]["status"]) == ("heartbeat 100", "completed")
    assert again == [event for event in first if event.type != "heartbeat"]
    assert behind == again[-1:]
    other = await guest.client.post(EXECUTE, json={"params": {"prompt": "another"}}, headers=key)
    error_of(other, 422, "IDEMPOTENCY_MISMATCH")
    elsewhere = await guest.client.post("/api/v1/tasks/generate", json=BODY, headers=key)
    error_of(elsewhere, 422, "IDEMPOTENCY_MISMATCH")
    assert (await guest.client.get("/api/v1/tasks")).json()["data"]["total"] == 1
    await until_settled(guest, 2)


async def test_what_is_refused_is_an_error_like_any_other(
    open_service: OpenService, task_settings: dict[str, str]
) -> None:
    service = await open_service(**task_settings | {"TRIAL_GLOBAL_QUOTA": "2"})
    guest = await service.guest()
    error_of(await service.client.post(EXECUTE, json=BODY), 401, "UNAUTHORIZED")
    assert set(fields_of(await guest.client.post(EXECUTE, json={"params": {"num": 11}}))) == {
        "params.prompt", "params.num",
    }  # fmt: skip
    task_id = await submit(guest, num=2)
    error_of(await guest.client.post(EXECUTE, json=BODY), 429, "QUOTA_EXCEEDED")
    await guest.client.post(f"/api/v1/tasks/{task_id}/cancel")
    watched = await submit(guest)
    opened = [guest.client.stream("GET", f"/api/v1/tasks/{watched}/events") for _ in range(MAX_STREAMS)]
    for stream in opened:
        await stream.__aenter__()
    error_of(await guest.client.post(EXECUTE, json=BODY), 429, "TOO_MANY_STREAMS")
    for stream in opened:
        await stream.__aexit__(None, None, None)
    assert (await guest.client.get("/api/v1/tasks")).json()["data"]["total"] == 2, "a refusal makes no task"
    assert await guest.used() == 1


async def test_what_has_been_accepted_is_answered_as_such_though_it_cannot_be_told_yet(
    tasks_service: RunningService,
) -> None:
    guest, redis, key = await tasks_service.guest(), tasks_service.container.redis, {"Idempotency-Key": "k"}
    async with executing(guest, **key) as (response, _):
        stream = EVENTS(task_id=response.headers["x-task-id"])
    await redis.set(stream, "of another kind, which cannot be read")
    async with executing(guest, **key) as (response, events):
        assert (await anext(events)).data["message"] == "accepted"
        await redis.delete(stream)
        async with working(tasks_service), asyncio.timeout(20):
            assert [event.type async for event in events][-1] == "completed"
