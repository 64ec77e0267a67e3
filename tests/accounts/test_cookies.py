"""The refresh token in a cookie (SPEC section 4)."""

from collections.abc import Iterator
from http.cookies import SimpleCookie

import httpx
import pytest
from redis import Redis

from core.security import RefreshTokens
from services.accounts.sessions import REFRESH
from tests.conftest import OpenService
from tests.support.answers import error_of, fields_of
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.people import bearer, registered, signed_in, try_github, try_login, try_register
from tests.support.service import RunningService

COOKIE = {"X-Token-Transport": "cookie"}
PAGE = "https://page.example"


@pytest.fixture
async def service(open_service: OpenService, github: GitHubStandin) -> RunningService:
    return await open_service(CORS_ORIGINS=PAGE, **github_settings(github))


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def cookie_of(response: httpx.Response) -> str:
    """The refresh token that came as a cookie; checks what the cookie may do."""
    (header,) = response.headers.get_list("set-cookie")
    jar = SimpleCookie(header)
    morsel = jar["nbl_refresh"]
    assert morsel["httponly"] is True
    assert morsel["secure"] is True
    assert (morsel["samesite"].lower(), morsel["path"], morsel["domain"]) == ("strict", "/api/auth", "")
    return morsel.value


def sent(token: str, **headers: str) -> dict[str, str]:
    return {"Cookie": f"nbl_refresh={token}", **headers}


async def refresh(service: RunningService, headers: dict[str, str]) -> httpx.Response:
    return await service.client.post("/api/auth/refresh", json={}, headers=headers)


async def test_every_way_in_gives_the_cookie_and_no_body_has_the_token(
    service: RunningService, github: GitHubStandin
) -> None:
    await registered(service, "bob@example.org")
    answers = [
        await service.client.post("/api/auth/guest", json={}, headers=COOKIE),
        await try_register(service, "ada@example.org", headers=COOKIE),
        await try_login(service, "bob@example.org", headers=COOKIE),
        await try_github(service, github, Person(1, "ada"), headers=COOKIE),
    ]
    answers.append(await refresh(service, sent(cookie_of(answers[0]), Origin=service.url) | COOKIE))
    for answer in answers:
        assert answer.status_code in {200, 201}, answer.text
        token = cookie_of(answer)
        assert len(token) > 30
        assert answer.json()["refresh_token"] is None
        assert token not in answer.text


async def test_without_asking_there_is_no_cookie(service: RunningService) -> None:
    for headers in ({}, {"X-Token-Transport": "body"}):
        response = await service.client.post("/api/auth/guest", json={}, headers=headers)
        assert "set-cookie" not in response.headers
        assert response.json()["refresh_token"]
    response = await service.client.post("/api/auth/guest", json={}, headers={"X-Token-Transport": "pigeon"})
    assert list(fields_of(response)) == ["X-Token-Transport"]


async def test_the_cookie_rotates(service: RunningService) -> None:
    first = cookie_of(await service.client.post("/api/auth/guest", json={}, headers=COOKIE))
    for headers in (COOKIE, {}):  # whoever sends the cookie gets one back
        response = await refresh(service, sent(first, Origin=service.url) | headers)
        assert response.status_code == 200, response.text
        assert response.json()["refresh_token"] is None
    second = cookie_of(response)
    assert second != first
    assert (await refresh(service, sent(second, Origin=PAGE))).status_code == 200


async def test_a_tab_that_comes_late_does_not_set_the_cookie_of_all_tabs_back(
    service: RunningService, redis: Redis
) -> None:
    """It has sent what the cookie was at first, and is answered when another tab has gone two tokens further."""
    first = cookie_of(await service.client.post("/api/auth/guest", json={}, headers=COOKIE))
    second = cookie_of(await refresh(service, sent(first, Origin=service.url)))
    third = cookie_of(await refresh(service, sent(second, Origin=service.url)))
    late = await refresh(service, sent(first, Origin=service.url))
    assert cookie_of(late) == third
    for used in (first, second):  # a quarter of an hour later
        redis.hincrby(REFRESH(hash=RefreshTokens.fingerprint(used)), "used_at", -900_000)
    assert (await refresh(service, sent(cookie_of(late), Origin=service.url))).status_code == 200
    assert cookie_of(await refresh(service, sent(third, Origin=service.url))) not in {first, second, third}
    error_of(await refresh(service, sent(second, Origin=service.url)), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", f"{PAGE}.evil.example", "http://page.example"]
)
async def test_another_origin_refreshes_nothing_and_signs_nobody_out(
    service: RunningService, origin: str | None
) -> None:
    response = await service.client.post("/api/auth/guest", json={}, headers=COOKIE)
    guest, token = signed_in(service, response), cookie_of(response)
    headers = sent(token) if origin is None else sent(token, Origin=origin)
    refused = await refresh(service, headers | COOKIE)
    assert error_of(refused, 403, "FORBIDDEN")["details"] == {"reason": "wrong_origin"}
    refused = await service.client.post("/api/auth/logout", headers=headers | bearer(guest))
    assert error_of(refused, 403, "FORBIDDEN")["details"] == {"reason": "wrong_origin"}
    refused = await service.client.delete("/api/auth/me", headers=headers | bearer(guest))
    error_of(refused, 403, "FORBIDDEN")
    # The token was not used up by it.
    assert (await guest.client.get("/api/auth/me")).status_code == 200
    assert cookie_of(await refresh(service, sent(token, Origin=PAGE))) != token


async def test_logout_takes_the_cookie_back(service: RunningService) -> None:
    response = await service.client.post("/api/auth/guest", json={}, headers=COOKIE)
    guest, token = signed_in(service, response), cookie_of(response)
    out = await service.client.post("/api/auth/logout", headers=sent(token, Origin=service.url) | bearer(guest))
    assert out.status_code == 200
    assert cookie_of(out) == ""
    assert "Max-Age=0" in out.headers["set-cookie"]
    error_of(await refresh(service, sent(token, Origin=service.url)), 401, "UNAUTHORIZED")


async def test_without_cookie_and_token_it_says_what_is_missing(service: RunningService) -> None:
    assert fields_of(await refresh(service, {}))["refresh_token"]["reason"] == "missing"
    error_of(await refresh(service, COOKIE | {"Origin": service.url}), 401, "UNAUTHORIZED")
    error_of(await refresh(service, sent("never-given-out", Origin=service.url)), 401, "UNAUTHORIZED")


async def test_the_public_address_is_an_origin_of_ours(open_service: OpenService) -> None:
    service = await open_service(PUBLIC_BASE_URL="https://images.example/app")
    token = cookie_of(await service.client.post("/api/auth/guest", json={}, headers=COOKIE))
    assert (await refresh(service, sent(token, Origin="https://images.example"))).status_code == 200
