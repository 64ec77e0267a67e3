"""What the model is told in each turn: all that came before, part by part, as it came."""

import itertools
from typing import cast

import pytest
from redis.asyncio import Redis

from benchmarks.gemini_standin import GeminiStandin
from services.chat.store import CHAT, CHATS, TURNS
from services.providers.gemini_contents import LEFT_OUT, SHOWN_BELOW
from services.providers.gemini_request import PIECE_BYTES
from tests.chat.talking import begin, bytes_of, inline, read, say, told, without_signature
from tests.conftest import OPERATOR_KEY, OpenService
from tests.references.pictures import BLUE, opened, picture
from tests.support.service import Guest, RunningService


async def test_the_third_turn_holds_the_two_before_it(guest: Guest, gemini: GeminiStandin) -> None:
    gemini.configure(mode="text_and_image", pixels=(64, 64), text='Here "it" is:\n\u2028🎨')
    chat_id = await begin(guest)
    photo, sketch = picture("JPEG"), picture("PNG", colour=BLUE)
    first = await say(guest, chat_id, "a lighthouse like this", photo)
    second = await say(guest, chat_id, "make it blue", sketch)
    third = await say(guest, chat_id, "now at night")
    assert [answer["dropped_images"] for answer in (first, second, third)] == [0, 0, 0]

    contents = told(gemini)
    assert [content["role"] for content in contents] == ["user", "model", "user", "model", "user"]
    assert contents[0]["parts"] == [{"text": "a lighthouse like this"}, inline(photo, "image/jpeg")]
    assert contents[2]["parts"] == [{"text": "make it blue"}, inline(sketch)]
    assert contents[4]["parts"] == [{"text": "now at night"}]
    signatures = set()
    for content, answer in ((contents[1], first), (contents[3], second)):
        text, image = content["parts"]
        assert without_signature(text) == {"text": 'Here "it" is:\n\u2028🎨'}
        assert without_signature(image) == inline(await bytes_of(guest, answer))
        signatures |= {text["thoughtSignature"], image["thoughtSignature"]}
    assert len(signatures) == 4, "each part has its own"
    # As it was told before, word for word.
    assert contents[:3] == told(gemini, 1)
    assert contents[:1] == told(gemini, 0)


async def test_signatures_come_back_as_they_came(guest: Guest, gemini: GeminiStandin) -> None:
    """Also long ones, of which each turn has some: the stand-in numbers them."""
    gemini.configure(mode="text_and_image", pixels=(64, 64), signature_bytes=PIECE_BYTES + 1)
    chat_id = await begin(guest)
    for message in ("one", "two", "three"):
        await say(guest, chat_id, message)
    given = [part["thoughtSignature"] for content in told(gemini)[1::2] for part in content["parts"]]
    assert len(set(given)) == 4
    assert {len(signature) for signature in given} == {-(-(PIECE_BYTES + 1) // 3) * 4}
    assert given[:2] == [part["thoughtSignature"] for part in told(gemini, 1)[1]["parts"]]


async def test_thoughts_are_shown_and_not_given_back(guest: Guest, gemini: GeminiStandin) -> None:
    gemini.configure(mode="thoughts", pixels=(64, 64), text="Here it is.")
    chat_id = await begin(guest)
    answer = await say(guest, chat_id, "a boat", enable_thinking=True)
    assert answer["thinking"] == "I am weighing the composition."
    await say(guest, chat_id, "a red boat")
    parts = told(gemini)[1]["parts"]
    assert [without_signature(part) for part in parts] == [
        {"text": "Here it is."},
        inline(await bytes_of(guest, answer)),
    ]


async def test_another_model_is_shown_the_image_and_no_signature(guest: Guest, gemini: GeminiStandin) -> None:
    chat_id = await begin(guest)
    answer = await say(guest, chat_id, "a boat", model="gemini-3-pro-image")
    await say(guest, chat_id, "a red boat", model="gemini-3.1-flash-image")
    await say(guest, chat_id, "a blue boat", model="gemini-3-pro-image")
    image = inline(await bytes_of(guest, answer))
    assert told(gemini, 1) == [
        {"role": "user", "parts": [{"text": "a boat"}]},
        {"role": "model", "parts": [{"text": SHOWN_BELOW}]},
        {"role": "user", "parts": [image, {"text": "a red boat"}]},
    ]
    own, others = told(gemini)[1]["parts"], told(gemini)[3]["parts"]
    assert [without_signature(part) for part in own] == [image]
    assert "thoughtSignature" in own[0]
    assert others == [{"text": SHOWN_BELOW}]


async def test_an_image_that_was_deleted_is_gone_and_said_to_be(guest: Guest, gemini: GeminiStandin) -> None:
    chat_id = await begin(guest)
    first = await say(guest, chat_id, "a boat")
    second = await say(guest, chat_id, "a red boat")
    assert (await guest.client.delete(f"/api/history/{first['history_id']}")).status_code == 200
    shown = (await read(guest, chat_id))["messages"]
    assert [(entry["image_url"] is None, entry["image_deleted"]) for entry in shown[1::2]] == [
        (True, True),
        (False, False),
    ]
    assert shown[1]["history_id"] == first["history_id"]
    third = await say(guest, chat_id, "a blue boat")
    assert (third["deleted_images"], third["dropped_images"]) == (1, 0)
    assert told(gemini)[1]["parts"] == [{"text": LEFT_OUT}]
    assert without_signature(told(gemini)[3]["parts"][0]) == inline(await bytes_of(guest, second))
    # Out of the trash again.
    assert (await guest.client.post(f"/api/history/{first['history_id']}/restore")).status_code == 200
    fourth = await say(guest, chat_id, "a green boat")
    assert fourth["deleted_images"] == 0
    assert without_signature(told(gemini)[1]["parts"][0]) == inline(await bytes_of(guest, first))


async def test_images_are_in_the_history_with_their_place(chat_service: RunningService, guest: Guest) -> None:
    chat_id = await begin(guest, aspect_ratio="1:1")
    answers = [await say(guest, chat_id, "a boat"), await say(guest, chat_id, "a red boat", aspect_ratio="4:3")]
    items = (await guest.history(session_id=chat_id, sort="oldest"))["items"]
    assert [item["id"] for item in items] == [answer["history_id"] for answer in answers]
    assert [(item["mode"], item["session_id"], item["chat_index"]) for item in items] == [
        ("chat", chat_id, 0), ("chat", chat_id, 1),
    ]  # fmt: skip
    assert [item["settings"] for item in items] == [
        {"aspect_ratio": "1:1", "resolution": "1K"}, {"aspect_ratio": "4:3", "resolution": "1K"},
    ]  # fmt: skip
    assert (await guest.client.get("/api/quota")).json()["modes"]["chat"]["used"] == 2
    assert len(chat_service.stored("users/**/chat_*.png")) == 2


async def test_no_image_is_kept_in_redis(chat_service: RunningService, guest: Guest, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64), signature_bytes=100_000)
    chat_id = await begin(guest)
    for number in range(3):
        await say(guest, chat_id, f"boat {number}", picture("PNG", (600, 400)))
    redis: Redis = chat_service.container.redis
    sizes = [await redis.memory_usage(key) for key in (CHAT(session_id=chat_id), TURNS(session_id=chat_id))]
    assert sum(size or 0 for size in sizes) < 16_000
    lives = [await redis.ttl(key) for key in (CHAT(session_id=chat_id), CHATS(user_id=guest.id))]
    assert all(24 * 3600 - 60 < life <= 24 * 3600 for life in lives), "a guest's chats go with what guests make"


@pytest.mark.parametrize("name", ["gemini-3-pro-image", "gemini-2.5-flash-image"])
async def test_over_the_budget_the_oldest_images_go_first(guest: Guest, gemini: GeminiStandin, name: str) -> None:
    most = 14 if name == "gemini-3-pro-image" else 3
    gemini.configure(pixels=(64, 64))
    chat_id = await begin(guest)
    images = [picture("PNG", (20 + number, 20)) for number in range(most)]
    first = await say(guest, chat_id, "all of these", *images, model=name)
    second = await say(guest, chat_id, "and this", picture("PNG", (90, 90)), model=name)
    # The new one comes first, then the newest answer, then what fits of the others: two were the oldest.
    assert (first["dropped_images"], second["dropped_images"]) == (0, 2)
    user, model, last = told(gemini)
    kept = [part for part in user["parts"] if "inlineData" in part]
    assert user["parts"][1:3] == [{"text": LEFT_OUT}] * 2
    assert kept == [inline(image) for image in images[2:]]
    assert without_signature(model["parts"][0]) == inline(await bytes_of(guest, first))
    assert last["parts"] == [{"text": "and this"}, inline(picture("PNG", (90, 90)))]


async def test_over_the_budget_of_texts_the_oldest_turns_go_after_the_images(
    guest: Guest, gemini: GeminiStandin
) -> None:
    chat_id = await begin(guest)
    for number in range(8):
        answer = await say(guest, chat_id, f"{number} " + "灯塔" * 1900)
    assert answer["dropped_images"] == 7
    assert answer["dropped_turns"] == 1
    contents = told(gemini)
    assert contents[0]["parts"][0]["text"].startswith("1 ")
    assert len(contents) == 13
    assert not [part for content in contents for part in content["parts"] if "inlineData" in part]


def coloured(image: bytes, channel: int) -> set[tuple[int, int]]:
    """Where in the middle of a picture a colour stands out, on a grid of 48 by 48."""
    small = opened(image).convert("RGB").resize((48, 48))
    spots = itertools.product(range(16, 32), range(16, 44))
    found = {spot: cast(tuple[int, int, int], small.getpixel(spot)) for spot in spots}
    return {spot for spot, pixel in found.items() if pixel[channel] > 1.4 * pixel[2 - channel]}


async def test_the_demo_draws_on_what_was_said_before(open_service: OpenService) -> None:
    service = await open_service(TRIAL_GUEST_SHARE="1")
    guest = await service.guest()
    chat_id = await begin(guest, aspect_ratio="1:1")
    cat = await bytes_of(guest, await say(guest, chat_id, "a red cat in a meadow by day"))
    blue = await bytes_of(guest, await say(guest, chat_id, "make it blue"))
    red_cat, red, blue_cat = coloured(cat, 0), coloured(blue, 0), coloured(blue, 2)
    assert len(red_cat) > 40
    assert len(red_cat & blue_cat) > 0.8 * len(red_cat), "the same cat, in another colour"
    assert len(red_cat & red) < 0.1 * len(red_cat)


async def test_a_chat_goes_on_with_another_provider(open_service: OpenService, gemini: GeminiStandin) -> None:
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_COOLDOWN_SECONDS="0"
    )
    gemini.configure(pixels=(64, 64))
    guest = await service.guest()
    chat_id = await begin(guest)
    drawn = await say(guest, chat_id, "a red cat", provider="demo")
    assert (drawn["provider"], drawn["model"]) == ("demo", "demo")
    await say(guest, chat_id, "make it blue", provider="gemini")
    assert told(gemini)[2]["parts"] == [inline(await bytes_of(guest, drawn)), {"text": "make it blue"}]
