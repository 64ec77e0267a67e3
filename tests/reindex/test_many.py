"""Many images: memory does not grow with how many they are. 5,000 with --soak."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import psutil

from services.history.records import Record, write_record
from services.storage.names import record_key, stem_of
from tests.reindex.library import begun, charged
from tests.support.databases import databases
from tests.support.parts import open_parts

WHOLE, SHORT, FEW = 5000, 600, 10
MOST_GROWTH = 24 * 2**20
LONG_TEXT = "as models think " * 1000


async def test_memory_does_not_grow_with_the_images(
    redis_url: str, empty_database: Path, tmp_path: Path, soak: bool
) -> None:
    count = WHOLE if soak else SHORT
    environment = {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, **databases.settings(tmp_path)}
    async with open_parts(environment, empty_database) as parts:
        record = await parts.store(await parts.reserve())
        await parts.redis.flushall()
    copy(tmp_path / "storage", record, range(FEW))
    before = await most_memory(environment)
    copy(tmp_path / "storage", record, range(FEW, count))

    after = await most_memory(environment)

    assert len(charged(tmp_path)) == 1 + count
    assert after - before < MOST_GROWTH, f"{before / 2**20:.0f} MiB for {FEW}, {after / 2**20:.0f} MiB for {count}"


def copy(storage: Path, first: Record, numbers: range) -> None:
    assert first.charge is not None
    stem, _, extension = first.image.key.rpartition(".")
    for number in numbers:
        image = replace(
            first.image, id=f"{first.image.id}{number}", key=f"{stem}{number}.{extension}", thinking=LONG_TEXT
        )
        charge = replace(first.charge, id=f"{first.charge.id}{number}")
        os.link(storage / first.image.key, storage / image.key)
        (storage / record_key(stem_of(image.key))).write_bytes(write_record(Record(image, charge)))


async def most_memory(environment: dict[str, str]) -> int:
    """Of a whole run, in bytes."""
    process, most = begun(environment), 0
    while process.poll() is None:
        most = max(most, psutil.Process(process.pid).memory_info().rss)
        await asyncio.sleep(0.02)
    told, logged = process.communicate()
    assert process.returncode == 0, told + logged
    return most
