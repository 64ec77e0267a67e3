"""How the tests of bad input ask, and read what is wrong."""

import httpx

from tests.support.answers import fields_of
from tests.support.service import Guest

BASIC = "/api/generate/basic"
SMALL_BODY_BYTES = 20_000


def reasons(response: httpx.Response) -> dict[str, str]:
    return {name: field["reason"] for name, field in fields_of(response).items()}


async def post_raw(guest: Guest, content: bytes, content_type: str | None = "application/json") -> httpx.Response:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await guest.client.post(BASIC, content=content, headers=headers)
