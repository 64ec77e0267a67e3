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
    process = begun(environment, *arguments)
    told, logged = await asyncio.to_thread(process.communicate, timeout=COMMAND_SECONDS)
    return process.returncode, (told if process.returncode <= 0 else told + logged).splitlines()


def begun(environment: Mapping[str, str], *arguments: str) -> "subprocess.Popen[str]":
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.reindex", *arguments],
        cwd=environment["DATA_DIR"],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
