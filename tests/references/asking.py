"""What the tests of blend and search share."""

from typing import Any

import httpx

from tests.references import pictures
from tests.support.service import Guest

BLEND, SEARCH = "/api/generate/blend", "/api/generate/search"


async def blend(guest: Guest, *images: bytes, prompt: str = "both in one", **fields: Any) -> httpx.Response:
    """As JSON, each image in base64."""
    body = {"prompt": prompt, "images": [pictures.text_of(image) for image in images], **fields}
    return await guest.client.post(BLEND, json=body)


async def blend_form(guest: Guest, *images: bytes, prompt: str = "both in one", **fields: str) -> httpx.Response:
    """As multipart, each image a file."""
    files = [("images", (f"photo {index}.bin", image)) for index, image in enumerate(images)]
    return await guest.client.post(BLEND, data={"prompt": prompt, **fields}, files=files)


def made(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data
