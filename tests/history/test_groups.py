"""Lists with one entry for each chat or batch, their totals, and pages far behind."""

from typing import Any

import pytest

from services.history.models import Sort
from tests.history.shelf import listed, seal, set_columns, shelve
from tests.support.service import Guest, RunningService


async def test_groups_are_one_entry_each(shelf: RunningService) -> None:
    guest = await shelf.guest()
    chat = await shelve(shelf, guest, "a cat", "make it blue", "a cat again", session_id="chat_1", mode="chat")
    (alone,) = await shelve(shelf, guest, "a cat alone", created_at=1_770_000_000_000)
    batch = await shelve(shelf, guest, "a cat", "a cat", task_id="task_1", mode="batch", created_at=1_780_000_000_000)
    newest = max(batch)

    def told(body: dict[str, Any]) -> list[tuple[str, int]]:
        return [(item["id"], item["group_size"]) for item in body["items"]]

    everything = await guest.history(group="session")
    assert told(everything) == [(newest, 2), (alone, 1), (chat[2], 3)]
    assert everything["total"] == 3
    assert told(await guest.history(group="session", mode="chat")) == [(chat[2], 3)]
    assert told(await guest.history(group="session", limit=1, offset=1)) == [(alone, 1)]
    assert told(await guest.history(group="session", date_to="2025-12-01")) == [(chat[2], 3)]
    assert told(await guest.history(group="session", search="cat")) == [(newest, 2), (alone, 1), (chat[2], 3)]
    assert told(await guest.history(group="session", search="blue")) == [(chat[1], 3)]
    assert told(await guest.history(group="session", search="cat", limit=1, offset=2)) == [(chat[2], 3)]
    assert (await guest.history(group="session", search="cat"))["total"] == 3
    await guest.client.delete(f"/api/history/{chat[2]}")
    assert told(await guest.history(group="session"))[-1] == (chat[1], 2)
    await guest.client.post(f"/api/history/{chat[0]}/favorite", json={"is_favorite": True})
    for search in ({}, {"search": "cat"}):
        assert told(await guest.history(group="session", favorites_only=True, **search)) == [(chat[0], 2)]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("sort", ["newest", "oldest", "fastest", "slowest"])
async def test_a_group_is_shown_by_its_first_one(shelf: RunningService, sort: Sort, sealed: bool) -> None:
    guest = await shelf.guest()
    groups: dict[str, str] = {}
    for number in range(6):
        session = f"chat_{number % 3}" if number < 5 else None
        made = await shelve(shelf, guest, *("a cat",) * 5, session_id=session, created_at=1_760_000_000_000 + number)
        groups |= {image_id: session or image_id for image_id in made}
    if sealed:
        await seal(shelf)
    order = await listed(guest, sort=sort, limit=100)
    first = list({groups[image_id]: image_id for image_id in reversed(order)}.values())
    wanted = [image_id for image_id in order if image_id in first]
    assert len(wanted) == 8
    for search in ({}, {"search": "cat"}):
        pages = [await guest.history(sort=sort, group="session", limit=3, offset=at, **search) for at in (0, 3, 6)]
        assert [item["id"] for page in pages for item in page["items"]] == wanted
        assert [(page["total"], page["has_more"]) for page in pages] == [(8, True), (8, True), (8, False)]


async def test_totals_are_counted_as_images_come_and_go(shelf: RunningService) -> None:
    guest, other = await shelf.guest(), await shelf.guest()
    made = await shelve(shelf, guest, *("a cat",) * 6)
    set_columns(shelf, made[0], mode="chat")
    set_columns(shelf, made[1], is_favorite=True)
    set_columns(shelf, made[2], listed=False)

    async def totals(user: Guest) -> list[int]:
        queries: list[dict[str, Any]] = [
            {},
            {"mode": "chat"},
            {"favorites_only": True},
            {"mode": "chat", "favorites_only": True},
        ]
        return [(await user.history(**query))["total"] for query in queries]

    assert await totals(guest) == [5, 1, 1, 0]
    await guest.client.post(f"/api/history/{made[0]}/favorite", json={"is_favorite": True})
    assert await totals(guest) == [5, 1, 2, 1]
    await guest.client.request("DELETE", "/api/history", json={"ids": made[:2]})
    assert await totals(guest) == [3, 0, 0, 0]
    await guest.client.post(f"/api/history/{made[1]}/restore")
    await shelf.container.history.adopt(guest.id, other.id)
    assert (await totals(guest), await totals(other)) == ([0, 0, 0, 0], [4, 0, 1, 0])
    await other.client.delete("/api/history/all", params={"final": "true"})
    assert await totals(other) == [0, 0, 0, 0]


async def test_a_deep_page_is_as_the_one_before(shelf: RunningService) -> None:
    guest = await shelf.guest()
    made = await shelve(shelf, guest, *("a cat",) * 1030)
    assert await listed(guest, offset=998, limit=10) == made[::-1][998:1008]
    assert await listed(guest, offset=1001, limit=10) == made[::-1][1001:1011]
    assert await listed(guest, offset=1001, limit=10, sort="oldest") == made[1001:1011]
    assert await listed(guest, offset=5000) == []
