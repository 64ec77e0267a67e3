"""Tasks from their start to their end: real workers, the stand-in, and the books afterwards."""

import asyncio

from api.schemas.generate import EXAMPLE_IMAGES
from benchmarks.gemini_standin import GeminiStandin
from tests.support.service import RunningService
from tests.support.waiting import eventually
from tests.tasks.workers import (
    Workers,
    cancel,
    read,
    submit,
    submit_batch,
    until,
    until_settled,
)


async def test_images_are_made_charged_and_shown(tasks_service: RunningService, workers: Workers) -> None:
    guest = await tasks_service.guest()
    single, batch = await submit(guest, "one"), await submit_batch(guest, 3, "three")
    assert (await read(guest, single))["status"] == "pending"
    assert await guest.used() == 4, "held for all of them from the start"
    worker = await workers.start()

    task = await until(guest, single, "completed", "failed")
    await until(guest, batch, "completed", "failed")
    assert (task["status"], task["completed"], task["progress"], task["attempts"]) == ("completed", 1, 100, 1)
    (result,) = task["results"]
    assert (await tasks_service.client.get(result["image_url"])).status_code == 200
    made = (await guest.client.get(f"/api/generate/batch/{batch}")).json()["data"]
    assert [item["status"] for item in made["results"]] == ["completed"] * 3
    history = await guest.history()
    assert sorted(item["mode"] for item in history["items"]) == ["basic", "batch", "batch", "batch"]
    assert {item["task_id"] for item in history["items"]} == {single, batch}
    await until_settled(guest, 4)
    assert await workers.stop(worker) == 0
    assert "Traceback" not in workers.log()


async def test_a_worker_that_is_killed_loses_nothing_and_charges_nothing_twice(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64), delay_seconds=1)
    guest = await tasks_service.guest()
    task_id = await submit_batch(guest, 6)
    first = await workers.start()

    async def some_are_made() -> bool:
        return int((await read(guest, task_id))["completed"]) >= 2

    assert await eventually(some_are_made, 20)
    await workers.kill(first)
    await workers.start()
    task = await until(guest, task_id, "completed", "failed")
    assert (task["status"], task["completed"], task["attempts"]) == ("completed", 6, 2)
    await until_settled(guest, 6)
    assert (await guest.history())["total"] == 6
    assert len(tasks_service.stored("users/**/*.png")) == 6


async def test_cancelling_drops_the_call_and_gives_back_once(
    tasks_service: RunningService, workers: Workers, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="hang")
    guest = await tasks_service.guest()
    waiting, running = await submit(guest, "waiting"), await submit(guest, "running")
    assert (await cancel(guest, waiting)).json()["data"]["status"] == "cancelled"
    await workers.start()
    await until(guest, running, "processing")

    async def asked() -> bool:
        return len(gemini.requests()) == 1

    assert await eventually(asked, 10)
    answers = await asyncio.gather(*(cancel(guest, running) for _ in range(50)))
    assert {(answer.status_code, answer.json()["data"]["status"]) for answer in answers} == {(200, "cancelled")}

    async def dropped() -> bool:
        return int(gemini.stats()["dropped"]) == 1

    assert await eventually(dropped, 1)
    await until_settled(guest, 0)
    assert (await cancel(guest, running)).status_code == 200


async def test_a_blend_that_nobody_waits_for(tasks_service: RunningService, workers: Workers) -> None:
    guest = await tasks_service.guest()
    answer = await guest.client.post(
        "/api/generate/blend",
        json={"prompt": "Both as one flag", "images": list(EXAMPLE_IMAGES)},
        headers={"Prefer": "respond-async"},
    )
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async"), answer.text
    assert len(tasks_service.stored("tasks/**/*")) == 2
    await workers.start()
    task = await until(guest, answer.json()["data"]["task_id"], "completed", "failed")
    assert task["status"] == "completed", task
    await until_settled(guest, 2)
    assert tasks_service.stored("tasks/**/*") == []


async def test_a_size_that_the_model_does_not_make_is_refused_with_those_it_makes(
    tasks_service: RunningService,
) -> None:
    guest = await tasks_service.guest()
    for wrong in ({"width": 1920, "height": 1080}, {"width": 1000, "height": 700}, {"steps": 20}):
        answer = await guest.client.post("/api/v1/tasks/generate", json={"params": {"prompt": "x", **wrong}})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR")
    allowed = await guest.client.post(
        "/api/v1/tasks/generate", json={"params": {"prompt": "x", "width": 1, "height": 1}}
    )
    assert "1024x1024" in allowed.json()["error"]["details"]["fields"][0]["allowed"]
    assert await guest.used() == 0
