"""What the tests of prompts share."""

from typing import Any

from tests.support.service import Guest

MINE = {"title": "Harbour", "prompt": "a harbour at dusk", "category": "landscape", "tags": ["sea", "Ölbild"]}


async def kept(guest: Guest, **fields: Any) -> dict[str, Any]:
    """Keep a prompt, and take for granted that it works."""
    response = await guest.client.post("/api/prompts", json=MINE | fields)
    assert response.status_code == 201, response.text
    prompt: dict[str, Any] = response.json()
    return prompt


async def listed(guest: Guest, **query: Any) -> dict[str, Any]:
    response = await guest.client.get("/api/prompts", params=query)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def mark(guest: Guest, prompt_id: str, *, favorite: bool = True) -> None:
    response = await guest.client.post(f"/api/prompts/{prompt_id}/favorite", json={"is_favorite": favorite})
    assert response.json() == {"success": True}, response.text
