"""Many images: memory does not grow with how many they are. 5,000 with --soak."""

import asyncio
import contextlib
import os
from pathlib import Path

import orjson
import psutil

from tests.legacy.moving import COMMAND_SECONDS, begun, folder_of, indexed, put_in
from tests.legacy.old_app import list_of, old_image, picture
from tests.support.databases import databases

WHOLE, SHORT, FEW = 5000, 600, 10
MOST_GROWTH = 24 * 2**20


async def test_memory_does_not_grow_with_the_images(redis_url: str, old: Path, tmp_path: Path, soak: bool) -> None:
    """Of ten people, each with a list of a hundred at most; all others are told of one by one."""
    count = WHOLE if soak else SHORT
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    environment = {"DATA_DIR": str(data_dir), "REDIS_URL": redis_url, **databases.settings(data_dir)}
    fill(old, range(FEW))
    before = await most_memory(environment, old, tmp_path / "report.json")
    fill(old, range(FEW, count))

    after = await most_memory(environment, old, tmp_path / "report.json")

    assert len(indexed(data_dir)) == count
    report = orjson.loads((tmp_path / "report.json").read_bytes())
    assert (report["there"], len(report["oddities"])) == (FEW, report["odd"]["no_entry"])
    assert after - before < MOST_GROWTH, f"{before / 2**20:.0f} MiB for {FEW}, {after / 2**20:.0f} MiB for {count}"


def fill(old: Path, numbers: range) -> None:
    put_in(old, "one.png", picture(1))
    for person in range(10):
        images = [old_image(f"users/{folder_of(person)}/", number) for number in numbers if number % 10 == person]
        for image in images:
            path = old / image.key
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(old / "one.png", path)
        put_in(old, f"users/{folder_of(person)}/history.json", list_of(images, 10))


async def most_memory(environment: dict[str, str], source: Path, report: Path) -> int:
    """Of a whole run, in bytes."""
    process, most = begun(environment, str(source), "--report", str(report)), 0
    reading = asyncio.create_task(asyncio.to_thread(process.communicate, timeout=COMMAND_SECONDS))
    while not reading.done():
        with contextlib.suppress(psutil.NoSuchProcess):
            most = max(most, psutil.Process(process.pid).memory_info().rss)
        await asyncio.sleep(0.02)
    _, logged = await reading
    assert process.returncode == 0, logged
    return most
