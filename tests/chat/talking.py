"""What the tests of chats share: saying something, and what the model was told."""

import base64
from typing import Any

import httpx

from benchmarks.gemini_standin import GeminiStandin
from tests.providers.upstream import image_calls
from tests.references import pictures
from tests.support.service import Guest

CHATS = "/api/chat/sessions"


async def begin(guest: Guest, **fields: Any) -> str:
    response = await guest.client.post(CHATS, json=fields)
    assert response.status_code == 201, response.text
    chat_id: str = response.json()["session_id"]
    return chat_id


async def try_say(
    guest: Guest, chat_id: str, message: str, *images: bytes, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    body = {"message": message, **fields}
    if images:
        body["images"] = [pictures.text_of(image) for image in images]
    return await guest.client.post(f"{CHATS}/{chat_id}/messages", json=body, headers=headers)


async def say(guest: Guest, chat_id: str, message: str, *images: bytes, **fields: Any) -> dict[str, Any]:
    """The answer, taken for granted that there is one."""
    response = await try_say(guest, chat_id, message, *images, **fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def read(guest: Guest, chat_id: str) -> dict[str, Any]:
    response = await guest.client.get(f"{CHATS}/{chat_id}")
    assert response.status_code == 200, response.text
    chat: dict[str, Any] = response.json()
    return chat


async def contents_of(guest: Guest, chat_id: str) -> list[str | None]:
    """What was said, in order; of answers their text."""
    return [message["content"] for message in (await read(guest, chat_id))["messages"]]


async def listed(guest: Guest, **query: Any) -> dict[str, Any]:
    response = await guest.client.get(CHATS, params=query)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


def told(gemini: GeminiStandin, call: int = -1) -> list[dict[str, Any]]:
    """The contents of a call upstream."""
    contents: list[dict[str, Any]] = image_calls(gemini)[call]["body"]["contents"]
    return contents


def inline(data: bytes, mime_type: str = "image/png") -> dict[str, Any]:
    """A part that holds an image."""
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}


def without_signature(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "thoughtSignature"}


async def bytes_of(guest: Guest, answer: dict[str, Any]) -> bytes:
    response = await guest.client.get(f"/api/images/{answer['history_id']}")
    assert response.status_code == 200, response.text
    return response.content
