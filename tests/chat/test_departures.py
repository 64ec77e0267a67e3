"""Whose a chat is when its guest signs in, and what is left when its owner or its time is gone."""

import asyncio
import json
import os
import time

from benchmarks.gemini_standin import GeminiStandin
from services.chat.departure import LEFT_OVER_MS
from services.chat.store import CHAT, CHATS, TURNS
from tests.accounts.test_departures import finished
from tests.accounts.test_export import exported
from tests.chat.talking import begin, bytes_of, contents_of, listed, read, say, told, try_say
from tests.references.pictures import picture
from tests.support.answers import error_of
from tests.support.people import bearer, registered
from tests.support.service import Guest, RunningService

DAY_SECONDS = 24 * 3600


async def test_a_guest_who_signs_in_keeps_their_chats(
    chat_service: RunningService, guest: Guest, gemini: GeminiStandin
) -> None:
    chat_id = await begin(guest)
    await say(guest, chat_id, "a boat", picture())
    gemini.configure(pixels=(64, 64), delay_seconds=0.5)
    talking = asyncio.create_task(try_say(guest, chat_id, "a red boat"))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    ada = await registered(chat_service, "ada@example.org", headers=bearer(guest))
    # What was under way comes to its end in the chat, whosever that is by now.
    assert (await talking).status_code == 200
    assert (await contents_of(ada, chat_id))[::2] == ["a boat", "a red boat"]
    assert [entry["session_id"] for entry in (await listed(ada))["sessions"]] == [chat_id]
    gemini.configure(pixels=(64, 64))
    answer = await say(ada, chat_id, "a blue boat")
    assert answer["deleted_images"] == 0
    assert [len(content["parts"]) for content in told(gemini)] == [2, 1, 1, 1, 1]
    await chat_service.container.departures.finish()
    assert not any(message["image_deleted"] for message in (await read(ada, chat_id))["messages"])
    redis = chat_service.container.redis
    for key in (CHAT(session_id=chat_id), TURNS(session_id=chat_id), CHATS(user_id=ada.id)):
        assert 29 * DAY_SECONDS < await redis.ttl(key) <= 30 * DAY_SECONDS
    assert not await redis.exists(CHATS(user_id=guest.id))


async def test_with_an_account_go_its_chats(chat_service: RunningService, guest: Guest) -> None:
    ada = await registered(chat_service, "ada@example.org")
    chat_id, others = await begin(ada), await begin(guest)
    await say(ada, chat_id, "a boat", picture())
    await say(guest, others, "a lighthouse", picture())
    kept = {path for path in chat_service.stored("chats/**/*") if others in str(path)}
    assert (await ada.client.delete("/api/auth/me")).status_code == 200
    await finished(chat_service)
    assert set(chat_service.stored("chats/**/*")) == kept
    redis = chat_service.container.redis
    assert not [key for key in await redis.keys("*") if chat_id in key or ada.id in key]
    assert await contents_of(guest, others) == ["a lighthouse", None]


async def test_the_export_of_an_account_has_its_chats(chat_service: RunningService) -> None:
    ada = await registered(chat_service, "ada@example.org")
    chat_id, photo = await begin(ada), picture("JPEG")
    answer = await say(ada, chat_id, "a boat", photo)
    _, files = await exported(ada)
    assert files[f"chats/{chat_id}/attachments/000_00.jpg"] == photo
    chat = json.loads(files[f"chats/{chat_id}/chat.json"])
    assert [message["content"] for message in chat["messages"]] == ["a boat", None]
    (image,) = [content for name, content in files.items() if name.startswith("images/")]
    assert image == await bytes_of(ada, answer)


async def test_what_is_left_of_ended_chats_is_removed(chat_service: RunningService, guest: Guest) -> None:
    ended, alive = await begin(guest), await begin(guest)
    for chat_id in (ended, alive):
        await say(guest, chat_id, "a boat", picture())
    storage, redis = chat_service.container.storage, chat_service.container.redis
    await storage.put(f"chats/{alive}/turn_broken_off/0", b"an image", content_type="image/png")
    await redis.delete(CHAT(session_id=ended), TURNS(session_id=ended))
    clear = chat_service.container.chats.departure.clear
    assert await clear() == 0, "a turn may be under way"
    long_ago = time.time() - LEFT_OVER_MS / 1000 - 60
    for path in chat_service.stored("chats/**/*"):
        os.utime(path, (long_ago, long_ago))
    assert await clear() == 3
    assert {path.parent.parent.name for path in chat_service.stored("chats/**/*")} == {alive}
    assert len(chat_service.stored("chats/**/*")) == 2
    assert await clear() == 0
    error_of(await guest.client.get(f"/api/chat/sessions/{ended}"), 404, "NOT_FOUND")
