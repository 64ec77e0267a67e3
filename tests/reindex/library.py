"""What the tests of a rebuilt index share: the command, and what people see of their images."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from core.clock import now_ms, utc_day
from services.quota.store import POOL
from tests.support.databases import databases
from tests.support.installation import ROOT

COMMAND_SECONDS = 60
CHARGE = "image_id, reservation_id, user_id, guest_address, mode, points, day"


async def reindex(environment: Mapping[str, str], *arguments: str) -> tuple[int, list[str]]:
    """`python -m scripts.reindex` as an operator runs it: exit code, and all that it says but the log."""
    command = [sys.executable, "-m", "scripts.reindex", *arguments]
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=environment["DATA_DIR"], env=settings, capture_output=True, text=True,
        timeout=COMMAND_SECONDS, check=False,
    )  # fmt: skip
    said = done.stdout if done.returncode <= 0 else done.stdout + done.stderr
    return done.returncode, said.splitlines()


async def seen(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Page after page, and each image whole; without links, whose host and end change."""
    found: list[dict[str, Any]] = []
    while True:
        page = (await client.get("/api/history", params={"limit": 2, "offset": len(found)})).json()
        found += page["items"]
        if not page["has_more"]:
            break
    assert len(found) == page["total"]
    whole = [(await client.get(f"/api/history/{item['id']}")).json() for item in found]
    return [{name: value for name, value in item.items() if not name.endswith("_url")} for item in found + whole]


def charged(data_dir: Path) -> set[tuple[Any, ...]]:
    return set(databases.ask(data_dir, f"SELECT {CHARGE} FROM charges"))


def points_in_redis(redis_url: str) -> int:
    with Redis.from_url(redis_url) as redis:
        used: Any = redis.hget(POOL(date=utc_day(now_ms())), "global_used")
    return int(used)
