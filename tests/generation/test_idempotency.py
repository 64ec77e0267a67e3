"""`Idempotency-Key`: a call that is sent again is answered again, not made again."""

import asyncio
import base64
from typing import Any

import httpx
import pytest
from redis import Redis

from benchmarks.gemini_standin import GeminiStandin
from services.idempotency import CLAIM, LEASE_SECONDS
from tests.conftest import OPERATOR_KEY
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest, RunningService

BODY = {"prompt": "a lighthouse", "aspect_ratio": "1:1"}


async def send(guest: Guest, key: str, **fields: Any) -> httpx.Response:
    return await guest.client.post("/api/generate/basic", json=BODY | fields, headers={"Idempotency-Key": key})


def claim_of(guest: Guest, key: str) -> str:
    return CLAIM(caller=guest.id, key=key)


async def test_the_same_key_and_body_give_the_first_answer_with_a_link_that_opens(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    first, second = await send(guest, "k1"), await send(guest, "k1")

    assert [first.status_code, second.status_code] == [200, 200]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    one, two = first.json()["data"], second.json()["data"]
    links = ("image_url", "thumbnail_url")
    assert {name: one[name] for name in one if name not in links} == {
        name: two[name] for name in two if name not in links
    }
    assert (await gemini_service.client.get(two["image_url"])).status_code == 200
    assert len(gemini.requests()) == 1
    assert await guest.used() == 1


async def test_quotes_around_a_key_are_not_part_of_it(gemini_service: RunningService) -> None:
    guest = await gemini_service.guest()
    await send(guest, "k1")
    assert (await send(guest, '"k1"')).headers["idempotency-replayed"] == "true"


async def test_a_replay_gives_the_bytes_too(gemini_service: RunningService) -> None:
    guest = await gemini_service.guest()
    first, second = [(await send(guest, "k1", include_base64=True)).json()["data"] for _ in range(2)]
    assert second["image_base64"] == first["image_base64"]
    stored = gemini_service.stored("users/**/*.png")
    assert base64.b64decode(second["image_base64"]) == stored[0].read_bytes()


async def test_another_body_with_the_same_key_is_a_mismatch(gemini_service: RunningService) -> None:
    guest = await gemini_service.guest()
    await send(guest, "k1")
    response = await send(guest, "k1", prompt="something else")
    error_of(response, 422, "IDEMPOTENCY_MISMATCH")
    assert await guest.used() == 1


async def test_keys_are_per_caller(gemini_service: RunningService) -> None:
    one, two = await gemini_service.guest(), await gemini_service.guest()
    first, second = await send(one, "k1"), await send(two, "k1")
    assert first.json()["data"]["history_id"] != second.json()["data"]["history_id"]
    assert "idempotency-replayed" not in second.headers


async def test_twenty_clients_at_once_make_one_image(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure(delay_seconds=0.5)
    guest = await gemini_service.guest()
    answers = await asyncio.gather(*(send(guest, "k1") for _ in range(20)))

    good = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 409]
    assert len(good) >= 1
    assert len(good) + len(refused) == 20
    assert all(error_of(answer, 409, "CONFLICT") for answer in refused)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert len(gemini.requests()) == 1
    assert (await guest.history())["total"] == await guest.used() == 1


async def test_a_failed_call_lets_go_of_its_key(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.script({"mode": "safety", "times": 1}, {})
    guest = await gemini_service.guest()
    assert (await send(guest, "k1")).status_code == 400
    again = await send(guest, "k1")
    assert again.status_code == 200
    assert "idempotency-replayed" not in again.headers
    assert await guest.used() == 1


async def test_nothing_is_kept_of_a_body_that_is_not_valid(service: RunningService) -> None:
    guest = await service.guest()
    assert (await send(guest, "k1", aspect_ratio="7:7")).status_code == 422
    assert (await send(guest, "k1")).status_code == 200


@pytest.mark.parametrize("key", ["", '""', "a b", "é", "x" * 256])
async def test_a_key_of_another_form_is_refused_by_name(service: RunningService, key: str) -> None:
    guest = await service.guest()
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    response = await guest.client.post("/api/generate/basic", json=BODY, headers=headers)
    assert set(fields_of(response)) == {"Idempotency-Key"}
    assert await guest.used() == 0


async def test_an_anonymous_caller_is_told_that_a_key_needs_an_account(gemini_service: RunningService) -> None:
    headers = {"X-API-Key": OPERATOR_KEY, "Idempotency-Key": "k1"}
    response = await gemini_service.client.post("/api/generate/basic", json=BODY, headers=headers)
    assert fields_of(response)["Idempotency-Key"]["reason"] == "needs_account"


async def test_an_image_that_was_deleted_since_is_not_made_again(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    image_id = (await send(guest, "k1")).json()["data"]["history_id"]
    await guest.client.delete(f"/api/history/{image_id}", params={"final": True})
    assert (await send(guest, "k1")).status_code == 404
    assert len(gemini.requests()) == 1


@pytest.mark.parametrize("deleted", [False, True])
async def test_the_key_is_known_though_redis_was_emptied(
    gemini_service: RunningService, gemini: GeminiStandin, redis_url: str, deleted: bool
) -> None:
    guest = await gemini_service.guest()
    image_id = (await send(guest, "k1")).json()["data"]["history_id"]
    if deleted:
        await guest.client.delete(f"/api/history/{image_id}", params={"final": True})
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        session = redis.keys("session:*")[0]
        kept = redis.hgetall(session)
        redis.flushall()
        redis.hset(session, mapping=kept)

    answer = await send(guest, "k1")

    assert answer.status_code == (404 if deleted else 200)
    assert len(gemini.requests()) == 1
    assert await guest.used() == 1


async def test_a_claim_that_nobody_renews_is_taken_over(
    gemini_service: RunningService, gemini: GeminiStandin, redis_url: str
) -> None:
    """As after a kill: the claim says running, but its lease is over."""
    guest = await gemini_service.guest()
    first = (await send(guest, "k1")).json()["data"]["history_id"]
    with Redis.from_url(redis_url) as redis:
        redis.hset(claim_of(guest, "k1"), mapping={"state": "running", "lease_until": 0})
    again = await send(guest, "k1")
    assert again.json()["data"]["history_id"] == first
    assert len(gemini.requests()) == 1
    assert await guest.used() == 1


async def test_a_long_call_keeps_its_claim(
    gemini_service: RunningService, gemini: GeminiStandin, redis_url: str
) -> None:
    gemini.configure(delay_seconds=7)
    guest = await gemini_service.guest()
    running = asyncio.create_task(send(guest, "k1"))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    with Redis.from_url(redis_url) as redis:
        before = int(redis.hget(claim_of(guest, "k1"), "lease_until") or 0)
        await asyncio.sleep(6)
        after = int(redis.hget(claim_of(guest, "k1"), "lease_until") or 0)
        left = redis.ttl(claim_of(guest, "k1"))
    assert after >= before + 4000
    assert left > LEASE_SECONDS
    assert (await running).status_code == 200
