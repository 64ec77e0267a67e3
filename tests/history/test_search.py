"""Searching the history: what is found is what LIKE over the folded prompts would find, with and without an index."""

import random
import re
import unicodedata
from typing import Any

import pytest
from sqlalchemy import Connection

from benchmarks.search_corpus import prompts
from core.text import fold
from services.history import entries, search_rows, walks
from services.history.entries import search_page
from services.history.grams import Sought
from services.history.models import EntryPage, HistoryFilter, Sort, Wanted
from services.history.search_rows import GREATEST, Rows
from services.history.search_statements import trashed_slots
from tests.history.shelf import join_two_segments, listed, seal, set_columns, shelve
from tests.support.databases import databases
from tests.support.service import Guest, RunningService

SEAL_AT = 100


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
        join_two_segments(monkeypatch)
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
        trashed_slots(connection, guest.id)
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
