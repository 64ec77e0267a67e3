"""The retention run: what goes by itself, when, and in which order."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.gemini_standin import GeminiStandin
from core.clock import DAY_MS, now_ms
from services.history.models import Image
from services.history.retention import LOCK
from tests.conftest import OpenService
from tests.history.shelf import WIDE, id_of, image_files, listed, make, multiply, retained, rows, set_columns
from tests.support.databases import databases
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

SIZE = 200


@pytest.fixture
async def open_shelf(open_service: OpenService, gemini: GeminiStandin) -> Any:
    async def start(**settings: str) -> RunningService:
        gemini.configure(pixels=(64, 48))
        return await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, **WIDE, **settings)

    return start


def age(service: RunningService, image_id: str, days: float) -> None:
    set_columns(service, image_id, created_at=now_ms() - int(days * DAY_MS))


async def favorite(guest: Guest, image_id: str) -> None:
    marked = await guest.client.post(f"/api/history/{image_id}/favorite", json={"is_favorite": True})
    assert marked.status_code == 200


async def with_thumbnails(guest: Guest, image_ids: list[str]) -> None:
    for image_id in image_ids:
        assert (await guest.client.get(f"/api/images/{image_id}/thumbnail")).status_code == 200


async def aged_shelf(service: RunningService, guests: list[Guest], count: int) -> list[str]:
    """Images of SIZE bytes, a day after each other, by turns of each guest; answers their ids, the oldest first."""
    (model,) = await make(guests[0], 1)
    await with_thumbnails(guests[0], [model])
    now = now_ms()

    def aged(image: Image, number: int) -> Image:
        # Ids in another order than ages, as those of an import are.
        age_ms = (count - number * 7 % count) * DAY_MS
        return replace(image, user_id=guests[number % len(guests)].id, size=SIZE, created_at=now - age_ms)

    await multiply(service, model, count, aged)
    assert (await guests[0].client.delete(f"/api/history/{model}", params={"final": "true"})).status_code == 200
    return [row[0] for row in databases.ask(service.data_dir, "SELECT id FROM images ORDER BY created_at")]


def left(service: RunningService) -> list[str]:
    return [row[0] for row in databases.ask(service.data_dir, "SELECT id FROM images ORDER BY created_at")]


async def test_what_is_older_than_its_days_goes_whatever_it_is(open_shelf: Any) -> None:
    service = await open_shelf(MAX_HISTORY_DAYS="30")
    guest, other = await service.guest(), await service.guest()
    plain, marked, trashed, young, young_marked = made = await make(guest, 5)
    (theirs,) = await make(other, 1)
    unlisted = await guest.image(save_to_history=False)
    await with_thumbnails(guest, made)
    for image_id in (marked, young_marked):
        await favorite(guest, image_id)
    assert (await guest.client.delete(f"/api/history/{trashed}")).status_code == 200
    link = (await guest.client.get(f"/api/history/{marked}")).json()["image_url"]
    for image_id in (plain, marked, trashed, theirs, id_of(unlisted["image_url"])):
        age(service, image_id, 30.01)
    for image_id in (young, young_marked):
        age(service, image_id, 29.99)

    report = await service.container.retention.run()

    assert report is not None
    assert {reason: removal.images for reason, removal in report.removed.items()} == {"days": 5}
    assert (await listed(guest), await listed(other)) == ([young_marked, young], [])
    assert (rows(service), len(image_files(service))) == (2, 6)
    assert (await guest.client.post(f"/api/history/{trashed}/restore")).status_code == 404
    assert (await service.client.get(link)).status_code == 404
    assert (await service.client.get(unlisted["image_url"])).status_code == 404
    assert await guest.used() == 7, "what was delivered stays charged"
    ((charged,),) = databases.ask(service.data_dir, "SELECT sum(points) FROM charges")
    assert charged == 7


async def test_over_the_cap_the_oldest_of_all_go_and_no_more(open_shelf: Any) -> None:
    service = await open_shelf(MAX_STORAGE_GB=f"{5 * SIZE / 1e9:.9f}")
    guests = [await service.guest() for _ in range(3)]
    ids = await aged_shelf(service, guests, 8)
    owner = {row[0]: row[1] for row in databases.ask(service.data_dir, "SELECT id, user_id FROM images")}
    (first,) = [guest for guest in guests if guest.id == owner[ids[0]]]
    await favorite(first, ids[0])
    (last,) = [guest for guest in guests if guest.id == owner[ids[-1]]]
    assert (await last.client.delete(f"/api/history/{ids[-1]}")).status_code == 200

    assert await retained(service) == 3, "those in the trash take room as well"
    assert left(service) == ids[3:]
    assert len(image_files(service)) == 15
    assert await retained(service) == 0, "exactly at the cap is not over it"
    set_columns(service, ids[5], size=SIZE + 1)
    assert await retained(service) == 1
    assert left(service) == ids[4:]
    assert (await service.client.get("/metrics")).text.count("images_stored_bytes 801.0") == 1


async def test_days_go_before_the_cap_is_looked_at(open_shelf: Any) -> None:
    service = await open_shelf(MAX_HISTORY_DAYS="5", MAX_STORAGE_GB=f"{6 * SIZE / 1e9:.9f}")
    guests = [await service.guest()]
    ids = await aged_shelf(service, guests, 9)
    age(service, ids[4], 4.5)
    assert await retained(service) == 4
    assert left(service) == ids[4:]


async def test_without_a_limit_everything_stays(open_shelf: Any) -> None:
    service = await open_shelf()
    guest = await service.guest()
    (image_id,) = await make(guest, 1)
    set_columns(service, image_id, created_at=1, size=10**15)
    assert await retained(service) == 0
    assert await listed(guest) == [image_id]


async def test_one_run_does_all_of_it_and_says_why_what_went(open_shelf: Any) -> None:
    service = await open_shelf(MAX_HISTORY_DAYS="30", MAX_STORAGE_GB=f"{SIZE / 1e9:.9f}", TRASH_MINUTES="0")
    guest = await service.guest()
    begun, trashed, expired, old, over, kept = made = await make(guest, 6)
    unlisted = id_of((await guest.image(save_to_history=False))["image_url"])
    for number, image_id in enumerate([*made, unlisted]):
        set_columns(service, image_id, size=SIZE - number)
    set_columns(service, begun, deleted_at=0)
    assert (await guest.client.delete(f"/api/history/{trashed}")).status_code == 200
    for image_id in (expired, unlisted):
        set_columns(service, image_id, expires_at=now_ms() - 1)
    age(service, old, 31)
    age(service, over, 29)

    report = await service.container.retention.run()

    assert report is not None
    assert {reason: (removal.images, removal.bytes) for reason, removal in report.removed.items()} == {
        "unfinished": (1, 200), "trash": (1, 199), "unlisted": (1, 194), "guests": (1, 198), "days": (1, 197),
        "cap": (1, 196),
    }  # fmt: skip
    assert (report.total.left, report.failure) == (0, "")
    assert left(service) == [kept]
    metrics = (await service.client.get("/metrics")).text
    for line in (
        'retention_images_total{reason="cap"} 1.0',
        'retention_bytes_total{reason="days"} 197.0',
        'retention_runs_total{outcome="done"} 1.0',
    ):
        assert line in metrics


async def test_while_one_is_at_it_another_leaves_it_alone(open_shelf: Any) -> None:
    service = await open_shelf(MAX_HISTORY_DAYS="1")
    guest = await service.guest()
    ids = await aged_shelf(service, [guest], 9)
    retention = service.container.retention
    reports = await asyncio.gather(*(retention.run() for _ in range(3)))
    assert [report.total.images for report in reports if report is not None] == [len(ids)]
    assert 'retention_runs_total{outcome="skipped"} 2.0' in (await service.client.get("/metrics")).text
    assert not await service.container.redis.exists(LOCK())
    assert await retained(service) == 0, "the next one may begin at once"


async def test_a_run_that_is_stopped_says_so_and_lets_the_next_one_begin(open_shelf: Any) -> None:
    service = await open_shelf(MAX_HISTORY_DAYS="1")
    ids = await aged_shelf(service, [await service.guest()], 9)

    async def is_at_it() -> bool:
        return bool(await service.container.redis.exists(LOCK()))

    with databases.locked(service.data_dir):
        running = asyncio.create_task(service.container.retention.run())
        assert await eventually(is_at_it)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not await is_at_it()
    assert 'retention_runs_total{outcome="stopped"} 1.0' in (await service.client.get("/metrics")).text
    assert await retained(service) == len(ids)


async def test_what_somebody_deletes_meanwhile_is_not_deleted_in_others_place(open_shelf: Any) -> None:
    """Without the lock that keeps two from it: whoever counts, each image counts once."""
    service = await open_shelf(MAX_STORAGE_GB=f"{20 * SIZE / 1e9:.9f}")
    guest = await service.guest()
    ids = await aged_shelf(service, [guest], 40)
    answer, report = await asyncio.gather(
        guest.client.request("DELETE", "/api/history", json={"ids": ids[10:25]}, params={"final": "true"}),
        service.container.retention.run(),
    )
    assert (answer.status_code, report is not None) == (200, True)
    assert await retained(service) == 0
    # Whichever was first: with the oldest 20 gone 5 more are deleted, with those 15 gone 5 more are over the cap.
    assert left(service) in (ids[25:], ids[5:10] + ids[25:])
