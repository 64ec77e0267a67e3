"""Chats outlive the processes that answer in them: real ones, killed with -9 between two turns and in one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.chat.talking import CHATS, begin, bytes_of, contents_of, inline, say, told, try_say, without_signature
from tests.faults.support import SpareApi, fault_settings, guests
from tests.references.pictures import picture
from tests.support.installation import Installation, named
from tests.support.service import Guest
from tests.support.waiting import eventually

# Longer than a dead turn holds its chat (15 s), and than its points, the sweep and the worker take.
SETTLED_SECONDS = 45


async def die_in_a_turn(
    installation: Installation, settings: dict[str, str], guest: Guest, chat_id: str, point: str
) -> None:
    """Over a message with an image, in an API process of its own."""
    spare = SpareApi(installation, {**settings, "FAIL_POINT": point})
    try:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await guest.client.post(
                f"{spare.url}{CHATS}/{chat_id}/messages", data={"message": point}, files={"images": picture()}
            )
        assert await spare.exit_code() == -9
    finally:
        spare.close()


async def say_again(guest: Guest, chat_id: str, message: str) -> None:
    """Once the dead turn has let go of the chat."""

    async def answered() -> bool:
        response = await try_say(guest, chat_id, message)
        assert response.status_code in {200, 409}, response.text
        return response.status_code == 200

    assert await eventually(answered, SETTLED_SECONDS)


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_chat_goes_on_after_the_process_that_answered_in_it_is_killed(
    installation: Installation, gemini: GeminiStandin, clients: AsyncExitStack
) -> None:
    gemini.configure(mode="text_and_image", pixels=(64, 64))
    settings = fault_settings(gemini) | {"TRIAL_CHAT_LIMIT": "1000"}
    leader = installation.start(**settings)
    guest, *others = await guests(installation, 4, clients)
    chat_id, photo = await begin(guest), picture("JPEG")
    answers = [await say(guest, chat_id, "a boat", photo), await say(guest, chat_id, "a red boat")]
    answers.append(await say(guest, chat_id, "a blue boat"))
    before = told(gemini)
    (api,) = named(leader, "nbl-api")
    api.kill()
    api.wait()

    points = ("answered", "record_stored", "committed")
    chats = [await begin(other) for other in others]
    for other, chat in zip(others, chats, strict=True):
        await say(other, chat, "first")
    await asyncio.gather(
        *(die_in_a_turn(installation, settings, *one) for one in zip(others, chats, points, strict=True))
    )

    await say(guest, chat_id, "a green boat")
    contents = told(gemini)
    assert contents[:5] == before, "the same words, images and signatures"
    assert [part["text"] for content in contents[::2] for part in content["parts"] if "text" in part] == [
        "a boat", "a red boat", "a blue boat", "a green boat",
    ]  # fmt: skip
    for content, answer in zip(contents[1::2], answers, strict=True):
        assert all(part["thoughtSignature"] for part in content["parts"])
        assert without_signature(content["parts"][1]) == inline(await bytes_of(guest, answer))

    # Where the image was not kept the chat is as before; else the turn joins it, once.
    for number, (other, chat) in enumerate(zip(others, chats, strict=True)):
        expected = ["first", *([points[number]] if number else [])]

        async def settled(who: Guest = other, where: str = chat, wanted: list[str] = expected) -> bool:
            return (await contents_of(who, where))[::2] == wanted

        assert await eventually(settled, SETTLED_SECONDS), points[number]
        await say_again(other, chat, "last")
        assert (await contents_of(other, chat))[::2] == [*expected, "last"]
        assert (await other.history(session_id=chat))["total"] == len(expected) + 1
    # What its parts were to be given back as has died with the process, so the image is shown by itself.
    _, _, photo_turn, said, last = told(gemini)
    assert [len(content["parts"]) for content in (photo_turn, said, last)] == [2, 1, 2]
