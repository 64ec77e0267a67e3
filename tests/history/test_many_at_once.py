"""Favorites, several images deleted at once, the whole history cleared."""

import asyncio
from typing import Any

import orjson
import pytest

from benchmarks.gemini_standin import GeminiStandin
from core.clock import now_ms
from services.history import trash
from services.history.clearing import CLEAR_BATCH
from tests.conftest import OpenService
from tests.history.shelf import WIDE, id_of, image_files, listed, make, multiply, retained, rows, set_columns
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.service import Guest, RunningService

MISSING = "img_" + "0" * 26
FINAL = {"final": "true"}


async def delete(guest: Guest, ids: list[Any], **query: str) -> dict[str, Any]:
    response = await guest.client.request("DELETE", "/api/history", json={"ids": ids}, params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def clear(guest: Guest, **query: str) -> int:
    response = await guest.client.delete("/api/history/all", params=query)
    assert response.status_code == 200, response.text
    count: int = response.json()["deleted_count"]
    return count


async def mark(guest: Guest, image_id: str, is_favorite: bool) -> int:
    response = await guest.client.post(f"/api/history/{image_id}/favorite", json={"is_favorite": is_favorite})
    return response.status_code


def record_of(service: RunningService, image_id: str) -> dict[str, Any]:
    found = [orjson.loads(path.read_bytes()) for path in service.stored("u*/**/*.json")]
    (record,) = [record for record in found if record["image"]["id"] == image_id]
    return dict(record)


def mentioned(service: RunningService, table: str) -> int:
    ((count,),) = databases.ask(service.data_dir, f"SELECT count(*) FROM {table}")
    return int(count)


async def test_a_favorite_is_one_in_list_filter_and_record_until_it_is_no_more(shelf: RunningService) -> None:
    guest = await shelf.guest()
    plain, favorite = await make(guest, 2)
    before = record_of(shelf, favorite)
    assert await mark(guest, favorite, True) == 200
    assert [(item["id"], item["is_favorite"]) for item in (await guest.history())["items"]] == [
        (favorite, True),
        (plain, False),
    ]
    assert await listed(guest, favorites_only="true") == [favorite]
    assert (await guest.history(favorites_only="true", limit=1))["total"] == 1
    assert record_of(shelf, favorite) == {**before, "image": {**before["image"], "is_favorite": True}}
    for _ in range(2):
        assert await mark(guest, favorite, False) == 200
        assert await listed(guest, favorites_only="true") == []
        assert record_of(shelf, favorite) == before


async def test_an_image_without_a_record_gets_one_when_it_is_marked(shelf: RunningService) -> None:
    """The old app's images have none; what is marked must outlive the index all the same."""
    guest = await shelf.guest()
    (image_id,) = await make(guest, 1)
    (path,) = shelf.stored("users/**/*.json")
    for content in (None, b"{}", b"\xff"):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        assert await mark(guest, image_id, True) == 200
        record = record_of(shelf, image_id)
        assert (record["image"]["is_favorite"], record["image"]["prompt"]) == (True, "picture 0")


async def test_what_is_in_the_trash_or_unlisted_cannot_be_marked(shelf: RunningService) -> None:
    guest = await shelf.guest()
    (trashed,) = await make(guest, 1)
    unlisted = id_of((await guest.image(save_to_history=False))["image_url"])
    await guest.client.delete(f"/api/history/{trashed}")
    for image_id in (trashed, unlisted, MISSING):
        assert await mark(guest, image_id, True) == 404


@pytest.mark.parametrize("body", [{}, {"is_favorite": None}, {"is_favorite": 1}, {"is_favorite": "true"}])
async def test_only_true_and_false_mark(shelf: RunningService, body: dict[str, Any]) -> None:
    guest = await shelf.guest()
    (image_id,) = await make(guest, 1)
    response = await guest.client.post(f"/api/history/{image_id}/favorite", json=body)
    error = error_of(response, 422, "VALIDATION_ERROR")
    assert error["details"]["fields"][0]["field"] == "is_favorite"


async def test_marks_of_many_tabs_and_a_final_delete_leave_no_record_alone(shelf: RunningService) -> None:
    guest = await shelf.guest()
    for image_id in await make(guest, 8):
        await asyncio.gather(
            *(mark(guest, image_id, bool(turn % 2)) for turn in range(4)),
            guest.client.delete(f"/api/history/{image_id}", params=FINAL),
            *(mark(guest, image_id, bool(turn % 2)) for turn in range(4)),
        )
    assert (image_files(shelf), rows(shelf)) == ([], 0)


async def test_several_go_at_once_and_the_answer_says_which_did_not(shelf: RunningService) -> None:
    guest, other = await shelf.guest(), await shelf.guest()
    kept, one, two, trashed = await make(guest, 4)
    (foreign,) = await make(other, 1)
    unlisted = id_of((await guest.image(save_to_history=False))["image_url"])
    await guest.client.delete(f"/api/history/{trashed}")
    asked = [foreign, one, MISSING, two, trashed, one, unlisted, f" {two} "]
    body = await delete(guest, asked)
    assert body == {"success": True, "deleted_count": 2, "not_found": [foreign, MISSING, trashed, unlisted]}
    assert await listed(guest) == [kept]
    assert await listed(other) == [foreign]
    for image_id in (one, two, trashed):
        assert (await guest.client.post(f"/api/history/{image_id}/restore")).status_code == 200
    assert await listed(guest) == [trashed, two, one, kept]


async def test_several_go_finally_out_of_the_trash_too(shelf: RunningService) -> None:
    guest, other = await shelf.guest(), await shelf.guest()
    kept, one, trashed = await make(guest, 3)
    (foreign,) = await make(other, 1)
    for image_id, owner in ((one, guest), (trashed, guest), (kept, guest)):
        assert (await owner.client.get(f"/api/images/{image_id}/thumbnail")).status_code == 200
    await guest.client.delete(f"/api/history/{trashed}")
    body = await delete(guest, [one, trashed, foreign, MISSING], **FINAL)
    assert body == {"success": True, "deleted_count": 2, "not_found": [foreign, MISSING]}
    assert (len(image_files(shelf)), rows(shelf)) == (5, 2)
    assert await listed(guest) == [kept]
    assert (await guest.client.post(f"/api/history/{trashed}/restore")).status_code == 404
    assert await guest.used() == 4, "what was delivered stays charged"


@pytest.mark.parametrize(
    ("ids", "field"),
    [([], "ids"), (None, "ids"), ("img_1", "ids"), ([1], "ids.0"), ([""], "ids.0"), ([None], "ids.0"),
     (["x" * 101], "ids.0"), (["a\0b"], "ids.0"), (["img_1"] * 1001, "ids"), ([["img_1"]], "ids.0")],
)  # fmt: skip
async def test_ids_that_are_none_are_refused_by_their_place(shelf: RunningService, ids: Any, field: str) -> None:
    guest = await shelf.guest()
    for method, path in (("DELETE", "/api/history"), ("POST", "/api/history/export")):
        if ids is None and method == "POST":
            continue  # the same as no ids
        response = await guest.client.request(method, path, json={"ids": ids})
        error = error_of(response, 422, "VALIDATION_ERROR")
        assert error["details"]["fields"][0]["field"] == field
    assert (await guest.client.request("DELETE", "/api/history")).status_code == 422


async def test_a_thousand_ids_are_taken(shelf: RunningService) -> None:
    guest = await shelf.guest()
    (mine,) = await make(guest, 1)
    body = await delete(guest, [mine, *(f"img_{number}" for number in range(999))])
    assert (body["deleted_count"], len(body["not_found"])) == (1, 999)


async def test_a_cleared_history_lies_in_the_trash_and_then_goes_whole(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 48))
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, TRASH_MINUTES="0", **WIDE)
    guest, other = await service.guest(), await service.guest()
    made = await make(guest, 3)
    unlisted = id_of((await guest.image(save_to_history=False))["image_url"])
    (foreign,) = await make(other, 1)
    assert await clear(guest) == 3
    assert await clear(guest) == 0
    assert (await guest.history())["items"] == []
    assert (await guest.client.get(f"/api/images/{made[0]}")).status_code == 404
    assert (await guest.client.post(f"/api/history/{made[0]}/restore")).status_code == 200
    assert await retained(service) == 2
    assert await listed(guest) == made[:1]
    assert (await guest.client.get(f"/api/images/{unlisted}")).status_code == 200
    assert await listed(other) == [foreign]
    assert mentioned(service, "clearances") == 0


async def test_a_history_that_is_cleared_finally_is_gone_at_once_with_its_trash(shelf: RunningService) -> None:
    guest, other = await shelf.guest(), await shelf.guest()
    made = await make(guest, 3)
    unlisted = id_of((await guest.image(save_to_history=False))["image_url"])
    (foreign,) = await make(other, 1)
    for image_id in made:
        await guest.client.get(f"/api/images/{image_id}/thumbnail")
    await guest.client.delete(f"/api/history/{made[1]}")
    assert await clear(guest, **FINAL) == 3
    assert (len(image_files(shelf)), rows(shelf)) == (4, 2)
    assert (await guest.client.get(f"/api/images/{unlisted}")).status_code == 200
    assert await listed(other) == [foreign]
    assert mentioned(shelf, "clearances") == 0


async def test_what_is_made_while_a_history_is_cleared_stays(shelf: RunningService) -> None:
    guest = await shelf.guest()
    (old,) = await make(guest, 1)
    (late,) = await make(guest, 1)
    set_columns(shelf, late, created_at=now_ms() + 60_000)
    assert await clear(guest) == 1
    assert await listed(guest) == [late]
    assert (await guest.client.post(f"/api/history/{old}/restore")).status_code == 200


@pytest.mark.parametrize("path", ["/api/history", "/api/history/all"])
async def test_final_is_true_or_false(shelf: RunningService, path: str) -> None:
    guest = await shelf.guest()
    (image_id,) = await make(guest, 1)
    body = {"ids": [image_id]} if path == "/api/history" else None
    response = await guest.client.request("DELETE", path, json=body, params={"final": "perhaps"})
    assert response.status_code == 422
    assert await listed(guest) == [image_id]


async def test_a_history_of_many_batches_is_cleared_while_others_get_their_turn(shelf: RunningService) -> None:
    guest, other = await shelf.guest(), await shelf.guest()
    (model,) = await make(guest, 1)
    count = 3 * CLEAR_BATCH + 1
    await multiply(shelf, model, count - 1)
    clearing = asyncio.create_task(clear(guest))
    turns = 0
    while not clearing.done():
        await other.image()
        turns += 1
    assert turns >= 1
    assert await clearing == count
    assert (await guest.history())["total"] == 0
    assert (await other.history())["total"] == turns


async def test_a_final_clearance_of_many_batches_leaves_nothing(shelf: RunningService) -> None:
    guest = await shelf.guest()
    (model,) = await make(guest, 1)
    await multiply(shelf, model, CLEAR_BATCH + 1)
    for image_id in await listed(guest, limit=3):
        await guest.client.delete(f"/api/history/{image_id}")
    assert await clear(guest, **FINAL) == CLEAR_BATCH + 2
    assert (image_files(shelf), rows(shelf)) == ([], 0)


async def test_one_that_cannot_be_removed_does_not_keep_the_others(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 48))
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, TRASH_MINUTES="0", **WIDE)
    guest = await service.guest()
    stuck, *others = await make(guest, 4)
    key = (await service.container.history.get(guest.id, stuck)).key
    set_columns(service, stuck, key="users//no.png")  # nothing that storage would take for a key
    response = await guest.client.delete("/api/history/all", params=FINAL)
    error_of(response, 503, "STORAGE_UNAVAILABLE")
    assert ((await guest.history())["total"], rows(service), len(image_files(service))) == (0, 1, 2)
    assert await retained(service) == 0
    for image_id in await make(guest, 3):
        await guest.client.delete(f"/api/history/{image_id}")
    assert await retained(service) == len(others)
    assert rows(service) == 1
    set_columns(service, stuck, key=key)
    assert await retained(service) == 1
    assert (rows(service), image_files(service)) == (0, [])


async def test_who_looks_at_thumbnails_while_all_is_deleted_leaves_none(shelf: RunningService) -> None:
    guest = await shelf.guest()
    (model,) = await make(guest, 1)
    made = [model, *await multiply(shelf, model, 40)]
    looking = [guest.client.get(f"/api/images/{image_id}/thumbnail") for image_id in made]
    *answers, cleared = await asyncio.gather(*looking, guest.client.delete("/api/history/all", params=FINAL))
    assert cleared.status_code == 200
    assert {answer.status_code for answer in answers} <= {200, 404}
    assert (image_files(shelf), rows(shelf)) == ([], 0)


async def test_what_was_brought_back_is_not_cleared_by_who_read_of_the_wish_before(shelf: RunningService) -> None:
    """The worker reads all wishes, and comes to each when the process that noted it may be through with it."""
    guest, database = await shelf.guest(), shelf.container.database
    (image_id,) = await make(guest, 1)
    wish = trash.Clearance("clr_a", guest.id, "trash", now_ms())
    await database.write(lambda connection: trash.note_clearance(connection, wish))
    (read_before,) = await database.read(lambda connection: trash.noted_clearances(connection, 1))
    while await database.write(lambda connection: trash.clear_some(connection, wish, CLEAR_BATCH)):
        pass
    assert (await guest.client.post(f"/api/history/{image_id}/restore")).status_code == 200

    assert not await database.write(lambda connection: trash.clear_some(connection, read_before, CLEAR_BATCH))
    assert await listed(guest) == [image_id]
