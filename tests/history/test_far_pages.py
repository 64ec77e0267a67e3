"""Pages far down a list, for which whole segments are skipped: they show what walking through all would show."""

from functools import partial

import pytest
from sqlalchemy import Connection

from services.history import pages, search_statements, segments, skipping
from services.history.models import Sort
from tests.history.shelf import listed, seal, set_columns, shelve
from tests.support.service import Guest, RunningService

SEAL_AT = 20


@pytest.fixture
async def reader(shelf: RunningService) -> Guest:
    """Somebody with segments, two of which overlap, with images that are gone or in the trash, and with others, old and
    new, in no segment. Many images were made at the same moment.
    """
    guest, made = await shelf.guest(), []
    for start in (0, 40, 80, 95, 160):
        made += await shelve(shelf, guest, *("a cat",) * 30, start=start)
        await seal(shelf, SEAL_AT)
    for number, image_id in enumerate(made[20:100:7]):
        await guest.client.delete(f"/api/history/{image_id}", params={"final": "true"} if number % 2 else {})
    await shelve(shelf, guest, *("a late cat",) * 5, start=300)
    early = await shelve(shelf, guest, *("an early cat",) * 9, start=5)
    for image_id in early[:3]:
        set_columns(shelf, image_id, created_at=1_760_000_000_000 + 40_000)
    return guest


async def _whole(reader: Guest, sort: str) -> list[str]:
    return await listed(reader, sort=sort, limit=100) + await listed(reader, sort=sort, limit=100, offset=100)


@pytest.mark.parametrize("sort", ["newest", "oldest"])
async def test_each_page_is_the_one_of_the_whole_list(
    shelf: RunningService, reader: Guest, monkeypatch: pytest.MonkeyPatch, sort: Sort
) -> None:
    whole = await _whole(reader, sort)
    total = (await reader.history())["total"]
    assert len(set(whole)) == total == 164 - 12
    monkeypatch.setattr(pages, "FAR", 1)
    for offset in range(1, total + 3):
        page = await reader.history(sort=sort, limit=7, offset=offset)
        assert [item["id"] for item in page["items"]] == whole[offset : offset + 7], offset
        assert (page["total"], page["offset"], page["has_more"]) == (total, offset, offset + 7 < total)
    bounds = {
        await shelf.container.database.read(partial(skipping.skip, user_id=reader.id, sort=sort, offset=offset))
        for offset in range(total + 1)
    }
    assert len(bounds - {None}) == 4  # the two that overlap as one


async def test_what_segments_do_not_tell_is_walked_through(
    shelf: RunningService, reader: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [item["id"] for item in (await reader.history(limit=100))["items"]]
    monkeypatch.setattr(pages, "FAR", 1)
    assert await listed(reader, limit=7, offset=70) == whole[70:77]
    database = shelf.container.database

    def begin(connection: Connection) -> None:
        first = min(segments.segments_of(connection, reader.id), key=lambda segment: segment.newest_at)
        segments.begin_to_dissolve(connection, first)
        segments.free_slots(connection, range(first.slots.start, first.slots.start + 10))

    assert await database.read(lambda connection: skipping.skip(connection, reader.id, "newest", 70)) is not None
    await database.write(begin)
    assert await database.read(lambda connection: skipping.skip(connection, reader.id, "newest", 70)) is None
    assert await listed(reader, limit=7, offset=70) == whole[70:77]


async def test_a_full_trash_hides_no_page(
    shelf: RunningService, reader: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not worth knowing which segments so many are in."""
    whole = {sort: await _whole(reader, sort) for sort in ("newest", "oldest")}
    total = (await reader.history(search="cat"))["total"]
    monkeypatch.setattr(pages, "FAR", 1)
    monkeypatch.setattr(search_statements, "MOST_TRASHED", 3)
    for sort, ids in whole.items():
        for offset in range(30, total, 4):
            assert await listed(reader, sort=sort, limit=7, offset=offset) == ids[offset : offset + 7], (sort, offset)
    assert (await reader.history(search="cat"))["total"] == total == (await reader.history())["total"]
