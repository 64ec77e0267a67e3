"""One turn at a time, whole or not at all, whoever hangs up, fails, sends it again or deletes meanwhile."""

import asyncio

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from core.clients.redis import reply
from services.chat.service import LOCK
from services.chat.store import CHAT
from tests.chat.talking import CHATS, begin, contents_of, listed, read, say, told, try_say
from tests.providers.upstream import image_calls, image_rows
from tests.references.pictures import picture
from tests.support.answers import error_of
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually


async def fields_of_chat(service: RunningService, chat_id: str) -> dict[str, str]:
    return await reply(service.container.redis.hgetall(CHAT(session_id=chat_id)))


async def test_of_two_at_once_one_is_answered_and_the_chat_reads_in_order(guest: Guest, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64), delay_seconds=0.3)
    chat_id, other = await begin(guest), await begin(guest)
    answers = await asyncio.gather(
        try_say(guest, chat_id, "one"), try_say(guest, chat_id, "two"), try_say(guest, other, "another chat")
    )
    assert sorted(answer.status_code for answer in answers[:2]) == [200, 409]
    assert answers[2].status_code == 200
    refused = next(answer for answer in answers if answer.status_code == 409)
    error = error_of(refused, 409, "CONFLICT")
    assert (error["type"], error["details"]) == ("chat_busy", {"retry_after": 5})
    assert refused.headers["retry-after"] == "5"
    await say(guest, chat_id, "three")
    winner = next(word for word, answer in zip(("one", "two"), answers, strict=False) if answer.status_code == 200)
    assert (await contents_of(guest, chat_id))[::2] == [winner, "three"]
    assert await guest.used() == 3


async def test_a_failed_turn_leaves_no_trace(chat_service: RunningService, guest: Guest, gemini: GeminiStandin) -> None:
    chat_id = await begin(guest)
    await say(guest, chat_id, "a boat")
    before, fields = await read(guest, chat_id), await fields_of_chat(chat_service, chat_id)
    objects = chat_service.stored("chats/**/*")
    for mode in ("safety", "no_image", "not_image", "error"):
        gemini.configure(mode=mode, status=400)
        assert (await try_say(guest, chat_id, "a red boat", picture())).is_error
    assert await read(guest, chat_id) == before
    assert await fields_of_chat(chat_service, chat_id) == fields
    assert chat_service.stored("chats/**/*") == objects
    assert list((chat_service.data_dir / "spool").iterdir()) == []
    assert await guest.used() == 1
    gemini.configure(pixels=(64, 64))
    await say(guest, chat_id, "a blue boat")
    assert [content["parts"][0].get("text") for content in told(gemini)[::2]] == ["a boat", "a blue boat"]


async def test_who_hangs_up_finds_the_answer_in_the_chat(guest: Guest, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64), delay_seconds=0.5)
    chat_id = await begin(guest)
    with pytest.raises(httpx.ReadTimeout):
        await guest.client.post(f"{CHATS}/{chat_id}/messages", json={"message": "a boat"}, timeout=0.3)
    assert await contents_of(guest, chat_id) == [], "only whole turns are shown"

    async def answered() -> bool:
        return len(await contents_of(guest, chat_id)) == 2

    assert await eventually(answered)
    assert (await read(guest, chat_id))["messages"][1]["history_id"] == (await guest.history())["items"][0]["id"]
    assert await guest.used() == 1


async def test_a_chat_that_is_deleted_meanwhile_stays_deleted(
    chat_service: RunningService, guest: Guest, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64), delay_seconds=0.5)
    chat_id = await begin(guest)
    talking = asyncio.create_task(try_say(guest, chat_id, "a boat", picture()))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    assert (await guest.client.delete(f"{CHATS}/{chat_id}")).json() == {"success": True}
    error_of(await talking, 404, "NOT_FOUND")
    assert (await listed(guest))["total"] == 0
    assert not await chat_service.container.redis.keys("*chat_*")
    assert chat_service.stored("chats/**/*") == []
    # What was made is charged and in the history.
    assert (await guest.history(session_id=chat_id))["total"] == 1


async def test_the_same_key_gives_the_first_answer_again(guest: Guest, gemini: GeminiStandin) -> None:
    chat_id, headers = await begin(guest), {"Idempotency-Key": "k"}
    first = await try_say(guest, chat_id, "a boat", picture(), headers=headers)
    await say(guest, chat_id, "a red boat")
    again = await try_say(guest, chat_id, "a boat", picture(), headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.json() == first.json()
    assert len(image_calls(gemini)) == 2
    for other in (
        try_say(guest, chat_id, "a ship", picture(), headers=headers),
        try_say(guest, chat_id, "a boat", headers=headers),
        try_say(guest, await begin(guest), "a boat", picture(), headers=headers),
    ):
        error_of(await other, 422, "IDEMPOTENCY_MISMATCH")
    assert (await contents_of(guest, chat_id))[::2] == ["a boat", "a red boat"]
    assert await guest.used() == 2
    # Also while another turn goes on.
    gemini.configure(pixels=(64, 64), delay_seconds=0.5)
    talking = asyncio.create_task(say(guest, chat_id, "a blue boat"))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    assert (await try_say(guest, chat_id, "a boat", picture(), headers=headers)).json() == first.json()
    await talking


async def test_the_same_key_begins_one_chat(guest: Guest) -> None:
    headers = {"Idempotency-Key": "k"}
    answers = [await guest.client.post(CHATS, json={"title": "mine"}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]
    error_of(await guest.client.post(CHATS, json={"title": "other"}, headers=headers), 422, "IDEMPOTENCY_MISMATCH")
    assert (await listed(guest))["total"] == 1


async def test_what_came_with_a_message_goes_with_the_chat(chat_service: RunningService, guest: Guest) -> None:
    chat_id = await begin(guest)
    answer = await say(guest, chat_id, "a boat", picture(), picture("JPEG"))
    assert len(chat_service.stored("chats/**/*")) == 3, "two images and the parts of the answer"
    assert (await guest.client.delete(f"{CHATS}/{chat_id}")).status_code == 200
    assert chat_service.stored("chats/**/*") == []
    error_of(await guest.client.get(f"{CHATS}/{chat_id}"), 404, "NOT_FOUND")
    assert [item["id"] for item in (await guest.history())["items"]] == [answer["history_id"]]
    assert image_rows(chat_service) == 1


async def test_redis_going_while_the_image_is_made_loses_no_turn(
    chat_service: RunningService, guest: Guest, gemini: GeminiStandin
) -> None:
    """The answer cannot join the chat then; it does when the chat is next looked at."""
    gemini.configure(pixels=(64, 64), delay_seconds=1)
    chat_id, redis = await begin(guest), chat_service.container.redis
    talking = asyncio.create_task(try_say(guest, chat_id, "a boat", picture()))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    # From now on it refuses what writes, as one whose disk is full.
    await redis.config_set("min-replicas-to-write", 1)
    try:
        error = error_of(await talking, 503, "DEPENDENCY_UNAVAILABLE")
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    assert error["type"] == "image_pending"

    # It could not let go of the chat; that ends by itself after 15 s.
    await redis.delete(LOCK(session_id=chat_id))
    assert (await contents_of(guest, chat_id))[::2] == ["a boat"]
    await say(guest, chat_id, "a red boat")
    assert (await contents_of(guest, chat_id))[::2] == ["a boat", "a red boat"]
    assert [len(content["parts"]) for content in told(gemini)] == [2, 1, 2], "the photo, and the image of the answer"
