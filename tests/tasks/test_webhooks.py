"""Webhooks from the end of a task to its receiver, who checks them by means that are not ours."""

from datetime import datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr
from redis import Redis

from core.clock import DAY_MS, now_ms
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.receiver import Answer, Receiver
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.couriers import delivering, ended, opened, until_received, until_told, webhook_of
from tests.tasks.workers import Workers, cancel, read, submit, until
from tests.webhooks.receiving import PLAIN_SECRET, STANDARD_SECRET, checked

PLAIN, STANDARD = PLAIN_SECRET.get_secret_value(), STANDARD_SECRET.get_secret_value()
CANARY = "whsec_Q2FuYXJ5LXdlYmhvb2stN2QxZTRiOWMyYTVm"
IN_THE_QUERY = "canary-of-the-query"


def kept(service: RunningService) -> int:
    ((count,),) = databases.ask(service.data_dir, "SELECT count(*) FROM webhook_deliveries")
    return int(count)


async def test_the_receiver_is_told_with_links_that_open_for_a_day_and_the_secret_is_nowhere(
    tasks_service: RunningService, workers: Workers, guest: Guest, receiver: Receiver, redis_url: str
) -> None:
    worker = await workers.start(PUBLIC_BASE_URL=tasks_service.url, LOG_LEVEL="DEBUG")
    url = f"{receiver.url}?for={IN_THE_QUERY}"  # a name that the log's redaction does not know
    fields = {"callback_url": url, "webhook_secret": CANARY, "client_job_id": "order-17"}
    task_id = await submit(guest, num=2, fields=fields)
    assert (await webhook_of(guest, task_id))["state"] in {"waiting", "pending", "delivered"}
    await until(guest, task_id, "completed")
    webhook = await until_told(guest, task_id)
    (request,) = receiver.received
    body = checked(request, SecretStr(CANARY))
    assert request.path == f"/hook?for={IN_THE_QUERY}"
    assert request.headers["webhook-id"] == webhook["webhook_id"]
    assert (request.headers["x-job-id"], request.headers["x-status"]) == (task_id, "completed")
    assert (body["job_id"], body["client_job_id"], body["status"]) == (task_id, "order-17", "completed")
    assert (body["error"], body["result"]["completed"], body["result"]["total"]) == (None, 2, 2)
    for result in body["result"]["results"]:
        for link in (result["image_url"], result["thumbnail_url"]):
            assert (await tasks_service.client.get(link)).status_code == 200
        lives_until = int(httpx.URL(result["image_url"]).params["exp"]) * 1000
        assert DAY_MS - 60_000 < lives_until - now_ms() <= DAY_MS
    (attempt,) = webhook["attempts"]
    assert (attempt["number"], attempt["status"], attempt["error"], attempt["answer"]) == (1, 200, None, "thanks")
    after_the_end = datetime.fromisoformat(attempt["at"]) - datetime.fromisoformat(body["completed_at"])
    assert timedelta(0) <= after_the_end < timedelta(seconds=5)

    with Redis.from_url(redis_url) as redis:
        in_redis = b"".join(key + (redis.dump(key) or b"") for key in redis.scan_iter("*"))
    assert CANARY.encode() not in in_redis + databases.contents(tasks_service.data_dir)
    assert await workers.stop(worker) == 0
    assert task_id in workers.log()
    assert "webhook tried" in workers.log()
    assert not [mark for mark in (CANARY, IN_THE_QUERY, "Traceback") if mark in workers.log()]
    assert CANARY not in (await guest.client.get(f"/api/v1/tasks/{task_id}")).text


@pytest.mark.parametrize("secret", [PLAIN, STANDARD])
async def test_a_receiver_that_fails_three_times_gets_four_deliveries_of_one_message(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver, secret: str
) -> None:
    receiver.answers = [Answer(500), Answer(503), Answer(500, b"still ill"), Answer(200)]
    async with opened(tasks_service, task_settings) as container, delivering(container):
        task_id = await ended(guest, receiver.url, secret)
        webhook = await until_told(guest, task_id)
    assert len(receiver.received) == 4
    bodies = [
        checked(request, STANDARD_SECRET if secret == STANDARD else PLAIN_SECRET) for request in receiver.received
    ]
    assert {body["status"] for body in bodies} == {"cancelled"}
    assert len({body["nonce"] for body in bodies}) == 4
    if secret == STANDARD:
        assert {request.headers["webhook-id"] for request in receiver.received} == {webhook["webhook_id"]}
    told = [(attempt["number"], attempt["status"], attempt["webhook_id"]) for attempt in webhook["attempts"]]
    assert told == [(number, status, webhook["webhook_id"]) for number, status in enumerate((500, 503, 500, 200), 1)]
    assert webhook["attempts"][2]["answer"] == "still ill"
    assert webhook["next_try_at"] is None
    assert b'webhook_tries_total{outcome="5xx"} 3.0' in container.metrics.render()


async def test_a_task_that_is_tried_again_tells_of_its_new_end_alone(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    receiver.answers = [Answer(500)]
    async with opened(tasks_service, task_settings) as container:
        async with delivering(container):
            task_id = await ended(guest, receiver.url, STANDARD)

            async def is_written_down() -> bool:
                return bool((await webhook_of(guest, task_id))["attempts"])

            assert await eventually(is_written_down)
        first = await webhook_of(guest, task_id)
        assert (await guest.client.post(f"/api/v1/tasks/{task_id}/retry", json={})).status_code == 202
        waiting = await webhook_of(guest, task_id)
        assert (waiting["state"], waiting["webhook_id"], waiting["next_try_at"]) == ("waiting", None, None)
        assert waiting["attempts"] == first["attempts"] != []
        receiver.answers = [Answer(200)]
        before, tries = len(receiver.received), len(first["attempts"])
        async with delivering(container):
            assert (await cancel(guest, task_id)).status_code == 200
            second = await until_told(guest, task_id)
    still_to_try = "SELECT count(*) FROM webhook_deliveries WHERE next_try_at IS NOT NULL"
    assert databases.ask(tasks_service.data_dir, still_to_try) == [(0,)]
    assert second["webhook_id"] != first["webhook_id"]
    assert [request.headers["webhook-id"] for request in receiver.received[before:]] == [second["webhook_id"]]
    assert second["attempts"][-1]["webhook_id"] == second["webhook_id"]
    assert [attempt["webhook_id"] for attempt in second["attempts"][:-1]] == [first["webhook_id"]] * tries


async def test_redelivering_sends_the_same_message_again(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    waiting = await submit(guest, fields={"callback_url": receiver.url})
    silent = await submit(guest)
    assert (await cancel(guest, silent)).status_code == 200

    async def redeliver(task_id: str) -> httpx.Response:
        return await guest.client.post(f"/api/v1/tasks/{task_id}/redeliver")

    assert error_of(await redeliver(waiting), 409, "CONFLICT")["type"] == "task_state"
    assert error_of(await redeliver(silent), 409, "CONFLICT")["type"] == "no_callback"
    receiver.answers = [Answer(410), Answer(500), Answer(200)]
    async with opened(tasks_service, task_settings) as container, delivering(container):
        task_id = await ended(guest, receiver.url, STANDARD)
        gone = await until_told(guest, task_id, "failed")
        answer = await redeliver(task_id)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["webhook"]["state"] == "pending"
        again = await until_told(guest, task_id)
        assert (await redeliver(task_id)).status_code == 200
        await until_received(receiver, 4)
        await until_told(guest, task_id)
    assert len(gone["attempts"]) == 1
    assert [attempt["status"] for attempt in again["attempts"]] == [410, 500, 200]
    assert {request.headers["webhook-id"] for request in receiver.received} == {gone["webhook_id"]}
    assert [checked(request, STANDARD_SECRET)["job_id"] for request in receiver.received] == [task_id] * 4


async def test_a_worker_that_is_killed_in_a_try_leaves_it_to_the_next_one(
    tasks_service: RunningService, workers: Workers, guest: Guest, receiver: Receiver
) -> None:
    receiver.answers = [Answer(harm="hang"), Answer(200)]
    first = await workers.start()
    task_id = await ended(guest, receiver.url, STANDARD)
    await until_received(receiver, 1)
    await workers.kill(first)
    untried = await webhook_of(guest, task_id)
    assert (untried["state"], untried["attempts"]) == ("pending", [])
    await workers.start()
    # As if the half minute of its claim were over.
    claimed = "UPDATE webhook_deliveries SET lease_until = lease_until - 60000 WHERE lease_until IS NOT NULL"
    assert databases.change(tasks_service.data_dir, claimed) == 1
    webhook = await until_told(guest, task_id)
    assert [(attempt["number"], attempt["status"]) for attempt in webhook["attempts"]] == [(2, 200)]
    assert [checked(request, STANDARD_SECRET)["job_id"] for request in receiver.received] == [task_id] * 2


async def test_with_a_task_and_with_an_account_go_their_webhooks(
    tasks_service: RunningService, guest: Guest, receiver: Receiver
) -> None:
    forgotten, left = await ended(guest, receiver.url), await ended(guest, receiver.url)
    assert kept(tasks_service) == 2
    assert (await guest.client.delete(f"/api/v1/tasks/{forgotten}")).status_code == 200
    assert kept(tasks_service) == 1
    assert (await read(guest, left))["webhook"]["state"] == "pending"
    assert (await guest.client.delete("/api/auth/me")).status_code == 200
    assert kept(tasks_service) == 0


async def test_a_secret_that_cannot_be_opened_any_more_sends_nothing_unsigned(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    task_id = await ended(guest, receiver.url)
    other_key = {"SECRET_KEY": "another-secret-2f9b7d4e8a1c4063b5d7e9f1a3c5b7d9"}
    async with opened(tasks_service, {**task_settings, **other_key}) as container, delivering(container):
        webhook = await until_told(guest, task_id, "failed")
    assert {attempt["error"] for attempt in webhook["attempts"]} == {"webhook_secret_gone"}
    assert receiver.connections == 0


async def test_without_a_secret_nothing_is_signed(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    async with opened(tasks_service, task_settings) as container, delivering(container):
        task_id = await submit(guest, fields={"callback_url": receiver.url})
        assert (await cancel(guest, task_id)).status_code == 200
        await until_told(guest, task_id)
    assert not [name for name in receiver.received[0].headers if "signature" in name]


async def test_a_replayed_request_tells_once(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    body = {"params": {"prompt": "once"}, "callback_url": receiver.url, "webhook_secret": PLAIN}
    answers = [
        await guest.client.post("/api/v1/tasks/generate", json=body, headers={"Idempotency-Key": "k"}) for _ in range(3)
    ]
    (task_id,) = {answer.json()["data"]["task_id"] for answer in answers}
    assert (await cancel(guest, task_id)).status_code == 200

    async with opened(tasks_service, task_settings) as container, delivering(container):
        await until_told(guest, task_id)
    assert len(receiver.received) == kept(tasks_service) == 1
