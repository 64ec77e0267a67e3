"""A folder of the old app: a mirror of its bucket, or its own disk; into local files, beside what is here already."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from services.history.models import Image
from services.history.records import Record, read_record, write_record
from services.storage.names import record_key, stem_of
from tests.legacy.moving import (
    digest,
    fields_of,
    folder_of,
    indexed,
    moved,
    moves_as,
    owners,
    put_in,
    without_owner,
)
from tests.legacy.old_app import IN_LIST, OldImage, library, list_of, milliseconds, old_image, picture, slug
from tests.reindex.shelf import in_storage, state
from tests.support.databases import databases
from tests.support.parts import FOLDER_ID, Parts

ADA = folder_of(583231)
MINE = f"users/{ADA}/"


def rows_of(parts: Parts) -> dict[str, Image]:
    return indexed(parts.container.settings.storage.data_dir)


def on_disk(folder: Path, images: list[OldImage], in_bucket: Mapping[str, str] | None = None) -> None:
    """Somebody's history on the old app's own disk. `in_bucket`: by key the key of the same image there."""
    entries = [image.on_disk(r2_key=(in_bucket or {}).get(image.key)) for image in reversed(images)]
    put_in(folder, f"outputs/web/{MINE}history.json", orjson.dumps({"images": entries}))
    for image in images:
        put_in(folder, f"outputs/web/{image.key}", image.data)


def mirrored(folder: Path, images: list[OldImage]) -> None:
    put_in(folder, f"{MINE}history.json", list_of(images, 100))
    for image in images:
        put_in(folder, image.key, image.data)


async def test_a_mirror_of_the_bucket_moves_in_with_bytes_and_records(parts: Parts, old: Path) -> None:
    """A folder has no metadata: of what no list has the key alone tells."""
    left = library(6, 5, 4)
    left.put(lambda key, data, _: put_in(old, key, data))

    report = await moved(parts, old)

    assert report["odd"] == left.odd
    assert (report["copied"], report["copied_bytes"]) == (30, sum(len(image.data) for image in left.images.values()))
    rows = rows_of(parts)
    assert rows.keys() == left.images.keys()
    for key, image in left.images.items():
        stored = in_storage(parts, key).read_bytes()
        assert digest(stored) == digest(image.data)
        record = read_record(in_storage(parts, record_key(stem_of(key))).read_bytes())
        assert (record.image, record.charge) == (without_owner(rows[key]), None)
    assert not list((parts.container.settings.storage.data_dir / "spool").iterdir())
    assert report["moved"] == {"history": 16, "metadata": 0, "key": 14, "record": 0}
    by_key_alone = [rows[key] for key in left.images if key.startswith(f"users/{folder_of(1000)}/")]
    for row in by_key_alone:
        image = left.images[row.key]
        assert row.created_at == milliseconds(image.made_at.replace(microsecond=0))
        assert (row.mode, row.prompt, row.aspect_ratio) == (image.mode, slug(image.prompt).replace("_", " "), "unknown")


async def test_the_old_apps_own_disk_moves_in(parts: Parts, old: Path) -> None:
    images = [old_image(MINE, number) for number in range(12)]
    on_disk(old, images)
    put_in(old, f"outputs/web/{MINE}.history.lock", b"1741527000.1")

    report = await moved(parts, old)

    assert report["odd"] == {"unknown": 1}
    rows = rows_of(parts)
    for image in images:
        wanted = moves_as(image, listed=True)
        assert fields_of(rows[image.key], wanted) == wanted
    assert set(owners(parts.container.settings.storage.data_dir).values()) == {ADA}


async def test_the_same_image_on_the_disk_and_in_the_bucket_is_one_whichever_comes_first(
    parts: Parts, old: Path, tmp_path: Path
) -> None:
    """The disk has other names for its files. One of them is in the bucket alone, and one on the disk alone."""
    in_bucket = [old_image(MINE, number) for number in range(5)]
    files = [replace(image, key=image.key.replace(".png", "_as_on_the_disk.png")) for image in in_bucket]
    alone = old_image(MINE, 30)
    keys = {file.key: image.key for file, image in zip(files, in_bucket, strict=True)}
    on_disk(old, [*files[:4], alone], keys)
    mirror = tmp_path / "mirror"
    mirrored(mirror, in_bucket[1:])

    first, second = await moved(parts, old), await moved(parts, mirror)

    assert (sum(first["moved"].values()), sum(second["moved"].values()), second["there"]) == (5, 1, 3)
    assert rows_of(parts).keys() == {*(image.key for image in in_bucket), alone.key}
    assert (first["odd"], second["odd"]) == ({}, {})
    again = await moved(parts, old)
    assert (again["there"], sum(again["moved"].values()), again["odd"]) == (5, 0, {})


async def test_what_is_in_the_bucket_already_needs_no_file_on_the_disk(parts: Parts, old: Path, tmp_path: Path) -> None:
    """Nor the same bytes: what the old app had stored in its bucket counts, and the list on the disk tells of it."""
    image = old_image(MINE, 3)
    put_in(parts.container.settings.storage.data_dir / "storage", image.key, image.data)
    file = replace(image, key=image.key.replace(".png", "_b.png"), data=picture(77, "WEBP"))
    gone = replace(old_image(MINE, 4), key=f"{MINE}2025/03/09/basic_010101_gone.png")
    on_disk(old, [file, gone], {file.key: image.key, gone.key: image.key})
    (old / "outputs/web" / gone.key).unlink()

    report = await moved(parts, old)

    assert (report["moved"]["history"], report["copied"], report["odd"]) == (1, 0, {})
    row = rows_of(parts)[image.key]
    assert (row.prompt, row.size, row.mime_type) == (image.prompt[:IN_LIST], len(image.data), "image/png")
    assert in_storage(parts, image.key).read_bytes() == image.data


async def test_a_second_run_changes_nothing_and_a_dry_run_neither(parts: Parts, old: Path) -> None:
    left = library(6, 3, 3)
    left.put(lambda key, data, _: put_in(old, key, data))
    before = state(parts)
    told = await moved(parts, old, dry_run=True)
    assert state(parts) == before

    done = await moved(parts, old)

    assert done["copied"] == 18
    assert names(told) == names(done)
    unlike = {"copied", "copied_bytes", "oddities"}
    assert {name: told[name] for name in told.keys() - unlike} == {name: done[name] for name in done.keys() - unlike}
    after = state(parts)
    again = await moved(parts, old, zone="America/New_York")
    assert state(parts) == after
    assert (again["there"], again["copied"], again["odd"]) == (18, 0, done["odd"])


async def test_what_somebody_has_deleted_here_does_not_come_back(parts: Parts, old: Path) -> None:
    mirrored(old, [old_image(MINE, number) for number in range(4)])
    await moved(parts, old)
    first, second, *rest = rows_of(parts).values()
    await parts.container.history.delete(first.user_id, first.id, final=True)
    await parts.container.history.delete(second.user_id, second.id, final=False)

    report = await moved(parts, old)

    assert (report["gone"], report["there"], report["copied"]) == (1, 3, 0)
    assert rows_of(parts).keys() == {second.key, *(image.key for image in rest)}
    assert rows_of(parts)[second.key].deleted_at is not None


async def test_what_is_here_without_a_row_has_its_record_and_keeps_what_it_says(parts: Parts, old: Path) -> None:
    """The database was lost, and the move comes before the reindex: a favorite stays one."""
    image = old_image(MINE, 1)
    mirrored(old, [image])
    await moved(parts, old)
    (row,) = rows_of(parts).values()
    await parts.container.history.set_favorite(row.user_id, row.id, True)
    databases.change(parts.container.settings.storage.data_dir, "DELETE FROM images")

    report = await moved(parts, old)

    assert (report["gone"], report["copied"], report["moved"]["history"]) == (0, 0, 1)
    assert rows_of(parts)[image.key].is_favorite


async def test_another_image_under_the_same_key_is_left_and_told(parts: Parts, old: Path) -> None:
    image = old_image(MINE, 1)
    mirrored(old, [image])
    other = picture(4711)
    put_in(parts.container.settings.storage.data_dir / "storage", image.key, other)

    report = await moved(parts, old)

    assert report["odd"] == {"other_bytes": 1}
    assert (rows_of(parts), in_storage(parts, image.key).read_bytes()) == ({}, other)


async def test_a_storage_that_is_the_source_has_nothing_copied_and_what_is_ours_in_it_is_left(parts: Parts) -> None:
    """Somebody has put a mirror of the old bucket where our own files are."""
    storage = parts.container.settings.storage.data_dir / "storage"
    old_ones = [old_image(MINE, number) for number in range(3)]
    mirrored(storage, old_ones)
    ours = await parts.store(await parts.reserve())
    await parts.store_bytes(await parts.reserve())

    report = await moved(parts, storage)

    assert (report["moved"]["history"], report["copied"], report["left"], report["under_way"]) == (3, 0, 1, 0)
    assert report["odd"] == {"no_entry": 1, "no_picture": 1}
    assert set(rows_of(parts)) == {one.key for one in old_ones}
    young = replace(old_image(MINE, 5), key=f"{MINE}2025/03/09/basic_010101_young.png")
    put_in(storage, young.key, young.data)
    report = await moved(parts, storage)
    assert (report["under_way"], report["there"], report["left"]) == (1, 3, 1)
    assert ours.image.folder_id == FOLDER_ID
    assert not in_storage(parts, record_key(stem_of(young.key))).exists()


async def test_of_two_entries_of_one_key_the_newest_is_taken(parts: Parts, old: Path) -> None:
    image = old_image(MINE, 0)
    first, second = {**image.entry(), "prompt": "the second"}, {**image.entry(), "prompt": "the first"}
    put_in(old, f"{MINE}history.json", orjson.dumps([first, second]))
    put_in(old, image.key, image.data)

    report = await moved(parts, old)

    assert report["odd"] == {"same_key": 1}
    assert rows_of(parts)[image.key].prompt == "the second"


async def test_times_are_of_where_the_old_app_ran_in_summer_as_in_winter(parts: Parts, old: Path) -> None:
    """Also those that no list has, which stand in the names of files alone."""
    listed = [
        replace(old_image(MINE, number), made_at=made_at, key=f"{MINE}{made_at:%Y/%m/%d}/basic_{made_at:%H%M%S}_a.png")
        for number, made_at in enumerate((datetime(2025, 1, 15, 12), datetime(2025, 7, 15, 12)))
    ]
    alone = [replace(image, key=image.key.replace("_a.png", "_b.png")) for image in listed]
    mirrored(old, listed)
    for image in alone:
        put_in(old, image.key, image.data)

    await moved(parts, old, zone="Europe/Berlin")

    rows = rows_of(parts)
    for winter, summer in (listed, alone):
        assert rows[winter.key].created_at == milliseconds(datetime(2025, 1, 15, 11), "UTC")
        assert rows[summer.key].created_at == milliseconds(datetime(2025, 7, 15, 10), "UTC")


async def test_images_of_no_user_go_to_whom_they_are_given(parts: Parts, old: Path) -> None:
    shared = [old_image("", number) for number in range(4)]
    put_in(old, "history.json", list_of(shared, 3))
    for image in shared:
        put_in(old, image.key, image.data)
    left = await moved(parts, old)
    assert (left["shared_images"], left["shared_entries"], left["seen"], left["odd"]) == (4, 3, 0, {})

    report = await moved(parts, old, shared_to="583231")

    assert (report["shared_images"], sum(report["moved"].values()), report["odd"]) == (0, 4, {"no_entry": 1})
    rows = rows_of(parts)
    assert {row.folder_id for row in rows.values()} == {ADA}
    assert set(rows) == {image.key for image in shared}
    assert owners(parts.container.settings.storage.data_dir) == {rows[shared[0].key].user_id: ADA}
    assert (await moved(parts, old))["shared_images"] == 0


async def test_two_at_once_move_each_image_once(parts: Parts, old: Path) -> None:
    images = [old_image(MINE, number) for number in range(20)]
    mirrored(old, images)

    reports = await asyncio.gather(*(moved(parts, old) for _ in range(3)))

    assert all(report["odd"] == {} for report in reports)
    assert sum(sum(report["moved"].values()) for report in reports) == len(images)
    assert sum(report["copied"] for report in reports) == len(images)
    assert rows_of(parts).keys() == {image.key for image in images}


async def test_a_record_of_ours_that_waits_for_its_row_is_not_taken_for_one_that_moved(parts: Parts) -> None:
    """One that a run which broke off had written is."""
    storage = parts.container.settings.storage.data_dir / "storage"
    image = old_image(MINE, 1)
    mirrored(storage, [image])
    await moved(parts, storage)
    databases.change(parts.container.settings.storage.data_dir, "DELETE FROM images")
    ours = await parts.store(await parts.reserve())
    free = replace(ours, charge=None)
    put_in(storage, record_key(stem_of(ours.image.key)), write_record(Record(free.image, None)))

    report = await moved(parts, storage)

    assert (report["left"], report["moved"]["record"], list(rows_of(parts))) == (1, 1, [image.key])


def names(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(odd["kind"], odd["key"]) for odd in report["oddities"]}


async def test_names_that_are_no_text_and_files_of_one_name_are_told(parts: Parts, old: Path) -> None:
    image = old_image(MINE, 1)
    mirrored(old, [image])
    bad = old / MINE / "2025/03/09" / "basic_101010_\udcff.png"
    bad.write_bytes(image.data)
    put_in(old, image.key.replace(".png", ".webp"), picture(1, "WEBP"))

    report = await moved(parts, old)

    assert report["odd"] == {"bad_name": 1, "same_name": 1}
    assert ("bad_name", f"{MINE}2025/03/09/basic_101010_\\udcff.png") in names(report)
    assert list(rows_of(parts)) == [image.key]
