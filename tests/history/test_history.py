"""The history over HTTP: lists, filters, the trash, and what is another's."""

import asyncio
from typing import Any

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OpenService
from tests.history.shelf import (
    WIDE,
    id_of,
    image_files,
    listed,
    make,
    milliseconds,
    retained,
    rows,
    set_columns,
    without_request_id,
)
from tests.support.service import RunningService


async def test_total_is_exact_and_pages_join_without_gap_or_overlap(shelf: RunningService) -> None:
    guest = await shelf.guest()
    made = await make(guest, 5)
    pages = [await guest.history(limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[item["id"] for item in page["items"]] for page in pages] == [
        [made[4], made[3]],
        [made[2], made[1]],
        [made[0]],
        [],
    ]
    assert [page["has_more"] for page in pages] == [True, True, False, False]
    assert {(page["total"], page["limit"]) for page in pages} == {(5, 2)}
    assert [page["offset"] for page in pages] == [0, 2, 4, 6]


async def test_a_new_caller_has_an_empty_list(shelf: RunningService) -> None:
    body = await (await shelf.guest()).history()
    assert body == {
        "items": [], "total": 0, "total_is_capped": False, "limit": 20, "offset": 0, "has_more": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"offset": -1}, "offset"),
        ({"sort": "prettiest"}, "sort"),
        ({"mode": "dance"}, "mode"),
        ({"date_from": "yesterday"}, "date_from"),
        ({"date_to": "2026-02-30"}, "date_to"),
        ({"colour": "red"}, "colour"),
        ({"session_id": " "}, "session_id"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(shelf: RunningService, query: dict[str, Any], field: str) -> None:
    response = await (await shelf.guest()).client.get("/api/history", params=query)
    assert response.status_code == 422
    assert [entry["field"] for entry in response.json()["error"]["details"]["fields"]] == [field]


async def test_an_item_tells_all_about_its_image(shelf: RunningService) -> None:
    guest = await shelf.guest()
    data = await guest.image("a cat in the snow, 夜", aspect_ratio="4:3", resolution="2K")
    (item,) = (await guest.history())["items"]
    for name in ("image_url", "thumbnail_url", "width", "height", "mime_type", "provider", "model", "duration"):
        assert item[name] == data[name], name
    assert item["settings"] == {"aspect_ratio": "4:3", "resolution": "2K"}
    assert (item["prompt"], item["mode"], item["is_favorite"]) == ("a cat in the snow, 夜", "basic", False)
    assert item["size"] == len((await shelf.client.get(item["image_url"])).content)
    assert item["created_at"].endswith("Z")
    whole = (await guest.client.get(f"/api/history/{item['id']}")).json()
    assert (item.pop("match"), item.pop("group_size")) == (None, None)
    assert {**item, "text_response": None, "thinking": None, "search_sources": None} == whole


async def test_each_filter_keeps_what_fits_it_and_they_add_up(shelf: RunningService) -> None:
    guest = await shelf.guest()
    plain, chat, other_chat, favorite = await make(guest, 4)
    set_columns(shelf, chat, mode="chat", session_id="chat_1", is_favorite=True)
    set_columns(shelf, other_chat, mode="chat", session_id="chat_2")
    set_columns(shelf, favorite, is_favorite=True)
    assert await listed(guest, mode="chat") == [other_chat, chat]
    assert await listed(guest, mode="basic") == [favorite, plain]
    assert await listed(guest, session_id="chat_1") == [chat]
    assert await listed(guest, session_id="chat_3") == []
    assert await listed(guest, favorites_only="true") == [favorite, chat]
    assert await listed(guest, favorites_only="false") == [favorite, other_chat, chat, plain]
    assert await listed(guest, favorites_only="true", mode="chat") == [chat]
    assert (await guest.history(mode="chat", limit=1))["total"] == 2


async def test_four_sorts(shelf: RunningService) -> None:
    guest = await shelf.guest()
    made = await make(guest, 4)
    for image_id, day, duration in zip(made, (3, 1, 4, 2), (2.0, 9.0, 2.0, 0.5), strict=True):
        set_columns(shelf, image_id, created_at=milliseconds(f"2026-03-0{day}T12:00:00+00:00"), duration=duration)
    a, b, c, d = made
    assert await listed(guest) == await listed(guest, sort="newest") == [c, a, d, b]
    assert await listed(guest, sort="oldest") == [b, d, a, c]
    assert await listed(guest, sort="fastest") == [d, c, a, b]
    assert await listed(guest, sort="slowest") == [b, c, a, d]


@pytest.mark.parametrize("sort", ["newest", "oldest", "fastest", "slowest"])
async def test_images_of_one_moment_keep_one_order_over_all_pages(shelf: RunningService, sort: str) -> None:
    guest = await shelf.guest()
    made = await make(guest, 6)
    for image_id in made:
        set_columns(shelf, image_id, created_at=1_700_000_000_000, duration=1.0)
    paged = [(await listed(guest, sort=sort, limit=1, offset=offset))[0] for offset in range(6)]
    assert paged == await listed(guest, sort=sort)
    assert sorted(paged) == sorted(made)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"date_from": "2026-03-10", "date_to": "2026-03-10"}, "first last"),
        ({"date_from": "2026-03-11"}, "next"),
        ({"date_to": "2026-03-09"}, "before"),
        ({"date_to": "2026-03-10"}, "before first last"),
        ({"date_from": "2026-03-10T00:00:00Z"}, "first last next"),
        ({"date_from": "2026-03-10T00:00:00.001Z"}, "last next"),
        ({"date_from": "2026-03-10T23:59:59.999Z", "date_to": "2026-03-11T00:00:00Z"}, "last"),
        ({"date_to": "2026-03-10T00:00:00Z"}, "before"),
        ({"date_from": "2026-03-10T08:00:00+08:00", "date_to": "2026-03-11T08:00:00+08:00"}, "first last"),
        ({"date_from": "2026-03-10T00:00:00"}, "first last next"),
        ({"date_from": "2026-03-10T12:00:00Z", "date_to": "2026-03-10T12:00:00Z"}, ""),
        ({"date_from": "2026-03-10", "date_to": "2026-03-10T12:00:00Z"}, "first"),
    ],
)
async def test_a_date_takes_its_whole_utc_day_in_and_a_time_is_exact(
    shelf: RunningService, query: dict[str, str], wanted: str
) -> None:
    guest = await shelf.guest()
    moments = {
        "before": "2026-03-09T23:59:59.999+00:00",
        "first": "2026-03-10T00:00:00+00:00",
        "last": "2026-03-10T23:59:59.999+00:00",
        "next": "2026-03-11T00:00:00+00:00",
    }
    names = {}
    for name, image_id in zip(moments, await make(guest, 4), strict=True):
        names[image_id] = name
        set_columns(shelf, image_id, created_at=milliseconds(moments[name]))
    assert [names[image_id] for image_id in await listed(guest, sort="oldest", **query)] == wanted.split()


async def test_a_range_that_runs_backwards_is_an_error(shelf: RunningService) -> None:
    guest = await shelf.guest()
    response = await guest.client.get("/api/history", params={"date_from": "2026-03-11", "date_to": "2026-03-09"})
    assert response.status_code == 422
    assert response.json()["error"]["details"]["fields"][0]["reason"] == "backwards"


async def test_what_is_deleted_is_gone_everywhere_and_comes_back_whole(shelf: RunningService) -> None:
    guest = await shelf.guest()
    kept, deleted = await make(guest, 2)
    before = (await guest.client.get(f"/api/history/{deleted}")).json()
    response = await guest.client.delete(f"/api/history/{deleted}")
    assert (response.status_code, response.json()) == (200, {"success": True})

    page = await guest.history()
    assert ([item["id"] for item in page["items"]], page["total"]) == ([kept], 1)
    for link in (before["image_url"], before["thumbnail_url"]):
        assert (await shelf.client.get(link)).status_code == 404
    assert (await guest.client.get(f"/api/images/{deleted}")).status_code == 404
    assert (await guest.client.get(f"/api/history/{deleted}")).status_code == 404
    assert (await guest.client.delete(f"/api/history/{deleted}")).status_code == 404
    assert await retained(shelf) == 0

    restored = await guest.client.post(f"/api/history/{deleted}/restore")
    assert restored.status_code == 200
    assert restored.json()["id"] == deleted
    assert await listed(guest) == [deleted, kept]
    assert (await shelf.client.get(before["image_url"])).status_code == 200
    assert (await guest.client.post(f"/api/history/{deleted}/restore")).status_code == 404


@pytest.mark.parametrize("trashed_before", [False, True])
async def test_a_final_delete_takes_everything_and_nothing_comes_back(
    shelf: RunningService, trashed_before: bool
) -> None:
    guest = await shelf.guest()
    (image_id,) = await make(guest, 1)
    link = (await guest.client.get(f"/api/history/{image_id}")).json()
    assert (await shelf.client.get(link["thumbnail_url"])).status_code == 200
    assert len(image_files(shelf)) == 3
    if trashed_before:
        await guest.client.delete(f"/api/history/{image_id}")
    response = await guest.client.delete(f"/api/history/{image_id}", params={"final": "true"})
    assert response.status_code == 200
    assert image_files(shelf) == []
    assert rows(shelf) == 0
    assert (await shelf.client.get(link["image_url"])).status_code == 404
    for again in (
        await guest.client.post(f"/api/history/{image_id}/restore"),
        await guest.client.delete(f"/api/history/{image_id}", params={"final": "true"}),
    ):
        assert again.status_code == 404
    assert await guest.used() == 1, "what was delivered stays charged"


async def test_the_trash_is_emptied_after_trash_minutes(open_service: OpenService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 48))
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, TRASH_MINUTES="0", **WIDE)
    guest = await service.guest()
    kept, deleted = await make(guest, 2)
    await guest.client.get(f"/api/images/{deleted}/thumbnail")
    await guest.client.delete(f"/api/history/{deleted}")
    assert await retained(service) == 1
    assert await retained(service) == 0
    assert (await guest.client.post(f"/api/history/{deleted}/restore")).status_code == 404
    assert rows(service) == 1
    assert len(image_files(service)) == 2
    assert await listed(guest) == [kept]


async def test_a_restore_that_succeeds_is_never_purged_at_the_same_moment(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 48))
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, TRASH_MINUTES="0", **WIDE)
    guest = await service.guest()
    for image_id in await make(guest, 15):
        await guest.client.delete(f"/api/history/{image_id}")
        answer, _ = await asyncio.gather(guest.client.post(f"/api/history/{image_id}/restore"), retained(service))
        bytes_status = (await guest.client.get(f"/api/images/{image_id}")).status_code
        assert (answer.status_code, bytes_status) in {(200, 200), (404, 404)}


async def test_an_unlisted_image_opens_by_its_link_alone_and_goes_after_its_time(shelf: RunningService) -> None:
    guest = await shelf.guest()
    data = await guest.image(save_to_history=False)
    image_id = id_of(data["image_url"])
    assert data["history_id"] is None
    assert (await shelf.client.get(data["image_url"])).status_code == 200
    assert (await guest.history())["total"] == 0
    for response in (
        await guest.client.get(f"/api/history/{image_id}"),
        await guest.client.delete(f"/api/history/{image_id}"),
        await guest.client.delete(f"/api/history/{image_id}", params={"final": "true"}),
        await guest.client.post(f"/api/history/{image_id}/restore"),
    ):
        assert response.status_code == 404
    assert all("unlisted" in path.parts for path in image_files(shelf))
    assert await guest.used() == 1

    assert await retained(shelf) == 0
    set_columns(shelf, image_id, expires_at=milliseconds("2026-01-01T00:00:00+00:00"))
    assert await retained(shelf) == 1
    assert (await shelf.client.get(data["image_url"])).status_code == 404
    assert image_files(shelf) == []


async def test_what_a_guest_made_goes_after_guest_retention_hours(shelf: RunningService) -> None:
    guest = await shelf.guest()
    young, old = await make(guest, 2)
    set_columns(shelf, old, expires_at=milliseconds("2026-01-01T00:00:00+00:00"))
    assert await retained(shelf) == 1
    assert await listed(guest) == [young]


async def test_anothers_image_looks_the_same_as_one_that_does_not_exist(shelf: RunningService) -> None:
    owner, stranger = await shelf.guest(), await shelf.guest()
    theirs, trashed = await make(owner, 2)
    await owner.client.delete(f"/api/history/{trashed}")
    missing = "img_" + "0" * 26
    for method, path in [
        ("GET", "/api/history/{}"),
        ("DELETE", "/api/history/{}"),
        ("DELETE", "/api/history/{}?final=true"),
        ("POST", "/api/history/{}/restore"),
        ("GET", "/api/images/{}"),
        ("GET", "/api/images/{}/thumbnail"),
    ]:
        nothing = without_request_id(await stranger.client.request(method, path.format(missing)))
        assert nothing[0] == 404
        for image_id in (theirs, trashed):
            assert without_request_id(await stranger.client.request(method, path.format(image_id))) == nothing
    assert (await stranger.history())["total"] == 0
    assert await listed(owner) == [theirs]
    assert (await owner.client.post(f"/api/history/{trashed}/restore")).status_code == 200


async def test_the_history_is_for_the_signed_in(shelf: RunningService) -> None:
    for method, path in [("GET", "/api/history"), ("GET", "/api/history/img_1"), ("DELETE", "/api/history/img_1")]:
        assert (await shelf.client.request(method, path)).status_code == 401
