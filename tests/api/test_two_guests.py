"""Nobody can see, change, delete or guess another's things: what is not yours looks like what does not exist.

The matrix comes from the OpenAPI document, so that a new route without an entry here fails the test.
"""

import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api.main import create_app
from benchmarks.gemini_standin import GeminiStandin
from core.metrics import Metrics
from core.settings import load_settings
from tests.chat.talking import begin, contents_of
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.service import Guest, RunningService
from tests.tasks.workers import submit

OWN_KEY = "AIzaKeyOfGuestAAlone0000000000000000Zq7W"
NOTHING = {
    "image_id": "img_01kga0000000abcdefghjkmnpq",
    "session_id": "ses_01kga0000000abcdefghjkmnpq",
    "task_id": "task_01kga0000000abcdefghjkmnpq",
    "chat_id": "chat_01kga0000000abcdefghjkmnpq",
    "prompt_id": "prm_01kga0000000abcdefghjkmnpq",
}

# Routes with an id of somebody's in their path: a body that they take.
WITH_IDS: dict[tuple[str, str], dict[str, Any] | None] = {
    ("delete", "/api/auth/sessions/{session_id}"): None,
    ("get", "/api/history/{image_id}"): None,
    ("delete", "/api/history/{image_id}"): None,
    ("post", "/api/history/{image_id}/restore"): None,
    ("post", "/api/history/{image_id}/favorite"): {"is_favorite": True},
    ("get", "/api/images/{image_id}"): None,
    ("get", "/api/images/{image_id}/thumbnail"): None,
    ("get", "/api/generate/batch/{task_id}"): None,
    ("get", "/api/v1/tasks/{task_id}"): None,
    ("get", "/api/v1/jobs/{task_id}"): None,
    ("post", "/api/v1/tasks/{task_id}/cancel"): None,
    ("post", "/api/v1/tasks/{task_id}/retry"): {},
    ("post", "/api/v1/tasks/{task_id}/redeliver"): None,
    ("delete", "/api/v1/tasks/{task_id}"): None,
    ("get", "/api/v1/tasks/{task_id}/events"): None,
    ("post", "/api/v1/tasks/{task_id}/events-token"): None,
    ("get", "/api/chat/sessions/{chat_id}"): None,
    ("post", "/api/chat/sessions/{chat_id}/messages"): {"message": "make it blue"},
    ("delete", "/api/chat/sessions/{chat_id}"): None,
    ("get", "/api/chat/sessions/{chat_id}/export"): None,
    ("patch", "/api/prompts/{prompt_id}"): {"title": "theirs"},
    ("delete", "/api/prompts/{prompt_id}"): None,
    ("post", "/api/prompts/{prompt_id}/favorite"): {"is_favorite": True},
}
# Routes that list or show what is the caller's own.
LISTS = {
    ("get", "/api/history"),
    ("get", "/api/chat/sessions"),
    ("get", "/api/prompts"),
    ("get", "/api/v1/tasks"),
    ("get", "/api/auth/sessions"),
    ("get", "/api/auth/me"),
    ("get", "/api/auth/api-key"),
    ("get", "/api/quota"),
}
# Routes that show and change what is anybody's, and so are for admins: a body that they take.
ADMINS: dict[tuple[str, str], dict[str, Any] | None] = {
    ("get", "/api/admin/users"): None,
    ("patch", "/api/admin/users/{user_id}"): {"blocked": True},
    ("get", "/api/admin/tasks"): None,
    ("get", "/api/admin/moderation"): None,
}
# Routes for accounts, which guests have not: a body that they take. Of two users: tests/accounts/test_service_keys.py.
ACCOUNTS: dict[tuple[str, str], dict[str, Any] | None] = {
    ("get", "/api/auth/service-keys"): None,
    ("post", "/api/auth/service-keys"): {"name": "mine"},
    ("delete", "/api/auth/service-keys/{key_id}"): None,
}
# Routes that do something with several things of the caller's: each has a test of its own below.
SEVERAL = {
    ("delete", "/api/history"),
    ("delete", "/api/history/all"),
    ("post", "/api/history/export"),
    ("get", "/api/auth/me/export"),
}
# Routes that show nothing of anybody, or only make something new for whoever calls.
NOBODYS = {
    ("get", "/api/auth/config"),
    ("post", "/api/auth/guest"),
    ("post", "/api/auth/github/login"),
    ("post", "/api/auth/github/callback"),
    ("post", "/api/auth/register"),
    ("post", "/api/auth/login"),
    ("put", "/api/auth/api-key"),
    ("delete", "/api/auth/api-key"),
    ("delete", "/api/auth/me"),
    ("post", "/api/auth/refresh"),
    ("post", "/api/auth/logout"),
    ("post", "/api/generate/basic"),
    ("post", "/api/generate/search"),
    ("post", "/api/generate/blend"),
    ("post", "/api/generate/batch"),
    ("post", "/api/chat/sessions"),
    ("post", "/api/v1/tasks/generate"),
    ("post", "/api/v1/tasks/execute"),
    ("post", "/api/prompts"),
    ("post", "/api/prompts/generate"),
    ("post", "/api/prompts/enhance"),
    ("post", "/api/prompts/variations"),
    ("post", "/api/prompts/describe"),
    ("get", "/api/generate/estimate"),
    ("post", "/api/quota/check"),
    ("get", "/api/health"),
    ("get", "/api/health/detailed"),
    ("get", "/api/health/live"),
    ("get", "/api/health/ready"),
    ("get", "/metrics"),
    ("get", "/api/i18n/{lang}"),
}


@dataclass(frozen=True)
class Two:
    """Guest A with an image that is listed, one that is not and one in the trash; guest B with nothing."""

    service: RunningService
    a: Guest
    b: Guest
    listed: dict[str, Any]
    ids: dict[str, list[str]]

    @property
    def marks(self) -> list[str]:
        """What must be in no answer to B."""
        return [
            OWN_KEY[-4:],
            self.a.id,
            self.a.tokens["user"]["user_folder_id"],
            "secret harbour",
            *self.ids["image_id"],
            *self.ids["task_id"],
            *self.ids["chat_id"],
            *self.ids["prompt_id"],
        ]


@pytest.fixture
async def two(open_service: OpenService, gemini: GeminiStandin) -> AsyncIterator[Two]:
    service = await open_service(RATE_LIMIT_REQUESTS="1000", GOOGLE_GEMINI_BASE_URL=gemini.url)
    a, b = await service.guest(), await service.guest()
    listed = await a.image("secret harbour")
    trashed = await a.image("secret harbour, trashed")
    assert (await a.client.delete(f"/api/history/{trashed['history_id']}")).status_code == 200
    unlisted = await a.image("secret harbour, unlisted", save_to_history=False)
    assert (await a.client.put("/api/auth/api-key", json={"api_key": OWN_KEY})).status_code == 200
    (session,) = (await a.client.get("/api/auth/sessions")).json()["sessions"]
    images = [listed["history_id"], trashed["history_id"], httpx.URL(unlisted["image_url"]).path.rpartition("/")[2]]
    tasks = [await submit(a, "secret harbour, later")]
    chats = [await begin(a), await begin(a, title="secret harbour, in turns")]
    mine = {"title": "secret harbour", "prompt": "secret harbour", "category": "landscape"}
    prompt = await a.client.post("/api/prompts", json=mine)
    assert prompt.status_code == 201, prompt.text
    ids = {"image_id": images, "session_id": [session["id"]], "task_id": tasks, "chat_id": chats}
    yield Two(service, a, b, listed, ids | {"prompt_id": [prompt.json()["id"]]})
    # Whatever B tried, A has it all.
    assert (await a.client.get("/api/auth/me")).status_code == 200
    assert [item["id"] for item in (await a.history())["items"]] == [listed["history_id"]]
    assert (await a.client.get("/api/prompts", params={"limit": 1})).json()["prompts"] == [prompt.json()]
    for url in (listed["image_url"], listed["thumbnail_url"], unlisted["image_url"]):
        assert (await service.client.get(url)).status_code == 200
    assert (await a.client.post(f"/api/history/{trashed['history_id']}/restore")).status_code == 200
    assert [await contents_of(a, chat_id) for chat_id in chats] == [[], []]


def comparable(response: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    """An answer without what differs between any two answers."""
    body = response.json()
    body.pop("request_id")
    varying = {"x-request-id", "date", "ratelimit", "content-length"}
    return response.status_code, body, {name: v for name, v in response.headers.items() if name not in varying}


def test_every_route_has_its_place_in_the_matrix() -> None:
    document = create_app(load_settings({"REDIS_URL": "redis://nowhere"}), Metrics()).openapi()
    routes = {(method, path) for path, item in document["paths"].items() for method in item}
    assert routes == {*WITH_IDS, *LISTS, *SEVERAL, *ACCOUNTS, *ADMINS, *NOBODYS}, (
        "say here what a new route shows, and to whom"
    )
    assert {route for route in routes if "{" in route[1]} <= {
        *WITH_IDS,
        *ACCOUNTS,
        *ADMINS,
        ("get", "/api/i18n/{lang}"),
    }


@pytest.mark.parametrize("route", WITH_IDS, ids=" ".join)
async def test_anothers_thing_looks_like_one_that_is_not_there(two: Two, route: tuple[str, str]) -> None:
    method, path = route
    (name,) = [name for name in NOTHING if f"{{{name}}}" in path]

    async def ask(client: httpx.AsyncClient, thing: str, **query: str) -> tuple[int, Any, dict[str, str]]:
        address = path.replace(f"{{{name}}}", thing)
        return comparable(await client.request(method, address, json=WITH_IDS[route], params=query))

    missing = await ask(two.b.client, NOTHING[name])
    assert missing[0] == 404
    assert missing[1]["error"]["code"] == "NOT_FOUND"
    for thing in two.ids[name]:
        assert await ask(two.b.client, thing) == missing
        if route == ("delete", "/api/history/{image_id}"):
            assert await ask(two.b.client, thing, final="true") == missing
    # Who is not signed in learns no more.
    nobody = await ask(two.service.client, NOTHING[name])
    assert nobody[0] == 401
    assert [await ask(two.service.client, thing) for thing in two.ids[name]] == [nobody] * len(two.ids[name])


@pytest.mark.parametrize("route", sorted(LISTS), ids=" ".join)
async def test_lists_hold_nothing_of_anothers(two: Two, route: tuple[str, str]) -> None:
    method, path = route
    response = await two.b.client.request(method, path)
    assert response.status_code == 200
    own = (await two.a.client.request(method, path)).text
    for mark in two.marks:
        assert mark not in response.text
    if path not in {"/api/quota", "/api/auth/api-key"}:
        assert any(mark in own for mark in (*two.marks, *two.ids["session_id"])), "the test looks at the wrong thing"


@pytest.mark.parametrize("route", ADMINS, ids=" ".join)
async def test_what_is_for_admins_is_the_same_refusal_for_everything(two: Two, route: tuple[str, str]) -> None:
    method, path = route
    answers = [
        comparable(await two.b.client.request(method, path.replace("{user_id}", user_id), json=ADMINS[route]))
        for user_id in (two.a.id, two.b.id, "usr_01kga0000000abcdefghjkmnpq")
    ]
    assert answers == [answers[0]] * 3
    assert answers[0][0] == 403
    assert answers[0][1]["error"]["details"] == {"reason": "admins_only"}


@pytest.mark.parametrize("route", ACCOUNTS, ids=" ".join)
async def test_what_is_for_accounts_is_the_same_refusal_for_every_guest(two: Two, route: tuple[str, str]) -> None:
    method, path = route
    response = await two.b.client.request(
        method, path.replace("{key_id}", "key_01kga0000000abcdefghjkmnpq"), json=ACCOUNTS[route]
    )
    assert error_of(response, 403, "FORBIDDEN")["details"] == {"reason": "accounts_only"}


async def test_anothers_history_is_empty_under_every_filter(two: Two) -> None:
    for query in ({}, {"mode": "basic"}, {"sort": "oldest"}, {"date_from": "2000-01-01"}, {"offset": 0, "limit": 100}):
        page = await two.b.history(**query)
        assert (page["items"], page["total"], page["has_more"]) == ([], 0, False)


@pytest.mark.parametrize("query", [{}, {"final": "true"}])
async def test_anothers_ids_in_a_bulk_delete_look_like_those_that_are_not_there(
    two: Two, query: dict[str, str]
) -> None:
    mine = (await two.b.image("mine"))["history_id"]
    ids = [two.ids["image_id"][0], mine, NOTHING["image_id"], *two.ids["image_id"][1:], mine]
    response = await two.b.client.request("DELETE", "/api/history", json={"ids": ids}, params=query)
    not_found = [image_id for image_id in ids if image_id != mine]
    assert response.json() == {"success": True, "deleted_count": 1, "not_found": not_found}
    assert (await two.b.history())["total"] == 0
    nobody = await two.service.client.request("DELETE", "/api/history", json={"ids": ids}, params=query)
    assert nobody.status_code == 401


@pytest.mark.parametrize("query", [{}, {"final": "true"}])
async def test_clearing_a_history_touches_no_other(two: Two, query: dict[str, str]) -> None:
    await two.b.image("mine")
    for count in (1, 0):
        response = await two.b.client.delete("/api/history/all", params=query)
        assert response.json() == {"success": True, "deleted_count": count}
    assert (await two.service.client.delete("/api/history/all", params=query)).status_code == 401


async def test_an_export_holds_nothing_of_anothers(two: Two) -> None:
    mine = (await two.b.image("mine"))["history_id"]
    asked = [*two.ids["image_id"], NOTHING["image_id"], mine]
    for body in ({}, {"mode": "basic"}, {"ids": asked}):
        response = await two.b.client.post("/api/history/export", json=body)
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            text = " ".join(archive.namelist()) + json.dumps(metadata["items"])
        assert [item["id"] for item in metadata["items"]] == [mine]
        assert metadata["not_found"] == body.get("ids", [])[:-1]
        assert not [mark for mark in two.marks if mark in text]
    assert (await two.service.client.post("/api/history/export", json={})).status_code == 401


async def test_another_points_are_seen_in_the_pool_alone(two: Two) -> None:
    mine = (await two.b.client.get("/api/quota")).json()
    assert mine["global"]["used"] == 3
    assert all(mode["used"] == 0 for mode in mine["modes"].values())
    assert (await two.a.client.get("/api/quota")).json()["modes"]["basic_1k"]["used"] == 3


async def test_a_signature_opens_its_own_image_until_its_own_end(two: Two) -> None:
    """A link that B made for an image of theirs opens nothing of A's, and a changed one opens nothing at all."""
    own = httpx.URL((await two.b.image("mine"))["image_url"])
    theirs = httpx.URL(two.listed["image_url"])
    query = dict(own.params)
    attempts = [
        (theirs.path, query),
        (theirs.path, dict(theirs.params) | {"sig": query["sig"]}),
        (theirs.path, dict(theirs.params) | {"exp": str(int(theirs.params["exp"]) + 1)}),
        (theirs.path, {"sig": theirs.params["sig"]}),
        (theirs.path, dict(theirs.params) | {"sig": ""}),
        (theirs.path, dict(theirs.params) | {"sig": theirs.params["sig"][:-1]}),
        (f"/api/images/{two.ids['image_id'][2]}", dict(theirs.params)),
        (f"/api/images/{NOTHING['image_id']}", dict(theirs.params)),
    ]
    for client in (two.b.client, two.service.client):
        answers = [comparable(await client.get(path, params=params)) for path, params in attempts]
        assert [answer[0] for answer in answers] == [401] * len(attempts)
        # Also whether there is such an image cannot be told.
        assert all(answer == answers[0] for answer in answers)


async def test_health_and_metrics_tell_of_nobody(two: Two) -> None:
    for path in ("/metrics", "/api/health", "/api/health/detailed"):
        text = (await two.service.client.get(path)).text
        assert not [mark for mark in two.marks if mark in text]
