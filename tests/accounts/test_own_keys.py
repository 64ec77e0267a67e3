"""The caller's own Google key: checked, kept encrypted, used first, not metered, and nowhere to be read."""

from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from benchmarks.gemini_standin import GeminiStandin
from services.accounts.sessions import SESSION
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.answers import error_of, fields_of
from tests.support.people import signed_in
from tests.support.service import Guest, RunningService

SAVED_KEY = "AIzaSavedKeyOfOneCaller000000000000Zq7W"
SENT_KEY = "AIzaSentKeyOfOneCaller0000000000000Xk2V"
SECRET_KEY = "the secret of the tests, long enough to be taken"


@pytest.fixture
async def service(open_service: OpenService, gemini: GeminiStandin) -> RunningService:
    return await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, SECRET_KEY=SECRET_KEY,
        LOGIN_RATE_PER_MINUTE="1000",
    )  # fmt: skip


@pytest.fixture
async def guest(service: RunningService) -> Guest:
    return await service.guest()


async def save(guest: Guest, key: str = SAVED_KEY) -> dict[str, Any]:
    response = await guest.client.put("/api/auth/api-key", json={"api_key": key})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def is_trial(guest: Guest) -> bool:
    trial: bool = (await guest.client.get("/api/quota")).json()["is_trial_mode"]
    return trial


def keys_upstream(gemini: GeminiStandin) -> list[str]:
    return [request["headers"]["x-goog-api-key"] for request in gemini.requests() if request["method"] == "POST"]


async def test_a_key_is_checked_kept_shown_by_its_end_and_forgotten(guest: Guest, gemini: GeminiStandin) -> None:
    nothing = {"configured": False, "masked": None, "provider": "gemini"}
    assert (await guest.client.get("/api/auth/api-key")).json() == nothing
    kept = await save(guest)
    assert kept == {"configured": True, "masked": "****Zq7W", "provider": "gemini"}
    (asked,) = gemini.requests()
    assert (asked["method"], asked["headers"]["x-goog-api-key"], asked["query"]) == ("GET", SAVED_KEY, "")
    assert (await guest.client.get("/api/auth/api-key")).json() == kept
    assert (await guest.client.delete("/api/auth/api-key")).json() == nothing
    assert (await guest.client.get("/api/auth/api-key")).json() == nothing


async def test_which_key_is_used_request_then_saved_then_operators(guest: Guest, gemini: GeminiStandin) -> None:
    await guest.image()
    await save(guest)
    await guest.image()
    await guest.client.post("/api/generate/basic", json={"prompt": "a lighthouse"}, headers={"X-API-Key": SENT_KEY})
    await guest.client.delete("/api/auth/api-key")
    await guest.image()
    assert keys_upstream(gemini) == [OPERATOR_KEY, SAVED_KEY, SENT_KEY, OPERATOR_KEY]
    assert await guest.used() == 2


@pytest.mark.parametrize("saved", [True, False])
async def test_with_an_own_key_nothing_is_metered(
    open_service: OpenService, gemini: GeminiStandin, saved: bool
) -> None:
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_GLOBAL_QUOTA="0",
        TRIAL_COOLDOWN_SECONDS="60",
    )  # fmt: skip
    guest = await service.guest()
    assert await is_trial(guest)
    headers = {} if saved else {"X-API-Key": SENT_KEY}
    if saved:
        await save(guest)
    for _ in range(2):
        response = await guest.client.post("/api/generate/basic", json={"prompt": "a lighthouse"}, headers=headers)
        assert response.status_code == 200, response.text
    quota = (await guest.client.get("/api/quota", headers=headers)).json()
    assert quota["is_trial_mode"] is False
    assert quota["global"]["used"] == sum(mode["used"] for mode in quota["modes"].values()) == 0
    assert quota["cooldown"]["active"] is False
    check = await guest.client.post("/api/quota/check", json={"mode": "basic"}, headers=headers)
    assert check.json()["can_generate"] is True
    assert (await guest.history())["total"] == 2


async def test_without_an_operators_key_a_saved_one_is_enough(open_service: OpenService, gemini: GeminiStandin) -> None:
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_ENABLED="false")
    guest = await service.guest()
    error_of(await guest.generate(), 400, "API_KEY_REQUIRED")
    await save(guest)
    assert (await guest.generate()).status_code == 200
    estimate = (await guest.client.get("/api/generate/estimate")).json()["data"]
    assert estimate["total_cost"] > 0, "the price of Gemini, not of the demo"


async def test_it_belongs_to_its_session(service: RunningService, guest: Guest) -> None:
    await save(guest)
    other = await service.guest()
    assert (await other.client.get("/api/auth/api-key")).json()["configured"] is False
    refreshed = await service.client.post("/api/auth/refresh", json={"refresh_token": guest.tokens["refresh_token"]})
    again = signed_in(service, refreshed)
    assert (await again.client.get("/api/auth/api-key")).json()["configured"] is True
    await again.client.post("/api/auth/logout")


async def test_a_key_that_google_refuses_is_not_kept(guest: Guest, gemini: GeminiStandin) -> None:
    await save(guest)
    gemini.refuse_keys([SENT_KEY])
    response = await guest.client.put("/api/auth/api-key", json={"api_key": SENT_KEY})
    error_of(response, 400, "INVALID_API_KEY")
    assert SENT_KEY not in response.text
    assert (await guest.client.get("/api/auth/api-key")).json()["masked"] == "****Zq7W", "the key before it stays"


async def test_a_spent_key_is_said_to_be_that_and_nothing_else_is_spent(guest: Guest, gemini: GeminiStandin) -> None:
    """Google takes a spent key for a good one until something is made with it."""
    await save(guest)
    gemini.configure(mode="error", status=429)
    response = await guest.generate()
    error_of(response, 503, "PROVIDER_RATE_LIMITED")
    assert int(response.headers["retry-after"]) > 0
    assert set(keys_upstream(gemini)) == {SAVED_KEY}
    assert await guest.used() == 0


@pytest.mark.parametrize(("status", "code"), [(429, "PROVIDER_RATE_LIMITED"), (500, "PROVIDER_UNAVAILABLE")])
async def test_a_key_that_could_not_be_checked_is_not_kept(open_service: OpenService, status: int, code: str) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"code": status, "message": "no", "status": "X"}}, status=status)

    app = web.Application()
    app.router.add_get("/v1beta/models/{model}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service = await open_service(GOOGLE_GEMINI_BASE_URL=f"http://127.0.0.1:{runner.addresses[0][1]}")
    guest = await service.guest()
    response = await guest.client.put("/api/auth/api-key", json={"api_key": SENT_KEY})
    error_of(response, 503, code)
    assert (await guest.client.get("/api/auth/api-key")).json()["configured"] is False
    await runner.cleanup()


@pytest.mark.parametrize(
    "key", ["nbk_" + "a" * 30, "short", "with a space in it", "AIza\tSyTab0000000000", "ключ-от-всех-дверей", "x" * 200]
)
async def test_what_cannot_be_a_google_key_is_never_sent_anywhere(
    guest: Guest, gemini: GeminiStandin, key: str
) -> None:
    response = await guest.client.put("/api/auth/api-key", json={"api_key": key})
    if len(key) == 200:
        assert response.status_code == 200
        return
    error_of(response, 400, "INVALID_API_KEY")
    assert gemini.requests() == []


async def test_bad_bodies_are_named_and_not_said_again(guest: Guest) -> None:
    for body in ({}, {"api_key": ""}, {"api_key": "x" * 201}, {"api_key": 5}, {"api_key": None}):
        response = await guest.client.put("/api/auth/api-key", json=body)
        assert list(fields_of(response)) == ["api_key"]
        assert "x" * 20 not in response.text


async def test_google_away_is_said_and_nothing_is_kept(open_service: OpenService) -> None:
    service = await open_service(GOOGLE_GEMINI_BASE_URL="http://127.0.0.1:1")
    guest = await service.guest()
    response = await guest.client.put("/api/auth/api-key", json={"api_key": SAVED_KEY})
    error_of(response, 502, "PROVIDER_CONNECTION")
    assert (await guest.client.get("/api/auth/api-key")).json()["configured"] is False


async def test_guessing_keys_is_limited(open_service: OpenService, gemini: GeminiStandin) -> None:
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, LOGIN_RATE_PER_MINUTE="1")
    guest = await service.guest()
    codes = [(await guest.client.put("/api/auth/api-key", json={"api_key": SAVED_KEY})).status_code for _ in range(3)]
    assert codes[0] == 200
    assert 429 in codes


async def test_the_sealed_key_is_of_no_use_in_another_session(
    service: RunningService, guest: Guest, redis_url: str
) -> None:
    await save(guest)
    other = await service.guest()
    (mine,), (theirs,) = [(await who.client.get("/api/auth/sessions")).json()["sessions"] for who in (guest, other)]
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        sealed = redis.hget(SESSION(sid=mine["id"]), "sealed_key")
        redis.hset(SESSION(sid=theirs["id"]), "sealed_key", sealed)
    error_of(await other.generate(), 400, "INVALID_API_KEY")


async def test_it_is_opened_with_the_key_before_and_never_replaced_by_the_operators(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    upstream = {"GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url}
    new = "another secret of the tests, just as long as it"
    first = await open_service(SECRET_KEY=SECRET_KEY, **upstream)
    guest = await first.guest()
    await save(guest)
    for settings, status in (({"SECRET_KEY_PREVIOUS": SECRET_KEY}, 200), ({"SECRET_KEY_PREVIOUS": new}, 401)):
        service = await open_service(SECRET_KEY=new, **settings, **upstream)
        client = service.with_headers(Authorization=f"Bearer {guest.tokens['access_token']}")
        response = await client.post("/api/generate/basic", json={"prompt": "a lighthouse"})
        assert response.status_code == status, response.text
    assert keys_upstream(gemini) == [SAVED_KEY]


async def test_a_key_that_cannot_be_opened_is_an_error(
    service: RunningService, guest: Guest, gemini: GeminiStandin, redis_url: str
) -> None:
    await save(guest)
    (session,) = (await guest.client.get("/api/auth/sessions")).json()["sessions"]
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        redis.hset(SESSION(sid=session["id"]), "sealed_key", "not sealed by us")
    error_of(await guest.generate(), 400, "INVALID_API_KEY")
    assert keys_upstream(gemini) == []
    await save(guest)
    assert (await guest.generate()).status_code == 200
