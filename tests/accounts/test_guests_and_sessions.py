"""SPEC section 4, as far as it is about guests and sessions."""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import Request
from redis import Redis

from api.dependencies import client_address
from core.clock import now_ms
from core.security import RefreshTokens
from services.accounts.models import local_folder_id
from services.accounts.sessions import REFRESH, SESSION, USER_SESSIONS, SessionStore
from tests.conftest import OpenService
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest, RunningService

PAST_THE_GRACE_MS = 31_000

SyncRedis = Any  # redis-py's stubs leave open whether a client is the asynchronous one


@pytest.fixture
def redis(redis_url: str) -> Iterator[SyncRedis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def second_session(service: RunningService, guest: Guest) -> Guest:
    """The same user on another machine, signed in as every sign-in does it: through the session store."""
    (first,) = [entry for entry in (await sessions(guest)) if entry["current"]]
    session = await SessionStore(service.container.redis).get(first["id"])
    assert session is not None
    token = secrets.token_urlsafe(32)
    other = replace(session, id=f"{session.id}b", user_agent="another browser")
    await SessionStore(service.container.redis).add(other, RefreshTokens.fingerprint(token))
    response = await refresh(service, token)
    assert response.status_code == 200, response.text
    tokens = response.json()
    return Guest(guest.id, service.with_headers(Authorization=f"Bearer {tokens['access_token']}"), tokens)


async def sessions(guest: Guest) -> list[dict[str, Any]]:
    response = await guest.client.get("/api/auth/sessions")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["sessions"]
    return found


async def refresh(service: RunningService, token: str) -> httpx.Response:
    return await service.client.post("/api/auth/refresh", json={"refresh_token": token})


async def test_config_tells_what_a_page_may_offer(open_service: OpenService) -> None:
    service = await open_service(GUEST_ENABLED="false", TRIAL_ENABLED="false")
    body = (await service.client.get("/api/auth/config")).json()
    assert body["guest"] is False
    assert body["trial"] is False
    assert body["languages"] == ["en", "zh"]
    assert set(body) == {"github", "local", "guest", "trial", "languages"}


async def test_a_guest_is_told_who_they_are(service: RunningService) -> None:
    guest = await service.guest()
    assert set(guest.tokens) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert (guest.tokens["token_type"], guest.tokens["expires_in"]) == ("bearer", 900)
    me = (await guest.client.get("/api/auth/me")).json()
    assert me == guest.tokens["user"]
    assert me["role"] == "guest"
    assert me["user_folder_id"] == local_folder_id(guest.id)
    assert me["created_at"].endswith("Z")


async def test_every_guest_is_somebody_else(service: RunningService) -> None:
    first, second = await service.guest(), await service.guest()
    assert first.id != second.id
    assert first.tokens["user"]["user_folder_id"] != second.tokens["user"]["user_folder_id"]


async def test_no_guests_where_the_operator_wants_none(open_service: OpenService) -> None:
    service = await open_service(GUEST_ENABLED="false")
    response = await service.client.post("/api/auth/guest", json={})
    assert error_of(response, 403, "FORBIDDEN")["details"]["reason"] == "guests_disabled"


async def test_refresh_rotates(service: RunningService) -> None:
    guest = await service.guest()
    first = (await refresh(service, guest.tokens["refresh_token"])).json()
    assert first["refresh_token"] != guest.tokens["refresh_token"]
    assert first["access_token"] != guest.tokens["access_token"]
    assert first["user"] == guest.tokens["user"]
    second = (await refresh(service, first["refresh_token"])).json()
    assert second["refresh_token"] not in {first["refresh_token"], guest.tokens["refresh_token"]}
    client = service.with_headers(Authorization=f"Bearer {second['access_token']}")
    assert (await client.get("/api/auth/me")).json()["id"] == guest.id


async def test_two_tabs_at_once_get_the_same_successor(service: RunningService) -> None:
    guest = await service.guest()
    answers = await asyncio.gather(*(refresh(service, guest.tokens["refresh_token"]) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert len(await sessions(guest)) == 1


async def test_a_token_used_again_later_ends_the_whole_session(service: RunningService, redis: SyncRedis) -> None:
    guest = await service.guest()
    other = await service.guest()
    stolen = guest.tokens["refresh_token"]
    successor = (await refresh(service, stolen)).json()
    key = REFRESH(hash=RefreshTokens.fingerprint(stolen))
    redis.hincrby(key, "used_at", -PAST_THE_GRACE_MS)

    error_of(await refresh(service, stolen), 401, "UNAUTHORIZED")
    # Whoever holds the successor may be the thief: nothing of the session works any more.
    error_of(await refresh(service, successor["refresh_token"]), 401, "UNAUTHORIZED")
    for token in (guest.tokens["access_token"], successor["access_token"]):
        client = service.with_headers(Authorization=f"Bearer {token}")
        error_of(await client.get("/api/auth/me"), 401, "UNAUTHORIZED")
    assert (await other.client.get("/api/auth/me")).status_code == 200


async def test_a_token_used_again_within_the_grace_ends_nothing(service: RunningService, redis: SyncRedis) -> None:
    guest = await service.guest()
    token = guest.tokens["refresh_token"]
    successor = (await refresh(service, token)).json()["refresh_token"]
    redis.hincrby(REFRESH(hash=RefreshTokens.fingerprint(token)), "used_at", -20_000)
    assert (await refresh(service, token)).json()["refresh_token"] == successor
    assert (await refresh(service, successor)).status_code == 200


async def test_a_refresh_token_that_cannot_be_one_is_named(service: RunningService) -> None:
    for token in ("", "x" * 201, None, 5):
        response = await service.client.post("/api/auth/refresh", json={"refresh_token": token})
        assert list(fields_of(response)) == ["refresh_token"]


async def test_a_refresh_token_that_nobody_gave_out_is_401(service: RunningService) -> None:
    for token in ("unknown", "ключ", "*", "session:1", "a" * 200):
        error_of(await refresh(service, token), 401, "UNAUTHORIZED")


async def test_an_access_token_is_no_refresh_token_and_the_other_way_round(service: RunningService) -> None:
    guest = await service.guest()
    response = await refresh(service, guest.tokens["access_token"][:200])
    error_of(response, 401, "UNAUTHORIZED")
    client = service.with_headers(Authorization=f"Bearer {guest.tokens['refresh_token']}")
    error_of(await client.get("/api/auth/me"), 401, "UNAUTHORIZED")


async def test_logout_stops_the_tokens_at_once(service: RunningService) -> None:
    guest = await service.guest()
    response = await guest.client.post("/api/auth/logout")
    assert (response.status_code, response.json()) == (200, {"success": True})
    error_of(await guest.client.get("/api/auth/me"), 401, "UNAUTHORIZED")
    error_of(await guest.generate(), 401, "UNAUTHORIZED")
    error_of(await guest.client.post("/api/auth/logout"), 401, "UNAUTHORIZED")
    error_of(await refresh(service, guest.tokens["refresh_token"]), 401, "UNAUTHORIZED")


async def test_sessions_tell_where_i_am_signed_in(service: RunningService) -> None:
    guest = await service.guest()
    second = await second_session(service, guest)
    found = await sessions(second)
    assert sorted((entry["current"], entry["user_agent"] == "another browser") for entry in found) == [
        (False, False),
        (True, True),
    ]
    assert all(entry["address"] == "127.0.0.1" for entry in found)


async def test_one_session_is_signed_out_from_another(service: RunningService) -> None:
    guest = await service.guest()
    second = await second_session(service, guest)
    (first_id,) = [entry["id"] for entry in await sessions(second) if not entry["current"]]
    response = await second.client.delete(f"/api/auth/sessions/{first_id}")
    assert (response.status_code, response.json()) == (200, {"success": True})
    error_of(await guest.client.get("/api/auth/me"), 401, "UNAUTHORIZED")
    assert [entry["current"] for entry in await sessions(second)] == [True]
    error_of(await second.client.delete(f"/api/auth/sessions/{first_id}"), 404, "NOT_FOUND")


async def test_anothers_session_looks_like_one_that_is_not_there(service: RunningService) -> None:
    guest, other = await service.guest(), await service.guest()
    (theirs,) = await sessions(guest)
    refused = error_of(await other.client.delete(f"/api/auth/sessions/{theirs['id']}"), 404, "NOT_FOUND")
    missing = error_of(await other.client.delete("/api/auth/sessions/ses_nothing"), 404, "NOT_FOUND")
    assert refused == missing
    assert (await guest.client.get("/api/auth/me")).status_code == 200


async def test_a_session_that_is_ended_while_it_is_used_stays_ended(service: RunningService, redis: SyncRedis) -> None:
    """A request that has read the session may mark it as used only after it was ended."""
    guest = await service.guest()
    (entry,) = await sessions(guest)
    session_id = entry["id"]
    redis.hset(SESSION(sid=session_id), "last_active", now_ms() - 3_600_000)
    store = SessionStore(service.container.redis)
    await store.remove("nobody", "nothing")  # from now on the server knows the script, which so takes one step
    # Reads pass, writes wait and then run in the order they came in: first the end, then the mark.
    redis.client_pause(1000, all=False)
    ending = asyncio.create_task(store.remove(guest.id, session_id))
    await asyncio.sleep(0.05)
    using = asyncio.create_task(store.get(session_id))
    await asyncio.sleep(0.05)
    assert not ending.done()
    redis.client_unpause()
    assert await ending
    await using
    assert not redis.exists(SESSION(sid=session_id))
    error_of(await guest.client.get("/api/auth/me"), 401, "UNAUTHORIZED")


async def test_using_a_session_prolongs_it(service: RunningService, redis: SyncRedis) -> None:
    guest = await service.guest()
    (entry,) = await sessions(guest)
    keys = [SESSION(sid=entry["id"]), USER_SESSIONS(user_id=guest.id)]
    redis.hset(keys[0], "last_active", now_ms() - 61_000)
    for key in keys:
        redis.expire(key, 1000)
    assert (await guest.client.get("/api/auth/me")).status_code == 200
    assert all(redis.ttl(key) > 6 * 24 * 3600 for key in keys)
    assert now_ms() - int(redis.hget(keys[0], "last_active") or 0) < 30_000


async def test_refreshing_prolongs_the_session_and_the_list_that_it_is_ended_by(
    service: RunningService, redis: SyncRedis
) -> None:
    """A client that only refreshes is never seen using its session: without the list it could not be signed out."""
    guest = await service.guest()
    keys = [key for pattern in ("session:*", "user:*:sessions") for key in redis.scan_iter(pattern)]
    assert len(keys) == 2
    for key in keys:
        redis.expire(key, 60)
    tokens = (await refresh(service, guest.tokens["refresh_token"])).json()

    assert all(redis.ttl(key) > 6 * 24 * 3600 for key in keys)
    client = service.with_headers(Authorization=f"Bearer {tokens['access_token']}")
    assert (await client.post("/api/auth/logout")).status_code == 200


async def test_nothing_in_redis_can_be_used_as_a_token(service: RunningService, redis: SyncRedis) -> None:
    guest = await service.guest()
    rotated = (await refresh(service, guest.tokens["refresh_token"])).json()
    given_out = [body[name] for body in (guest.tokens, rotated) for name in ("access_token", "refresh_token")]
    texts = _everything(redis)
    assert len(texts) > 10
    for token in given_out:
        for part in (token, *(token.split(".") if "." in token else ())):
            assert not any(part in text for text in texts)
    for text in texts:
        if 0 < len(text) <= 200:
            response = await refresh(service, text)
            assert response.status_code in {401, 429}


def _everything(redis: SyncRedis) -> set[str]:
    """Every key and every value, whatever its type."""
    texts: set[str] = set()
    for key in redis.scan_iter():
        texts.add(key)
        kind = redis.type(key)
        if kind == "hash":
            texts.update(part for pair in redis.hgetall(key).items() for part in pair)
        elif kind == "set":
            texts.update(redis.smembers(key))
        elif kind == "zset":
            texts.update(redis.zrange(key, 0, -1))
        elif kind == "string":
            texts.add(str(redis.get(key)))
        else:
            raise AssertionError(f"{key} is a {kind}, which this test cannot read")
    return texts


async def test_guest_accounts_are_limited_by_address(open_service: OpenService) -> None:
    service = await open_service(GUEST_RATE_PER_HOUR="2")
    for _ in range(2):
        await service.guest()
    response = await service.client.post("/api/auth/guest", json={})
    details = error_of(response, 429, "RATE_LIMITED")["details"]
    assert (details["limit"], details["window_seconds"]) == (2, 3600)
    assert 0 < int(response.headers["retry-after"]) <= 3600
    assert response.headers["ratelimit-policy"] == '"guest";q=2;w=3600'


async def test_a_forwarded_address_is_not_believed_from_just_anyone(open_service: OpenService) -> None:
    service = await open_service(GUEST_RATE_PER_HOUR="1")
    codes = [
        (await service.client.post("/api/auth/guest", json={}, headers={"X-Forwarded-For": address})).status_code
        for address in ("203.0.113.1", "203.0.113.2")
    ]
    assert codes == [200, 429]


async def test_a_forwarded_address_is_believed_from_a_trusted_proxy(open_service: OpenService) -> None:
    service = await open_service(GUEST_RATE_PER_HOUR="1", TRUSTED_PROXIES="127.0.0.1")
    codes = [
        (await service.client.post("/api/auth/guest", json={}, headers={"X-Forwarded-For": chain})).status_code
        # The client may have sent a made-up header of its own: the proxy's addition at the end counts.
        for chain in ("203.0.113.1", "203.0.113.1", "198.51.100.7, 203.0.113.1", "203.0.113.2", "2001:db8::1")
    ]
    assert codes == [200, 429, 429, 200, 200]


async def test_the_session_shows_the_believed_address(open_service: OpenService) -> None:
    service = await open_service(TRUSTED_PROXIES="127.0.0.0/8")
    response = await service.client.post("/api/auth/guest", json={}, headers={"X-Forwarded-For": "203.0.113.9"})
    client = service.with_headers(Authorization=f"Bearer {response.json()['access_token']}")
    (entry,) = (await client.get("/api/auth/sessions")).json()["sessions"]
    assert entry["address"] == "203.0.113.9"


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("testclient", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(host: str, counted_as: str) -> None:
    assert client_address(Request({"type": "http", "headers": [], "client": (host, 1)})) == counted_as


def test_a_request_without_an_address_is_counted_too() -> None:
    assert client_address(Request({"type": "http", "headers": [], "client": None})) == "unknown"
