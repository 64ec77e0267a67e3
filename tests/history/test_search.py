"""Searching the history: what is found is what LIKE over the folded prompts would find, with and without an index."""

import random
import re
import unicodedata
from array import array
from typing import Any

import pytest
from sqlalchemy import Connection

from benchmarks.search_corpus import prompts
from core.text import fold
from services.history import blocks, entries, indexing, search_rows, segments, walks
from services.history.entries import search_page
from services.history.grams import Sought
from services.history.models import EntryPage, HistoryFilter, Sort, Wanted
from services.history.search_rows import GREATEST, Rows
from tests.history.shelf import listed, retained, seal, set_columns, shelve
from tests.support.databases import databases
from tests.support.service import Guest, RunningService

SEAL_AT = 100


def _join_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_SEGMENTS", 2)
    monkeypatch.setattr(indexing, "SMALL", 10)


async def _cats_in_two_segments(shelf: RunningService, guest: Guest) -> list[str]:
    made = []
    for start in (0, 20):
        made += await shelve(shelf, guest, *("a cat",) * 20, start=start)
        await seal(shelf, 20)
    return made


async def search(
    service: RunningService, guest: Guest, text: str, limit: int = 5000, sort: Sort | None = None, **where: Any
) -> EntryPage:
    wanted = Wanted(Sought(fold(text)), HistoryFilter(**where), sort, grouped=False)
    return await service.container.database.read(
        lambda connection: search_page(connection, guest.id, wanted, limit, offset=0)
    )


def ids(page: EntryPage) -> list[str]:
    return [entry.image.id for entry in page.entries]


def exact(page: EntryPage) -> list[str]:
    return [entry.image.id for entry in page.entries if entry.match == "exact"]


def has_words_alone(text: str, folded: str) -> bool:
    """By regular expressions, for the prompts of the benchmark: their words with spaces are ASCII."""
    words = Sought(text).words
    patterns = (re.escape(word) if word[0] > "\u2e80" else rf"(?<![a-z0-9]){re.escape(word)}" for word in words)
    return bool(words) and text not in folded and all(re.search(pattern, folded) for pattern in patterns)


async def found(guest: Guest, text: str, **query: Any) -> list[tuple[str, str]]:
    body = await guest.history(search=text, **query)
    return [(item["id"], item["match"]) for item in body["items"]]


@pytest.fixture(params=["alone", "joined"])
async def library(
    shelf: RunningService, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[RunningService, Guest, list[tuple[str, str]]]:
    """Three thousand images, most in segments, the last ones in none. Ids and folded prompts, newest first; somebody
    else has the same prompts. The segments' times overlap, or else most segments are joined.
    """
    guest, other = await shelf.guest(), await shelf.guest()
    texts = list(prompts(3000, seed=7))
    portions = [(texts[start::3], 0) for start in range(3)]
    if request.param == "joined":
        _join_two(monkeypatch)
        portions = [(texts[start : start + 500], start) for start in range(0, 3000, 500)]
    ids: dict[str, str] = {}
    for number, (some, start) in enumerate(portions, 1):
        made = await shelve(shelf, guest, *some, start=start)
        ids |= dict(zip(made, some, strict=True))
        if number < len(portions):
            await seal(shelf, SEAL_AT)
    states = databases.ask(shelf.data_dir, "SELECT state, count(*) FROM search_segments GROUP BY state ORDER BY state")
    assert states == ([("sealed", 2)] if request.param == "alone" else [("emptied", 4), ("sealed", 1)])
    await shelve(shelf, other, *texts[:500])
    rows = databases.ask(shelf.data_dir, f"SELECT id, created_at FROM images WHERE user_id = '{guest.id}'")
    ordered = sorted(rows, key=lambda row: (row[1], row[0]), reverse=True)
    folded = [(row[0], unicodedata.normalize("NFKC", ids[row[0]]).casefold()) for row in ordered]
    return shelf, guest, folded


async def test_exact_hits_are_those_of_like_newest_first(
    library: tuple[RunningService, Guest, list[tuple[str, str]]], soak: bool
) -> None:
    service, guest, rows = library
    chance = random.Random(3)
    sought = set()
    for _ in range(2000 if soak else 200):
        text = chance.choice(rows)[1]
        length = chance.choice((1, 2, 3, 4, 5, 6, 7, 12))
        start = chance.randrange(max(1, len(text) - length + 1))
        sought.add(text[start : start + length])
    assert len(sought) > 120
    for number, text in enumerate(sorted(sought)):
        page = await search(service, guest, text)
        first = [image_id for image_id, folded in rows if text in folded]
        assert exact(page) == first, text
        assert ids(page)[len(first) :] == [image_id for image_id, folded in rows if has_words_alone(text, folded)], text
        if number % 5 == 0:
            some = await search(service, guest, text, limit=30)
            assert some.entries == page.entries[:30], text
            assert (some.total, some.total_is_capped) == (page.total, page.total_is_capped), text


@pytest.mark.parametrize("are_many", [False, True])
async def test_sorts_and_filters_hold_for_what_is_found(
    library: tuple[RunningService, Guest, list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch, are_many: bool
) -> None:
    """`are_many`: too many to be read at once, or to be sorted."""
    if are_many:
        monkeypatch.setattr(walks, "MOST_SORTED", 0)
        monkeypatch.setattr(search_rows, "SMALL_TAIL", 5)
    service, guest, rows = library
    databases.change(service.data_dir, "UPDATE images SET is_favorite = true WHERE duration > 40")
    columns = "id, created_at, duration, is_favorite"
    known = {row[0]: row for row in databases.ask(service.data_dir, f"SELECT {columns} FROM images")}
    middle = known[rows[1500][0]][1]
    for text in ("cat", "的", "in the", "at t", "雪", "a photo", "雪 cat"):
        found = [image_id for image_id, folded in rows if text in folded or has_words_alone(text, folded)]
        fastest = sorted(found, key=lambda image_id: known[image_id][2])
        slowest = sorted(found, key=lambda image_id: -known[image_id][2])
        orders: dict[Sort, list[str]] = {
            "newest": found, "oldest": found[::-1], "fastest": fastest, "slowest": slowest,
        }  # fmt: skip
        for sort, wanted in orders.items():
            page = await search(service, guest, text, sort=sort)
            assert ids(page) == wanted, (text, sort)
            assert (page.total, page.total_is_capped) == (min(1000, len(wanted)), len(wanted) > 1000)
            assert ids(await search(service, guest, text, limit=7, sort=sort)) == wanted[:7]
        for where, fits in (
            ({"date_from": middle}, lambda row: row[1] >= middle),
            ({"date_to": middle}, lambda row: row[1] < middle),
            ({"date_from": middle, "date_to": middle + 50_000}, lambda row: middle <= row[1] < middle + 50_000),
            ({"favorites_only": True}, lambda row: row[3]),
            ({"favorites_only": True, "mode": "basic", "date_to": middle}, lambda row: row[3] and row[1] < middle),
            ({"mode": "basic"}, lambda row: True),
            ({"mode": "chat"}, lambda row: False),
        ):
            for sort, wanted in orders.items():
                page = await search(service, guest, text, sort=sort, limit=100, **where)
                fitting = [image_id for image_id in wanted if fits(known[image_id])]
                assert ids(page) == fitting[:100], (text, where, sort)
                assert page.total == min(1000, len(fitting)), (text, where, sort)


@pytest.mark.parametrize("sealed", [False, True])
async def test_words_come_after_exact_hits(shelf: RunningService, sealed: bool) -> None:
    guest = await shelf.guest()
    prompts = ("可爱的小猫", "可爱的猫咪", "狗", "a cat, RED", "ｒｅｄ Ｃａｔｓ", "scattered", "the red cat")
    small, cat, _dog, turned, wide, _scattered, red = await shelve(shelf, guest, *prompts)
    if sealed:
        await seal(shelf)
    assert await found(guest, "可爱的猫") == [(cat, "exact"), (small, "words")]
    assert await found(guest, "red cat") == [(red, "exact"), (wide, "exact"), (turned, "words")]
    assert await found(guest, "red cat", sort="oldest") == [(turned, "words"), (wide, "exact"), (red, "exact")]
    assert await found(guest, "red cat", limit=1, offset=2) == [(turned, "words")]
    assert await found(guest, "RED  cat") == [(red, "words"), (wide, "words"), (turned, "words")]
    assert (await guest.history(search="red cat"))["total"] == 3
    assert (await guest.history(search="red cat"))["total_is_capped"] is False
    assert {item["match"] for item in (await guest.history(search=""))["items"]} == {None}


HOSTILE = [
    "%",
    "_",
    "*",
    "NEAR(",
    '"',
    "'",
    "a OR b",
    "\\",
    "x'); --",
    "100%_",
    '"quoted" AND',
    "^",
    "[a-z]",
    "🇨🇳",
    "{",
    "\1basic",
    "\2zz",
    "\2pl",
    "\t",
    " ",
]


@pytest.mark.parametrize("sealed", [False, True])
async def test_operators_are_taken_literally(shelf: RunningService, sealed: bool) -> None:
    guest = await shelf.guest()
    made = await shelve(shelf, guest, *(f"zz{text}zz" for text in HOSTILE), "plain")
    if sealed:
        await seal(shelf)
    for text in HOSTILE:
        wanted = {
            image_id for image_id, other in zip(made, HOSTILE, strict=False) if text.casefold() in other.casefold()
        }
        hits = await found(guest, text)
        assert {image_id for image_id, match in hits if match == "exact"} == wanted, text
    assert await found(guest, "z" * 10_000) == []
    assert await found(guest, "a b c " * 1_666) == []
    assert await found(guest, "猫" * 7_000) == []
    for text, reason in (("a\0b", "bad_text"), ("z" * 10_001, "too_long")):
        response = await guest.client.get("/api/history", params={"search": text})
        assert response.status_code == 422
        (field,) = response.json()["error"]["details"]["fields"]
        assert (field["field"], field["reason"]) == ("search", reason)


async def test_no_text_is_taken_for_what_marks_a_gram(shelf: RunningService) -> None:
    guest = await shelf.guest()
    marked = [f"{mark}{text}" for mark in ("\1", "\2", "W", "M", "w") for text in ("basic", "chat", "plain")]
    await shelve(shelf, guest, "plain", *(f"zz{text}zz" for text in marked), *marked, "a chat")
    await shelve(shelf, guest, "a chat", mode="chat")
    asked: list[dict[str, str]] = [{"search": text} for text in [*marked, "zz"]]
    asked += [{"search": text, "mode": "chat"} for text in [*marked, "zz"]]
    before = [await found(guest, query.pop("search"), **query) for query in map(dict, asked)]
    await seal(shelf)
    assert [await found(guest, query.pop("search"), **query) for query in asked] == before


async def test_what_an_earlier_version_has_written_is_folded_by_the_worker(shelf: RunningService) -> None:
    guest = await shelf.guest()
    (image_id,) = await shelve(shelf, guest, "Ａ Cat")
    set_columns(shelf, image_id, folded=None)
    assert await listed(guest, search="cat") == []
    await seal(shelf, SEAL_AT)
    assert await listed(guest, search="a cat") == [image_id]


async def test_pages_of_many_hits_and_a_total_that_stops_at_a_thousand(shelf: RunningService) -> None:
    guest = await shelf.guest()
    made = await shelve(shelf, guest, *(f"cat {number}" for number in range(1003)))
    assert {key: value for key, value in (await guest.history(search="cat", limit=1)).items() if key != "items"} == {
        "total": 1000, "total_is_capped": True, "limit": 1, "offset": 0, "has_more": True,
    }  # fmt: skip
    await seal(shelf, SEAL_AT)
    end = await guest.history(search="cat", limit=5, offset=1000)
    assert [item["id"] for item in end["items"]] == made[2::-1]
    assert (end["total"], end["total_is_capped"], end["has_more"]) == (1000, True, False)
    past = await guest.history(search="cat", offset=2_000_000)
    assert (past["items"], past["has_more"]) == ([], False)
    some = await guest.history(search="cat 99", limit=2)
    assert (some["total"], some["total_is_capped"], some["has_more"]) == (11, False, True)


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_total_counts_past_what_only_looks_like_a_hit(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    """A word within another is none, which the database can't tell: here of many images that are not read at once."""
    monkeypatch.setattr(search_rows, "SMALL_TAIL", 5)
    monkeypatch.setattr(entries, "COUNTED", 20)
    guest = await shelf.guest()
    made = await shelve(shelf, guest, *("a cat to dig for",) * 15, *("education, digital",) * 50)
    if sealed:
        await seal(shelf)
    page = await search(shelf, guest, "dig cat", limit=10)
    assert (ids(page), page.total, page.total_is_capped) == (made[5:15][::-1], 15, False)


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
    _join_two(monkeypatch)
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
    _join_two(monkeypatch)
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


async def test_whoever_dies_while_dissolving_a_block_hides_nothing(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    _join_two(monkeypatch)
    guest, database = await shelf.guest(), shelf.container.database
    made = await _cats_in_two_segments(shelf, guest)
    first, _ = await database.read(lambda connection: segments.segments_of(connection, guest.id))
    await database.write(lambda connection: segments.begin_to_dissolve(connection, first))
    assert await database.write(lambda connection: blocks.drop_block_postings(connection, first.id, first.id, 1000))
    assert await listed(guest, search="cat", limit=100) == made[::-1]
    await seal(shelf, 20)
    assert databases.ask(shelf.data_dir, "SELECT size, state FROM search_segments") == [(40, "sealed")]
    assert await listed(guest, search="cat", limit=100) == made[::-1]


async def test_a_block_that_another_version_has_broken_is_dissolved(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That version knows segments alone: it takes a segment's slots back and removes it."""
    _join_two(monkeypatch)
    guest, database = await shelf.guest(), shelf.container.database
    made = await _cats_in_two_segments(shelf, guest)
    first, _ = await database.read(lambda connection: segments.segments_of(connection, guest.id))
    await database.write(lambda connection: segments.free_slots(connection, first.slots))
    await database.write(lambda connection: segments.remove_segment(connection, first.id))
    assert await listed(guest, search="cat", limit=100) == made[::-1]
    await seal(shelf, 20)
    assert databases.ask(shelf.data_dir, "SELECT size, state, block_id FROM search_segments") == [(40, "sealed", None)]
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_block_postings") == [(0,)]
    assert await listed(guest, search="cat", limit=100) == made[::-1]


async def test_what_is_joined_meanwhile_leaves_no_block_when_its_owner_goes(
    shelf: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, database, index = await shelf.guest(), shelf.container.database, shelf.container.search_index
    await _cats_in_two_segments(shelf, guest)
    stale = await database.read(lambda connection: segments.segments_of(connection, guest.id))
    _join_two(monkeypatch)
    await shelve(shelf, guest, *("a cat",) * 20, start=40)
    await seal(shelf, 20)
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_segments WHERE block_id IS NOT NULL") == [(2,)]
    for segment in stale:
        await index._dissolve(segment)
    assert databases.ask(shelf.data_dir, "SELECT count(*) FROM search_block_postings") == [(0,)]


async def test_whoever_goes_leaves_no_block(shelf: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    _join_two(monkeypatch)
    guest = await shelf.guest()
    await _cats_in_two_segments(shelf, guest)
    assert databases.ask(shelf.data_dir, "SELECT count(*) > 0 FROM search_block_postings") in ([(1,)], [(True,)])
    await shelf.container.search_index.forget(guest.id)
    for table in ("search_segments", "search_postings", "search_block_postings"):
        assert databases.ask(shelf.data_dir, f"SELECT count(*) FROM {table}") == [(0,)]


@pytest.mark.sqlite_only
async def test_a_search_reads_by_the_indexes_that_are_made_for_it(shelf: RunningService) -> None:
    """Another would read all images of a user, which no small test would notice."""
    guest = await shelf.guest()
    await shelve(shelf, guest, *("a cat",) * 3)
    await seal(shelf)
    await shelve(shelf, guest, *("a cat",) * 3)

    def plans(connection: Connection) -> set[str]:
        rows = Rows(connection, guest.id, Wanted(Sought("cat"), HistoryFilter(), None, grouped=False), "exact")
        asked: list[str] = []
        driver: Any = connection.connection.driver_connection
        driver.set_trace_callback(asked.append)
        rows.small_tail()
        rows.trashed_slots(10)
        rows.unsealed(GREATEST, 10, ascending=False)
        rows.count_unsealed(10)
        rows.checked([16_384, 16_385])
        rows.count_checked([16_384, 16_385])
        rows.sure([16_384, 16_385])
        rows.count_sure([16_384, 16_385])
        rows.next_by_duration(None, 10, ascending=True)
        driver.set_trace_callback(None)
        told = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}") for statement in asked]
        return {row[3].split(" (")[0] for plan in told for row in plan if "images" in row[3]}

    used = await shelf.container.database.read(plans)
    assert used == {
        "SEARCH images USING INDEX ix_images_unsealed",
        "SEARCH images USING INDEX ix_images_search_slot",
        "SEARCH images USING COVERING INDEX ix_images_search_slot",
        "SEARCH images USING INDEX ix_images_duration",
        "SEARCH images USING INDEX ix_images_hidden",
    }
