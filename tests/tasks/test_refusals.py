"""What is wrong with a request for a task, by the name that its sender gave to it, and what a state does not allow."""

from typing import Any

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.workers import cancel, read, submit, until, working

GENERATE, BATCH = "/api/v1/tasks/generate", "/api/generate/batch"
PROMPT = {"prompt": "a lighthouse"}


@pytest.fixture
async def guest(tasks_service: RunningService) -> Guest:
    return await tasks_service.guest()


def all_of(reason: str, *params: str) -> dict[str, str]:
    return {f"params.{name}": reason for name in params}


async def test_what_is_wrong_is_named_as_it_was_sent(guest: Guest) -> None:
    wrong: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({}, {"params": "missing"}),
        ({"params": {}}, {"params.prompt": "missing"}),
        ({"params": PROMPT | {"num": 0}}, {"params.num": "too_small"}),
        ({"params": PROMPT | {"num": 11}}, {"params.num": "too_large"}),
        ({"params": PROMPT | {"num": "2"}}, {"params.num": "wrong_type"}),
        ({"params": PROMPT | {"sampler": "x"}}, {"params.sampler": "unknown_field"}),
        ({"params": PROMPT, "priority": 1}, {"priority": "unknown_field"}),
        ({"params": PROMPT | {"width": 1024}}, {"params": "missing"}),
        ({"params": PROMPT | {"width": 7, "height": 1024}}, all_of("not_allowed", "width", "height")),
        ({"params": PROMPT | {"steps": 20, "cfg_scale": 7}}, all_of("not_supported", "steps", "cfg_scale")),
        # What only the pipeline knows of.
        ({"params": PROMPT | {"aspect_ratio": "7:1"}}, {"params.aspect_ratio": "not_supported"}),
        ({"params": PROMPT | {"resolution": "8K"}}, {"params.resolution": "not_supported"}),
        ({"params": PROMPT | {"negative_prompt": "fog"}}, {"params.negative_prompt": "not_supported"}),
        ({"params": PROMPT, "model_id": "made-up"}, {"model_id": "not_allowed"}),
        ({"params": PROMPT, "provider": "made-up"}, {"provider": "not_allowed"}),
    ]  # fmt: skip
    for body, expected in wrong:
        found = fields_of(await guest.client.post(GENERATE, json=body))
        assert {name: field["reason"] for name, field in found.items()} == expected, body
    assert await guest.used() == 0
    assert (await guest.client.get("/api/v1/tasks")).json()["data"]["total"] == 0


async def test_a_batch_is_of_one_to_ten(guest: Guest) -> None:
    for count, reason in ((0, "too_small"), (11, "too_large")):
        found = fields_of(await guest.client.post(BATCH, json=PROMPT | {"count": count}))
        assert found["count"]["reason"] == reason
    assert (await guest.client.post(BATCH, json=PROMPT | {"count": 10})).status_code == 202
    assert await guest.used() == 10


async def test_what_is_no_kind_and_no_state_is_not_looked_for(guest: Guest) -> None:
    for query in ({"kind": "noop"}, {"status": "lost"}):
        (name,) = query
        assert set(fields_of(await guest.client.get("/api/v1/tasks", params=query))) == {name}


async def test_an_idempotency_key_has_at_most_255_characters(guest: Guest) -> None:
    for path, body in ((GENERATE, {"params": PROMPT}), ("/api/v1/tasks/execute", {"params": PROMPT}),
                       (BATCH, PROMPT | {"count": 1})):  # fmt: skip
        answer = await guest.client.post(path, json=body, headers={"Idempotency-Key": "x" * 256})
        field = fields_of(answer)["Idempotency-Key"]
        assert (field["reason"], field["limit"]) == ("too_long", 255)
    longest = await guest.client.post(GENERATE, json={"params": PROMPT}, headers={"Idempotency-Key": "x" * 255})
    assert longest.status_code == 202
    assert await guest.used() == 1


async def test_a_state_that_does_not_allow_it_is_a_conflict_that_says_which(
    tasks_service: RunningService, guest: Guest, gemini: GeminiStandin
) -> None:
    gemini.script({"mode": "ok", "pixels": (64, 64), "times": 1}, {"mode": "safety", "times": 1}, {"mode": "hang"})

    async def refused(method: str, task_id: str, what: str) -> str:
        response = await guest.client.request(method, f"/api/v1/tasks/{task_id}{what}", json={} if what else None)
        error = error_of(response, 409, "CONFLICT")
        assert error["type"] == "task_state"
        return str(error["details"]["status"])

    async with working(tasks_service):
        completed = await submit(guest, "completed")
        await until(guest, completed, "completed")
        failed = await submit(guest, "failed")
        await until(guest, failed, "failed")
        running = await submit(guest, "running")
        assert await eventually(lambda: is_processing(guest, running))
        assert await refused("POST", completed, "/cancel") == "completed"
        assert await refused("POST", completed, "/retry") == "completed"
        assert await refused("POST", failed, "/cancel") == "failed"
        assert await refused("POST", running, "/retry") == "processing"
        assert await refused("DELETE", running, "") == "processing"
        assert (await cancel(guest, running)).status_code == 200
    assert (await cancel(guest, running)).status_code == 200, "again is no conflict"
    waiting = await submit(guest, "waiting")
    assert await refused("POST", waiting, "/retry") == "pending"
    assert await refused("DELETE", waiting, "") == "pending"


async def is_processing(guest: Guest, task_id: str) -> bool:
    return bool((await read(guest, task_id))["status"] == "processing")
