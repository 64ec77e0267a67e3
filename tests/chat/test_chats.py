"""Lists, titles, downloads and limits of chats."""

import io
import json
import zipfile

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from core.clients.redis import reply
from core.clock import now_ms
from services.chat.models import MAX_CHATS, MAX_TURNS
from services.chat.store import CHAT, CHATS, TURNS
from services.chat.titles import MOST_CHARACTERS, title_of
from tests.chat.talking import CHATS as SESSIONS
from tests.chat.talking import begin, bytes_of, contents_of, listed, read, say, told, try_say
from tests.conftest import OpenService
from tests.references.pictures import picture, text_of
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest, RunningService

OWN_KEY = {"X-API-Key": "own-key.of_a-caller+0123456789"}


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("a boat", "a boat"),
        ("  a boat\n\nat  sea ", "a boat at sea"),
        ("word " * 20, ("word " * 12).strip() + "…"),
        ("The lighthouse, " * 6, "The lighthouse, The lighthouse, The lighthouse, The…"),
        ("灯" * 80, "灯" * 59 + "…"),
        ("黄昏的灯塔，" * 20, ("黄昏的灯塔，" * 9) + "黄昏的灯塔…"),
        ("x" * 80, "x" * 59 + "…"),
        # An accent, a family and a flag of skin tones are not cut in two.
        ("e" * 58 + "e\u0301" * 5, "e" * 58 + "…"),
        ("é" * 57 + "👩\u200d👩\u200d👧" * 4, "é" * 57 + "…"),
        ("क" * 58 + "\u0915\u093f" * 4, "क" * 58 + "…"),
        ("👍🏽" * 40, "👍🏽" * 29 + "…"),
    ],
)
def test_titles_are_cut_where_nothing_is_torn(prompt: str, title: str) -> None:
    assert title_of(prompt) == title
    assert len(title) <= MOST_CHARACTERS


async def test_the_list_has_the_latest_first_with_what_was_said_last(guest: Guest) -> None:
    silent, first, second = await begin(guest), await begin(guest, title="The boat"), await begin(guest)
    await say(guest, second, "a lighthouse at dusk")
    await say(guest, first, "a boat")
    answer = await say(guest, first, "a red boat")
    page = await listed(guest)
    found = {entry["session_id"]: entry for entry in page["sessions"]}
    assert list(found) == [first, second, silent]
    assert (page["total"], page["limit"], page["offset"], page["has_more"]) == (3, 20, 0, False)
    assert [entry["title"] for entry in found.values()] == ["The boat", "a lighthouse at dusk", "Chat"]
    assert [entry["message_count"] for entry in found.values()] == [4, 2, 0]
    assert [entry["preview_prompt"] for entry in found.values()] == ["a red boat", "a lighthouse at dusk", None]
    assert found[first]["preview_image_url"] == answer["thumbnail_url"]
    assert (await guest.client.get(found[first]["preview_image_url"])).status_code == 200
    assert (found[silent]["preview_image_url"], found[silent]["last_message_at"]) == (None, None)
    await guest.client.delete(f"/api/history/{answer['history_id']}")
    some = await listed(guest, limit=1, offset=0)
    assert some["sessions"] == [found[first] | {"preview_image_url": None}]
    assert some["has_more"] is True
    assert [entry["session_id"] for entry in (await listed(guest, limit=2, offset=1))["sessions"]] == [second, silent]
    assert (await listed(guest, offset=50))["sessions"] == []


async def test_a_chat_reads_as_it_was_said(guest: Guest, gemini: GeminiStandin) -> None:
    gemini.configure(mode="text_and_image", pixels=(64, 64), text="Here it is.")
    chat_id = await begin(guest, aspect_ratio="4:3")
    answer = await say(guest, chat_id, "a boat", picture("PNG", (64, 48)))
    assert (answer["role"], answer["content"], answer["model"]) == ("assistant", "Here it is.", "gemini-3-pro-image")
    chat = await read(guest, chat_id)
    assert (chat["session_id"], chat["title"], chat["aspect_ratio"]) == (chat_id, "a boat", "4:3")
    said, answered = chat["messages"]
    assert {name: answer[name] for name in answered} == answered
    size = len(picture("PNG", (64, 48)))
    assert said["attachments"] == [{"mime_type": "image/png", "width": 64, "height": 48, "size": size}]
    assert (said["role"], said["content"], said["image_url"], said["image_deleted"]) == ("user", "a boat", None, False)
    assert said["timestamp"] <= answered["timestamp"]
    assert (await guest.client.get(answered["image_url"])).status_code == 200


async def test_a_message_as_a_form_is_the_same(guest: Guest, gemini: GeminiStandin) -> None:
    chat_id = await begin(guest)
    address = f"{SESSIONS}/{chat_id}/messages"
    files = [("images", ("a.png", picture())), ("images", ("b.jpg", picture("JPEG")))]
    response = await guest.client.post(address, data={"message": "both", "safety_level": "strict"}, files=files)
    assert response.status_code == 200, response.text
    assert len(told(gemini)[0]["parts"]) == 3
    plain = await guest.client.post(address, data={"message": "and now blue"}, headers={})
    assert fields_of(plain)["body"]["reason"] == "content_type", "no form with files, and no JSON"


async def test_each_download(chat_service: RunningService, guest: Guest, gemini: GeminiStandin) -> None:
    gemini.configure(mode="text_and_image", pixels=(64, 64), text="![no](https://evil.example/x) *it* is")
    chat_id, photo = await begin(guest), picture("JPEG")
    first = await say(guest, chat_id, "a <b>boat</b>", photo)
    second = await say(guest, chat_id, "a red boat")
    await guest.client.delete(f"/api/history/{first['history_id']}")
    address = f"{SESSIONS}/{chat_id}/export"

    as_json = await guest.client.get(address)
    assert as_json.headers["content-disposition"] == f'attachment; filename="{chat_id}.json"'
    whole = as_json.json()
    assert whole.pop("exported_at").endswith("Z")
    assert whole == await read(guest, chat_id)

    markdown = await guest.client.get(address, params={"format": "markdown"})
    assert markdown.headers["content-type"].startswith("text/markdown")
    assert f"![{second['history_id']}](" in markdown.text
    assert "*This image was deleted.*" in markdown.text
    assert r"a \<b\>boat\</b\>" in markdown.text
    assert "![no]" not in markdown.text
    link = markdown.text.partition(f"![{second['history_id']}](")[2].partition(")")[0]
    assert (await chat_service.client.get(link)).content == await bytes_of(guest, second)

    packed = await guest.client.get(address, params={"format": "zip"})
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert json.loads(files.pop("chat.json"))["messages"] == whole["messages"]
    assert files == {
        "attachments/000_00.jpg": photo,
        f"images/001_{second['history_id']}.png": await bytes_of(guest, second),
    }
    assert fields_of(await guest.client.get(address, params={"format": "pdf"}))["format"]["allowed"] == [
        "json", "markdown", "zip",
    ]  # fmt: skip


async def test_what_is_no_message(guest: Guest, gemini: GeminiStandin) -> None:
    chat_id = await begin(guest)
    for body, field, reason in (
        ({}, "message", "missing"),
        ({"message": "  "}, "message", "blank"),
        ({"message": "x" * 4001}, "message", "too_long"),
        ({"message": "a\0b"}, "message", "bad_text"),
        ({"message": "a", "images": [text_of(picture())] * 15}, "images", "too_long"),
        ({"message": "a", "images": ["%%%"]}, "images.0", "bad_base64"),
        ({"message": "a", "images": None}, "images", "wrong_type"),
        ({"message": "a", "aspect_ratio": "7:5"}, "aspect_ratio", "not_supported"),
        ({"message": "a", "seed": 1}, "seed", "unknown_field"),
        ({"message": "a", "model": "gemini-3.1-flash-lite-image"}, "model", "not_allowed"),
    ):
        response = await guest.client.post(f"{SESSIONS}/{chat_id}/messages", json=body)
        assert fields_of(response)[field]["reason"] == reason, body
    for image, status, code in ((b"no image", 400, "UNSUPPORTED_IMAGE"), (picture()[:60], 400, "UNSUPPORTED_IMAGE")):
        error_of(await try_say(guest, chat_id, "a", image), status, code)
    blocked = error_of(await try_say(guest, chat_id, "n s f w porn"), 400, "CONTENT_BLOCKED")
    assert blocked["type"] == "safety_blocked"
    too_many = await try_say(guest, chat_id, "a", *[picture()] * 4, model="gemini-2.5-flash-image")
    assert fields_of(too_many)["images"] == fields_of(too_many)["images"] | {"reason": "too_long", "limit": 3}
    assert await contents_of(guest, chat_id) == []
    assert gemini.requests() == []
    assert await guest.used() == 0


async def test_what_begins_no_chat(guest: Guest) -> None:
    for body, field in (
        ({"aspect_ratio": "wide"}, "aspect_ratio"),
        ({"title": " "}, "title"),
        ({"title": "x" * 101}, "title"),
        ({"x": 1}, "x"),
    ):
        assert list(fields_of(await guest.client.post(SESSIONS, json=body))) == [field]
    assert (await listed(guest))["total"] == 0


async def test_a_chat_that_expired_is_like_one_that_never_was(chat_service: RunningService, guest: Guest) -> None:
    chat_id, other = await begin(guest), await begin(guest)
    await say(guest, chat_id, "a boat")
    redis = chat_service.container.redis
    for key in (CHAT(session_id=chat_id), TURNS(session_id=chat_id)):
        await redis.delete(key)
    for missing in (chat_id, "chat_01kga0000000abcdefghjkmnpq", "x", "%00"):
        address = f"{SESSIONS}/{missing}"
        for response in (
            await guest.client.get(address),
            await guest.client.post(f"{address}/messages", json={"message": "a"}),
            await guest.client.get(f"{address}/export"),
            await guest.client.delete(address),
        ):
            error_of(response, 404, "NOT_FOUND")
    assert [entry["session_id"] for entry in (await listed(guest))["sessions"]] == [other]


async def test_limits_are_told(chat_service: RunningService, guest: Guest, gemini: GeminiStandin) -> None:
    chat_id = await begin(guest)
    await say(guest, chat_id, "a boat")
    redis = chat_service.container.redis
    (turn,) = await reply(redis.lrange(TURNS(session_id=chat_id), 0, -1))
    of_a_later_version = turn[:-1] + ',"more":1}'
    await reply(redis.rpush(TURNS(session_id=chat_id), *[of_a_later_version] * (MAX_TURNS - 2)))
    await reply(redis.hset(CHAT(session_id=chat_id), "turns", str(MAX_TURNS - 1)))
    await say(guest, chat_id, "the last one")
    error = error_of(await try_say(guest, chat_id, "one more"), 409, "CONFLICT")
    assert (error["type"], error["details"]) == ("chat_full", {"limit": MAX_TURNS})
    far = now_ms() + 1_000_000
    await redis.zadd(CHATS(user_id=guest.id), {f"chat_{number}": far for number in range(MAX_CHATS - 1)})
    error = error_of(await guest.client.post(SESSIONS, json={}), 409, "CONFLICT")
    assert (error["type"], error["details"]) == ("too_many_chats", {"limit": MAX_CHATS})
    await guest.client.delete(f"{SESSIONS}/{chat_id}")
    await begin(guest)


async def test_points_are_those_of_chats(open_service: OpenService, chat_settings: dict[str, str]) -> None:
    service = await open_service(**chat_settings | {"TRIAL_CHAT_LIMIT": "1", "TRIAL_COOLDOWN_SECONDS": "0"})
    guest = await service.guest()
    chat_id = await begin(guest)
    await say(guest, chat_id, "a boat")
    error_of(await try_say(guest, chat_id, "a red boat"), 429, "QUOTA_EXCEEDED")
    # An own key is not metered, and the chat goes on with it.
    await say(guest, chat_id, "a red boat", headers=OWN_KEY)
    assert (await contents_of(guest, chat_id))[::2] == ["a boat", "a red boat"]
    assert await guest.used() == 1
    assert (await guest.image("no chat"))["provider"] == "gemini"


async def test_chats_are_for_people_with_a_token(chat_service: RunningService, guest: Guest) -> None:
    chat_id = await begin(guest)
    client: httpx.AsyncClient = chat_service.client
    for headers in ({}, OWN_KEY, {"X-API-Key": "nbk_" + "x" * 43}, {"Authorization": "Bearer nbk_" + "x" * 43}):
        for method, path in (("POST", ""), ("GET", ""), ("GET", f"/{chat_id}"), ("POST", f"/{chat_id}/messages")):
            body = {"message": "a"} if path.endswith("messages") else {}
            response = await client.request(method, f"{SESSIONS}{path}", json=body, headers=headers)
            error_of(response, 401, "UNAUTHORIZED")
