"""Service keys as their owner sees them: made, shown once, listed, revoked."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from core.clock import now_ms
from services.accounts.models import ServiceKey
from services.accounts.service_key_rows import add_key
from services.accounts.service_keys import MAX_KEYS
from tests.conftest import OpenService
from tests.support.answers import error_of, fields_of
from tests.support.databases import databases
from tests.support.people import registered, set_up_admin
from tests.support.service import Guest, RunningService

KEYS = "/api/auth/service-keys"
NOWHERE = "key_01kga0000000abcdefghjkmnpq"


@pytest.fixture
async def service(open_service: OpenService) -> RunningService:
    return await open_service(RATE_LIMIT_REQUESTS="1000")


@pytest.fixture
async def ada(service: RunningService) -> Guest:
    return await registered(service, "ada@example.org")


async def made(who: Guest, **fields: Any) -> dict[str, Any]:
    response = await who.client.post(KEYS, json={"name": "a program", **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def listed(who: Guest) -> list[dict[str, Any]]:
    response = await who.client.get(KEYS)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["service_keys"]
    return found


async def test_a_key_is_shown_once_and_kept_as_a_hash(service: RunningService, ada: Guest) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    plain = await made(ada)
    bounded = await made(ada, name=" nightly ", scopes=["read"], expires_at=end.isoformat(), daily_points=7)

    assert plain["key"].startswith("nbk_")
    assert len(plain["key"]) > 40
    assert (plain["scopes"], plain["expires_at"], plain["daily_points"]) == (["generate", "read"], None, None)
    assert (bounded["name"], bounded["scopes"], bounded["daily_points"]) == ("nightly", ["read"], 7)
    assert datetime.fromisoformat(bounded["expires_at"]) == end
    assert plain["masked"] == "nbk_****" + plain["key"][-4:]
    text = plain.pop("key")
    bounded.pop("key")
    assert await listed(ada) == [bounded, plain]
    assert all(key["last_used_at"] is None for key in (plain, bounded))
    rows = databases.ask(service.data_dir, "SELECT * FROM service_keys")
    assert hashlib.sha256(text.encode()).hexdigest() in str(rows)
    assert text not in str(rows)


async def test_two_users_know_nothing_of_each_others_keys(service: RunningService, ada: Guest) -> None:
    bob = await registered(service, "bob@example.org")
    theirs, mine = await made(ada), await made(bob)

    assert [key["id"] for key in await listed(bob)] == [mine["id"]]
    answers = [await bob.client.delete(f"{KEYS}/{key_id}") for key_id in (theirs["id"], NOWHERE)]
    for answer in answers:
        error_of(answer, 404, "NOT_FOUND")
    assert answers[0].json()["error"] == answers[1].json()["error"]
    admin = await set_up_admin(service)
    error_of(await admin.client.delete(f"{KEYS}/{theirs['id']}"), 404, "NOT_FOUND")
    assert await listed(admin) == []
    assert [key["id"] for key in await listed(ada)] == [theirs["id"]]


async def test_a_revoked_key_is_gone_and_cannot_be_revoked_again(service: RunningService, ada: Guest) -> None:
    key = await made(ada)
    assert (await ada.client.delete(f"{KEYS}/{key['id']}")).json() == {"success": True}
    assert await listed(ada) == []
    assert databases.ask(service.data_dir, "SELECT count(*) FROM service_keys") == [(0,)]
    error_of(await ada.client.delete(f"{KEYS}/{key['id']}"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"name": ""}, "name", "blank"),
        ({"name": "n" * 101}, "name", "too_long"),
        ({"name": None}, "name", "wrong_type"),
        ({"scopes": []}, "scopes", "blank"),
        ({"scopes": ["admin"]}, "scopes.0", "not_allowed"),
        ({"scopes": ["read"] * 3}, "scopes", "too_long"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "past"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at", "bad_format"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at", "bad_format"),
        ({"expires_at": "tomorrow"}, "expires_at", "bad_format"),
        ({"expires_at": 4102444800}, "expires_at", "wrong_type"),
        ({"daily_points": 0}, "daily_points", "too_small"),
        ({"daily_points": 10**9}, "daily_points", "too_large"),
        ({"daily_points": "10"}, "daily_points", "wrong_type"),
        ({"role": "admin"}, "role", "unknown_field"),
    ],
)
async def test_what_cannot_be_is_named(ada: Guest, fields: dict[str, Any], field: str, reason: str) -> None:
    response = await ada.client.post(KEYS, json={"name": "a program", **fields})
    assert fields_of(response)[field]["reason"] == reason
    assert await listed(ada) == []


async def test_of_many_at_once_no_more_are_made_than_a_user_may_have(service: RunningService, ada: Guest) -> None:
    def fill(connection: Any) -> None:
        for number in range(MAX_KEYS - 2):
            add_key(connection, ServiceKey(f"key_{number}", ada.id, "old", "aaaa", ("read",), now_ms()), str(number))

    await service.container.database.write(fill)
    answers = await asyncio.gather(*(ada.client.post(KEYS, json={"name": "new"}) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [201, 201, *[403] * 6]
    refused = next(answer for answer in answers if answer.status_code == 403)
    assert error_of(refused, 403, "FORBIDDEN")["details"] == {"reason": "too_many_service_keys", "limit": MAX_KEYS}


async def test_who_leaves_takes_their_keys_also_those_made_at_that_moment(service: RunningService) -> None:
    for number in range(4):
        user = await registered(service, f"user{number}@example.org")
        await made(user)
        left, added = await asyncio.gather(
            user.client.delete("/api/auth/me"), user.client.post(KEYS, json={"name": "late"})
        )
        assert left.status_code == 200
        assert added.status_code in {201, 401}, added.text
    assert databases.ask(service.data_dir, "SELECT count(*) FROM service_keys") == [(0,)]


async def test_nobody_makes_or_sees_keys_without_a_session(service: RunningService, ada: Guest) -> None:
    key = await made(ada)
    program = service.with_headers(Authorization=f"Bearer {key['key']}")

    async def refused(client: httpx.AsyncClient) -> list[str]:
        answers = [
            await client.get(KEYS), await client.post(KEYS, json={"name": "x"}),
            await client.delete(f"{KEYS}/{key['id']}"),
        ]  # fmt: skip
        return [error_of(answer, 401, "UNAUTHORIZED")["details"]["reason"] for answer in answers]

    assert await refused(service.client) == ["missing_token"] * 3
    assert await refused(program) == ["service_keys_open_api_v1_alone"] * 3, "a key cannot make keys"
