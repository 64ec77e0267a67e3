"""Accounts with e-mail and password, and the set-up token of the first admin."""

import asyncio
import statistics
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from services.accounts.users import users
from tests.conftest import OpenService
from tests.support.answers import error_of, fields_of
from tests.support.people import PASSWORD, registered, set_up_admin, try_login, try_register
from tests.support.service import RunningService

WINDOW_SECONDS = 60


@pytest.fixture
async def service(open_service: OpenService) -> RunningService:
    return await open_service(LOGIN_RATE_PER_MINUTE="1000")


async def login(service: RunningService, email: str, password: str = PASSWORD) -> dict[str, Any]:
    response = await try_login(service, email, password)
    assert response.status_code == 200, response.text
    tokens: dict[str, Any] = response.json()
    return tokens


async def password_hashes(service: RunningService) -> list[str]:
    statement = select(users.c.password_hash).where(users.c.password_hash.is_not(None))
    found = await service.container.database.read(lambda connection: connection.execute(statement).scalars().all())
    return list(found)


async def test_the_page_may_offer_it_where_it_is_on(open_service: OpenService) -> None:
    for setting, offered in (("true", True), ("false", False), ("", True)):
        service = await open_service(LOCAL_AUTH_ENABLED=setting)
        assert (await service.client.get("/api/auth/config")).json()["local"] is offered
        if not offered:
            for response in (await try_register(service, "ada@example.org"), await try_login(service, "a@example.org")):
                assert error_of(response, 403, "FORBIDDEN")["details"] == {"reason": "local_disabled"}
            assert not (service.data_dir / "setup_token").exists()


async def test_who_registers_is_signed_in_and_can_sign_in_again(service: RunningService) -> None:
    ada = await registered(service, "ada@example.org", name="Ada")
    me = (await ada.client.get("/api/auth/me")).json()
    assert (me["email"], me["name"], me["login"], me["role"]) == ("ada@example.org", "Ada", None, "user")
    await ada.image()

    tokens = await login(service, "ada@example.org")
    assert tokens["user"] == me
    client = service.with_headers(Authorization=f"Bearer {tokens['access_token']}")
    assert (await client.get("/api/history")).json()["total"] == 1


async def test_a_password_is_kept_as_argon2id_alone(service: RunningService) -> None:
    await registered(service, "ada@example.org")
    await registered(service, "bob@example.org")
    first, second = await password_hashes(service)
    assert first.startswith("$argon2id$v=19$")
    assert first != second, "salted"
    files = [path for path in service.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


async def test_an_address_is_one_account_however_it_is_spelled(service: RunningService) -> None:
    ada = await registered(service, "Ada@Example.ORG")
    for spelling in ("ada@example.org", "ADA@EXAMPLE.ORG", " ada@example.org ", "ａｄａ@example.org"):
        response = await try_register(service, spelling)
        assert fields_of(response)["email"]["reason"] in {"taken", "bad_format"}, spelling
    assert (await login(service, "aDA@eXAMPLE.org"))["user"]["id"] == ada.id


async def test_of_many_who_register_one_address_at_once_one_gets_it(service: RunningService) -> None:
    answers = await asyncio.gather(*(try_register(service, "ada@example.org") for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 5


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@", "@example.org", "a b@example.org", "a@b@c", "x" * 260 + "@a.de", 5]
)
async def test_what_is_no_address_is_named(service: RunningService, email: object) -> None:
    for path in ("/api/auth/register", "/api/auth/login"):
        response = await service.client.post(path, json={"email": email, "password": PASSWORD})
        assert list(fields_of(response)) == ["email"]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "too_short"),
        ("7 chars", "too_short"),
        ("x" * 201, "too_long"),
        (None, "wrong_type"),
    ],
)
async def test_a_password_that_is_not_taken_is_named_and_not_said_again(
    service: RunningService, password: str | None, reason: str
) -> None:
    response = await service.client.post("/api/auth/register", json={"email": "ada@example.org", "password": password})
    assert fields_of(response)["password"]["reason"] == reason
    assert not password or password not in response.text


async def test_half_a_character_is_no_password(service: RunningService) -> None:
    for path in ("register", "login"):
        content = '{"email": "ada@example.org", "password": "long enough \\ud800"}'
        response = await service.client.post(
            f"/api/auth/{path}", content=content, headers={"Content-Type": "application/json"}
        )
        assert fields_of(response)["password"]["reason"] == "bad_text"


async def test_any_characters_make_a_password(service: RunningService) -> None:
    for number, password in enumerate(("пароль-🍌-密码", "        ", "x" * 199, "' OR 1=1 --", "1234\x00678")):
        email = f"ada{number}@example.org"
        response = await service.client.post("/api/auth/register", json={"email": email, "password": password})
        assert response.status_code == 201, password
        await login(service, email, password)
        error_of(await try_login(service, email, password + "y"), 401, "UNAUTHORIZED")


def without_ids(response: httpx.Response) -> tuple[Any, ...]:
    body = response.json()
    body.pop("request_id")
    varying = {"x-request-id", "date", "ratelimit"}
    headers = {name: value for name, value in response.headers.items() if name not in varying}
    return response.status_code, body, headers


async def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(service: RunningService) -> None:
    await registered(service, "ada@example.org")
    wrong = await try_login(service, "ada@example.org", "not the password")
    unknown = await try_login(service, "nobody@example.org", "not the password")
    assert without_ids(wrong) == without_ids(unknown)
    assert error_of(wrong, 401, "UNAUTHORIZED")["details"] == {"reason": "wrong_credentials"}


async def test_an_unknown_address_costs_the_same_work(service: RunningService) -> None:
    """In processor time: an answer without the hash takes a tenth of it."""
    await registered(service, "ada@example.org")
    took: dict[str, list[float]] = {"ada@example.org": [], "nobody@example.org": []}
    for _ in range(7):
        for email, times in took.items():
            started = time.process_time()
            error_of(await try_login(service, email, "not the password"), 401, "UNAUTHORIZED")
            times.append(time.process_time() - started)
    known, unknown = (statistics.median(times) for times in took.values())
    assert 0.5 < known / unknown < 2


async def test_the_set_up_token_makes_one_admin(service: RunningService) -> None:
    file = service.data_dir / "setup_token"
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text()
    wrong = await try_register(service, "eve@example.org", setup_token="setup-" + "0" * 30)
    assert error_of(wrong, 403, "FORBIDDEN")["details"] == {"reason": "setup_token_refused"}

    admin = await set_up_admin(service)

    assert admin.tokens["user"]["role"] == "admin"
    assert (await admin.client.get("/api/admin/users")).status_code == 200
    assert not file.exists()
    again = await try_register(service, "eve@example.org", setup_token=token)
    assert error_of(again, 403, "FORBIDDEN")["details"] == {"reason": "setup_token_refused"}
    assert (await login(service, "admin@example.org"))["user"]["role"] == "admin"


async def test_of_many_with_the_set_up_token_one_is_the_admin(service: RunningService) -> None:
    token = (service.data_dir / "setup_token").read_text()
    answers = await asyncio.gather(
        *(try_register(service, f"ada{number}@example.org", setup_token=token) for number in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403, 403]


async def test_after_a_restart_the_token_is_offered_until_it_was_used(open_service: OpenService) -> None:
    first = await open_service()
    token = (first.data_dir / "setup_token").read_text()
    second = await open_service()
    assert (second.data_dir / "setup_token").read_text() == token
    await set_up_admin(second)
    third = await open_service()
    assert not (third.data_dir / "setup_token").exists()
    response = await try_register(third, "eve@example.org", setup_token=token)
    error_of(response, 403, "FORBIDDEN")


async def test_the_eleventh_try_within_a_minute_is_429(open_service: OpenService) -> None:
    service = await open_service()
    for path in ("register", "login", "github/login", "github/callback"):
        answers = await eleven(service, f"/api/auth/{path}")
        assert 429 not in [answer.status_code for answer in answers[:10]], path
        details = error_of(answers[10], 429, "RATE_LIMITED")["details"]
        assert (details["limit"], details["window_seconds"]) == (10, WINDOW_SECONDS)
        assert 0 < int(answers[10].headers["retry-after"]) <= WINDOW_SECONDS
        assert "r=0" in answers[9].headers["ratelimit"]


LONGEST_SECONDS = 10  # for eleven tries, on a busy machine


async def eleven(service: RunningService, path: str) -> list[httpx.Response]:
    """Eleven tries within one window, which the clock begins: near its end the next one is waited for."""
    bodies = {
        "/api/auth/register": {"email": "ada@example.org", "password": PASSWORD, "setup_token": "wrong"},
        "/api/auth/login": {"email": "ada@example.org", "password": PASSWORD},
        "/api/auth/github/login": {},
        "/api/auth/github/callback": {"code": "code", "state": "state"},
    }
    left = WINDOW_SECONDS - time.time() % WINDOW_SECONDS
    if left < LONGEST_SECONDS:
        await asyncio.sleep(left)
    return [await service.client.post(path, json=bodies[path]) for _ in range(11)]


async def test_tries_count_by_address_behind_a_trusted_proxy(open_service: OpenService) -> None:
    service = await open_service(LOGIN_RATE_PER_MINUTE="1", TRUSTED_PROXIES="127.0.0.1")
    codes = [
        (await try_login(service, "ada@example.org", headers={"X-Forwarded-For": address})).status_code
        for address in ("203.0.113.1", "203.0.113.2", "198.51.100.1, 203.0.113.2")
    ]
    assert codes[:2] == [401, 401]
    assert codes[2] in {429, 401}  # 401 only where the minute has ended in between
