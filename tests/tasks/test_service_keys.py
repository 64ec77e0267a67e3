"""Programs with a service key on the routes of tasks, and the key's own cap."""

import httpx
import pytest

from core.clients.redis import reply
from core.clock import now_ms, utc_day
from services.quota.store import SERVICE_KEY
from tests.accounts.test_service_keys import made
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.people import registered
from tests.support.service import Guest, RunningService
from tests.tasks.workers import Workers, cancel, submit, until

TASKS = "/api/v1/tasks"


@pytest.fixture
async def ada(tasks_service: RunningService) -> Guest:
    return await registered(tasks_service, "ada@example.org")


async def program(service: RunningService, owner: Guest, **fields: object) -> Guest:
    """Its client in place of its owner's."""
    key = await made(owner, **fields)
    return Guest(key["id"], service.with_headers(**{"X-API-Key": key["key"]}), {})


async def start(who: Guest, num: int) -> httpx.Response:
    body = {"params": {"prompt": "a lighthouse", "num": num}}
    return await who.client.post(f"{TASKS}/generate", json=body)


async def key_points(service: RunningService, key_id: str) -> int:
    found = await reply(service.container.redis.hget(SERVICE_KEY(date=utc_day(now_ms()), id=key_id), "points"))
    return int(found or 0)


async def test_a_key_does_with_tasks_what_its_scopes_say(tasks_service: RunningService, ada: Guest) -> None:
    task_id = await submit(ada)
    task = f"{TASKS}/{task_id}"
    looking = [("GET", TASKS), ("GET", task), ("GET", f"/api/v1/jobs/{task_id}"), ("POST", f"{task}/events-token")]
    reader = await program(tasks_service, ada, scopes=["read"])
    maker = await program(tasks_service, ada, scopes=["generate"])
    for method, path in looking:
        assert (await reader.client.request(method, path)).status_code == 200, path
        refused = error_of(await maker.client.request(method, path), 403, "FORBIDDEN")
        assert refused["details"] == {"reason": "scope", "scope": "read"}
    error_of(await maker.client.get(f"{task}/events"), 403, "FORBIDDEN")
    changing = [("POST", f"{task}/{what}") for what in ("cancel", "retry", "redeliver")]
    for method, path in (*changing, ("DELETE", task)):
        refused = error_of(await reader.client.request(method, path, json={}), 403, "FORBIDDEN")
        assert refused["details"] == {"reason": "scope", "scope": "generate"}
    error_of(await start(reader, 1), 403, "FORBIDDEN")
    execution = await reader.client.post(f"{TASKS}/execute", json={"params": {"prompt": "a lighthouse"}})
    assert error_of(execution, 403, "FORBIDDEN")["details"]["scope"] == "generate"
    assert (await cancel(maker, task_id)).status_code == 200
    watched = await reader.client.get(f"{task}/events")
    assert "event: cancelled" in watched.text
    assert (await maker.client.delete(task)).status_code == 200


async def test_a_key_knows_nothing_of_anothers_tasks_and_opens_none_when_it_is_over(
    tasks_service: RunningService, ada: Guest
) -> None:
    task = f"{TASKS}/{await submit(ada)}"
    bob = await registered(tasks_service, "bob@example.org")
    stranger, revoked = await program(tasks_service, bob), await program(tasks_service, ada)
    expired = await program(tasks_service, ada)
    await ada.client.delete(f"/api/auth/service-keys/{revoked.id}")
    past = "UPDATE service_keys SET expires_at = :past WHERE id = :id"
    databases.change(tasks_service.data_dir, past, past=now_ms() - 1, id=expired.id)
    for method, path in (
        ("GET", task), ("GET", f"{task}/events"), ("POST", f"{task}/events-token"), ("POST", f"{task}/cancel"),
        ("POST", f"{task}/redeliver"), ("DELETE", task),
    ):  # fmt: skip
        error_of(await stranger.client.request(method, path), 404, "NOT_FOUND")
        error_of(await revoked.client.request(method, path), 401, "UNAUTHORIZED")
        over = error_of(await expired.client.request(method, path), 401, "UNAUTHORIZED")
        assert over["details"]["reason"] == "service_key_expired"
    assert (await stranger.client.get(TASKS)).json()["data"]["total"] == 0


async def test_the_cap_of_a_key_counts_what_its_tasks_hold_also_when_redis_has_lost_it(
    tasks_service: RunningService, ada: Guest
) -> None:
    key = await program(tasks_service, ada, daily_points=5)
    answer = await start(key, 4)
    assert answer.status_code == 202, answer.text
    task_id = answer.json()["data"]["task_id"]
    for _ in range(2):
        refused = error_of(await start(key, 2), 429, "QUOTA_EXCEEDED")["details"]
        assert (refused["reason"], refused["service_key"]) == (
            "service_key",
            {"used": 4, "limit": 5, "remaining": 1},
        )
        await tasks_service.container.redis.flushall()
    assert (await start(key, 1)).status_code == 202
    assert await key_points(tasks_service, key.id) == 5
    assert (await cancel(key, task_id)).status_code == 200
    assert await key_points(tasks_service, key.id) == 1, "four went back, once"
    assert (await start(key, 4)).status_code == 202
    rows = databases.ask(tasks_service.data_dir, "SELECT key_id FROM tasks")
    assert rows == [(key.id,)] * 3


async def test_what_a_keys_task_makes_is_charged_to_the_key(
    tasks_service: RunningService, ada: Guest, workers: Workers
) -> None:
    key = await program(tasks_service, ada, daily_points=5)
    task_id = (await start(key, 2)).json()["data"]["task_id"]
    await workers.start()
    assert (await until(key, task_id, "completed", "failed"))["completed"] == 2
    charged = "SELECT service_key_id, points FROM charges"
    assert databases.ask(tasks_service.data_dir, charged) == [(key.id, 1)] * 2
    assert await key_points(tasks_service, key.id) == 2
