"""What the tests of the history share."""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

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
    connection = sqlite3.connect(service.data_dir / "nbl.db")
    try:
        assignments = ", ".join(f"{name} = ?" for name in values)
        cursor = connection.execute(f"UPDATE images SET {assignments} WHERE id = ?", [*values.values(), image_id])
        connection.commit()
        assert cursor.rowcount == 1
    finally:
        connection.close()


def rows(service: RunningService) -> int:
    connection = sqlite3.connect(service.data_dir / "nbl.db")
    try:
        (count,) = connection.execute("SELECT count(*) FROM images").fetchone()
        return int(count)
    finally:
        connection.close()


async def make(guest: Guest, count: int) -> list[str]:
    """Ids of new images, oldest first."""
    return [(await guest.image(f"picture {number}"))["history_id"] for number in range(count)]


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
