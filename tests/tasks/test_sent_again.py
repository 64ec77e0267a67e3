"""An Idempotency-Key on what is done with a task: a lost answer is asked for again, and nothing is done twice."""

import asyncio

import httpx
from redis import Redis

from core.clock import now_ms
from services.idempotency import CLAIM
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.receiver import Answer, Receiver
from tests.support.service import Guest, RunningService
from tests.tasks.couriers import delivering, ended, opened, until_received, until_told
from tests.tasks.workers import cancel, read, submit

KEY = {"Idempotency-Key": "again-1"}


async def retry(guest: Guest, task_id: str) -> httpx.Response:
    return await guest.client.post(f"/api/v1/tasks/{task_id}/retry", json={}, headers=KEY)


def rounds(service: RunningService, task_id: str) -> int:
    ((number,),) = databases.ask(service.data_dir, f"SELECT round FROM tasks WHERE id = '{task_id}'")
    return int(number)


def replayed(response: httpx.Response) -> bool:
    assert response.status_code == 202, response.text
    return "idempotency-replayed" in response.headers


async def test_a_retry_begins_one_round_however_often_it_is_sent(tasks_service: RunningService, guest: Guest) -> None:
    task_id, other = await submit(guest), await submit(guest)
    await cancel(guest, task_id)

    answers = await asyncio.gather(*(retry(guest, task_id) for _ in range(20)))
    begun = [answer for answer in answers if answer.status_code == 202]
    assert sum(not replayed(answer) for answer in begun) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert rounds(tasks_service, task_id) == 2
    assert replayed(await retry(guest, task_id)), "it goes on, and that is no conflict for who has begun it"

    await cancel(guest, task_id)
    assert replayed(await retry(guest, task_id)), "nor does it begin again for them when it has ended since"
    assert (rounds(tasks_service, task_id), (await read(guest, task_id))["status"]) == (2, "cancelled")
    assert await guest.used() == 1, "the other one's"
    error_of(await retry(guest, other), 422, "IDEMPOTENCY_MISMATCH")


async def test_a_retry_that_a_process_died_over_is_found_or_made(
    tasks_service: RunningService, guest: Guest, redis_url: str
) -> None:
    def die_over(started_at: int) -> None:
        """Leave the claim as a process leaves it that dies in the middle of the call."""
        claim = CLAIM(caller=guest.id, key=KEY["Idempotency-Key"])
        with Redis.from_url(redis_url) as redis:
            redis.hset(claim, mapping={"state": "running", "lease_until": "0", "started_at": str(started_at)})

    task_id = await submit(guest)
    await cancel(guest, task_id)
    assert not replayed(await retry(guest, task_id))
    begun_at = now_ms()
    die_over(begun_at)
    assert replayed(await retry(guest, task_id)), "it had begun the round, which goes on"
    await cancel(guest, task_id)
    die_over(begun_at)
    assert replayed(await retry(guest, task_id)), "it had begun the round, which is over"
    assert rounds(tasks_service, task_id) == 2
    die_over(now_ms() + 1000)
    assert not replayed(await retry(guest, task_id)), "it had died before it began one"
    assert rounds(tasks_service, task_id) == 3


async def test_a_message_is_sent_again_once_under_one_key(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    receiver.answers = [Answer(200)] * 3
    async with opened(tasks_service, task_settings) as container, delivering(container):
        task_id = await ended(guest, receiver.url)
        await until_told(guest, task_id)
        answers = [await guest.client.post(f"/api/v1/tasks/{task_id}/redeliver", headers=KEY) for _ in range(3)]
        await until_received(receiver, 2)
        await until_told(guest, task_id)
        assert (await guest.client.post(f"/api/v1/tasks/{task_id}/redeliver")).status_code == 200
        await until_received(receiver, 3)
        await until_told(guest, task_id)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False, True, True]
    assert len(receiver.received) == 3
