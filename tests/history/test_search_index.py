"""The index of the search: what becomes of it with its images, and when whoever keeps it dies in between."""

from array import array
from typing import NamedTuple

import pytest

from benchmarks.search_corpus import prompts
from services.history import blocks, indexing, segments
from services.history.segments import Segment
from tests.history.shelf import join_two_segments, listed, retained, seal, set_columns, shelve
from tests.support.databases import databases
from tests.support.service import Guest, RunningService

SEAL_AT = 100


class Block(NamedTuple):
    """Of two segments of twenty cats. `made`: oldest first."""

    owner: Guest
    made: list[str]
    first: Segment


async def _cats_in_two_segments(shelf: RunningService, guest: Guest) -> list[str]:
    made = []
    for start in (0, 20):
        made += await shelve(shelf, guest, *("a cat",) * 20, start=start)
        await seal(shelf, 20)
    return made


@pytest.fixture
async def block(shelf: RunningService, monkeypatch: pytest.MonkeyPatch) -> Block:
    join_two_segments(monkeypatch)
    guest = await shelf.guest()
    made = await _cats_in_two_segments(shelf, guest)
    assert databases.ask(shelf.data_dir, "SELECT DISTINCT state FROM search_segments") == [("emptied",)]
    first, _ = await shelf.container.database.read(lambda connection: segments.segments_of(connection, guest.id))
    return Block(guest, made, first)


async def _is_sealed_anew(shelf: RunningService, block: Block) -> bool:
    """Also before that each of its images is found."""
    assert await listed(block.owner, search="cat", limit=100) == block.made[::-1]
    await seal(shelf, 20)
    assert await listed(block.owner, search="cat", limit=100) == block.made[::-1]
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_block_postings") == [(0,)]
    found = databases.ask(shelf.data_dir, "SELECT size, state, block_id FROM search_segments")
    return found == [(40, "sealed", None)]


async def test_an_index_follows_what_becomes_of_images(shelf: RunningService) -> None:
    guest, service = await shelf.guest(), shelf
    gone, trashed, adopted, stays = await shelve(service, guest, *("a cat",) * 4)
    await seal(service)
    assert await listed(guest, search="cat") == [stays, adopted, trashed, gone]
    await guest.client.delete(f"/api/history/{trashed}")
    await guest.client.delete(f"/api/history/{gone}", params={"final": "true"})
    assert await listed(guest, search="cat") == [stays, adopted]
    await guest.client.post(f"/api/history/{trashed}/restore")
    assert await listed(guest, search="cat") == [stays, adopted, trashed]
    other = await service.guest()
    await service.container.history.adopt(guest.id, other.id)
    assert await listed(other, search="cat") == [stays, adopted, trashed]
    assert await listed(guest, search="cat") == []
    await seal(service)
    assert await listed(other, search="cat") == [stays, adopted, trashed]
    for user in (guest, other):
        await service.container.search_index.forget(user.id)
    assert databases.ask(service.data_dir, "SELECT count(*) FROM search_postings") == [(0,)]
    assert databases.ask(service.data_dir, "SELECT DISTINCT user_id FROM shown_counts") == [(other.id,)]
    assert await listed(other, search="cat") == [stays, adopted, trashed]
    await seal(service)
    set_columns(service, stays, expires_at=1)
    assert await retained(service) == 1
    assert await listed(other, search="cat") == [adopted, trashed]


async def test_what_is_gone_for_good_leaves_the_index(shelf: RunningService) -> None:
    guest = await shelf.guest()
    first, second, third = await shelve(shelf, guest, "zebra", "cat", "cat")
    await seal(shelf)
    await guest.client.delete(f"/api/history/{first}", params={"final": "true"})
    await seal(shelf, 2)
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_postings WHERE gram = 'zeb'") == [(0,)]
    assert databases.ask(shelf.data_dir, "SELECT size, state FROM search_segments") == [(2, "sealed")]
    assert await listed(guest, search="cat") == [third, second]


async def test_small_segments_become_a_whole_one(shelf: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "SEGMENT_SLOTS", 40)
    monkeypatch.setattr(indexing, "SMALL", 20)
    guest, made = await shelf.guest(), []
    for number in range(5):
        made += await shelve(shelf, guest, *("a cat",) * 10, created_at=1_760_000_000_000 + number)
        await seal(shelf, 10)
    sizes = databases.ask(shelf.data_dir, "SELECT size FROM search_segments ORDER BY size")
    assert sizes == [(10,), (40,)]
    assert sorted(await listed(guest, search="cat", limit=100)) == sorted(made)


@pytest.mark.parametrize("steps", ["open", "filling", "collecting"])
async def test_whoever_dies_while_sealing_hides_nothing(shelf: RunningService, steps: str) -> None:
    guest, database = await shelf.guest(), shelf.container.database
    made = await shelve(shelf, guest, *("a cat",) * 5)
    await database.write(lambda connection: segments.open_segment(connection, guest.id))
    (segment,) = await database.read(lambda connection: segments.segments_of(connection, guest.id))
    if steps != "open":
        limit = 2 if steps == "filling" else 100
        more = await database.write(lambda connection: segments.fill(connection, segment.id, limit))
        assert more == (steps == "filling")
    assert await listed(guest, search="cat") == made[::-1]
    late = await shelve(shelf, guest, "an older cat")
    await seal(shelf)
    assert sorted(await listed(guest, search="cat")) == sorted(made + late)
    assert databases.ask(shelf.data_dir, "SELECT DISTINCT state FROM search_segments") == [("sealed",)]


async def test_what_another_version_has_sealed_is_read_one_by_one_and_collected_anew(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when there is more than is held at once."""
    guest = await shelf.guest()
    made = await shelve(shelf, guest, *prompts(300, seed=5))
    await seal(shelf, SEAL_AT)
    everything = "SELECT segment_id, gram, slots FROM search_postings ORDER BY segment_id, gram"
    postings = databases.ask(shelf.data_dir, everything)
    slots = databases.ask(shelf.data_dir, "SELECT id, search_slot FROM images ORDER BY id")
    assert len(postings) > 10_000
    found = await listed(guest, search="in the", limit=100)
    assert set(found) < set(made)
    databases.change(shelf.data_dir, "UPDATE search_segments SET state = 'ready'")
    wrong = b"l" + array("H", [0, 3]).tobytes()
    databases.change(shelf.data_dir, "UPDATE search_postings SET slots = :wrong", wrong=wrong)
    assert await listed(guest, search="in the", limit=100) == found
    monkeypatch.setattr(indexing, "MOST_GRAMS_HELD", 1500)
    monkeypatch.setattr(indexing, "MOST_SLOTS_HELD", 6000)
    await seal(shelf, SEAL_AT)
    assert databases.ask(shelf.data_dir, "SELECT state FROM search_segments") == [("sealed",)]
    assert databases.ask(shelf.data_dir, everything) == postings
    assert databases.ask(shelf.data_dir, "SELECT id, search_slot FROM images ORDER BY id") == slots


@pytest.mark.parametrize("steps", ["begun", "half written", "ended"])
async def test_whoever_dies_while_joining_hides_nothing(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch, steps: str
) -> None:
    guest, database = await shelf.guest(), shelf.container.database
    made = []
    for start in (0, 50):
        made += await shelve(shelf, guest, *("a cat", "a dog") * 25, start=start)
        await seal(shelf, 50)
    run = await database.read(lambda connection: segments.segments_of(connection, guest.id))
    cats = made[::2][::-1]
    join_two_segments(monkeypatch)
    assert await database.write(lambda connection: blocks.begin_to_join(connection, run))
    ids = [segment.id for segment in run]
    if steps != "begun":
        limit = 5 if steps == "half written" else 1000
        found = await database.read(lambda connection: blocks.next_to_join(connection, ids, "", limit))
        assert (found.last is None) == (steps == "ended")
        rows = blocks.join_some(found)
        assert await database.write(lambda connection: blocks.write_joined(connection, ids[0], rows))
    if steps == "ended":
        await database.write(lambda connection: blocks.end_joining(connection, ids[0]))
    assert await listed(guest, search="a cat", limit=100) == cats
    await seal(shelf, 50)
    states = databases.ask(shelf.data_dir, "SELECT state, block_id, place FROM search_segments ORDER BY id")
    assert states == [("emptied", ids[0], 0), ("emptied", ids[0], 1)]
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_postings") == [(0,)]
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_block_postings WHERE gram = 'a cat'") == [(1,)]
    assert await listed(guest, search="a cat", limit=100) == cats


async def test_a_block_of_which_much_is_gone_is_dissolved(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    join_two_segments(monkeypatch)
    guest, made = await shelf.guest(), []
    for start in (0, 20):
        made += await shelve(shelf, guest, "zebra", *("a cat",) * 19, start=start)
        await seal(shelf, 20)
    assert databases.ask(shelf.data_dir, "SELECT DISTINCT state FROM search_segments") == [("emptied",)]
    zebras = "SELECT count(*) FROM search_block_postings WHERE gram = 'zebra'"
    for gone in made[:5]:
        await guest.client.delete(f"/api/history/{gone}", params={"final": "true"})
        await seal(shelf, 20)
        assert databases.ask(shelf.data_dir, zebras) == [(1,)]
        assert len(await listed(guest, search="a cat", limit=100)) == (await guest.history(search="cat"))["total"]
    await guest.client.delete(f"/api/history/{made[5]}", params={"final": "true"})
    await seal(shelf, 20)
    assert databases.ask(shelf.data_dir, "SELECT size, state FROM search_segments") == [(34, "sealed")]
    assert databases.ask(shelf.data_dir, zebras) == [(0,)]
    assert await listed(guest, search="e", limit=100) == [made[20]]
    await shelf.container.search_index.forget(guest.id)
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_postings") == [(0,)]


async def test_whoever_dies_while_dissolving_a_block_hides_nothing(shelf: RunningService, block: Block) -> None:
    database, first = shelf.container.database, block.first
    await database.write(lambda connection: segments.begin_to_dissolve(connection, first))
    assert await database.write(lambda connection: blocks.drop_block_postings(connection, first.id, first.id, 1000))
    assert await _is_sealed_anew(shelf, block)


async def test_a_block_that_another_version_has_broken_is_dissolved(shelf: RunningService, block: Block) -> None:
    """That version knows segments alone: it takes a segment's slots back and removes it."""
    database = shelf.container.database
    await database.write(lambda connection: segments.free_slots(connection, block.first.slots))
    await database.write(lambda connection: segments.remove_segment(connection, block.first.id))
    assert await _is_sealed_anew(shelf, block)


async def test_what_is_joined_meanwhile_leaves_no_block_when_its_owner_goes(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, database, index = await shelf.guest(), shelf.container.database, shelf.container.search_index
    await _cats_in_two_segments(shelf, guest)
    stale = await database.read(lambda connection: segments.segments_of(connection, guest.id))
    join_two_segments(monkeypatch)
    await shelve(shelf, guest, *("a cat",) * 20, start=40)
    await seal(shelf, 20)
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_segments WHERE block_id IS NOT NULL") == [(2,)]
    for segment in stale:
        await index._dissolve(segment)
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_block_postings") == [(0,)]


async def test_whoever_goes_leaves_no_block(shelf: RunningService, block: Block) -> None:
    await shelf.container.search_index.forget(block.owner.id)
    for table in ("search_segments", "search_postings", "search_block_postings"):
        assert databases.ask(shelf.data_dir, f"SELECT count(*) FROM {table}") == [(0,)]
