"""Programs with a service key. What a route of /api/v1 asks for, on routes that are nothing else."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from api.dependencies import BaseUrl, Services
from api.programs import ApiMaker, ApiReader, TaskMaker, TaskReader
from benchmarks.gemini_standin import GeminiStandin
from core.clock import now_ms, utc_day
from core.ids import new_id
from services.accounts.service_key_rows import service_keys
from services.generation.models import GenerationCommand
from services.quota.store import SERVICE_KEY
from tests.accounts.test_service_keys import listed, made
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.people import registered, set_up_admin
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

probe = APIRouter(prefix="/api/v1/probe")


@probe.get("/tasks")
async def read_tasks(caller: TaskReader) -> str:
    return caller.user_id


@probe.get("/things")
async def read_things(caller: ApiReader) -> str:
    return caller.user_id


@probe.post("/tasks")
async def make_task(caller: TaskMaker) -> str:
    return caller.user_id


@probe.post("/things")
async def make_image(caller: ApiMaker, services: Services, base_url: BaseUrl) -> str:
    async def still_wanted() -> bool:
        return True

    command = GenerationCommand(
        request_id=new_id("req"), caller=caller, own_key=None, mode="basic", prompt="a lighthouse", aspect_ratio="1:1",
        resolution="1K", safety_level="moderate",
    )  # fmt: skip
    await services.generation.generate(command, still_wanted)
    return caller.user_id


READ = MAKE = "/api/v1/probe/things"
TASKS = "/api/v1/probe/tasks"


async def opened(open_service: OpenService, **settings: str) -> RunningService:
    service = await open_service(**{"RATE_LIMIT_REQUESTS": "1000"} | settings)
    service.app.include_router(probe)
    return service


@pytest.fixture
async def service(open_service: OpenService, gemini: GeminiStandin) -> RunningService:
    gemini.configure(pixels=(8, 8))
    return await opened(open_service, GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)


@pytest.fixture
async def ada(service: RunningService) -> Guest:
    return await registered(service, "ada@example.org")


async def program(service: RunningService, owner: Guest, **fields: Any) -> httpx.AsyncClient:
    return service.with_headers(**{"X-API-Key": (await made(owner, **fields))["key"]})


async def test_a_key_speaks_for_its_owner_in_either_header(service: RunningService, ada: Guest) -> None:
    key = (await made(ada))["key"]
    both = {"X-API-Key": key, "Authorization": f"Bearer {key}"}
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, both):
        response = await service.client.get(READ, headers=headers)
        assert (response.status_code, response.json()) == (200, ada.id)
        assert "ratelimit" in response.headers


@pytest.mark.parametrize("scopes", [["read"], ["generate"]])
async def test_a_key_opens_what_its_scopes_say(service: RunningService, ada: Guest, scopes: list[str]) -> None:
    client = await program(service, ada, scopes=scopes)
    for scope, method, path in (("read", "GET", TASKS), ("read", "GET", READ), ("generate", "POST", TASKS)):
        response = await client.request(method, path)
        if scope in scopes:
            assert response.status_code == 200, response.text
        else:
            assert error_of(response, 403, "FORBIDDEN")["details"] == {"reason": "scope", "scope": scope}


async def test_people_with_a_token_have_all_scopes_and_guests_have_tasks_alone(
    service: RunningService, ada: Guest
) -> None:
    guest = await service.guest()
    for method in ("GET", "POST"):
        assert (await ada.client.request(method, TASKS)).json() == ada.id
        assert (await ada.client.request(method, READ)).json() == ada.id
        assert (await guest.client.request(method, TASKS)).json() == guest.id
        refused = error_of(await guest.client.request(method, READ), 403, "FORBIDDEN")
        assert refused["details"] == {"reason": "accounts_only"}


async def test_a_key_that_is_revoked_expired_or_unknown_opens_nothing(service: RunningService, ada: Guest) -> None:
    revoked, expired = await made(ada), await made(ada)
    await ada.client.delete(f"/api/auth/service-keys/{revoked['id']}")
    past = service_keys.update().where(service_keys.c.id == expired["id"]).values(expires_at=now_ms() - 1)
    await service.container.database.write(lambda connection: connection.execute(past))

    reasons = {}
    for key in (
        revoked["key"],
        expired["key"],
        "nbk_" + "a" * 43,
        "nbk_",
        "nbk_\N{SNOWMAN}",
        "AIzaGoogle0000000",
    ):
        response = await service.client.get(READ, headers=[(b"X-API-Key", key.encode())])
        reasons[key] = error_of(response, 401, "UNAUTHORIZED")["details"]["reason"]
    assert list(reasons.values()) == [
        "invalid_service_key", "service_key_expired", *["invalid_service_key"] * 3, "not_a_service_key",
    ]  # fmt: skip
    for headers in ({}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer abc"}):
        error_of(await service.client.get(READ, headers=headers), 401, "UNAUTHORIZED")


async def test_two_callers_at_once_are_none(service: RunningService, ada: Guest) -> None:
    key = (await made(ada))["key"]
    other = await registered(service, "bob@example.org")
    response = await other.client.get(READ, headers={"X-API-Key": key})
    assert error_of(response, 401, "UNAUTHORIZED")["details"]["reason"] == "two_callers"


async def test_a_key_ends_with_its_owner(service: RunningService, ada: Guest) -> None:
    client, admin = await program(service, ada), await set_up_admin(service)
    for blocked, status in ((True, 403), (False, 200)):
        await admin.client.patch(f"/api/admin/users/{ada.id}", json={"blocked": blocked})
        assert (await client.get(READ)).status_code == status
    await ada.client.delete("/api/auth/me")
    error_of(await client.get(READ), 401, "UNAUTHORIZED")
    assert databases.ask(service.data_dir, "SELECT count(*) FROM service_keys") == [(0,)]


async def test_a_key_opens_none_of_the_other_routes_and_is_not_sent_to_google(
    service: RunningService, ada: Guest, gemini: GeminiStandin
) -> None:
    key = (await made(ada))["key"]
    body = {"prompt": "a lighthouse"}
    for client in (service.client, ada.client):
        response = await client.post("/api/generate/basic", json=body, headers={"X-API-Key": key})
        error = error_of(response, 400, "INVALID_API_KEY")
        assert error["details"] == {"reason": "service_keys_open_api_v1_alone"}
    login = {"email": "ada@example.org", "password": "a long and easy sentence"}
    by_bearer = {"Authorization": f"Bearer {key}"}
    for method, path in (
        ("POST", "/api/generate/basic"), ("GET", "/api/quota"), ("GET", "/api/history"), ("GET", "/api/auth/me"),
        ("POST", "/api/auth/login"), ("GET", "/api/images/img_01kga0000000abcdefghjkmnpq"),
    ):  # fmt: skip
        json = {"/api/generate/basic": body, "/api/auth/login": login}.get(path)
        response = await service.client.request(method, path, headers=by_bearer, json=json)
        error = error_of(response, 401, "UNAUTHORIZED")
        assert error["details"] == {"reason": "service_keys_open_api_v1_alone"}, path
    saving = await ada.client.put("/api/auth/api-key", json={"api_key": key})
    error_of(saving, 400, "INVALID_API_KEY")
    assert gemini.requests() == []


async def test_a_hundred_at_once_over_a_key_of_ten_points_get_ten(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(8, 8))
    service = await opened(
        open_service, GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_GLOBAL_QUOTA="1000",
        TRIAL_BASIC_1K_LIMIT="1000",
    )  # fmt: skip
    ada = await registered(service, "ada@example.org")
    key = await made(ada, daily_points=10)
    client, free = service.with_headers(**{"X-API-Key": key["key"]}), await program(service, ada)
    answers = await asyncio.gather(*(client.post(MAKE) for _ in range(100)))

    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 90}
    refused = next(answer for answer in answers if answer.status_code == 429)
    details = error_of(refused, 429, "QUOTA_EXCEEDED")["details"]
    assert (details["reason"], details["service_key"]) == ("service_key", {"used": 10, "limit": 10, "remaining": 0})
    assert int(refused.headers["retry-after"]) > 0
    charged = databases.ask(service.data_dir, "SELECT service_key_id, count(*), sum(points) FROM charges GROUP BY 1")
    assert [(found, images, int(points)) for found, images, points in charged] == [(key["id"], 10, 10)]

    await service.container.redis.flushall()
    again = await client.post(MAKE)
    assert error_of(again, 429, "QUOTA_EXCEEDED")["details"]["reason"] == "service_key", "set from the ledger"
    assert (await free.post(MAKE)).status_code == 200, "the cap is the key's own"


async def test_what_is_not_delivered_goes_back_to_the_key(
    service: RunningService, ada: Guest, gemini: GeminiStandin
) -> None:
    client = await program(service, ada, daily_points=1)
    gemini.configure(mode="safety")
    error_of(await client.post(MAKE), 400, "CONTENT_BLOCKED")
    gemini.configure(pixels=(8, 8))
    assert (await client.post(MAKE)).status_code == 200
    error_of(await client.post(MAKE), 429, "QUOTA_EXCEEDED")


async def test_an_admins_key_with_a_cap_keeps_it_and_one_without_is_not_metered(service: RunningService) -> None:
    admin = await set_up_admin(service)
    capped, free = await program(service, admin, daily_points=1), await program(service, admin)
    assert [(await capped.post(MAKE)).status_code for _ in range(2)] == [200, 429]
    assert (await free.post(MAKE)).status_code == 200
    assert await admin.used() == 1


async def test_all_keys_of_an_owner_share_the_owners_requests_a_minute(open_service: OpenService) -> None:
    service = await opened(open_service, RATE_LIMIT_REQUESTS="3")
    ada = await registered(service, "ada@example.org")
    clients = [await program(service, ada) for _ in range(2)]
    statuses = [(await clients[number % 2].post(TASKS)).status_code for number in range(8)]
    assert 3 <= statuses.count(200) <= 6, "two windows at most"
    assert 429 in statuses


async def test_the_last_use_is_noted_once_a_minute(service: RunningService, ada: Guest) -> None:
    client = await program(service, ada)
    await asyncio.gather(*(client.get(READ) for _ in range(5)))

    async def noted() -> bool:
        return (await listed(ada))[0]["last_used_at"] is not None

    assert await eventually(noted)
    first = (await listed(ada))[0]["last_used_at"]
    await client.get(READ)
    await service.container.service_keys.drain()
    assert (await listed(ada))[0]["last_used_at"] == first
    earlier = service_keys.update().values(last_used_at=now_ms() - 61_000)
    await service.container.database.write(lambda connection: connection.execute(earlier))
    await client.get(READ)
    await service.container.service_keys.drain()
    assert (await listed(ada))[0]["last_used_at"] > first


async def test_counters_of_a_key_end_by_themselves(service: RunningService, ada: Guest) -> None:
    key = await made(ada, daily_points=5)
    await service.client.post(MAKE, headers={"X-API-Key": key["key"]})
    redis = service.container.redis
    assert await redis.ttl(SERVICE_KEY(date=utc_day(now_ms()), id=key["id"])) > 3600


def test_the_document_shows_both_ways_in(service: RunningService) -> None:
    service.app.openapi_schema = None
    document = service.app.openapi()
    assert document["components"]["securitySchemes"]["serviceKey"] | {"description": ""} == {
        "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "",
    }  # fmt: skip
    ways = document["paths"][READ]["get"]["security"]
    assert sorted(ways, key=str) == [{"bearer": []}, {"serviceKey": []}]
