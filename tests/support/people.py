"""People who sign in, in one way or another."""

from typing import Any

import httpx

from tests.support.github import GitHubStandin, Person
from tests.support.service import Guest, RunningService

PASSWORD = "a long and easy sentence"


async def begin(service: RunningService) -> dict[str, Any]:
    response = await service.client.post("/api/auth/github/login", json={})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def come_back(
    service: RunningService, code: str, state: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    return await service.client.post("/api/auth/github/callback", json={"code": code, "state": state}, headers=headers)


async def try_github(
    service: RunningService, github: GitHubStandin, person: Person, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The whole walk: to GitHub, yes there, and back."""
    code, state = github.approve((await begin(service))["redirect_url"], person)
    return await come_back(service, code, state, headers)


async def with_github(service: RunningService, github: GitHubStandin, person: Person) -> Guest:
    response = await try_github(service, github, person)
    assert response.status_code == 200, response.text
    return signed_in(service, response)


async def try_register(
    service: RunningService, email: str, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    body = {"email": email, "password": PASSWORD, **fields}
    return await service.client.post("/api/auth/register", json=body, headers=headers)


async def registered(service: RunningService, email: str, **fields: Any) -> Guest:
    response = await try_register(service, email, **fields)
    assert response.status_code == 201, response.text
    return signed_in(service, response)


async def try_login(
    service: RunningService, email: str, password: str = PASSWORD, headers: dict[str, str] | None = None
) -> httpx.Response:
    return await service.client.post("/api/auth/login", json={"email": email, "password": password}, headers=headers)


def signed_in(service: RunningService, response: httpx.Response) -> Guest:
    tokens = response.json()
    client = service.with_headers(Authorization=f"Bearer {tokens['access_token']}")
    return Guest(tokens["user"]["id"], client, tokens)


async def set_up_admin(service: RunningService) -> Guest:
    """The first admin of an installation, by the token that its start has laid out."""
    token = (service.data_dir / "setup_token").read_text()
    return await registered(service, "admin@example.org", setup_token=token)


def bearer(guest: Guest) -> dict[str, str]:
    return {"Authorization": f"Bearer {guest.tokens['access_token']}"}
