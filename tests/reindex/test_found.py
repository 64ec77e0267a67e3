"""What is found in storage and what becomes of it, beside a database that is there: what a crash and an emptied Redis
left, what others put there, what was deleted.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson

from core.clock import now_ms
from services.history.models import Image
from services.history.records import write_record
from services.history.store import PURGING
from services.quota.models import Reservation
from services.storage.names import record_key, stem_of
from tests.history.shelf import milliseconds
from tests.reindex.shelf import (
    MeanwhileDeleted,
    Told,
    grow_old,
    in_storage,
    kept,
    listed,
    over,
    picture,
    put,
    reindexed,
    state,
)
from tests.support.databases import databases
from tests.support.parts import FOLDER_ID, Counted, Parts, image_id, open_parts

ONE_IMAGE = Counted(1, {("usr_a", "basic_1k"): 1}, {})
NOTHING = Counted(0, {}, {})


async def test_a_record_without_a_row_whose_reservation_redis_has_lost_is_indexed_and_charged_once(
    parts: Parts,
) -> None:
    held = await parts.reserve()
    record = await parts.store(held)
    await parts.redis.flushall()
    assert await parts.recovery.sweep() == 0, "nobody knows of it"

    first = await reindexed(parts)
    assert (first.entered, first.charged, first.points, first.oddities) == ({"record": 1}, 1, 1, {})
    image: Image = await parts.container.history.get("usr_a", image_id(held.id))
    assert image == record.image
    assert await parts.counters(held.day) == await parts.ledger(held.day) == ONE_IMAGE

    before = state(parts)
    again = await reindexed(parts)
    assert (again.there, again.entered, again.oddities) == (1, {}, {})
    assert state(parts) == before
    assert await parts.counters(held.day) == ONE_IMAGE


async def test_what_the_sweep_knows_is_left_to_the_sweep(parts: Parts) -> None:
    """Bytes of a call that died: not a found image, though the worker has not come by yet."""
    held = await parts.reserve()
    stored = await parts.store_bytes(held)
    grow_old(stored)
    await parts.until_expired()

    report = await reindexed(parts)

    assert (report.seen, report.entered, stored.exists()) == (0, {}, False)
    assert await parts.counters(held.day) == NOTHING


async def test_a_call_that_is_under_way_is_left_alone_and_charged_once(
    redis_url: str, empty_database: Path, tmp_path: Path
) -> None:
    environment = {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0"}
    async with open_parts(environment, empty_database) as parts:
        bytes_alone, recorded = await parts.reserve(), await parts.reserve()
        await parts.store_bytes(bytes_alone)
        record = await parts.store(recorded)

        report = await reindexed(parts)
        assert (report.under_way, report.entered) == (1, {"record": 1})
        await parts.keeper.index(record)
        await parts.quota.commit(recorded)
        await parts.keeper.index(await parts.store(bytes_alone))
        await parts.quota.commit(bytes_alone)

        assert len(await listed(parts)) == 2
        two_images = Counted(2, {("usr_a", "basic_1k"): 2}, {})
        assert await parts.counters(recorded.day) == await parts.ledger(recorded.day) == two_images


async def test_what_cannot_be_read_is_named_and_keeps_no_other_from_its_place(parts: Parts) -> None:
    broken, newer, foreign, alone = [await parts.store(await parts.reserve()) for _ in range(4)]
    good = await parts.store(await parts.reserve())
    await put(parts, record_key(stem_of(broken.image.key)), b"{")
    await put(parts, record_key(stem_of(newer.image.key)), b'{"version": 99}')
    await put(parts, record_key(stem_of(foreign.image.key)), write_record(good))
    await parts.container.storage.delete(alone.image.key)
    await put(parts, f"users/{FOLDER_ID}/notes.txt", b"hello")
    await put(parts, f"users/{FOLDER_ID}/history.json", b"[]")
    picture(parts, "unlisted/2025-01-02/basic_101112_cat_a1b2c3.png")
    picture(parts, "2025/01/02/basic_101112_cat_a1b2c3.png")
    await put(parts, f"users/{FOLDER_ID}/2025/01/02/basic_101112_cat_a1b2c3.png", b"no picture")
    grow_old(in_storage(parts, f"users/{FOLDER_ID}/2025/01/02/basic_101112_cat_a1b2c3.png"))
    await parts.redis.flushall()

    report = await reindexed(parts)

    assert await listed(parts) == [good.image.id]
    assert report.oddities == {"unreadable": 3, "no_image": 1, "no_owner": 1, "no_picture": 1, "unknown": 1}
    assert (report.legacy_images, report.legacy_indexes) == (1, 1)
    for record in (broken, newer, foreign):
        stem = stem_of(record.image.key)
        assert any(line.startswith(f"record that cannot be read: {stem}.json (") for line in report.told), stem
        assert in_storage(parts, record.image.key).exists()
    assert f"record without its image: {stem_of(alone.image.key)}.json" in report.told
    assert len(report.told) == 7
    assert all(any(text in line for line in report.lines()) for text in ("3 × record that cannot", "1 indexed from"))


async def test_an_image_keeps_its_record_though_something_lies_between_them(parts: Parts) -> None:
    record = await parts.store(await parts.reserve())
    key = record_key(stem_of(record.image.key))
    await put(parts, f"{key}.bak", b"an operator's")
    for path in (in_storage(parts, record.image.key), in_storage(parts, key)):
        grow_old(path)
    await parts.redis.flushall()

    report = await reindexed(parts)

    assert (report.entered, report.oddities, await listed(parts)) == ({"record": 1}, {"unknown": 1}, [record.image.id])


async def test_rows_in_the_trash_stay_there_and_what_goes_for_good_goes(parts: Parts) -> None:
    trashed, going = await kept(parts), await kept(parts)
    change = "UPDATE images SET deleted_at = :deleted_at WHERE id = :id"
    for record, deleted_at in ((trashed, now_ms()), (going, PURGING)):
        folder = parts.container.settings.storage.data_dir
        assert databases.change(folder, change, id=record.image.id, deleted_at=deleted_at) == 1

    report = await reindexed(parts)

    assert (report.there, report.entered, await listed(parts)) == (2, {}, [])


async def test_objects_of_what_was_deleted_for_good_that_a_backup_brought_back_show_nothing(parts: Parts) -> None:
    """The ledger knows that it was delivered, and no row is left of it."""
    record = await kept(parts)
    files = {
        key: in_storage(parts, key).read_bytes() for key in (record.image.key, record_key(stem_of(record.image.key)))
    }
    await parts.container.history.delete("usr_a", record.image.id, final=True)
    for key, data in files.items():
        await put(parts, key, data)

    for dry_run in (True, False):
        report = await reindexed(parts, dry_run=dry_run)
        assert (report.entered, report.oddities, await listed(parts)) == ({}, {"deleted": 1}, [])


async def test_an_image_without_a_record_is_shown_to_whose_folder_it_lies_in(parts: Parts) -> None:
    """Its call died before it was delivered, or its record was lost: nothing tells which."""
    key = f"users/{FOLDER_ID}/2025/01/02/style_101112_a_red_cat_a1b2c3.png"
    picture(parts, key)
    picture(parts, f"users/{FOLDER_ID}/2025/01/02/renamed by hand.png")
    await parts.store(await parts.reserve())
    await parts.redis.flushall()

    report = await reindexed(parts)

    assert (report.entered, report.charged) == ({"record": 1, "key": 2}, 1)
    assert report.accounts == {FOLDER_ID}, "the record's, which is read first, is the one account of the folder"
    by_hand, named = [await parts.container.history.get("usr_a", image_id) for image_id in (await listed(parts))[:0:-1]]
    assert named == Image(
        id=named.id, user_id="usr_a", folder_id=FOLDER_ID, key=key, mode="style", prompt="a red cat",
        aspect_ratio="unknown", resolution="unknown", provider="unknown", model="unknown", duration=0.0,
        created_at=milliseconds("2025-01-02T10:11:12+00:00"), width=30, height=20, size=named.size,
        mime_type="image/png", call_id="",
    )  # fmt: skip
    assert (by_hand.mode, by_hand.prompt, by_hand.created_at) == ("basic", "", milliseconds("2025-01-02T00:00+00:00"))
    before = state(parts)
    assert (await reindexed(parts)).there == 3
    assert state(parts) == before


async def test_a_dry_run_tells_the_same_and_changes_nothing(parts: Parts) -> None:
    held = await parts.reserve()
    await parts.store(held)
    await parts.store(await parts.reserve("usr_b"))
    picture(parts, f"users/{FOLDER_ID}/2025/01/02/basic_101112_cat_a1b2c3.png")
    await parts.redis.flushall()
    before = state(parts)

    told = await reindexed(parts, dry_run=True)

    assert state(parts) == before
    assert await parts.redis.dbsize() == 0
    done = await reindexed(parts)
    assert list(told.lines()) == list(done.lines())
    assert state(parts) != before


async def test_an_account_with_the_folder_has_the_images_though_its_id_is_another(parts: Parts) -> None:
    """Somebody signed in again before the index was rebuilt."""
    folder = parts.container.settings.storage.data_dir
    databases.change(
        folder,
        "INSERT INTO users (id, role, folder_id, created_at, is_granted_admin)"
        " VALUES ('usr_new', 'user', :folder_id, 1, false)",
        folder_id=FOLDER_ID,
    )
    held = await parts.reserve()
    record = await parts.store(held)
    await parts.redis.flushall()

    report = await reindexed(parts)

    assert (report.accounts, await listed(parts), await listed(parts, "usr_new")) == (set(), [], [record.image.id])
    assert await parts.ledger(held.day) == Counted(1, {("usr_new", "basic_1k"): 1}, {})


async def test_two_at_once_enter_each_image_once(parts: Parts) -> None:
    made = [await parts.store(await parts.reserve(f"usr_{number % 3}")) for number in range(30)]
    await parts.redis.flushall()

    reports = await asyncio.gather(*(reindexed(parts) for _ in range(3)))

    assert sum(report.indexed["record"] for report in reports) == len(made)
    assert all(report.indexed["record"] + report.there == len(made) for report in reports)
    charge: Reservation | None = made[0].charge
    assert charge is not None
    assert (await parts.ledger(charge.day)).pool == len(made) == (await parts.counters(charge.day)).pool


async def test_an_image_that_its_owner_deletes_while_it_is_being_entered_stays_deleted(parts: Parts) -> None:
    """Not metered, so that no charge tells that it was delivered."""
    held = await parts.reserve()
    record = replace(await parts.store(held), charge=None)
    key = record_key(stem_of(record.image.key))
    await put(parts, key, write_record(record))
    reindexer = over(parts, MeanwhileDeleted(parts, record))
    report = Told()
    await reindexer.run(report, dry_run=False)

    assert (report.oddities, await listed(parts)) == ({"deleted": 1}, [])
    assert not [path for path in in_storage(parts, "users").rglob("*") if path.is_file()]


async def test_what_a_record_says_of_a_chat_and_a_task_is_there_again(parts: Parts) -> None:
    held = await parts.reserve()
    record = await parts.store(held)
    image = replace(
        record.image, session_id="chat_a", chat_index=4, task_id="task_a", is_favorite=True, text_response="yes",
        thinking="hm", search_sources="<p>", negative_prompt="rain", seed=2**40, safety_level="strict",
    )  # fmt: skip
    await put(parts, record_key(stem_of(image.key)), write_record(replace(record, image=image)))
    await parts.redis.flushall()
    await reindexed(parts)
    assert await parts.container.history.get("usr_a", image.id) == image
    assert orjson.loads(in_storage(parts, record_key(stem_of(image.key))).read_bytes())["image"]["seed"] == 2**40
