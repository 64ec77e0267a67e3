"""Guests who sign in keep what they made; who deletes their account leaves nothing behind."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select, update

from benchmarks.gemini_standin import GeminiStandin
from core.clients.database import metadata
from core.clock import now_ms
from services.accounts.users import users
from services.history.store import images
from services.quota.ledger import charges
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.answers import error_of
from tests.support.github import GitHubStandin, Person, address, github_settings
from tests.support.parts import Parts
from tests.support.people import bearer, registered, signed_in, try_github, try_login, try_register, with_github
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

ADA = Person(583231, "ada-the-canary", "Ada Canary", emails=[address("ada.canary@example.org")])


@pytest.fixture
async def service(open_service: OpenService, github: GitHubStandin) -> RunningService:
    return await open_service(**github_settings(github), LOGIN_RATE_PER_MINUTE="1000")


async def finished(service: RunningService) -> None:
    """What the worker does every 15 s, once the time that a call may take has passed."""
    long_ago = update(users).where(users.c.left_at.is_not(None)).values(left_at=users.c.left_at - 3_600_000)
    await service.container.database.write(lambda connection: connection.execute(long_ago))

    async def nobody_is_leaving() -> bool:
        await service.container.recovery.sweep()
        await service.container.departures.finish()
        return await service.container.departures.finish() == 0

    assert await eventually(nobody_is_leaving, 15)


async def rows(service: RunningService) -> str:
    def read(connection: Any) -> list[str]:
        return [repr(tuple(row)) for table in metadata.sorted_tables for row in connection.execute(select(table))]

    return "\n".join(await service.container.database.read(read))


def in_redis(redis_url: str) -> bytes:
    with Redis.from_url(redis_url) as redis:
        return b"\n".join(key + b" " + repr(value_of(redis, key)).encode() for key in redis.scan_iter("*"))


def value_of(redis: Redis, key: Any) -> object:
    match redis.type(key):
        case b"hash":
            return redis.hgetall(key)
        case b"set":
            return redis.smembers(key)
        case b"zset":
            return redis.zrange(key, 0, -1)
        case b"string":
            return redis.get(key)
    raise AssertionError(f"{key!r} cannot be read")


def in_storage(service: RunningService) -> bytes:
    """Names of files and folders, and what the files hold."""
    found: list[Path] = sorted(service.storage_dir.rglob("*"))
    content = [path.read_bytes() for path in found if path.is_file()]
    return b"\n".join([*(str(path).encode() for path in found), *content])


async def traces(service: RunningService, redis_url: str, marks: list[str]) -> dict[str, list[str]]:
    places = {
        "database": (await rows(service)).encode(), "redis": in_redis(redis_url), "storage": in_storage(service),
    }  # fmt: skip
    return {place: found for place, content in places.items() if (found := [m for m in marks if m.encode() in content])}


def marks_of(who: Guest, *others: str) -> list[str]:
    return [who.id, who.tokens["user"]["user_folder_id"], *others]


SignIn = Callable[[RunningService, GitHubStandin, dict[str, str]], Awaitable[Any]]
WAYS: dict[str, SignIn] = {
    "github": lambda service, github, headers: try_github(service, github, ADA, headers=headers),
    "register": lambda service, _, headers: try_register(service, "ada@example.org", headers=headers),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_guest_who_signs_in_keeps_what_they_made(
    service: RunningService, github: GitHubStandin, redis_url: str, way: str
) -> None:
    guest = await service.guest()
    made = [await guest.image(f"picture {number}") for number in range(3)]
    trashed = made[2]["history_id"]
    await guest.client.delete(f"/api/history/{trashed}")

    response = await WAYS[way](service, github, bearer(guest))
    assert response.status_code in {200, 201}, response.text
    user = signed_in(service, response)

    assert user.id != guest.id
    kept = [item["id"] for item in (await user.history())["items"]]
    assert kept == [image["history_id"] for image in (made[1], made[0])]
    for image in made[:2]:
        for url in (image["image_url"], image["thumbnail_url"]):
            assert (await service.client.get(url)).status_code == 200
        assert (await user.client.get(f"/api/images/{image['history_id']}")).status_code == 200
    assert (await user.client.post(f"/api/history/{trashed}/restore")).status_code == 200
    # The guest is nobody any more.
    error_of(await guest.client.get("/api/auth/me"), 401, "UNAUTHORIZED")
    again = await service.client.post("/api/auth/refresh", json={"refresh_token": guest.tokens["refresh_token"]})
    error_of(again, 401, "UNAUTHORIZED")

    await finished(service)
    assert (await traces(service, redis_url, [guest.id])) == {}
    assert (await user.history())["total"] == 3


async def test_what_was_adopted_does_not_end_with_the_guests_time(
    open_service: OpenService, github: GitHubStandin
) -> None:
    service = await open_service(**github_settings(github), GUEST_RETENTION_HOURS="1")
    guest = await service.guest()
    await guest.image()
    unlisted = await guest.image(save_to_history=False)
    user = signed_in(service, await try_github(service, github, ADA, headers=bearer(guest)))
    statement = select(images.c.listed, images.c.expires_at, images.c.user_id)
    found = await service.container.database.read(lambda connection: connection.execute(statement).all())
    assert {(listed, expires is None) for listed, expires, _ in found} == {(True, True), (False, False)}
    assert {user_id for *_, user_id in found} == {user.id}
    assert (await service.client.get(unlisted["image_url"])).status_code == 200


async def test_a_call_under_way_is_the_users_when_it_ends(
    open_service: OpenService, github: GitHubStandin, gemini: GeminiStandin, redis_url: str
) -> None:
    service = await open_service(
        **github_settings(github), GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url,
        REQUEST_TIMEOUT_SECONDS="5", RESERVATION_GRACE_SECONDS="0",
    )  # fmt: skip
    guest = await service.guest()
    gemini.configure(delay_seconds=0.7)
    call = asyncio.create_task(guest.generate())
    await gemini.until(lambda stats: stats["waiting"] == 1)
    user = signed_in(service, await try_github(service, github, ADA, headers=bearer(guest)))
    assert (await user.history())["total"] == 0
    assert (await call).status_code == 200
    await service.container.departures.finish()
    assert (await user.history())["total"] == 1
    await finished(service)
    assert (await traces(service, redis_url, [guest.id])) == {}
    assert (await user.history())["total"] == 1


async def test_a_users_own_token_merges_nobody(service: RunningService, github: GitHubStandin) -> None:
    ada = await with_github(service, github, ADA)
    await ada.image()
    bob = signed_in(service, await try_register(service, "bob@example.org", headers=bearer(ada)))
    assert (await bob.history())["total"] == 0
    assert (await ada.history())["total"] == 1


async def test_a_guests_token_that_is_over_loses_nothing_by_oversight(
    service: RunningService, github: GitHubStandin
) -> None:
    guest = await service.guest()
    headers = {"Authorization": bearer(guest)["Authorization"] + "x"}
    error_of(await try_register(service, "ada@example.org", headers=headers), 401, "UNAUTHORIZED")
    assert (await try_register(service, "ada@example.org", headers=bearer(guest))).status_code == 201


async def test_a_failed_sign_in_leaves_the_guest(service: RunningService) -> None:
    guest = await service.guest()
    await guest.image()
    error_of(await try_login(service, "nobody@example.org", headers=bearer(guest)), 401, "UNAUTHORIZED")
    assert (await guest.history())["total"] == 1


async def leave(who: Guest) -> None:
    response = await who.client.delete("/api/auth/me")
    assert (response.status_code, response.json()) == (200, {"success": True})


async def busy(service: RunningService, who: Guest) -> list[dict[str, Any]]:
    """Somebody who has done everything that leaves something somewhere."""
    made = [await who.image("a lighthouse"), await who.image("unlisted", save_to_history=False)]
    keyed = {"Idempotency-Key": "one-and-the-same"}
    await who.client.post("/api/generate/basic", json={"prompt": "keyed"}, headers=keyed)
    trashed = await who.image("trashed")
    await who.client.delete(f"/api/history/{trashed['history_id']}")
    for image in made:
        assert (await service.client.get(image["thumbnail_url"])).status_code == 200
    blocked = await who.generate("nsfw")
    assert blocked.status_code == 400
    await who.client.post("/api/auth/refresh", json={"refresh_token": who.tokens["refresh_token"]})
    return made


async def test_who_deletes_their_account_leaves_nothing_behind(
    service: RunningService, github: GitHubStandin, redis_url: str
) -> None:
    ada = await with_github(service, github, ADA)
    await with_github(service, github, ADA)  # on another machine too
    made = await busy(service, ada)
    other = await service.guest()
    await other.image()
    marks = marks_of(ada, ADA.login, "Ada Canary", "ada.canary", "583231")
    before = await traces(service, redis_url, marks)
    assert set(before) == {"database", "redis", "storage"}, "the test looks in the wrong places"

    await leave(ada)

    for response in (
        await ada.client.get("/api/auth/me"),
        await ada.generate(),
        await ada.client.delete("/api/auth/me"),
    ):
        error_of(response, 401, "UNAUTHORIZED")
    refreshed = await service.client.post("/api/auth/refresh", json={"refresh_token": ada.tokens["refresh_token"]})
    error_of(refreshed, 401, "UNAUTHORIZED")
    for image in made:
        assert (await service.client.get(image["image_url"])).status_code == 404
    at_once = await traces(service, redis_url, marks[1:])
    assert set(at_once) <= {"redis"}, "but for the reservations of calls, whose end is waited for"

    await finished(service)

    assert (await traces(service, redis_url, marks)) == {}
    assert (await other.history())["total"] == 1
    # What was used of the day's pool stays used, also when the counters are set from the ledger.
    assert await other.used() == 5
    with Redis.from_url(redis_url) as redis:
        for key in redis.scan_iter("quota:*:global"):
            redis.delete(key)
    assert await other.used() == 5


async def test_who_comes_back_is_somebody_new(service: RunningService, github: GitHubStandin) -> None:
    ada = await with_github(service, github, ADA)
    await ada.image()
    await leave(ada)
    again = await with_github(service, github, ADA)
    assert again.id != ada.id
    assert again.tokens["user"]["user_folder_id"] == ada.tokens["user"]["user_folder_id"], "by the numeric id"
    image = await again.image()
    await finished(service)
    assert [item["id"] for item in (await again.history())["items"]] == [image["history_id"]]
    assert (await service.client.get(image["image_url"])).status_code == 200


async def test_a_local_address_is_free_again(service: RunningService) -> None:
    await leave(await registered(service, "ada@example.org"))
    error_of(await try_login(service, "ada@example.org"), 401, "UNAUTHORIZED")
    await registered(service, "ada@example.org")


@pytest.mark.parametrize("forgetful", [False, True])
async def test_a_call_under_way_at_the_deletion_leaves_nothing_either(
    open_service: OpenService, gemini: GeminiStandin, redis_url: str, forgetful: bool
) -> None:
    """Also where Redis has lost its reservation meanwhile: then the time that a call may take is waited for."""
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, REQUEST_TIMEOUT_SECONDS="5",
        RESERVATION_GRACE_SECONDS="0",
    )  # fmt: skip
    guest = await service.guest()
    gemini.configure(delay_seconds=0.7)
    call = asyncio.create_task(guest.generate())
    await gemini.until(lambda stats: stats["waiting"] == 1)
    await leave(guest)
    if forgetful:
        with Redis.from_url(redis_url) as redis:
            redis.flushall()
    assert [await service.container.departures.finish() for _ in range(2)] == [1, 1]
    assert (await call).status_code == 200
    await finished(service)
    assert (await traces(service, redis_url, marks_of(guest))) == {}


async def test_what_a_dead_call_has_left_is_cleared_away_before_its_caller_is_forgotten(
    open_service: OpenService, redis_url: str
) -> None:
    """However long nobody swept: while a reservation is listed, its remains are still to be found by it."""
    service = await open_service(REQUEST_TIMEOUT_SECONDS="1", RESERVATION_GRACE_SECONDS="0")
    guest, container = await service.guest(), service.container
    with ThreadPoolExecutor(1) as threads:
        parts = Parts(container, threads)
        await parts.store(await parts.reserve(guest.id))
        await leave(guest)
        long_ago = update(users).where(users.c.id == guest.id).values(left_at=now_ms() - 3_600_000)
        await container.database.write(lambda connection: connection.execute(long_ago))
        assert [await container.departures.finish() for _ in range(2)] == [1, 1]
        await parts.until_expired()
    await finished(service)
    assert (await traces(service, redis_url, marks_of(guest))) == {}
    assert service.stored("**/*.png") == []


async def test_a_deletion_that_a_crash_cut_short_is_finished(
    service: RunningService, github: GitHubStandin, redis_url: str
) -> None:
    """As after a kill right behind the first transaction, in which somebody leaves."""
    ada = await with_github(service, github, ADA)
    await busy(service, ada)
    wiped = dict.fromkeys(("login", "name", "email", "avatar_url", "github_id"))
    gone = update(users).where(users.c.id == ada.id).values(left_at=now_ms(), folder_id=ada.id, **wiped)
    await service.container.database.write(lambda connection: connection.execute(gone))
    await finished(service)
    assert (await traces(service, redis_url, marks_of(ada, ADA.login))) == {}


async def test_storage_away_at_the_deletion_is_made_up_for(
    service: RunningService, github: GitHubStandin, redis_url: str
) -> None:
    ada = await with_github(service, github, ADA)
    await busy(service, ada)
    aside = service.storage_dir.with_name("aside")
    service.storage_dir.rename(aside)
    await leave(ada)
    error_of(await ada.client.get("/api/auth/me"), 401, "UNAUTHORIZED")
    await service.container.departures.finish()
    aside.rename(service.storage_dir)
    await finished(service)
    assert (await traces(service, redis_url, marks_of(ada, ADA.login))) == {}


async def test_charges_of_who_has_left_are_nobodys(service: RunningService, github: GitHubStandin) -> None:
    ada = await with_github(service, github, ADA)
    await ada.image()
    await leave(ada)
    await finished(service)
    statement = select(charges.c.user_id, charges.c.points)
    found = await service.container.database.read(lambda connection: connection.execute(statement).all())
    assert [tuple(row) for row in found] == [("forgotten", 1)]
