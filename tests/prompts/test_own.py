"""Own prompts: kept, changed, searched for, liked, handed on and forgotten."""

import asyncio
import io
import zipfile
from typing import Any

import orjson

from services.prompts.service import MOST_OWN
from tests.accounts.test_departures import finished
from tests.conftest import OpenService
from tests.prompts.asking import MINE, kept, listed, mark
from tests.support.answers import error_of, fields_of
from tests.support.databases import databases
from tests.support.people import bearer, registered
from tests.support.service import RunningService

LIBRARY = 120


def rows(service: RunningService) -> tuple[int, int]:
    ((own,),) = databases.ask(service.data_dir, "SELECT count(*) FROM prompts")
    ((liked,),) = databases.ask(service.data_dir, "SELECT count(*) FROM prompt_favorites")
    return int(own), int(liked)


async def test_it_is_kept_listed_first_changed_and_deleted(service: RunningService) -> None:
    guest = await service.guest()
    first = await kept(guest)
    second = await kept(guest, title="  夜港 ", category="nights", tags=[])
    assert {name: first[name] for name in MINE} == MINE
    assert (first["is_mine"], first["is_favorite"], first["source"], first["lang"]) == (True, False, "user", None)
    assert second["title"] == "夜港"
    page = await listed(guest, limit=3)
    assert page["prompts"][:2] == [second, first]
    assert page["prompts"][2]["is_mine"] is False
    assert page["total"] == LIBRARY + 2
    assert {"category": "nights", "count": 1} in page["categories"]
    assert {"category": "landscape", "count": 21} in page["categories"]
    assert (await listed(guest, category="nights"))["prompts"] == [second]
    # The page may end among mine, at their end, or behind it.
    walked = [entry["id"] for offset in range(4) for entry in (await listed(guest, limit=1, offset=offset))["prompts"]]
    assert walked[:2] == [second["id"], first["id"]]
    assert len(set(walked)) == 4

    changed = await guest.client.patch(f"/api/prompts/{first['id']}", json={"prompt": "a quay", "tags": []})
    assert changed.json() == first | {"prompt": "a quay", "tags": []}
    assert (await listed(guest, search="quay", category="landscape"))["prompts"][0] == changed.json()
    assert (await guest.client.patch(f"/api/prompts/{first['id']}", json={})).json() == changed.json()
    assert (await guest.client.delete(f"/api/prompts/{first['id']}")).json() == {"success": True}
    error_of(await guest.client.delete(f"/api/prompts/{first['id']}"), 404, "NOT_FOUND")
    assert (await listed(guest))["total"] == LIBRARY + 1


ODD = {
    "title": "100% Wool_Coat",
    "prompt": "ein Mantel, ＦＵＬＬ width, Straße \\ [x] 'quoted' \"twice\"",
    "category": "odd",
    "tags": ["Ölbild", "可爱的猫"],
}
FOUND = [
    "wool", "WOOL_C", "100%", "ｗｏｏｌ", "full", "STRASSE", "ölbild", "爱的", "猫", "\\ [", "'quoted' \"tw", "%", "_",
]  # fmt: skip
NOT_FOUND = ["w%l", "wo_l", "100_", "*", "NEAR", "coat ein", "爱猫", "/"]


async def test_a_search_finds_any_substring_and_nothing_else(service: RunningService) -> None:
    guest = await service.guest()
    await kept(guest, **ODD)
    totals = {search: (await listed(guest, search=search, category="odd"))["total"] for search in FOUND + NOT_FOUND}
    assert totals == dict.fromkeys(FOUND, 1) | dict.fromkeys(NOT_FOUND, 0)


async def test_the_library_is_searched_in_the_same_way(service: RunningService) -> None:
    guest = await service.guest()
    assert [entry["title"] for entry in (await listed(guest, search="BEEKEEPER with"))["prompts"]] == [
        "Beekeeper with lifted veil"
    ]
    assert [entry["title"] for entry in (await listed(guest, search="头马车"))["prompts"]] == []
    assert {entry["lang"] for entry in (await listed(guest, search="胡同"))["prompts"]} == {"zh"}
    assert (await listed(guest, search="f/2.8", lang="en"))["total"] > 3
    assert (await listed(guest, search="f_2.8"))["total"] == 0


WRONG_QUERIES: list[tuple[dict[str, Any], str]] = [
    ({"search": "a" * 10_000}, "search"), ({"search": " "}, "search"), ({"search": "a\0b"}, "search"),
    ({"lang": "fr"}, "lang"), ({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"offset": -1}, "offset"),
    ({"who": "me"}, "who"),
]  # fmt: skip
WRONG_PROMPTS: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "title"), ({"title": "a" * 101}, "title"), ({"prompt": " "}, "prompt"),
    ({"prompt": "a" * 4001}, "prompt"), ({"prompt": "a\0"}, "prompt"), ({"tags": ["a"] * 11}, "tags"),
    ({"tags": ["a" * 41]}, "tags.0"), ({"tags": "sea"}, "tags"), ({"tags": [5]}, "tags.0"),
    ({"is_mine": True}, "is_mine"),
]  # fmt: skip


async def test_what_is_wrong_with_a_query_or_a_prompt_is_named(service: RunningService) -> None:
    guest = await service.guest()
    for query, field in WRONG_QUERIES:
        assert field in fields_of(await guest.client.get("/api/prompts", params=query)), query
    assert "category" in fields_of(await guest.client.post("/api/prompts", json=MINE | {"category": None}))
    own = await kept(guest)
    for fields, field in WRONG_PROMPTS:
        assert field in fields_of(await guest.client.post("/api/prompts", json=MINE | fields)), fields
        assert field in fields_of(await guest.client.patch(f"/api/prompts/{own['id']}", json=fields)), fields
    assert (await listed(guest, limit=1))["prompts"] == [own]


async def test_favorites_of_mine_go_with_them(service: RunningService) -> None:
    guest = await service.guest()
    own = await kept(guest)
    await mark(guest, own["id"])
    await mark(guest, own["id"])
    assert (await listed(guest, favorites_only=True))["prompts"] == [own | {"is_favorite": True}]
    assert rows(service) == (1, 1)
    await guest.client.delete(f"/api/prompts/{own['id']}")
    assert rows(service) == (0, 0)
    error_of(
        await guest.client.post(f"/api/prompts/{own['id']}/favorite", json={"is_favorite": True}), 404, "NOT_FOUND"
    )


async def test_the_same_key_keeps_one(service: RunningService) -> None:
    guest = await service.guest()
    headers = {"Idempotency-Key": "one"}
    first = await guest.client.post("/api/prompts", json=MINE, headers=headers)
    again = await guest.client.post("/api/prompts", json=MINE, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await guest.client.post("/api/prompts", json=MINE | {"title": "other"}, headers=headers)
    error_of(other, 422, "IDEMPOTENCY_MISMATCH")
    await guest.client.delete(f"/api/prompts/{first.json()['id']}")
    error_of(await guest.client.post("/api/prompts", json=MINE, headers=headers), 404, "NOT_FOUND")


async def test_nobody_keeps_more_than_the_limit_however_many_come_at_once(service: RunningService) -> None:
    guest = await service.guest()
    own = await kept(guest)
    fill = (
        "INSERT INTO prompts SELECT 'prm_' || n, user_id, title, prompt, category, tags, searchable, created_at, NULL"
    )
    numbers = (
        "(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < :count) SELECT n FROM t) AS more"
    )
    databases.change(service.data_dir, f"{fill} FROM prompts, {numbers}", count=MOST_OWN - 3)
    answers = await asyncio.gather(*(guest.client.post("/api/prompts", json=MINE) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert error_of(refused, 409, "TOO_MANY_PROMPTS")["details"] == {"limit": MOST_OWN}
    page = await listed(guest, limit=100, offset=950, category="landscape")
    assert page["total"] == MOST_OWN + 20
    assert sum(entry["is_mine"] for entry in page["prompts"]) == 50
    assert own["id"] in {entry["id"] for entry in page["prompts"]}


async def test_liking_and_deleting_at_once_leaves_no_favorite_of_nothing(service: RunningService) -> None:
    guest = await service.guest()
    for _ in range(5):
        own = await kept(guest)
        path = f"/api/prompts/{own['id']}"
        await asyncio.gather(
            *(guest.client.post(f"{path}/favorite", json={"is_favorite": True}) for _ in range(3)),
            guest.client.delete(path),
        )
    assert rows(service) == (0, 0)


async def test_liking_twice_at_once_is_liking(service: RunningService) -> None:
    """One of the library has no row that whoever likes it could wait for."""
    guest = await service.guest()
    shared = (await listed(guest, limit=1))["prompts"][0]
    liking = [guest.client.post(f"/api/prompts/{shared['id']}/favorite", json={"is_favorite": True}) for _ in range(24)]
    assert [answer.status_code for answer in await asyncio.gather(*liking)] == [200] * 24
    assert rows(service) == (0, 1)


async def test_changes_of_different_fields_at_once_all_hold(service: RunningService) -> None:
    guest = await service.guest()
    own = await kept(guest)
    changes: list[dict[str, Any]] = [{"title": "new title"}, {"prompt": "new prompt"}, {"tags": ["new"]}]
    await asyncio.gather(*(guest.client.patch(f"/api/prompts/{own['id']}", json=change) for change in changes))
    (found,) = (await listed(guest, search="new", category="landscape"))["prompts"][:1]
    assert (found["title"], found["prompt"], found["tags"]) == ("new title", "new prompt", ["new"])


async def test_who_signs_in_keeps_what_they_kept_as_a_guest(service: RunningService) -> None:
    ada = await registered(service, "ada@example.org")
    both = (await listed(ada, limit=2))["prompts"]
    await mark(ada, both[0]["id"])
    guest = await service.guest()
    own = await kept(guest)
    for prompt in (own, *both):
        await mark(guest, prompt["id"])
    response = await service.client.post(
        "/api/auth/login", json={"email": "ada@example.org", "password": "a long and easy sentence"},
        headers=bearer(guest),
    )  # fmt: skip
    assert response.status_code == 200, response.text
    liked = await listed(ada, favorites_only=True)
    assert [entry["id"] for entry in liked["prompts"]] == [own["id"], both[0]["id"], both[1]["id"]]
    assert databases.ask(service.data_dir, "SELECT count(*) FROM prompts WHERE expires_at IS NOT NULL") == [(0,)]
    assert databases.ask(service.data_dir, "SELECT count(*) FROM prompt_favorites WHERE expires_at IS NOT NULL") == [
        (0,)
    ]


async def test_who_leaves_leaves_none(service: RunningService) -> None:
    ada = await registered(service, "ada@example.org")
    await mark(ada, (await kept(ada))["id"])
    await mark(ada, (await listed(ada, lang="zh"))["prompts"][1]["id"])
    assert (await ada.client.delete("/api/auth/me")).status_code == 200
    await finished(service)
    assert rows(service) == (0, 0)


async def test_what_a_guest_kept_goes_after_its_time(open_service: OpenService) -> None:
    service = await open_service(GUEST_RETENTION_HOURS="1")
    guest, ada = await service.guest(), await registered(service, "ada@example.org")
    for who in (guest, ada):
        await mark(who, (await kept(who))["id"])
        await mark(who, (await listed(who, lang="zh"))["prompts"][1]["id"])
    forget = service.container.prompts.service.forget_expired
    assert await forget() == 0
    for table in ("prompts", "prompt_favorites"):
        databases.change(service.data_dir, f"UPDATE {table} SET expires_at = expires_at - 3700000")
    assert (await listed(guest))["total"] == LIBRARY
    assert await forget() == 1
    assert rows(service) == (1, 2)
    assert (await listed(ada, favorites_only=True))["total"] == 2


async def test_the_accounts_export_has_them(service: RunningService) -> None:
    ada = await registered(service, "ada@example.org")
    own = await kept(ada)
    liked = (await listed(ada, lang="zh"))["prompts"][1]
    await mark(ada, liked["id"])
    response = await ada.client.get("/api/auth/me/export")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        exported = orjson.loads(archive.read("prompts.json"))
    assert exported == {"prompts": [own, liked | {"is_favorite": True}]}


async def test_nobody_sees_nothing(service: RunningService) -> None:
    error_of(await service.client.get("/api/prompts"), 401, "UNAUTHORIZED")
    error_of(await service.client.post("/api/prompts", json=MINE), 401, "UNAUTHORIZED")
