"""What operators see of tasks: numbers for alarms, and a list without anybody's secrets."""

import asyncio
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event

from core.clock import now_ms
from services.tasks import transitions
from services.tasks.ends import failed
from services.tasks.errors import TaskTimeout
from services.tasks.models import TaskFilter
from services.tasks.operations import FAILED_WITHIN_MS, load
from tests.api.test_health_and_metrics import samples
from tests.support.answers import error_of, fields_of
from tests.support.people import set_up_admin
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.test_at_once import SHARE, started
from tests.tasks.workers import cancel, submit

ADMIN_TASKS = "/api/admin/tasks"
SECRET = "a harbour that nobody may know of"


async def has_failed(service: RunningService, guest: Guest, *, ago: int = 0) -> str:
    """A task that ended at its time limit."""
    task_id = await submit(guest, SECRET)
    task = await started(service, task_id, "wrk_a")
    assert task is not None
    end = partial(transitions.end, task=task, ending=failed(task, (), TaskTimeout(30)), now=now_ms() - ago, share=SHARE)
    assert await service.container.database.write(end) is not None
    return task_id


async def test_metrics_and_health_tell_how_many_wait_run_and_fail(tasks_service: RunningService) -> None:
    many, other = await tasks_service.guest(), await tasks_service.guest()
    await has_failed(tasks_service, other)
    await has_failed(tasks_service, other, ago=FAILED_WITHIN_MS)
    for number in range(SHARE + 2):
        await submit(many, f"number {number}")
    await started(tasks_service, await submit(other), "wrk_a", ago=5_000)

    async def is_told() -> bool:
        return (await samples(tasks_service)).get("tasks_open{state=queued}") == SHARE

    assert await eventually(is_told), "what was asked a second ago is good for that long"
    found = await samples(tasks_service)
    assert (found["tasks_open{state=waiting}"], found["tasks_open{state=running}"]) == (2, 1)
    assert 5 <= found["tasks_oldest_seconds{state=running}"] < 60
    assert 0 < found["tasks_oldest_seconds{state=queued}"] < 60
    assert found["tasks_failed_last_hour{reason=TASK_TIMEOUT}"] == 1
    assert found["tasks_queue_depth{}"] >= SHARE
    part = (await tasks_service.client.get("/api/health/detailed")).json()["components"]["tasks"]
    assert (part["queued"], part["waiting"], part["running"]) == (SHARE, 2, 1)
    assert part["failed_last_hour"] == {"TASK_TIMEOUT": 1}
    assert part["status"] == "healthy"


async def test_what_is_over_is_not_told_of_any_more(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    task_id = await has_failed(tasks_service, guest)
    operations = tasks_service.container.task_operations
    assert (await operations.load()).failed == {"TASK_TIMEOUT": 1}
    await tasks_service.client.get("/metrics")
    assert (await guest.client.post(f"/api/v1/tasks/{task_id}/retry", json={})).status_code == 202

    async def is_gone() -> bool:
        return "TASK_TIMEOUT" not in (await tasks_service.client.get("/metrics")).text

    assert await eventually(is_gone), "a retried one has not failed"
    assert (await operations.page(TaskFilter(error_code="TASK_TIMEOUT"), 20, 0)).total == 0


async def test_many_at_once_are_told_what_one_look_found(tasks_service: RunningService) -> None:
    operations = tasks_service.container.task_operations
    assert len({id(found) for found in await asyncio.gather(*(operations.load() for _ in range(20)))}) == 1


@pytest.mark.sqlite_only
async def test_the_numbers_come_from_indices_of_what_is_open(tasks_service: RunningService) -> None:
    def plans(connection: Connection) -> list[str]:
        """How SQLite walks for each statement of `load`."""
        sent: list[tuple[str, Any]] = []
        event.listen(connection, "before_cursor_execute", lambda *given: sent.append(given[2:4]))
        load(connection, now_ms())
        return [str(list(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values))) for text, values in [*sent]]

    walked = await tasks_service.container.database.read(plans)
    for plan, index in zip(walked, ("ix_tasks_queued", "ix_tasks_running", "ix_tasks_failed"), strict=True):
        assert f"INDEX {index}" in plan, plan


async def listed(admin: Guest, **query: Any) -> dict[str, Any]:
    response = await admin.client.get(ADMIN_TASKS, params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def ids(page: dict[str, Any]) -> list[str]:
    return [item["task_id"] for item in page["items"]]


async def test_an_admin_finds_anybodys_tasks_by_what_is_wrong_with_them(tasks_service: RunningService) -> None:
    admin, one, other = await set_up_admin(tasks_service), await tasks_service.guest(), await tasks_service.guest()
    timed_out = await has_failed(tasks_service, one)
    waiting = await submit(one, SECRET)
    batch = await other.client.post("/api/generate/batch", json={"prompt": SECRET, "count": 2})
    cancelled = batch.json()["data"]["task_id"]
    await cancel(other, cancelled)
    held = [await submit(other, SECRET) for _ in range(SHARE + 1)]

    assert ids(await listed(admin, limit=100)) == [*reversed(held), cancelled, waiting, timed_out]
    page = await listed(admin, limit=2, offset=1)
    assert (ids(page), page["total"], page["has_more"]) == ([held[-2], held[-3]], SHARE + 4, True)
    assert (
        ids(await listed(admin, status="failed")) == ids(await listed(admin, error_code="TASK_TIMEOUT")) == [timed_out]
    )
    assert ids(await listed(admin, kind="batch")) == ids(await listed(admin, status="cancelled")) == [cancelled]
    assert ids(await listed(admin, user_id=one.id)) == [waiting, timed_out]
    assert ids(await listed(admin, user_id=one.id, status="pending")) == [waiting]
    assert ids(await listed(admin, user_id="usr_nobody")) == ids(await listed(admin, error_code="' OR 1=1")) == []
    (item,) = (await listed(admin, error_code="TASK_TIMEOUT"))["items"]
    assert (item["user_id"], item["error_code"], item["model"]) == (one.id, "TASK_TIMEOUT", "gemini-3-pro-image")
    states = {item["task_id"]: item["waits_for"] for item in (await listed(admin, limit=100))["items"]}
    assert (states[waiting], states[held[-1]], states[timed_out]) == ("worker", "turn", None)


async def test_an_admin_sees_nothing_of_what_was_asked_for(tasks_service: RunningService) -> None:
    admin, guest = await set_up_admin(tasks_service), await tasks_service.guest()
    body = {"params": {"prompt": SECRET}, "client_job_id": SECRET}
    assert (await guest.client.post("/api/v1/tasks/generate", json=body)).status_code == 202
    await has_failed(tasks_service, guest)
    found = await admin.client.get(ADMIN_TASKS)
    assert found.json()["total"] == 2
    assert SECRET not in found.text


async def test_others_and_programs_do_not_get_in(tasks_service: RunningService) -> None:
    admin, guest = await set_up_admin(tasks_service), await tasks_service.guest()
    error_of(await guest.client.get(ADMIN_TASKS), 403, "FORBIDDEN")
    error_of(await tasks_service.client.get(ADMIN_TASKS), 401, "UNAUTHORIZED")
    key = (await admin.client.post("/api/auth/service-keys", json={"name": "a program"})).json()["key"]
    program: httpx.AsyncClient = tasks_service.with_headers(Authorization=f"Bearer {key}")
    error_of(await program.get(ADMIN_TASKS), 401, "UNAUTHORIZED")
    wrong: dict[str, str | int] = {"status": "lost", "kind": "noop", "limit": 0, "offset": -1, "prompt": "x"}
    assert set(fields_of(await admin.client.get(ADMIN_TASKS, params=wrong))) == set(wrong)
