"""What the tests of the history share."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from core.ids import new_id
from services.history import blocks, indexing
from services.history.indexing import SearchIndexer
from services.history.models import Image
from services.history.records import Record, write_record
from services.history.store import images
from services.storage.names import record_key, stem_of, thumbnail_key
from tests.support.databases import databases
from tests.support.service import Guest, RunningService

WIDE = {
    "GOOGLE_API_KEY": "AIzaOperatorKeyOfTheTests0000000000000000",
    "AI_MODERATION_ENABLED": "false",
    "TRIAL_GLOBAL_QUOTA": "10000",
    "TRIAL_GUEST_SHARE": "1",
    "TRIAL_BASIC_1K_LIMIT": "10000",
    "RATE_LIMIT_REQUESTS": "10000",
}


def milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def set_columns(service: RunningService, image_id: str, **values: Any) -> None:
    """Rewrite an image's row, as if it had been made otherwise or at another time."""
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    statement = f"UPDATE images SET {assignments} WHERE id = :image_id"
    assert databases.change(service.data_dir, statement, image_id=image_id, **values) == 1


def rows(service: RunningService) -> int:
    ((count,),) = databases.ask(service.data_dir, "SELECT count(*) FROM images")
    return int(count)


async def make(guest: Guest, count: int) -> list[str]:
    """Ids of new images, oldest first."""
    return [(await guest.image(f"picture {number}"))["history_id"] for number in range(count)]


async def multiply(
    service: RunningService, image_id: str, count: int, change: Callable[[Image, int], Image] = lambda image, _: image
) -> list[str]:
    """Copies of an image, each with bytes, record, row, and a thumbnail if it has one; answers their ids.

    `change`: what is different about the copy of a number.
    """
    first = await service.container.history.find_for_link(image_id)
    assert first is not None
    stem, _, extension = first.key.rpartition(".")
    copies = [
        change(replace(first, id=f"{image_id}{number}", key=f"{stem}{number}.{extension}"), number)
        for number in range(count)
    ]
    await asyncio.to_thread(_copy_objects, service.storage_dir, first, copies)
    rows = [dict(vars(image)) for image in copies]
    await service.container.database.write(lambda connection: connection.execute(images.insert(), rows))
    return [image.id for image in copies]


def _copy_objects(storage: Path, first: Image, copies: list[Image]) -> None:
    thumbnail = storage / thumbnail_key(first.folder_id, first.id)
    for image in copies:
        os.link(storage / first.key, storage / image.key)
        (storage / record_key(stem_of(image.key))).write_bytes(write_record(Record(image, None)))
        if thumbnail.exists():
            os.link(thumbnail, storage / thumbnail_key(image.folder_id, image.id))


async def retained(service: RunningService) -> int:
    """Does the retention run, to its end; answers how many images it has removed."""
    report = await service.container.retention.run()
    assert report is not None
    assert report.failure == ""
    return report.total.images


async def listed(guest: Guest, **query: Any) -> list[str]:
    return [item["id"] for item in (await guest.history(**query))["items"]]


def id_of(link: str) -> str:
    return urlsplit(link).path.split("/")[3]


def image_files(service: RunningService) -> list[Path]:
    return [path for top in ("users", "unlisted", "thumbnails") for path in service.stored(f"{top}/**/*")]


def without_request_id(response: httpx.Response) -> tuple[int, Any]:
    """What two answers must have in common to look the same."""
    body = response.json()
    body.pop("request_id", None)
    return response.status_code, body


async def shelve(service: RunningService, guest: Guest, *texts: str, start: int = 0, **values: Any) -> list[str]:
    """Rows of images with these prompts, a second apart from the second `start` on, the oldest first; answers their
    ids.
    """
    template = Image(
        id="", user_id=guest.id, folder_id="f", key="", mode="basic", prompt="", aspect_ratio="1:1", resolution="1K",
        provider="demo", model="demo", duration=1.0, created_at=0, width=1, height=1, size=1, mime_type="image/png",
        call_id="c",
    )  # fmt: skip
    made = []
    for number, prompt in enumerate(texts, start):
        own = {"id": new_id("img"), "key": new_id("key"), "created_at": 1_760_000_000_000 + number * 1000}
        made.append(replace(template, **{**own, "prompt": prompt, "duration": number * 7 % 50 + 1.0, **values}))
    rows = [dict(vars(image)) for image in made]
    await service.container.database.write(lambda connection: connection.execute(images.insert(), rows))
    return [image.id for image in made]


async def seal(service: RunningService, at: int = 1) -> None:
    await SearchIndexer(service.container.database, seal_at=at).tend()


def join_two_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have two segments from now on, which may be small."""
    monkeypatch.setattr(blocks, "BLOCK_SEGMENTS", 2)
    monkeypatch.setattr(indexing, "SMALL", 10)
