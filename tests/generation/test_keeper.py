"""Storing an image and its record, indexing and charging it: once, however often a step is tried."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import DependencyUnavailable, StorageUnavailable
from services.history.records import read_record
from tests.support.parts import IMAGE_BYTES, Parts, image_id, open_parts


@pytest.fixture
async def parts(redis_url: str, empty_database: Path, tmp_path: Path) -> AsyncIterator[Parts]:
    environment = {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0"}
    async with open_parts(environment, empty_database) as parts:
        yield parts


async def objects(parts: Parts) -> list[str]:
    return [info.key async for info in parts.container.storage.list("users/")]


def spooled_files(parts: Parts) -> list[Path]:
    return list((parts.container.settings.storage.data_dir / "spool").iterdir())


def in_storage(parts: Parts, key: str) -> Path:
    return parts.container.settings.storage.data_dir / "storage" / key


async def test_the_record_can_be_read_back_from_beside_the_image(parts: Parts) -> None:
    held = await parts.reserve("usr_a", address="203.0.113.7")
    record = await parts.store(held)

    assert await objects(parts) == [f"{held.note}.json", f"{held.note}.png"]
    assert read_record(in_storage(parts, f"{held.note}.json").read_bytes()) == record
    assert (record.image.id, record.charge) == (image_id(held.id), held)
    assert spooled_files(parts) == []


async def test_a_second_try_finds_what_the_first_one_stored(parts: Parts) -> None:
    held = await parts.reserve()
    first = await parts.store(held)
    assert await parts.store(held) == first
    assert len(await objects(parts)) == 2
    assert spooled_files(parts) == []


async def test_bytes_without_a_record_make_room_for_those_of_the_next_try(parts: Parts) -> None:
    held = await parts.reserve()
    stored = await parts.store_bytes(held)
    stored.write_bytes(b"what the first try got")

    await parts.store(held)

    assert stored.read_bytes() == IMAGE_BYTES
    assert len(await objects(parts)) == 2


async def test_a_name_that_is_anothers_already_is_not_taken(parts: Parts) -> None:
    first, second = await parts.reserve("usr_a"), await parts.reserve("usr_b")
    taken = await parts.store(first)

    record = await parts.store(replace(second, note=first.note))

    assert record.image.key != taken.image.key
    assert in_storage(parts, taken.image.key).read_bytes() == IMAGE_BYTES
    assert in_storage(parts, record.image.key).read_bytes() == IMAGE_BYTES
    assert read_record(in_storage(parts, f"{first.note}.json").read_bytes()) == taken


async def test_a_record_that_cannot_be_written_leaves_no_image_and_no_file(parts: Parts) -> None:
    held = await parts.reserve()
    in_storage(parts, f"{held.note}.json").mkdir(parents=True)  # no file can take its place

    with pytest.raises(StorageUnavailable):
        await parts.store(held)

    assert await objects(parts) == []


async def test_indexing_twice_charges_once(parts: Parts) -> None:
    held = await parts.reserve()
    record = await parts.store(held)
    await parts.keeper.index(record)
    await parts.keeper.index(record)

    assert (await parts.ledger(held.day)).pool == 1
    assert (await parts.container.history.get("usr_a", record.image.id)) == record.image


async def test_image_and_charge_come_together_or_not_at_all(parts: Parts) -> None:
    held = await parts.reserve()
    record = await parts.store(held)
    rename = "ALTER TABLE {} RENAME TO {}".format
    await parts.container.database.write(lambda connection: connection.exec_driver_sql(rename("charges", "gone")))
    with pytest.raises(DependencyUnavailable):
        await parts.keeper.index(record)
    await parts.container.database.write(lambda connection: connection.exec_driver_sql(rename("gone", "charges")))

    assert await parts.container.history.find_for_link(record.image.id) is None
    await parts.keeper.index(record)
    assert (await parts.ledger(held.day)).pool == 1
